//! What must hold on every DAG: the engine agrees with the oracle in every order of arrival, and no key changes what
//! stronger keys decided.

use std::collections::BTreeSet;

use eid_auth::Engine;
use eid_auth::ledger::Ledger;
use eid_auth::oracle::{Dag, INF, Mutant, Set, Verdicts, level, perm};
use eid_core::{EntryId, Permission, Slot};

use super::random::{Attempt, Grown, KEYS, Rng, View, reordered, slot};

/// Counts of what was looked at.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    pub dags: u64,
    pub entries: u64,
    pub refused: u64,
    pub void: u64,
    pub hostile: u64,
    pub once_strong: u64,
    /// DAGs on which a property fails by the definition, and not with its known gap closed.
    pub gaps: u64,
}

impl Tally {
    pub fn add(&mut self, other: Self) {
        self.dags += other.dags;
        self.entries += other.entries;
        self.refused += other.refused;
        self.void += other.void;
        self.hostile += other.hostile;
        self.once_strong += other.once_strong;
        self.gaps += other.gaps;
    }
}

/// The oracle over some attempts.
pub fn judged(tried: &[Attempt], mutant: Option<Mutant>) -> Dag {
    let mut dag = mutant.map_or_else(Dag::new, Dag::broken);
    for attempt in tried {
        dag.add(attempt.id, attempt.author, attempt.ops.as_deref(), &attempt.parents);
    }
    dag
}

fn ledger(tried: &[Attempt], engine: Engine, valid: &Dag, faults: &mut Vec<String>) -> Ledger {
    let mut ledger = Ledger::new(engine).expect("it is in memory");
    for attempt in tried {
        let added = ledger.add(attempt.id, attempt.author, attempt.ops.as_deref(), &attempt.parents);
        if added.is_ok() != valid.find(&attempt.id).is_some() {
            faults.push(format!("validity of {:?}: the engine says {added:?}", attempt.id));
        }
    }
    ledger
}

fn compare(what: &str, ledger: &Ledger, verdicts: &Verdicts, faults: &mut Vec<String>) {
    let stands = |counts: bool| -> BTreeSet<EntryId> {
        ledger.entries().filter(|(_, standing)| standing.counts() == counts).map(|(id, _)| id).collect()
    };
    if stands(true) != verdicts.standing || stands(false) != verdicts.void {
        let ids: Vec<_> = stands(true).symmetric_difference(&verdicts.standing).copied().collect();
        faults.push(format!("{what}: standing of {ids:?}"));
    }
    if ledger.slots() != verdicts.slots {
        faults.push(format!("{what}: slots"));
    }
}

/// Engine, oracle, and other orders of arrival, on the DAG of a seed.
pub fn disagreements(seed: u64, tally: &mut Tally) -> Vec<String> {
    let mut rng = Rng::new(seed ^ 0x5eed);
    let Grown { dag, tried } = Grown::random(seed);
    let verdicts = dag.verdicts();
    tally.dags += 1;
    tally.entries += dag.len() as u64;
    tally.refused += (tried.len() - dag.len()) as u64;
    tally.void += verdicts.void.len() as u64;
    let mut faults = Vec::new();
    let first = ledger(&tried, Engine::new(), &dag, &mut faults);
    compare("in order", &first, &verdicts, &mut faults);
    if !first.recount().expect("it is in memory").is_empty() {
        faults.push("in order: standing that was kept differs from standing from nothing".into());
    }

    let order = reordered(&tried, &mut rng);
    let cut = 1 + rng.below(order.len());
    let (early, late) = order.split_at(cut);
    let mut again = ledger(early, Engine::remembering(0), &dag, &mut faults);
    compare("a part", &again, &judged(early, None).verdicts(), &mut faults);
    for attempt in late {
        let added = again.add(attempt.id, attempt.author, attempt.ops.as_deref(), &attempt.parents);
        if added.is_ok() != dag.find(&attempt.id).is_some() {
            faults.push(format!("validity of {:?} in another order", attempt.id));
        }
    }
    compare("another order", &again, &verdicts, &mut faults);
    frontiers(&dag, &first, &mut rng, &mut faults);
    faults
}

