use super::*;
use eid_core::{Draft, Entry, Height, KeyMode, Nonce, SecretKey, SectionDraft, Time};
use proptest::prelude::*;

/// Settings entries by id, with what each can see.
#[derive(Debug, Default)]
struct World {
    nodes: BTreeMap<EntryId, Arc<SettingsNode>>,
    made: u8,
}

impl SettingsPast for World {
    fn settings(&self, id: &EntryId) -> Result<Option<Arc<SettingsNode>>, ReadError> {
        Ok(self.nodes.get(id).cloned())
    }
}

fn key(n: u8) -> PublicKey {
    PublicKey([n; 32])
}

fn set(n: u8, permission: Permission) -> SettingsOp {
    SettingsOp::Set { slot: Slot::Key(key(n)), permission }
}

fn revoke(n: u8) -> SettingsOp {
    SettingsOp::Revoke { slot: Slot::Key(key(n)), mode: KeyMode::Leave }
}

use Permission::{Admin, Read, Write};

impl World {
    /// 0 is Admin(0); 1, 2, 3 are Admin(1), Admin(2), Admin(3); 7 is a writer.
    fn ladder() -> (Self, EntryId) {
        let mut world = Self::default();
        let root = [set(0, Admin(0)), set(1, Admin(1)), set(2, Admin(2)), set(3, Admin(3)), set(7, Write)];
        let id = world.add(0, &root, &[]);
        (world, id)
    }

    fn ancestors(&self, of: &[EntryId]) -> BTreeSet<EntryId> {
        let mut seen = BTreeSet::new();
        let mut open = of.to_vec();
        while let Some(id) = open.pop() {
            if seen.insert(id) {
                open.extend(&self.nodes[&id].past);
            }
        }
        seen
    }

    fn heads(&self, of: &[EntryId]) -> Vec<EntryId> {
        let set: BTreeSet<EntryId> = of.iter().copied().collect();
        let below: BTreeSet<EntryId> =
            set.iter().flat_map(|id| self.ancestors(&self.nodes[id].past)).collect();
        set.difference(&below).copied().collect()
    }

    fn add(&mut self, author: u8, ops: &[SettingsOp], parents: &[EntryId]) -> EntryId {
        self.made += 1;
        // Ids go against the order of making, so that nothing leans on it.
        let id = EntryId([255 - self.made; 32]);
        let past = self.heads(parents);
        self.nodes.insert(id, Arc::new(SettingsNode { id, author: key(author), ops: ops.to_vec(), past }));
        id
    }

    fn at(&self, parents: &[EntryId]) -> Arc<Settings> {
        Rights::new().resolve(&self.heads(parents), self).unwrap()
    }

    fn allows(&self, author: u8, op: SettingsOp, parents: &[EntryId]) -> bool {
        self.at(parents).allow(&key(author), &[op])
    }
}

#[test]
fn neither_of_two_equals_removes_the_other() {
    let (mut world, root) = World::ladder();
    let up = world.add(0, &[set(2, Admin(1))], &[root]);
    assert!(!world.allows(1, revoke(2), &[up]));
    assert!(!world.allows(2, revoke(1), &[up]));
    assert!(world.allows(1, revoke(2), &[root]));
}

#[test]
fn of_concurrent_writes_the_more_restrictive_counts() {
    let (mut world, root) = World::ladder();
    let strong = world.add(1, &[set(9, Admin(2))], &[root]);
    let weak = world.add(1, &[set(9, Write)], &[root]);
    assert_eq!(world.at(&[strong, weak]).permission(&key(9)), Some(Write));
    let gone = world.add(2, &[revoke(9)], &[root]);
    assert_eq!(world.at(&[strong, weak, gone]).permission(&key(9)), None);
    assert_eq!(world.at(&[strong, weak, gone]).slot(&Slot::Key(key(9))), Some(None));
    // Whoever has seen them all replaces them all.
    let after = world.add(0, &[set(9, Read)], &[strong, weak, gone]);
    assert_eq!(world.at(&[after]).permission(&key(9)), Some(Read));
    // One that has seen only some replaces those; the other still counts.
    let part = world.add(1, &[set(9, Admin(4))], &[strong, weak]);
    assert_eq!(world.at(&[part, gone]).permission(&key(9)), None);
}

