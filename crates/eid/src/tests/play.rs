//! Scenes on the real thing: entries that are signed, sent in sessions, admitted by instances and shown by databases.
//!
//! One instance hears of every entry in a session of its own, the other of several at once. Both must agree.

use std::collections::BTreeMap;

use eid_core::{Entry, EntryId, Permission, SettingsOp, Time, TreeId};
use eid_db::EntryStanding;
use eid_transport::memory::MemoryNet;
use tokio::runtime::Runtime;

use super::peers::{Honest, Rogue, root, section, sign};
use super::random::{invite_secret, invite_slot, remove, secret, set, slot};

/// What an entry of a scene does.
pub(super) enum Act {
    Data,
    Put(Vec<SettingsOp>),
    Fence(u8, &'static [&'static str]),
    Withdraw(u8, &'static [&'static str]),
    Join(u8, Permission),
    Accept(&'static [&'static str]),
}

/// Grants a right.
pub(super) fn put(n: u8, permission: Permission) -> SettingsOp {
    set(slot(n), permission)
}

/// A removal with the default fence.
pub(super) fn rev(n: u8) -> SettingsOp {
    remove(slot(n), None)
}

type Step = (&'static str, u8, Act, &'static str);

/// Two instances, and a rogue that sends them whatever was signed.
pub(super) struct Scene {
    runtime: Runtime,
    entries: BTreeMap<&'static str, Entry>,
    tree: TreeId,
    rogue: Rogue,
    at_once: Honest,
    one_by_one: Honest,
}

impl Scene {
    fn new(name: &'static str, ops: &[SettingsOp]) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime can be made");
        let root = root(&secret(0), ops);
        let (net, tree) = (MemoryNet::new(), root.tree());
        let (rogue, at_once, one_by_one) = runtime.block_on(async {
            let rogue = Rogue::new(&net, tree, secret(90)).await;
            (rogue, Honest::new(&net, "at-once").await, Honest::new(&net, "one-by-one").await)
        });
        for honest in [&at_once, &one_by_one] {
            honest.track(tree);
        }
        rogue.keep(std::slice::from_ref(&root));
        let entries = BTreeMap::from([(name, root)]);
        Self { runtime, entries, tree, rogue, at_once, one_by_one }
    }

    /// 0: recovery key; 1 and 2: Admin(1); 3: writer.
    pub(super) fn base() -> Self {
        use Permission::{Admin, Write};
        let mut scene = Self::new("r", &[put(0, Admin(0)), put(1, Admin(1))]);
        scene.valid([
            ("a2", 0, Act::Put(vec![put(2, Admin(1))]), "r"),
            ("w3", 1, Act::Put(vec![put(3, Write)]), "a2"),
        ]);
        scene
    }

    /// 0: recovery key; 1, 2, 3: Admin(1), Admin(2), Admin(3); 7: writer.
    pub(super) fn ladder() -> Self {
        let mut ops: Vec<SettingsOp> = (0..4).map(|n| put(n, Permission::Admin(n.into()))).collect();
        ops.push(put(7, Permission::Write));
        Self::new("r", &ops)
    }

    fn ids(&self, names: &[&str]) -> Vec<EntryId> {
        let mut ids: Vec<EntryId> = names.iter().map(|name| self.entries[name].id()).collect();
        ids.sort_unstable();
        ids
    }