/// A resolution in small steps of any frontier is the one of the oracle.
fn frontiers(dag: &Dag, ledger: &Ledger, rng: &mut Rng, faults: &mut Vec<String>) {
    let mut engine = Engine::remembering(0);
    for _ in 0..3 {
        let count = 1 + rng.below(3);
        let settings: Vec<usize> = dag.settings().iter().collect();
        let heads = dag.heads(&rng.sample(settings, count));
        let ids: Vec<EntryId> = heads.iter().map(|i| dag.id(*i)).collect();
        let mut job = engine.begin(&ids);
        let found = loop {
            let budget = 1 + rng.below(3);
            if let Some(done) = engine.advance(&mut job, ledger.history(), budget).expect("it is in memory") {
                break done;
            }
        };
        let set: Set = dag.known(&heads).iter().filter(|i| dag.is_settings(*i)).collect();
        let resolved = dag.resolve(&set);
        let void: BTreeSet<EntryId> = resolved.void.iter().map(|i| dag.id(i)).collect();
        let slots: Vec<_> = resolved.state.iter().map(|(k, values)| (*k, values[0].perm)).collect();
        let found_slots: Vec<_> =
            engine.slots(&found).into_iter().map(|(slot, gives, _)| (slot, gives)).collect();
        if engine.void_settings(&found).into_iter().collect::<BTreeSet<_>>() != void || found_slots != slots {
            faults.push(format!("the frontier {ids:?} in small steps"));
        }
    }
}

// ---- the properties of the model

fn rebuilt(dag: &Dag, order: &[usize], mutant: Option<Mutant>, probe: bool) -> Dag {
    let mut other = mutant.map_or_else(Dag::new, Dag::broken);
    for (at, i) in order.iter().enumerate() {
        let Slot::Key(author) = dag.author(*i) else { continue };
        let parents: Vec<EntryId> = dag.parents(*i).iter().map(|p| dag.id(*p)).collect();
        other.add(dag.id(*i), author, dag.ops(*i), &parents);
        if probe && at % 7 == 6 {
            drop(other.standing());
        }
    }
    other
}

fn topological(dag: &Dag) -> Vec<usize> {
    let mut order: Vec<usize> = (0..dag.len()).collect();
    order.sort_by_key(|i| (dag.past(*i).len(), dag.id(*i)));
    order
}

fn order_matters(dag: &Dag, rng: &mut Rng, mutant: Option<Mutant>) -> bool {
    let mut rest: Set = (0..dag.len()).collect();
    let mut order = Vec::new();
    while !rest.is_empty() {
        let ready: Vec<usize> =
            rest.iter().filter(|i| dag.past(*i).iter().all(|j| !rest.contains(j))).collect();
        let next = rng.pick(&ready);
        rest.remove(next);
        order.push(next);
    }
    rebuilt(dag, &order, mutant, true).verdicts() != dag.verdicts()
}

/// A valid entry is void although nothing but its own past is known.
fn void_alone(dag: &Dag) -> bool {
    (0..dag.len()).any(|i| {
        let own = dag.settings_before(i);
        if dag.is_settings(i) {
            let mut with = own;
            with.insert(i);
            dag.resolve(&with).void.contains(i)
        } else {
            !dag.upheld(i, &own, &dag.resolve(&own).void, &|_| true)
        }
    })
}

