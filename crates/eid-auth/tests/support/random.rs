//! Random DAGs: stale views, fences, the wildcard, accepted entries, chains, and entries that are not valid.

use eid_auth::oracle::{Dag, INF, Mutant, level};
use eid_core::{EntryId, KeyMode, Permission, PublicKey, SettingsOp, Signature, Slot};

/// A generator of numbers (splitmix64): the same numbers from the same seed on every machine.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def0)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).expect("it is below a usize")
    }

    pub fn percent(&mut self, p: usize) -> bool {
        self.below(100) < p
    }

    pub fn pick<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())].clone()
    }

    pub fn sample<T>(&mut self, mut list: Vec<T>, count: usize) -> Vec<T> {
        let count = count.min(list.len());
        for at in 0..count {
            let other = at + self.below(list.len() - at);
            list.swap(at, other);
        }
        list.truncate(count);
        list
    }
}

/// An entry that somebody tries to add.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub id: EntryId,
    pub author: PublicKey,
    pub ops: Option<Vec<SettingsOp>>,
    pub parents: Vec<EntryId>,
}

pub fn key(n: u8) -> PublicKey {
    PublicKey([n; 32])
}

pub fn slot(n: u8) -> Slot {
    Slot::Key(key(n))
}

pub fn set(slot: Slot, permission: Permission) -> SettingsOp {
    SettingsOp::Set { slot, permission }
}

pub fn remove(slot: Slot, fence: Option<Vec<EntryId>>) -> SettingsOp {
    SettingsOp::Revoke { slot, mode: KeyMode::Remove { fence } }
}

pub fn leave(slot: Slot) -> SettingsOp {
    SettingsOp::Revoke { slot, mode: KeyMode::Leave }
}

/// The key of an invite.
pub fn invite_key(n: u8) -> PublicKey {
    PublicKey([200 + n; 32])
}

pub fn invite(n: u8, permission: Permission) -> SettingsOp {
    SettingsOp::Invite { key: invite_key(n), permission, expires_ms: None }
}

pub fn invite_slot(n: u8) -> Slot {
    Slot::Invite(invite_key(n))
}

/// A join. Nothing here looks at its proof.
pub fn join(n: u8, permission: Permission) -> SettingsOp {
    SettingsOp::Join { invite: invite_key(n), permission, proof: Signature([0; 64]) }
}

/// 0: the recovery key; 8, 9, 10: never given a slot by the beginning.
pub const KEYS: [u8; 11] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10];

fn slots() -> Vec<Slot> {
    KEYS.iter().map(|n| slot(*n)).chain([Slot::Everyone]).collect()
}

/// A DAG with everything that was tried on it.
pub struct Grown {
    pub dag: Dag,
    pub tried: Vec<Attempt>,
}