    /// Signs and sends entries; gives the names of those that were refused. Both instances must agree on all.
    pub(super) fn play<const N: usize>(&mut self, steps: [Step; N]) -> Vec<&'static str> {
        let mut refused = Vec::new();
        for (name, author, act, parents) in steps {
            let ops = match act {
                Act::Data => None,
                Act::Put(ops) => Some(ops),
                Act::Fence(n, list) => Some(vec![remove(slot(n), Some(self.ids(list)))]),
                Act::Withdraw(n, list) => Some(vec![remove(invite_slot(n), Some(self.ids(list)))]),
                Act::Join(n, permission) => {
                    let joiner = secret(author).public();
                    Some(vec![SettingsOp::join(&invite_secret(n), &self.tree, &joiner, permission)])
                }
                Act::Accept(list) => Some(vec![SettingsOp::Accept(self.ids(list))]),
            };
            let parents: Vec<&Entry> = parents.split_whitespace().map(|name| &self.entries[name]).collect();
            // All at the time of the root: whoever looks at time is misled.
            let Ok(entry) = sign(&secret(author), &parents, Time(0), section(ops.as_deref(), name)) else {
                // Nothing that could be sent.
                refused.push(name);
                continue;
            };
            self.rogue.keep(std::slice::from_ref(&entry));
            self.hear(&self.one_by_one);
            if !self.one_by_one.holds(self.tree, &entry.id()) {
                refused.push(name);
            }
            self.entries.insert(name, entry);
        }
        self.hear(&self.at_once);
        self.agree();
        refused
    }

    fn hear(&self, honest: &Honest) {
        self.runtime.block_on(honest.meet(&self.rogue.address(), self.tree));
    }

    /// Adds entries that must all be valid.
    pub(super) fn valid<const N: usize>(&mut self, steps: [Step; N]) {
        assert_eq!(self.play(steps), Vec::<&str>::new());
    }

    fn agree(&self) {
        for (name, entry) in &self.entries {
            let [a, b] = [&self.one_by_one, &self.at_once].map(|honest| {
                let held = honest.holds(self.tree, &entry.id());
                held.then(|| honest.db(self.tree).standing(&entry.id()).expect("it is held"))
            });
            assert_eq!(a.as_ref().map(EntryStanding::counts), b.map(|b| b.counts()), "{name}");
            // What a document shows is what counts.
            if let Some(a) = a.filter(|_| !entry.header().is_settings()) {
                let shown = self.one_by_one.db(self.tree).doc("d").get([*name]).expect("it can be read");
                assert_eq!(shown.is_some(), a.counts(), "{name}: {a}");
            }
        }
        let hash = |honest: &Honest| honest.db(self.tree).state_hash().expect("memory can be read");
        assert_eq!(hash(&self.one_by_one), hash(&self.at_once));
    }

    fn db(&self) -> eid_db::Database {
        self.one_by_one.db(self.tree)
    }

    /// Whether all of these stand.
    pub(super) fn stand(&self, names: &str) -> bool {
        names.split_whitespace().all(|name| self.stands(name))
    }

    /// Whether none of these stands.
    pub(super) fn fall(&self, names: &str) -> bool {
        !names.split_whitespace().any(|name| self.stands(name))
    }

    fn stands(&self, name: &str) -> bool {
        self.db().standing(&self.entries[name].id()).is_ok_and(|standing| standing.counts())
    }

    /// Why an entry is void, with names in place of ids and keys.
    pub(super) fn why(&self, name: &str) -> String {
        let standing = self.db().standing(&self.entries[name].id()).expect("it is held");
        let EntryStanding::Void(why) = standing else { return String::new() };
        let mut why = why.to_string();
        for (name, entry) in &self.entries {
            why = why.replace(&entry.id().to_string(), name);
        }
        for n in 0..11 {
            why = why.replace(&secret(n).public().to_string(), &format!("key {n}"));
        }
        for n in 0..3 {
            why = why.replace(&invite_secret(n).public().to_string(), &n.to_string());
        }
        why
    }

    /// What a key may do.
    pub(super) fn permission(&self, n: u8) -> Option<Permission> {
        self.db().permission(&[secret(n).public()]).expect("memory can be read")
    }

    /// What its own slot gives, if it was written.
    pub(super) fn slot(&self, n: u8) -> Option<Option<Permission>> {
        self.db().settings().expect("memory can be read").slot(&slot(n))
    }
}
