//! Scenes in few words: entries by name, judged by the engine and by the oracle at once.

use std::collections::BTreeMap;

use eid_auth::Engine;
use eid_auth::ledger::Ledger;
use eid_auth::oracle::{Dag, Mutant, Verdicts};
use eid_core::{EntryId, Permission, SettingsOp, Slot};

use super::random::{key, set, slot};

/// What an entry of a scene does.
pub enum Act {
    Data,
    Put(Vec<SettingsOp>),
    Fence(u8, &'static [&'static str]),
    Withdraw(u8, &'static [&'static str]),
    Join(u8, Permission),
    Accept(&'static [&'static str]),
}

/// Grants a right.
pub fn put(n: u8, permission: Permission) -> SettingsOp {
    set(slot(n), permission)
}

/// A removal with the default fence.
pub fn rev(n: u8) -> SettingsOp {
    super::random::remove(slot(n), None)
}

/// A DAG that grows in both.
pub struct Scene {
    ledger: Ledger,
    dag: Dag,
    names: BTreeMap<&'static str, EntryId>,
}

type Step = (&'static str, u8, Act, &'static str);

impl Scene {
    pub fn new() -> Self {
        let ledger = Ledger::new(Engine::new()).expect("it is in memory");
        Self { ledger, dag: Dag::new(), names: BTreeMap::new() }
    }

    /// 0: recovery key; 1 and 2: Admin(1); 3: writer.
    pub fn base() -> Self {
        use Permission::{Admin, Write};
        let mut scene = Self::new();
        scene.valid([
            ("r", 0, Act::Put(vec![put(0, Admin(0)), put(1, Admin(1))]), ""),
            ("a2", 0, Act::Put(vec![put(2, Admin(1))]), "r"),
            ("w3", 1, Act::Put(vec![put(3, Write)]), "a2"),
        ]);
        scene
    }

    /// 0: recovery key; 1, 2, 3: Admin(1), Admin(2), Admin(3); 7: writer.
    pub fn ladder() -> Self {
        use Permission::{Admin, Write};
        let mut scene = Self::new();
        let mut ops: Vec<SettingsOp> = (0..4).map(|n| put(n, Admin(n.into()))).collect();
        ops.push(put(7, Write));
        scene.valid([("r", 0, Act::Put(ops), "")]);
        scene
    }

    fn id(&mut self, name: &'static str) -> EntryId {
        let next = self.names.len() as u8;
        *self.names.entry(name).or_insert(EntryId([next + 1; 32]))
    }

    /// Adds entries; gives the names of those that were refused. Both must agree on all.
    pub fn play<const N: usize>(&mut self, steps: [Step; N]) -> Vec<&'static str> {
        let mut refused = Vec::new();
        for (name, author, act, parents) in steps {
            let id = self.id(name);
            let ids = |scene: &mut Self, list: &[&'static str]| -> Vec<EntryId> {
                list.iter().map(|name| scene.id(name)).collect()
            };
            let ops = match act {
                Act::Data => None,
                Act::Put(ops) => Some(ops),
                Act::Fence(n, list) => {
                    let fence = ids(self, list);
                    Some(vec![super::random::remove(slot(n), Some(fence))])
                }
                Act::Withdraw(n, list) => {
                    let fence = ids(self, list);
                    Some(vec![super::random::remove(super::random::invite_slot(n), Some(fence))])
                }
                Act::Join(n, permission) => Some(vec![super::random::join(n, permission)]),
                Act::Accept(list) => Some(vec![SettingsOp::Accept(ids(self, list))]),
            };
            let parents: Vec<&'static str> = parents.split_whitespace().collect();
            let parents = ids(self, &parents);
            let added = self.ledger.add(id, key(author), ops.as_deref(), &parents);
            let valid = self.dag.add(id, key(author), ops.as_deref(), &parents);
            assert_eq!(added.is_ok(), valid, "{name}: the oracle and the engine, which says {added:?}");
            if !valid {
                refused.push(name);
            }
        }
        self.agree();
        refused
    }

    /// Adds entries that must all be valid.
    pub fn valid<const N: usize>(&mut self, steps: [Step; N]) {
        assert_eq!(self.play(steps), Vec::<&str>::new());
    }

    fn agree(&self) {
        let verdicts = self.dag.verdicts();
        for (id, standing) in self.ledger.entries() {
            let name = self.names.iter().find(|(_, held)| **held == id).map(|(name, _)| name);
            assert_eq!(verdicts.standing.contains(&id), standing.counts(), "{name:?}: {standing}");
        }
        assert_eq!(self.ledger.slots(), verdicts.slots);
        assert_eq!(self.ledger.recount().expect("it is in memory"), []);
    }

    /// Whether all of these stand.
    pub fn stand(&self, names: &str) -> bool {
        names.split_whitespace().all(|name| self.stands(name))
    }

    /// Whether none of these stands.
    pub fn fall(&self, names: &str) -> bool {
        !names.split_whitespace().any(|name| self.stands(name))
    }

    fn stands(&self, name: &str) -> bool {
        self.ledger.standing(&self.names[name]).is_some_and(eid_auth::Standing::counts)
    }

    /// Why an entry is void, with names in place of ids and keys.
    pub fn why(&self, name: &str) -> String {
        let mut why = self.ledger.why(&self.names[name]).map(ToString::to_string).unwrap_or_default();
        for (name, id) in &self.names {
            why = why.replace(&id.to_string(), name);
        }
        for n in 0..11 {
            why = why.replace(&key(n).to_string(), &format!("key {n}"));
        }
        for n in 0..3 {
            why = why.replace(&super::random::invite_key(n).to_string(), &n.to_string());
        }
        why
    }

    /// The same entries by the oracle, with a rule changed.
    pub fn judged_by(&self, mutant: Mutant) -> Verdicts {
        let mut dag = Dag::broken(mutant);
        for i in 0..self.dag.len() {
            let parents: Vec<EntryId> = self.dag.parents(i).iter().map(|p| self.dag.id(*p)).collect();
            if let Slot::Key(author) = self.dag.author(i) {
                assert!(dag.add(self.dag.id(i), author, self.dag.ops(i), &parents));
            }
        }
        dag.verdicts()
    }

    /// What a key may do.
    pub fn permission(&self, n: u8) -> Option<Permission> {
        self.ledger.permission(&key(n))
    }

    /// What its own slot gives, if it was written.
    pub fn slot(&self, n: u8) -> Option<Option<Permission>> {
        self.ledger.slots().get(&Slot::Key(key(n))).copied()
    }

    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}