impl Grown {
    fn add(&mut self, rng: &mut Rng, author: u8, ops: Option<Vec<SettingsOp>>, parents: &[usize]) -> bool {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&rng.next().to_be_bytes());
        id[8..16].copy_from_slice(&(self.tried.len() as u64).to_be_bytes());
        let parents = parents.iter().map(|i| self.dag.id(*i)).collect();
        self.try_one(Attempt { id: EntryId(id), author: key(author), ops, parents })
    }

    fn try_one(&mut self, attempt: Attempt) -> bool {
        let valid = self.dag.add(attempt.id, attempt.author, attempt.ops.as_deref(), &attempt.parents);
        self.tried.push(attempt);
        valid
    }

    fn tips(&self) -> Vec<usize> {
        self.dag.heads(&(0..self.dag.len()).collect::<Vec<_>>())
    }

    /// Four admins and writers, some of whose slots were written twice at once.
    pub fn start(rng: &mut Rng, mutant: Option<Mutant>) -> Self {
        let dag = mutant.map_or_else(Dag::new, Dag::broken);
        let mut grown = Self { dag, tried: Vec::new() };
        let admin = |n: u8, level| set(slot(n), Permission::Admin(level));
        let mut first = vec![admin(0, 0), admin(1, 1)];
        if rng.percent(70) {
            let gives = rng.pick(&[Permission::Read, Permission::Write]);
            first.extend([SettingsOp::Rules(2), invite(0, gives)]);
        }
        grown.add(rng, 0, Some(first), &[]);
        let mut grants = vec![(2, 1), (3, 2), (4, 3)];
        for n in [2, 3, 3] {
            if rng.percent(40) {
                grants.push((n, u32::from(n != 3)));
            }
        }
        for (at, (n, level)) in grants.into_iter().enumerate() {
            let gives = if at < 3 || rng.percent(50) { Permission::Admin(level) } else { Permission::Write };
            let parents = if at < 3 || rng.percent(50) { grown.tips() } else { vec![0] };
            grown.add(rng, 0, Some(vec![set(slot(n), gives)]), &parents);
        }
        let mut writers: Vec<SettingsOp> = (5..8).map(|n| set(slot(n), Permission::Write)).collect();
        if rng.percent(50) {
            writers.push(set(Slot::Everyone, rng.pick(&[Permission::Read, Permission::Write])));
        }
        let tips = grown.tips();
        grown.add(rng, 1, Some(writers), &tips);
        grown
    }

    fn random_ops(&self, rng: &mut Rng, parents: &[usize], targets: &[Slot]) -> Option<Vec<SettingsOp>> {
        let known: Vec<usize> = self.dag.known(parents).iter().collect();
        let data: Vec<usize> = known.iter().copied().filter(|i| !self.dag.is_settings(*i)).collect();
        let x = rng.below(100);
        if x < 35 {
            return None;
        }
        if x < 41 && !data.is_empty() {
            let count = 1 + rng.below(3);
            let ids = rng.sample(data, count).into_iter().map(|i| self.dag.id(i)).collect();
            return Some(vec![SettingsOp::Accept(ids)]);
        }
        let (write, read, relay) = (Permission::Write, Permission::Read, Permission::Relay);
        if x < 51 {
            return Some(vec![join(rng.pick(&[0, 0, 1]), rng.pick(&[write, write, write, read, relay]))]);
        }
        let mut ops: Vec<SettingsOp> = Vec::new();
        if rng.percent(4) {
            ops.push(SettingsOp::Rules(rng.pick(&[1, 2])));
        }
        for _ in 0..rng.pick(&[1, 1, 1, 2, 3]) {
            let mut k = if rng.percent(60) { rng.pick(targets) } else { rng.pick(&slots()) };
            if rng.percent(20) {
                k = invite_slot(rng.pick(&[0, 0, 1]));
            }
            let op = if let (Slot::Invite(key), true) = (k, rng.percent(55)) {
                let permission = rng.pick(&[write, write, write, read, relay]);
                SettingsOp::Invite { key, permission, expires_ms: None }
            } else if !matches!(k, Slot::Invite(_)) && rng.percent(55) {
                let level = u32::try_from(rng.below(5)).expect("it is below 5");
                let admin = Permission::Admin(level);
                let gives = if k == Slot::Everyone {
                    rng.pick(&[write, write, read, relay])
                } else {
                    rng.pick(&[admin, admin, admin, write, write, write, read, relay])
                };
                set(k, gives)
            } else if rng.percent(25) {
                leave(k)
            } else if rng.percent(70) {
                remove(k, None)
            } else {
                let count = if rng.percent(10) { 0 } else { 1 + rng.below(2) };
                let tips = rng.sample(known.clone(), count);
                remove(k, Some(self.dag.heads(&tips).into_iter().map(|i| self.dag.id(i)).collect()))
            };
            // Nobody joins here, so it does not matter who signs.
            ops.retain(|held| held.slot(&key(0)).is_none() || held.slot(&key(0)) != op.slot(&key(0)));
            ops.push(op);
        }
        if rng.percent(5) {
            ops.push(SettingsOp::Title(format!("title {}", rng.below(9))));
        }
        Some(ops)
    }

    /// Attempts by random keys on random, mostly stale views. `chain`: often build on one's own work and act by an
    /// admin.
    pub fn grow(&mut self, rng: &mut Rng, n: usize, keys: &[u8], targets: &[Slot], view: View, chain: bool) {
        let mut made: Vec<usize> = Vec::new();
        for _ in 0..n {
            let all = self.dag.len();
            let ids: Vec<usize> = match view {
                View::Any => (0..all).collect(),
                View::Recent => (all.saturating_sub(8)..all).collect(),
            };
            let count = 1 + rng.below(3);
            let mut view = rng.sample(ids, count);
            if let (true, Some(last)) = (chain && rng.percent(50), made.last()) {
                view.retain(|i| i != last);
                view.insert(0, *last);
            }
            let parents = self.dag.heads(&view);
            let st = self.dag.state_at(&self.dag.known(&parents));
            let able: Vec<u8> = keys.iter().copied().filter(|k| level(&st, &slot(*k)) < INF).collect();
            let able = if able.is_empty() { keys } else { &able };
            let ops = self.random_ops(rng, &parents, targets);
            let author = if chain && rng.percent(70) { rng.pick(able) } else { rng.pick(keys) };
            if self.add(rng, author, ops, &parents) {
                made.push(self.dag.len() - 1);
            }
        }
    }

    /// Attempts that no rule allows, whoever makes them.
    fn nonsense(&mut self, rng: &mut Rng) {
        let some = |grown: &Self, rng: &mut Rng| grown.dag.id(rng.below(grown.dag.len()));
        let nowhere = EntryId([0xee; 32]);
        let admin = set(slot(8), Permission::Admin(rng.below(4) as u32));
        let mut ops = vec![
            vec![],
            vec![admin.clone(), admin.clone()],
            vec![SettingsOp::Accept(vec![self.dag.id(0)])],
            vec![SettingsOp::Accept(vec![nowhere])],
            vec![remove(slot(8), Some(vec![nowhere]))],
            vec![SettingsOp::Title("a".into()), SettingsOp::Title("b".into())],
            vec![SettingsOp::Rules(2), SettingsOp::Rules(2)],
            vec![join(0, Permission::Write), join(1, Permission::Write)],
            vec![join(0, Permission::Write), set(slot(9), Permission::Write)],
            vec![invite(0, Permission::Write), remove(invite_slot(0), None)],
            vec![join(7, Permission::Relay)],
        ];
        let late = some(self, rng);
        ops.push(vec![remove(slot(8), Some(vec![late]))]);
        for (at, ops) in ops.into_iter().enumerate() {
            let mut id = [0xaa; 32];
            id[..8].copy_from_slice(&(at as u64).to_be_bytes());
            let parents = vec![some(self, rng)];
            let author = key(rng.pick(&KEYS));
            self.try_one(Attempt { id: EntryId(id), author, ops: Some(ops), parents });
        }
        let roots = [vec![], vec![nowhere], vec![self.dag.id(0), nowhere]];
        for (at, parents) in roots.into_iter().enumerate() {
            let mut id = [0xbb; 32];
            id[..8].copy_from_slice(&(at as u64).to_be_bytes());
            let ops = vec![set(slot(0), Permission::Admin(0))];
            self.try_one(Attempt { id: EntryId(id), author: key(0), ops: Some(ops), parents });
        }
    }

    /// The DAG of a seed. Every shape has stale views; some are long and narrow, some are fights among admins.
    pub fn random(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let rng = &mut rng;
        let mut grown = Self::start(rng, None);
        let all: Vec<u8> = vec![0, 1, 2, 3, 4, 5, 6, 8, 9, 10];
        match seed % 7 {
            0 => {
                grown.grow(rng, 25, &all, &slots(), View::Any, false);
                grown.grow(rng, 15, &[3, 4, 5, 6, 8], &slots(), View::Any, true);
            }
            1 => {
                grown.grow(rng, 20, &all, &slots(), View::Any, true);
                grown.grow(rng, 30, &all, &slots(), View::Recent, true);
            }
            2 => {
                let admins: Vec<Slot> = (1..5).map(slot).collect();
                grown.grow(rng, 40, &[0, 1, 2, 3, 4], &admins, View::Any, true);
                grown.grow(rng, 10, &all, &slots(), View::Any, false);
            }
            3 => {
                // Ever weaker admins, who are then removed one above the other.
                let admins: Vec<Slot> = [2, 3, 4, 8].into_iter().map(slot).collect();
                grown.grow(rng, 30, &[1, 2, 3, 4, 8], &admins, View::Any, true);
                grown.grow(rng, 30, &[0, 1, 2, 3, 4, 8], &admins, View::Recent, true);
            }
            4 => {
                // One slot that everybody writes, by a key that works on what it is given.
                let one = [slot(8), slot(8), slot(8), Slot::Everyone];
                grown.grow(rng, 40, &[0, 1, 1, 2, 3, 4, 8, 8], &one, View::Any, false);
                grown.grow(rng, 10, &[0, 8], &one, View::Recent, true);
            }
            5 => {
                // Two invites that everybody writes, and keys that join by them.
                let invites = [invite_slot(0), invite_slot(0), invite_slot(1), slot(9)];
                grown.grow(rng, 60, &[0, 1, 2, 3, 8, 8, 9, 9, 9, 10, 10], &invites, View::Any, false);
                grown.grow(rng, 20, &[0, 1, 8, 9, 10], &invites, View::Recent, true);
            }
            _ => {
                grown.grow(rng, 45, &all, &slots(), View::Recent, false);
                grown.grow(rng, 15, &[2, 3, 4], &slots(), View::Any, true);
            }
        }
        grown.nonsense(rng);
        grown
    }
}

/// What the author of an attempt has seen.
#[derive(Debug, Clone, Copy)]
pub enum View {
    Any,
    Recent,
}

/// The same attempts in another order, parents first where they come at all.
pub fn reordered(tried: &[Attempt], rng: &mut Rng) -> Vec<Attempt> {
    let mut rest: Vec<&Attempt> = tried.iter().collect();
    let mut order = Vec::with_capacity(rest.len());
    // The root stays first: whoever comes before it is refused as an orphan.
    order.push(rest.remove(0).clone());
    while !rest.is_empty() {
        let waits = |attempt: &Attempt| rest.iter().any(|other| attempt.parents.contains(&other.id));
        let ready: Vec<usize> = (0..rest.len()).filter(|at| !waits(rest[*at])).collect();
        let at = rng.pick(&ready);
        order.push(rest.swap_remove(at).clone());
    }
    order
}
