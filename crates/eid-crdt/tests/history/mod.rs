//! Histories of entries that several devices write, with a naive reference for what they add up to.

use std::collections::{BTreeMap, BTreeSet};

use eid_crdt::sequence::{Anchor, Delta, Name, Op, Run, Sequence, Span, Standing};
use proptest::prelude::*;

/// A replica under test: stamps end in the name of the entry, as everywhere.
pub(crate) type Text = Sequence<u32, (u8, usize), String>;

/// An operation by its place in the history, which is its name.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// What its author had seen, and what it names: it comes after these.
    pub(crate) past: BTreeSet<usize>,
    pub(crate) stamp: (u8, usize),
    pub(crate) ops: Vec<Op<usize, String>>,
}

/// What a device does next.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// An entry of honest edits: position, deleted, inserted.
    Edit { device: usize, time: u8, edits: Vec<(usize, usize, usize)> },
    /// An entry that claims what it likes.
    Claim { device: usize, time: u8, claims: Vec<Claim> },
    /// A device takes what another has.
    Pull { to: usize, from: usize },
}

#[derive(Debug, Clone)]
pub(crate) struct Claim {
    kind: u8,
    /// How many entries back the named one is, whether its author had it or not; 0 is the entry itself.
    back: usize,
    offset: u32,
    count: u32,
}

const DEVICES: usize = 3;

pub(crate) fn steps(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Step>> {
    let edit = (0..DEVICES, any::<u8>(), prop::collection::vec((any::<usize>(), 0..4usize, 0..5usize), 1..4))
        .prop_map(|(device, time, edits)| Step::Edit { device, time, edits });
    let claim = (0u8..4, 0usize..12, 0u32..6, 0u32..4).prop_map(|(kind, back, offset, count)| Claim {
        kind,
        back,
        offset,
        count,
    });
    let claim = (0..DEVICES, any::<u8>(), prop::collection::vec(claim, 1..5))
        .prop_map(|(device, time, claims)| Step::Claim { device, time, claims });
    let pull = (0..DEVICES, 0..DEVICES).prop_map(|(to, from)| Step::Pull { to, from });
    prop::collection::vec(prop_oneof![4 => edit, 1 => claim, 2 => pull], count)
}

/// Lets the devices take their steps. Each entry comes after its causal past.
pub(crate) fn history(steps: &[Step]) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut devices: Vec<(Text, BTreeSet<usize>)> = vec![Default::default(); DEVICES];
    let local = |entry: usize| u32::try_from(entry).unwrap();
    for step in steps {
        match step {
            Step::Pull { to, from } => {
                let missing: Vec<usize> = devices[*from].1.difference(&devices[*to].1).copied().collect();
                let (text, held) = &mut devices[*to];
                for entry in missing {
                    bring(text, &entries, entry, &local, Standing::Stands);
                    held.insert(entry);
                }
            }
            Step::Edit { device, time, edits } => {
                let (text, held) = &mut devices[*device];
                let entry = entries.len();
                let past = held.clone();
                text.open(local(entry), (*time, entry), Standing::Stands);
                let (mut ops, mut first) = (Vec::new(), 0);
                for (position, deleted, inserted) in edits {
                    let position = position % (text.len() + 1);
                    let deleted = (*deleted).min(text.len() - position);
                    let letters: String = (0..*inserted)
                        .map(|i| ['ä', 'b', 'c', 'd', '𝄞', 'f', 'g'][(entry + i) % 7])
                        .collect();
                    let mut made = text.delete(local(entry), position, deleted).unwrap();
                    made.extend(text.insert(local(entry), position, letters));
                    for op in made {
                        let op = renamed(&op, &|entry| entry as usize);
                        let count = if let Op::Insert { run, .. } = &op { run.count() } else { 0 };
                        Op::push(&mut ops, entry, first, op);
                        first += u32::try_from(count).unwrap();
                    }
                }
                held.insert(entry);
                entries.push(Entry { past, stamp: (*time, entry), ops });
            }
            Step::Claim { device, time, claims } => {
                let entry = entries.len();
                let named = claims.iter().map(|claim| entry.saturating_sub(claim.back));
                let past =
                    devices[*device].1.iter().copied().chain(named.filter(|named| *named < entry)).collect();
                let ops = claims.iter().map(|claim| claim.op(entry)).collect();
                entries.push(Entry { past, stamp: (*time, entry), ops });
                let (text, held) = &mut devices[*device];
                let (mut missing, mut todo) = (BTreeSet::new(), vec![entry]);
                while let Some(entry) = todo.pop() {
                    if !held.contains(&entry) && missing.insert(entry) {
                        todo.extend(&entries[entry].past);
                    }
                }
                for entry in missing {
                    bring(text, &entries, entry, &local, Standing::Stands);
                    held.insert(entry);
                }
            }
        }
    }
    entries
}