/// What keys that are not, or are no longer, stronger than `p` get to change about what stronger keys decided. Data
/// counts as trusted when its author was strong and nothing that weakens him is outside its past.
fn interference(grown: &mut Grown, rng: &mut Rng, p: u64, adversary: &[u8]) -> Vec<&'static str> {
    let dag = &grown.dag;
    let (s, stand) = (dag.settings(), dag.standing());
    let st = dag.resolve(&s).state.clone();
    let old = dag.len();
    let live: Vec<usize> = s.iter().filter(|i| stand.contains(*i)).collect();
    let strong: Vec<Slot> = st.keys().filter(|k| level(&st, k) < p).copied().collect();
    let fixed: Vec<Slot> = st
        .keys()
        .filter(|k| strong.contains(k) || perm(&st, k).is_none() && st[*k][0].by < p)
        .copied()
        .collect();
    let is_gone = |k: &Slot| {
        st.get(k).into_iter().flatten().any(|v| v.by < p && v.perm.is_none() && !dag.is_leave(v.entry, k))
    };
    let gone: Vec<Slot> = adversary.iter().map(|n| slot(*n)).filter(is_gone).collect();
    // Invites that a strong key withdrew.
    let is_shut = |k: &Slot| {
        matches!(k, Slot::Invite(_))
            && st[k].iter().any(|v| v.by < p && v.perm.is_none() && !dag.is_leave(v.entry, k))
    };
    let shut: Vec<Slot> = st.keys().copied().filter(is_shut).collect();
    let data: Vec<usize> = (0..old).filter(|i| !s.contains(*i)).collect();
    let weakened_within = |k: &Slot, past: &Set| {
        live.iter().all(|i| {
            let weakens = dag.slots(*i).any(|slot| slot == *k)
                && dag.leaves(*i, k).and_then(Permission::level).is_none_or(|prio| u64::from(prio) >= p);
            !weakens || past.contains(*i)
        })
    };
    let is_trusted = |x: &usize| {
        let k = dag.author(*x);
        stand.contains(*x)
            && strong.contains(&k)
            && level(&dag.before(*x), &k) < p
            && weakened_within(&k, dag.past(*x))
    };
    let trusted: Vec<usize> = data.iter().copied().filter(is_trusted).collect();
    let mut pardoned = Set::default();
    live.iter().filter(|a| dag.lvl(**a) < p).for_each(|a| pardoned.unite(&dag.accepts(*a)));
    let live_set: Set = live.iter().copied().collect();
    let is_barred = |x: &usize| {
        !stand.contains(*x)
            && !pardoned.contains(*x)
            && dag.removed(*x, &live_set, &|r| dag.lvl(r) < p, &dag.before(*x))
    };
    let barred: Vec<usize> = data.iter().copied().filter(is_barred).collect();

    let mut targets = strong;
    targets.extend(adversary.iter().map(|n| slot(*n)));
    grown.grow(rng, 40, adversary, &targets, View::Any, true);
    let dag = &grown.dag;
    let (after, now) = (dag.resolve(&dag.settings()).state.clone(), dag.standing());
    let mut found = Vec::new();
    if fixed.iter().any(|k| (perm(&st, k), level(&st, k)) != (perm(&after, k), level(&after, k))) {
        found.push("slot");
    }
    let strong_before: Vec<usize> = live.iter().copied().filter(|i| dag.lvl(*i) < p).collect();
    let strong_now: Vec<usize> = now.iter().filter(|i| dag.is_settings(*i) && dag.lvl(*i) < p).collect();
    if strong_before != strong_now {
        found.push("settings");
    }
    if !trusted.iter().all(|x| now.contains(*x)) {
        found.push("trusted data");
    }
    if barred.iter().any(|x| now.contains(*x)) {
        found.push("barred data");
    }
    if now.iter().any(|x| x >= old && gone.contains(&dag.author(x)) && !dag.is_settings(x)) {
        found.push("data of a removed key");
    }
    if now.iter().any(|x| x >= old && dag.joins_by(x).is_some_and(|invite| shut.contains(&invite))) {
        found.push("join by a withdrawn invite");
    }
    found
}