#[test]
fn every_concurrent_value_of_a_slot_must_be_outranked_not_only_the_one_that_counts() {
    let (mut world, root) = World::ladder();
    let p = world.add(0, &[set(9, Admin(1))], &[root]);
    let q = world.add(0, &[set(9, Write)], &[root]);
    assert_eq!(world.at(&[p, q]).permission(&key(9)), Some(Write));
    assert!(!world.allows(2, revoke(9), &[p, q]));
    assert!(world.allows(0, revoke(9), &[p, q]));
    assert!(world.allows(2, revoke(9), &[q]));
}

#[test]
fn what_was_revoked_comes_back_only_with_the_revokers_rank() {
    let (mut world, root) = World::ladder();
    let gone = world.add(1, &[revoke(7)], &[root]);
    assert!(!world.allows(2, set(7, Write), &[gone]));
    assert!(world.allows(1, set(7, Write), &[gone]));
    assert!(world.allows(0, set(7, Write), &[gone]));
}

#[test]
fn nobody_grants_above_himself_and_only_admins_grant() {
    let (world, root) = World::ladder();
    assert!(world.allows(2, set(9, Admin(2)), &[root]));
    assert!(!world.allows(2, set(9, Admin(1)), &[root]));
    assert!(!world.allows(7, set(9, Read), &[root]));
    assert!(!world.allows(7, SettingsOp::Title("t".to_owned()), &[root]));
    assert!(world.allows(3, SettingsOp::Title("t".to_owned()), &[root]));
    assert!(world.allows(2, set(2, Read), &[root]), "stepping down");
    assert!(!world.allows(2, set(2, Admin(1)), &[root]));
}

#[test]
fn the_judge_looks_only_at_the_past_of_the_entry() {
    let recovery = SecretKey::from_seed([1; 32]);
    let writer = SecretKey::from_seed([2; 32]);
    let mut world = World::default();
    let grant = SettingsOp::Set { slot: Slot::Key(writer.public()), permission: Write };
    let begin = SettingsOp::Set { slot: Slot::Key(recovery.public()), permission: Admin(0) };
    let root = world.add(0, &[begin.clone(), grant], &[]);
    let gone = SettingsOp::Revoke { slot: Slot::Key(writer.public()), mode: KeyMode::Leave };
    let removed = world.add(0, &[gone], &[root]);
    let tree = Draft::root(Nonce([0; 16]), Time(0), &[SettingsOp::Rules(1), begin]).seal(&recovery).unwrap();
    let seal = |sections: Vec<SectionDraft>| -> Entry {
        let draft = Draft {
            tree: Some(tree.tree()),
            parents: vec![tree.id()],
            height: Height(1),
            time: Time(1),
            sections,
            nonce: None,
        };
        draft.seal(&writer).unwrap()
    };
    let (merge, settings) =
        (seal(Vec::new()), seal(vec![SectionDraft::settings(&[SettingsOp::Title("t".into())], &[])]));
    let rights = Rights::new();
    let ask = |entry: &Entry, past: &[EntryId]| rights.judge(Question { entry, past }, &world).unwrap();
    assert!(!rights.knows(&tree.tree(), &writer.public()));
    assert_eq!(ask(&merge, &[root]), Ok(()));
    assert!(rights.knows(&tree.tree(), &writer.public()));
    assert_eq!(ask(&merge, &[removed]), Err(Invalid::NotPermitted.into()));
    assert_eq!(ask(&settings, &[root]), Err(Invalid::NotPermitted.into()));
    assert_eq!(ask(&merge, &[root]), Ok(()), "asked again, the answer is the same");
    assert!(ask(&tree, &[]).is_ok());
}

