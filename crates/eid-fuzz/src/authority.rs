//! Small DAGs of settings and data, judged by the engine and by the definition.

use std::collections::BTreeSet;

use eid_auth::Engine;
use eid_auth::ledger::Ledger;
use eid_auth::oracle::{Dag, Verdicts};
use eid_core::{EntryId, Permission, PublicKey, SettingsOp, Slot};

use crate::formats::operations;
use crate::source::Source;

const ENTRIES_MAX: usize = 12;

struct Attempt {
    id: EntryId,
    author: PublicKey,
    settings: Option<Vec<SettingsOp>>,
    parents: Vec<EntryId>,
}

fn attempts(rules: u64, source: &mut Source<'_>) -> Vec<Attempt> {
    let key = |n: u8| PublicKey([n + 1; 32]);
    let set = |n: u8, permission| SettingsOp::Set { slot: Slot::Key(key(n)), permission };
    let first = vec![
        SettingsOp::Rules(rules),
        set(0, Permission::Admin(0)),
        set(1, Permission::Admin(1)),
        set(2, Permission::Admin(1)),
        set(3, Permission::Write),
    ];
    let root = Attempt { id: EntryId([1; 32]), author: key(0), settings: Some(first), parents: Vec::new() };
    let mut attempts = vec![root];
    while !source.is_empty() && attempts.len() < ENTRIES_MAX {
        let author = key(source.below(8) as u8);
        let mut parents: Vec<EntryId> = (0..=source.below(3))
            .map(|_| attempts[attempts.len() - 1 - source.below(4).min(attempts.len() - 1)].id)
            .collect();
        parents.sort_unstable();
        parents.dedup();
        let settings = source.bool().then(|| operations(source));
        // What does not decode never comes this far: two of one kind, another number of the rules, nothing.
        let settings = settings.map(|mut ops| {
            ops.retain(|op| !matches!(op, SettingsOp::Rules(n) if !(1..=2).contains(n)));
            let too_much = |op: &SettingsOp| {
                matches!(
                    op,
                    SettingsOp::Set { slot: Slot::Everyone, permission: Permission::Admin(_) }
                        | SettingsOp::Invite { permission: Permission::Admin(_), .. }
                        | SettingsOp::Join { permission: Permission::Admin(_), .. }
                )
            };
            ops.retain(|op| !too_much(op));
            while !SettingsOp::are_distinct(&ops) {
                ops.pop();
            }
            ops
        });
        if settings.as_ref().is_some_and(Vec::is_empty) {
            continue;
        }
        attempts.push(Attempt { id: EntryId([attempts.len() as u8 + 1; 32]), author, settings, parents });
    }
    attempts
}

/// The engine gives the verdicts of the definition, in any order of arrival.
pub(crate) fn authority(input: &[u8]) {
    let mut source = Source::new(input);
    let shuffle = [source.byte(), source.byte(), source.byte(), source.byte()];
    let attempts = attempts(1 + u64::from(shuffle[3] & 1), &mut source);
    let mut dag = Dag::new();
    for attempt in &attempts {
        dag.add(attempt.id, attempt.author, attempt.settings.as_deref(), &attempt.parents);
    }
    let verdicts = dag.verdicts();
    let in_order: Vec<&Attempt> = attempts.iter().collect();
    agree(&in_order, Engine::new(), &dag, &verdicts);

    // Any order in which parents come first.
    let (mut left, mut order, mut here) = (in_order, Vec::new(), BTreeSet::new());
    let mut at = 0;
    while !left.is_empty() {
        let ready = |attempt: &&Attempt| attempt.parents.iter().all(|parent| here.contains(parent));
        let choices: Vec<usize> = (0..left.len()).filter(|i| ready(&left[*i])).collect();
        let choice = choices[usize::from(shuffle[at % shuffle.len()].wrapping_add(at as u8)) % choices.len()];
        let next = left.remove(choice);
        here.insert(next.id);
        order.push(next);
        at += 1;
    }
    agree(&order, Engine::remembering(0), &dag, &verdicts);
}

fn agree(attempts: &[&Attempt], engine: Engine, dag: &Dag, verdicts: &Verdicts) {
    let mut ledger = Ledger::new(engine).expect("it is in memory");
    for attempt in attempts {
        let added = ledger.add(attempt.id, attempt.author, attempt.settings.as_deref(), &attempt.parents);
        assert_eq!(added.is_ok(), dag.find(&attempt.id).is_some(), "validity of {:?}", attempt.id);
    }
    let standing = |counts: bool| -> BTreeSet<EntryId> {
        ledger.entries().filter(|(_, standing)| standing.counts() == counts).map(|(id, _)| id).collect()
    };
    assert_eq!(standing(true), verdicts.standing);
    assert_eq!(standing(false), verdicts.void);
    assert_eq!(ledger.slots(), verdicts.slots);
    assert_eq!(ledger.recount().expect("it is in memory"), Vec::new());
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let data = [3, 0, 0, 0];
    // An admin removes the writer, beside whom it goes on writing.
    let removal = [1, 0, 0, 1, 1, 4, 3];
    let beside = [3, 0, 1, 0];
    let again = [2, 0, 0, 1, 1, 6, 2, 3];
    let head = [0, 1, 2, 3];
    // Somebody joins beside the end of the invite, and writes.
    let invite = [1, 0, 0, 1, 1, 8, 0, 3, 0];
    let withdrawn = [1, 0, 0, 1, 1, 9, 0, 0];
    let join = [7, 0, 1, 1, 1, 10, 0, 3, 5];
    let joiner = [7, 0, 0, 0];
    vec![
        head.to_vec(),
        [&head[..], &data, &data].concat(),
        [&head[..], &data, &removal, &beside].concat(),
        [&head[..], &data, &removal, &beside, &again, &data].concat(),
        [&head[..], &removal, &again, &removal, &beside, &again, &data].concat(),
        [&head[..], &invite, &withdrawn, &join, &joiner].concat(),
        [&head[..3], &[2], &invite, &withdrawn, &join, &joiner].concat(),
    ]
}