/// Keys that never were stronger than `p`; and those that were, and lost it to a stronger key that nobody overruled
/// knowingly. Who left, or stepped down of his own accord, may still write into the past: that is what leaving means.
fn adversaries(dag: &Dag, p: u64) -> (Vec<u8>, Vec<u8>) {
    let s = dag.settings();
    let resolved = dag.resolve(&s);
    let st = &resolved.state;
    let prio = |i: usize, k: &Slot| dag.leaves(i, k).and_then(Permission::level).map(u64::from);
    let grants = |k: &Slot, ids: &Set| -> Vec<usize> {
        ids.iter().filter(|i| prio(*i, k).is_some_and(|prio| prio < p)).collect()
    };
    let best = |n: u8| {
        let k = slot(n);
        grants(&k, &s).into_iter().filter_map(|i| prio(i, &k)).min().unwrap_or(INF)
    };
    let standing_settings = s.minus(&resolved.void);
    let is_tamed = |n: &u8| {
        let (k, best) = (slot(*n), best(*n));
        let values = st.get(&k).map_or(&[][..], Vec::as_slice);
        let lost = values.iter().any(|v| {
            v.by < best
                && v.perm.and_then(Permission::level).is_none_or(|prio| u64::from(prio) >= p)
                && !grants(&k, &standing_settings).into_iter().any(|g| dag.past(g).contains(v.entry))
        });
        best < p && p <= level(st, &k) && lost && !values.iter().any(|v| dag.is_leave(v.entry, &k))
    };
    let tamed = KEYS.iter().copied().filter(is_tamed).collect();
    (KEYS.iter().copied().filter(|n| best(*n) == INF).collect(), tamed)
}

/// The properties that fail on one random DAG and one attack on it.
pub fn broken(seed: u64, mutant: Option<Mutant>, tally: &mut Tally) -> Vec<String> {
    let mut rng = Rng::new(seed ^ 0x000b_ad5e_ed00);
    let rng = &mut rng;
    let mut grown = Grown::start(rng, mutant);
    let targets: Vec<Slot> = KEYS.iter().map(|n| slot(*n)).chain([Slot::Everyone]).collect();
    grown.grow(rng, 25, &[0, 1, 2, 3, 4, 5, 6, 8, 9, 10], &targets, View::Any, false);
    let dag = &grown.dag;
    let mut found = Vec::new();
    if order_matters(dag, rng, mutant) {
        found.push("order".to_owned());
    }
    if void_alone(dag) {
        found.push("void alone".to_owned());
    }
    let p = 1 + rng.below(3) as u64;
    let (weak, tamed) = adversaries(dag, p);
    tally.once_strong += u64::from(!tamed.is_empty());
    let removed: Vec<u8> = weak.iter().chain(&tamed).copied().collect();
    let mut attacks = vec![("weak", &weak)];
    if !tamed.is_empty() {
        attacks.push(("removed", &removed));
    }
    let order = topological(dag);
    for (name, keys) in attacks {
        if keys.is_empty() {
            continue;
        }
        let mut attacked = Grown { dag: rebuilt(dag, &order, mutant, false), tried: Vec::new() };
        let before = attacked.dag.len();
        let faults = interference(&mut attacked, rng, p, keys);
        tally.hostile += (attacked.dag.len() - before) as u64;
        found.extend(faults.into_iter().map(|fault| format!("{name}: {fault}")));
    }
    found
}

/// The properties that fail on one random DAG, and not because of the known gap of the definition.
pub fn attacks(seed: u64, tally: &mut Tally) -> Vec<String> {
    let found = broken(seed, None, tally);
    if found.is_empty() || !broken(seed, Some(Mutant::Mended), &mut Tally::default()).is_empty() {
        return found;
    }
    tally.gaps += 1;
    Vec::new()
}

/// Whether a broken rule gives other verdicts on the DAG of a seed.
pub fn differs(seed: u64, mutant: Mutant) -> bool {
    let Grown { dag, tried } = Grown::random(seed);
    let other = judged(&tried, Some(mutant));
    other.verdicts() != dag.verdicts()
}