impl Claim {
    fn op(&self, entry: usize) -> Op<usize, String> {
        let named = entry.saturating_sub(self.back);
        let name = Name { entry: named, offset: self.offset };
        let at = match self.kind {
            0 => Anchor::Start,
            1 => Anchor::After(name),
            2 => Anchor::Before(name),
            _ => return Op::Delete(Span { first: name, count: self.count }),
        };
        let run = (0..self.count).map(|i| char::from_digit(i, 10).unwrap()).collect();
        Op::Insert { at, run }
    }
}

/// Integrates one entry of a history under the number that a replica gives it.
pub(crate) fn bring(
    text: &mut Text,
    entries: &[Entry],
    entry: usize,
    number: &impl Fn(usize) -> u32,
    standing: Standing,
) -> Vec<Delta<String>> {
    let Entry { stamp, ops, .. } = &entries[entry];
    let ops: Vec<Op<u32, String>> = ops.iter().map(|op| renamed(op, number)).collect();
    text.integrate(number(entry), *stamp, standing, &ops)
}

pub(crate) fn renamed<A: Copy, B, R: Clone>(op: &Op<A, R>, number: &impl Fn(A) -> B) -> Op<B, R> {
    let named = |name: &Name<A>| Name { entry: number(name.entry), offset: name.offset };
    match op {
        Op::Delete(span) => Op::Delete(Span { first: named(&span.first), count: span.count }),
        Op::Insert { at, run } => Op::Insert {
            at: match at {
                Anchor::Start => Anchor::Start,
                Anchor::After(name) => Anchor::After(named(name)),
                Anchor::Before(name) => Anchor::Before(named(name)),
            },
            run: run.clone(),
        },
    }
}

/// Applies changes to plain text.
pub(crate) fn follow(shown: &mut Vec<char>, changes: &[Delta<String>]) {
    for change in changes {
        match change {
            Delta::Inserted { position, run } => drop(shown.splice(position..position, run.chars())),
            Delta::Deleted { position, count } => drop(shown.drain(*position..position + count)),
        }
    }
}

/// What hangs at one anchor, in the order of stamps and offsets.
type Siblings = BTreeMap<((u8, usize), u32), Name<usize>>;

/// What a history adds up to: one node per element in a tree of maps, walked at the end.
pub(crate) fn naive(entries: &[Entry], void: &BTreeSet<usize>) -> String {
    struct Node {
        letter: char,
        deleted_by: BTreeSet<usize>,
    }
    let mut nodes: BTreeMap<Name<usize>, Node> = BTreeMap::new();
    let mut hangs: BTreeMap<Anchor<usize>, Siblings> = BTreeMap::new();
    for (entry, Entry { stamp, ops, .. }) in entries.iter().enumerate() {
        let mut first = 0;
        for op in ops {
            match op {
                Op::Insert { at, run } => {
                    let names: Vec<Name<usize>> =
                        (first..).take(run.count()).map(|offset| Name { entry, offset }).collect();
                    let exists = match at {
                        Anchor::Start => true,
                        Anchor::After(name) | Anchor::Before(name) => nodes.contains_key(name),
                    };
                    if !exists {
                        continue;
                    }
                    first += u32::try_from(names.len()).unwrap();
                    let mut at = *at;
                    for (name, letter) in names.into_iter().zip(run.chars()) {
                        nodes.insert(name, Node { letter, deleted_by: BTreeSet::new() });
                        hangs.entry(at).or_default().insert((*stamp, name.offset), name);
                        at = Anchor::After(name);
                    }
                }
                Op::Delete(Span { first, count }) => {
                    let names: Vec<Name<usize>> = (first.offset..first.offset + count)
                        .map(|offset| Name { entry: first.entry, offset })
                        .collect();
                    if names.iter().all(|name| nodes.contains_key(name)) {
                        for name in names {
                            nodes.get_mut(&name).unwrap().deleted_by.insert(entry);
                        }
                    }
                }
            }
        }
    }
    // Walks without recursion: an element's part is what hangs before it, itself, and what hangs after it.
    enum Visit {
        All(Anchor<usize>),
        Part(Name<usize>),
        Letter(Name<usize>),
    }
    let mut shown = String::new();
    let mut todo = vec![Visit::All(Anchor::Start)];
    while let Some(visit) = todo.pop() {
        match visit {
            Visit::All(at) => {
                todo.extend(
                    hangs.get(&at).into_iter().flat_map(|hung| hung.values().rev()).map(|n| Visit::Part(*n)),
                );
            }
            Visit::Part(name) => {
                todo.push(Visit::All(Anchor::After(name)));
                todo.push(Visit::Letter(name));
                todo.push(Visit::All(Anchor::Before(name)));
            }
            Visit::Letter(name) => {
                let node = &nodes[&name];
                if !void.contains(&name.entry) && node.deleted_by.is_subset(void) {
                    shown.push(node.letter);
                }
            }
        }
    }
    shown
}