#[test]
fn a_long_chain_of_settings_neither_recurses_nor_is_walked_again() {
    struct Long(Vec<Arc<SettingsNode>>, std::cell::Cell<usize>);
    fn id(n: usize) -> EntryId {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&(n as u64).to_be_bytes());
        EntryId(id)
    }
    impl SettingsPast for Long {
        fn settings(&self, wanted: &EntryId) -> Result<Option<Arc<SettingsNode>>, ReadError> {
            self.1.set(self.1.get() + 1);
            let n = u64::from_be_bytes(wanted.0[..8].try_into().unwrap());
            Ok(self.0.get(usize::try_from(n).unwrap()).cloned())
        }
    }
    let nodes = (0..100_000)
        .map(|n| {
            let past = if n == 0 { vec![] } else { vec![id(n - 1)] };
            let ops = vec![set(if n == 0 { 0 } else { 7 }, if n == 0 { Admin(0) } else { Write })];
            Arc::new(SettingsNode { id: id(n), author: key(0), ops, past })
        })
        .collect();
    let long = Long(nodes, std::cell::Cell::new(0));
    let rights = Rights::new();
    let settings = rights.resolve(&[id(99_999)], &long).unwrap();
    assert_eq!(settings.permission(&key(7)), Some(Write));
    let read = long.1.replace(0);
    rights.resolve(&[id(99_999)], &long).unwrap();
    assert_eq!((read, long.1.get()), (100_000, 0));
    assert!(rights.resolve(&[id(100_000)], &long).is_err());
}

/// By the definition: of each slot, the writes in the past that no other write in the past has seen.
fn naive(world: &World, frontier: &[EntryId]) -> BTreeMap<Slot, Option<Permission>> {
    let past = world.ancestors(frontier);
    let mut writes: BTreeMap<Slot, Vec<(EntryId, Option<Permission>)>> = BTreeMap::new();
    for id in &past {
        for op in &world.nodes[id].ops {
            let permission = match op {
                SettingsOp::Set { permission, .. } => Some(*permission),
                _ => None,
            };
            if let Some(slot) = op.slot() {
                writes.entry(slot).or_default().push((*id, permission));
            }
        }
    }
    writes
        .into_iter()
        .map(|(slot, writes)| {
            let replaced = |id: &EntryId| {
                writes.iter().any(|(other, _)| other != id && world.ancestors(&[*other]).contains(id))
            };
            let counts = writes.iter().filter(|(id, _)| !replaced(id)).map(|(_, permission)| *permission);
            (slot, counts.min().flatten())
        })
        .collect()
}

proptest! {
    #[test]
    fn settings_are_resolved_as_defined_whatever_is_remembered(
        shape in proptest::collection::vec(
            (proptest::collection::vec(any::<u16>(), 1..4), 4u8..8, 0u8..4),
            1..40,
        ),
        asked in proptest::collection::vec(proptest::collection::vec(any::<u16>(), 1..4), 1..12),
    ) {
        let (mut world, root) = World::ladder();
        let mut made = vec![root];
        for (picks, slot, what) in shape {
            let parents: Vec<EntryId> = picks.iter().map(|pick| made[usize::from(*pick) % made.len()]).collect();
            let op = match what {
                0 => revoke(slot),
                1 => set(slot, Read),
                2 => set(slot, Write),
                _ => set(slot, Admin(u32::from(slot))),
            };
            made.push(world.add(0, &[op], &parents));
        }
        let warm = Rights::new();
        for picks in asked {
            let ids: Vec<EntryId> = picks.iter().map(|pick| made[usize::from(*pick) % made.len()]).collect();
            let frontier = world.heads(&ids);
            let cold = Rights::new().resolve(&frontier, &world).unwrap();
            prop_assert_eq!(&*warm.resolve(&frontier, &world).unwrap(), &*cold);
            prop_assert_eq!(cold.slots().collect::<BTreeMap<_, _>>(), naive(&world, &frontier));
        }
    }
}
