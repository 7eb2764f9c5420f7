//! What is admitted, what is not, and what is seen of it.

use std::sync::{Arc, Mutex};

use eid_core::dag::{Dag, Replica, Seq};
use eid_core::{Draft, Entry, Permission, SettingsPast, Time, TreeId};
use proptest::prelude::*;

use super::kit::*;
use crate::{Backend, BackendError, Batch, Counting, Memory, Offer, Snapshot, StoreError, Verdict};

/// r <- a, r <- b, a b <- c, c <- d
fn diamond() -> (Entry, Vec<Entry>) {
    let root = root();
    let a = child(&[&root], 1);
    let b = child(&[&root], 2);
    let c = child(&[&a, &b], 3);
    let d = child(&[&c], 4);
    (root.clone(), vec![root, a, b, c, d])
}

#[test]
fn a_root_makes_its_tree_and_nothing_else_does() {
    let store = store();
    let root = root();
    let orphan = child(&[&root], 1);
    assert_eq!(codes(&admit(&store, &[&orphan])), ["missing_parents"]);
    assert!(store.tree(&root.tree()).unwrap().is_none());
    assert_eq!(codes(&admit(&store, &[&root])), ["ok"]);
    assert_eq!(store.trees().unwrap(), [root.tree()]);
    assert_eq!(codes(&admit(&store, &[&root, &orphan])), ["dup", "ok"]);
}

#[test]
fn any_order_of_arrival_gives_the_same_tips_views_and_counts() {
    let (root, entries) = diamond();
    let all: Vec<&Entry> = entries.iter().collect();
    let reference = store();
    assert_eq!(codes(&admit(&reference, &all)), ["ok"; 5]);
    let expected = see(&reference, root.tree()).unwrap();
    assert_eq!(expected.tips, [entries[4].id()]);
    assert_eq!(expected.rows.len(), 4 + 1);

    // One at a time; backwards within one batch; the other branch first.
    let single = store();
    for entry in &entries {
        assert_eq!(codes(&admit(&single, &[entry])), ["ok"]);
    }
    let backwards = store();
    let reversed: Vec<&Entry> = entries.iter().rev().collect();
    assert_eq!(codes(&admit(&backwards, &reversed)), ["ok"; 5]);
    let crossed = store();
    admit(&crossed, &[all[0], all[2]]);
    admit(&crossed, &[all[1], all[3], all[4]]);
    for store in [&single, &backwards, &crossed] {
        assert_eq!(see(store, root.tree()).unwrap(), expected);
    }
}

#[test]
fn what_has_a_gap_below_it_waits_outside_and_does_not_block_the_rest() {
    let (root, entries) = diamond();
    let store = store();
    let verdicts = admit(&store, &[&entries[0], &entries[1], &entries[3], &entries[4]]);
    assert_eq!(codes(&verdicts), ["ok", "ok", "missing_parents", "missing_parents"]);
    assert_eq!(see(&store, root.tree()).unwrap().tips, [entries[1].id()]);
    let verdicts = admit(&store, &[&entries[2], &entries[3], &entries[4]]);
    assert_eq!(codes(&verdicts), ["ok"; 3]);
    assert_eq!(see(&store, root.tree()).unwrap().tips, [entries[4].id()]);
}

#[test]
fn what_is_held_already_changes_nothing() {
    let (root, entries) = diamond();
    let store = store();
    let all: Vec<&Entry> = entries.iter().collect();
    admit(&store, &all);
    let before = see(&store, root.tree()).unwrap();
    assert_eq!(codes(&admit(&store, &all)), ["dup"; 5]);
    assert_eq!(see(&store, root.tree()).unwrap(), before);
    // Twice in one batch is one entry.
    let more = child(&[&entries[4]], 9);
    let verdicts = admit(&store, &[&more, &more]);
    assert_eq!(verdicts, [Verdict::Admitted(Seq(5)), Verdict::Duplicate(Seq(5))]);
}

fn altered(entry: &Entry, change: impl FnOnce(&mut Draft)) -> Entry {
    let header = entry.header();
    let mut draft = Draft {
        tree: header.tree,
        parents: header.parents.clone(),
        height: header.height,
        time: header.time,
        sections: vec![section("a", &[1])],
        nonce: header.nonce,
    };
    change(&mut draft);
    draft.seal(&key(3)).unwrap()
}

#[test]
fn each_kind_of_bad_entry_has_its_code_and_the_good_ones_between_get_in() {
    let (store, root) = store_with_root();
    let good = child(&[&root], 1);
    let mut flipped = good.block().to_vec();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    let bad_signature = Offer { block: flipped.into(), payloads: good.payloads().to_vec() };
    let other_root = Draft::root(
        eid_core::Nonce([8; 16]),
        Time::from_ms(1),
        &[eid_core::SettingsOp::Rules(1), grant(1, Permission::Admin(0))],
    );
    let foreign = child(&[&other_root.seal(&key(1)).unwrap()], 1);
    let high = altered(&good, |draft| draft.height = height(7));
    let early = altered(&good, |draft| draft.time = Time(1));
    let stranger = draft(&[&root], vec![section("a", &[5])]).seal(&key(9)).unwrap();
    let overreach =
        draft(&[&root], vec![eid_core::SectionDraft::settings(&[grant(9, Permission::Write)], &[])])
            .seal(&key(3))
            .unwrap();
    let below_stranger = child(&[&stranger], 6);
    let mut short = offer(&good);
    short.payloads.clear();
    let mut wrong_payload = offer(&child(&[&root], 77));
    wrong_payload.payloads = vec![Some(payload(&[78]))];
    let settings = settings_child(&[&root], &[grant(4, Permission::Write)]);
    let bare_settings = Offer { block: settings.block().clone(), payloads: vec![None] };
    let offers = vec![
        bad_signature,
        offer(&foreign),
        offer(&high),
        offer(&early),
        offer(&stranger),
        offer(&overreach),
        offer(&below_stranger),
        short,
        wrong_payload,
        bare_settings,
        Offer { block: bytes::Bytes::from_static(b"\x82\x40\x41"), payloads: vec![] },
        offer(&good),
    ];
    let verdicts = admit_offers(&store, root.tree(), offers);
    assert_eq!(
        codes(&verdicts),
        [
            "signature",
            "foreign_tree",
            "height",
            "time_before_parent",
            "not_permitted",
            "not_permitted",
            "parent_invalid",
            "payload_mismatch",
            "payload_mismatch",
            "missing_settings_payload",
            "block_malformed",
            "ok"
        ]
    );
    assert_eq!(see(&store, root.tree()).unwrap().ids.len(), 2);
}

#[test]
fn what_this_version_does_not_know_is_kept_out_with_its_descendants() {
    let (store, root) = store_with_root();
    let good = child(&[&root], 1);
    // The version is the first item of the header, which follows the two heads of the block.
    let mut block = good.block().to_vec();
    let at = block.iter().position(|byte| *byte == 0x8a).unwrap() + 1;
    block[at] = 2;
    let newer = Offer { block: block.into(), payloads: good.payloads().to_vec() };
    let id = eid_core::EntryId::of_block(&newer.block);
    let below = altered(&good, |draft| {
        draft.parents = vec![id];
        draft.height = height(2);
    });
    let verdicts = admit_offers(&store, root.tree(), vec![offer(&below), newer, offer(&good)]);
    assert_eq!(codes(&verdicts), ["unsupported_version", "unsupported_version", "ok"]);
}

#[test]
fn a_signature_of_an_unknown_author_is_looked_at_after_the_right() {
    let simple = Simple { strangers: [key(3).public(), key(9).public()].into() };
    let store = crate::EntryStore::open(Arc::new(Memory::new()), Arc::new(simple), Arc::new(Stamps), [5; 32])
        .unwrap();
    let root = root();
    admit(&store, &[&root]);
    let good = child(&[&root], 1);
    let flip = |entry: &Entry| {
        let mut block = entry.block().to_vec();
        let last = block.len() - 1;
        block[last] ^= 1;
        Offer { block: block.into(), payloads: entry.payloads().to_vec() }
    };
    let stranger = draft(&[&root], vec![section("a", &[5])]).seal(&key(9)).unwrap();
    let verdicts = admit_offers(&store, root.tree(), vec![flip(&good), flip(&stranger), offer(&good)]);
    assert_eq!(codes(&verdicts), ["signature", "not_permitted", "ok"]);
}

#[test]
fn settings_and_what_depends_on_them_go_through_in_one_batch() {
    let (store, root) = store_with_root();
    let grant_4 = settings_child(&[&root], &[grant(4, Permission::Write)]);
    let by_4 = draft(&[&grant_4], vec![section("a", &[1])]).seal(&key(4)).unwrap();
    let beside = draft(&[&root], vec![section("a", &[2])]).seal(&key(4)).unwrap();
    let joined = draft(&[&by_4, &child(&[&root], 3)], vec![section("a", &[4])]).seal(&key(4)).unwrap();
    let branch = child(&[&root], 3);
    let verdicts = admit(&store, &[&grant_4, &by_4, &beside, &branch, &joined]);
    // Key 4 had no right before the grant, whatever arrived first.
    assert_eq!(codes(&verdicts), ["ok", "ok", "not_permitted", "ok", "ok"]);
    let snapshot = store.tree(&root.tree()).unwrap().unwrap();
    assert_eq!(snapshot.settings_frontier().unwrap(), [grant_4.id()]);
    let node = snapshot.settings(&grant_4.id()).unwrap().unwrap();
    assert_eq!(node.past, [root.id()]);
}

#[test]
fn concurrent_settings_make_a_frontier_of_two_until_one_entry_descends_from_both() {
    let (store, root) = store_with_root();
    let one = settings_child(&[&root], &[grant(4, Permission::Write)]);
    let two = settings_child(&[&root], &[grant(5, Permission::Write)]);
    let merge = child(&[&one, &two], 1);
    let three = settings_child(&[&merge], &[revoke(4)]);
    let after = child(&[&three, &one], 2);
    assert_eq!(codes(&admit(&store, &[&one, &two, &merge, &three, &after])), ["ok"; 5]);
    let snapshot = store.tree(&root.tree()).unwrap().unwrap();
    let mut both = [one.id(), two.id()];
    both.sort_unstable();
    let nodes = snapshot.nodes(Seq(0), 100).unwrap();
    let frontier = |seq: usize| snapshot.settings_of(nodes[seq].settings).unwrap();
    assert_eq!(frontier(0), [root.id()]);
    assert_eq!(frontier(1), [one.id()]);
    assert_eq!(frontier(3), both);
    assert_eq!(frontier(4), [three.id()]);
    assert_eq!(frontier(5), [three.id()]);
    assert_eq!(snapshot.settings(&three.id()).unwrap().unwrap().past, both);
    // A fresh process derives the same.
    assert_eq!(codes(&admit(&store, &[&child(&[&after, &two], 3)])), ["ok"]);
}

#[test]
fn a_payload_that_does_not_come_along_is_named_as_missing() {
    let (store, root) = store_with_root();
    let entry = child(&[&root], 1);
    let bare = Offer { block: entry.block().clone(), payloads: vec![None] };
    assert_eq!(codes(&admit_offers(&store, root.tree(), vec![bare])), ["ok"]);
    let snapshot = store.tree(&root.tree()).unwrap().unwrap();
    assert_eq!(snapshot.missing_payloads(), 1);
    assert_eq!(snapshot.entry(&entry.id()).unwrap().unwrap().payloads(), [None]);
    // It comes with a later offer of the same entry.
    assert_eq!(codes(&admit(&store, &[&entry])), ["dup"]);
    let snapshot = store.tree(&root.tree()).unwrap().unwrap();
    assert_eq!(snapshot.missing_payloads(), 0);
    assert_eq!(snapshot.entry(&entry.id()).unwrap().unwrap(), entry);
    let reference = self::store();
    admit(&reference, &[&root, &entry]);
    assert_eq!(see(&store, root.tree()).unwrap(), see(&reference, root.tree()).unwrap());
}

#[test]
fn operations_without_effect_are_counted_and_kept() {
    let (store, root) = store_with_root();
    let entry = draft(&[&root], vec![section("a", &[1, 9, 9, 2])]).seal(&key(3)).unwrap();
    let mut broken = section("b", &[1]);
    broken.payload = bytes::Bytes::from_static(b"not cbor");
    let broken = draft(&[&entry], vec![broken]).seal(&key(3)).unwrap();
    assert_eq!(codes(&admit(&store, &[&entry, &broken])), ["ok", "ok"]);
    let seen = see(&store, root.tree()).unwrap();
    assert_eq!(seen.stores, [("a".to_owned(), KIND.to_owned(), 1, 2), ("b".to_owned(), String::new(), 1, 1)]);
    assert_eq!(seen.rows.len(), 2 + 1);
}

#[test]
fn a_snapshot_reads_what_was_there_when_it_was_taken() {
    let (root, entries) = diamond();
    let store = store();
    admit(&store, &[&entries[0], &entries[1]]);
    let before = store.tree(&root.tree()).unwrap().unwrap();
    admit(&store, &[&entries[2], &entries[3]]);
    assert_eq!(before.count(), 2);
    assert_eq!(before.find(&[entries[1].id(), entries[2].id()]).unwrap(), [Some(Seq(1)), None]);
    assert_eq!(before.log(Seq(0)..Seq(10), usize::MAX).unwrap().len(), 2);
    let after = store.tree(&root.tree()).unwrap().unwrap();
    assert_eq!(
        after.parents(Seq(0), 10).unwrap(),
        [vec![], vec![Seq(0)], vec![Seq(0)], {
            let mut parents = [(entries[1].id(), Seq(1)), (entries[2].id(), Seq(2))];
            parents.sort_unstable();
            parents.map(|(_, seq)| seq).to_vec()
        }]
    );
    assert_eq!(after.find_prefixes(&[entries[3].id().prefix(), [0; 8]]).unwrap(), [Some(Seq(3)), None]);
    let log = after.log(Seq(1)..Seq(4), 1).unwrap();
    assert_eq!((log.len(), log[0].seq), (1, Seq(1)));
    assert_eq!(log[0].block, *entries[1].block());
    assert_eq!(after.entry_at(Seq(3)).unwrap().unwrap(), entries[3]);
    assert!(before.run(Seq(2)..Seq(4), usize::MAX).unwrap().is_empty());
}

#[test]
fn a_run_is_what_the_log_and_the_edges_say() {
    let (root, entries) = diamond();
    let store = store();
    admit(&store, &entries.iter().take(3).collect::<Vec<_>>());
    let bare = Offer { block: entries[3].block().clone(), payloads: vec![None; entries[3].payloads().len()] };
    admit_offers(&store, root.tree(), vec![bare]);
    let tree = store.tree(&root.tree()).unwrap().unwrap();
    for (range, bytes_max) in
        [(0..9, usize::MAX), (1..3, usize::MAX), (2..4, 1), (3..9, usize::MAX), (4..9, 9)]
    {
        let range = Seq(range.start)..Seq(range.end);
        let (run, log) = (tree.run(range.clone(), bytes_max).unwrap(), tree.log(range, bytes_max).unwrap());
        assert_eq!(run.iter().len(), log.len());
        for (entry, logged) in run.iter().zip(&log) {
            let named = tree.named(logged.seq, 1).unwrap().remove(0);
            let payloads: Vec<Option<&[u8]>> = logged.payloads.iter().map(Option::as_deref).collect();
            assert_eq!((entry.seq(), entry.block()), (logged.seq, &logged.block[..]));
            assert_eq!(entry.payloads().collect::<Vec<_>>(), payloads);
            assert_eq!((entry.short(), entry.parents()), (named.short, &named.parents[..]));
            assert_eq!(entry.bytes_len(), logged.bytes_len());
        }
    }
}

#[test]
fn a_forgotten_tree_leaves_no_row_and_can_come_again() {
    let (store, root) = store_with_root();
    let mut chain = vec![child(&[&root], 1)];
    for n in 2..2 * crate::limits::CHECKPOINT_ENTRIES {
        chain.push(child(&[chain.last().unwrap()], n));
    }
    // One comes without its payload first, so that there are rows of every space.
    admit_offers(&store, root.tree(), vec![Offer { block: chain[0].block().clone(), payloads: vec![None] }]);
    admit(&store, &chain.iter().collect::<Vec<_>>());
    let life = |store: &crate::EntryStore| store.tree(&root.tree()).unwrap().unwrap().epoch();
    let before = life(&store);
    assert_eq!(store.epoch_of(&root.tree()), before);
    store.forget(&root.tree()).unwrap();
    assert!(store.tree(&root.tree()).unwrap().is_none());
    assert!(matches!(store.forget(&root.tree()), Err(StoreError::UnknownTree)));
    let all = crate::Scan::range(vec![0x10], vec![0xff]);
    assert_eq!(store.backend().snapshot().unwrap().scan_many(&[all]).unwrap(), [vec![]]);
    assert_eq!(codes(&admit(&store, &[&root, &chain[0]])), ["ok", "ok"]);
    // Positions of the life before say nothing of this one.
    assert_ne!(life(&store), before);
    assert_eq!(store.epoch_of(&root.tree()), life(&store));
}

#[test]
fn an_offer_for_another_tree_is_refused_before_its_signature_is_looked_at() {
    let (store, root) = store_with_root();
    let entry = child(&[&root], 1);
    let verdicts = admit_offers(&store, TreeId([9; 32]), vec![offer(&entry)]);
    assert_eq!(codes(&verdicts), ["foreign_tree"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn batches_of_any_size_and_order_end_at_the_same_state(
        shape in proptest::collection::vec(proptest::collection::vec(any::<u16>(), 1..3), 1..40),
        cuts in proptest::collection::vec(1usize..9, 0..20),
        swaps in proptest::collection::vec(any::<u16>(), 0..40),
    ) {
        let mut entries = vec![root()];
        for (n, picks) in shape.iter().enumerate() {
            let mut parents: Vec<usize> = picks.iter().map(|pick| usize::from(*pick) % entries.len()).collect();
            parents.sort_unstable();
            parents.dedup();
            let parents: Vec<&Entry> = parents.iter().map(|i| &entries[*i]).collect();
            entries.push(child(&parents, n as u64 + 10));
        }
        let tree = entries[0].tree();
        let reference = store();
        admit(&reference, &entries.iter().collect::<Vec<_>>());
        let expected = see(&reference, tree).unwrap();
        prop_assert_eq!(expected.ids.len(), entries.len());
        // Shuffled and cut; what is refused for missing parents is offered again until nothing is left.
        let mut order: Vec<usize> = (0..entries.len()).collect();
        for (i, swap) in swaps.iter().enumerate() {
            let i = i % order.len();
            order.swap(i, usize::from(*swap) % entries.len());
        }
        let other = store();
        let mut cuts = cuts.iter().copied().cycle();
        for _ in 0..=entries.len() {
            let mut left = Vec::new();
            let mut rest = &order[..];
            while !rest.is_empty() {
                let (batch, more) = rest.split_at(cuts.next().unwrap_or(5).min(rest.len()));
                let offers: Vec<&Entry> = batch.iter().map(|i| &entries[*i]).collect();
                for (i, verdict) in batch.iter().zip(admit(&other, &offers)) {
                    if matches!(verdict, Verdict::Refused(_)) {
                        left.push(*i);
                    }
                }
                rest = more;
            }
            order = left;
            if order.is_empty() {
                break;
            }
        }
        prop_assert_eq!(see(&other, tree).unwrap(), expected);
    }
}

#[test]
fn a_wrong_payload_says_nothing_about_its_block() {
    let (store, root) = store_with_root();
    let parent = child(&[&root], 1);
    let good = child(&[&parent], 2);
    let wrong = || Offer { payloads: vec![Some(payload(&[99]))], ..offer(&parent) };
    // Whether the parent is held already or comes right in the same batch, its child is not blamed.
    let verdicts = admit_offers(&store, root.tree(), vec![wrong(), offer(&good)]);
    assert_eq!(codes(&verdicts), ["payload_mismatch", "missing_parents"]);
    admit(&store, &[&parent]);
    let verdicts = admit_offers(&store, root.tree(), vec![wrong(), offer(&good)]);
    assert_eq!(codes(&verdicts), ["payload_mismatch", "ok"]);
}

#[test]
fn a_tree_that_is_forgotten_while_it_is_read_can_be_had_again() {
    let backend = Arc::new(Interrupted::default());
    let store = open_on(backend.clone());
    let root = root();
    let grants = [grant(2, Permission::Write), grant(3, Permission::Write)];
    let forks = grants.map(|grant| settings_child(&[&root], &[grant]));
    let joined = child(&[&forks[0], &forks[1]], 1);
    let all = [&root, &forks[0], &forks[1], &joined];
    assert_eq!(codes(&admit(&store, &all)), ["ok"; 4]);
    let expected = see(&store, root.tree()).unwrap();
    let (again, tree) = (store.clone(), root.tree());
    backend.at_next_snapshot(move || again.forget(&tree).unwrap());
    if let Some(forgotten) = store.tree(&root.tree()).unwrap() {
        // What is read of it is kept in memory, and must not be taken for what is held later.
        forgotten.settings_frontier().unwrap();
    }
    assert_eq!(codes(&admit(&store, &all)), ["ok"; 4]);
    assert_eq!(see(&store, root.tree()).unwrap(), expected);
    assert_eq!(store.fsck(false, &mut |_, _| {}).unwrap().problems, []);
}

/// Does something else right after a snapshot was taken.
#[derive(Debug, Default)]
struct Interrupted {
    rows: Memory,
    work: Mutex<Option<Work>>,
}

struct Work(Box<dyn FnOnce() + Send>);

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Work")
    }
}

impl Interrupted {
    fn at_next_snapshot(&self, work: impl FnOnce() + Send + 'static) {
        *self.work.lock().unwrap() = Some(Work(Box::new(work)));
    }
}

impl Backend for Interrupted {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, BackendError> {
        let snapshot = self.rows.snapshot();
        let work = self.work.lock().unwrap().take();
        if let Some(Work(work)) = work {
            work();
        }
        snapshot
    }

    fn commit(&self, batch: Batch) -> Result<(), BackendError> {
        self.rows.commit(batch)
    }
}

#[test]
fn batches_that_come_together_get_the_verdicts_that_they_get_one_after_another_and_one_flush() {
    let (root, entries) = diamond();
    let tree = root.tree();
    let late = child(&[&entries[3]], 8);
    let orphan = child(&[&late], 9);
    let mut forged = entries[2].block().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let forged = Offer { block: forged.into(), payloads: entries[2].payloads().to_vec() };
    let batches = [
        vec![offer(&entries[0]), offer(&entries[1]), offer(&entries[0]), forged],
        vec![offer(&entries[1]), offer(&orphan), offer(&entries[2]), offer(&entries[2])],
        vec![],
        vec![offer(&entries[3]), offer(&entries[0]), offer(&late), offer(&orphan)],
    ];
    let alone = store();
    let one_by_one = batches.clone().map(|batch| admit_offers(&alone, tree, batch));
    let backend = Arc::new(Counting::new(Memory::new()));
    let store = open_on(backend.clone());
    let prepared = batches.map(|batch| store.prepare(tree, batch).unwrap());
    let before = backend.counts();
    let together = store.admit_all(prepared.into()).unwrap();
    assert_eq!((backend.counts() - before).commits, 1);
    assert_eq!(together.into_iter().map(|admission| admission.verdicts).collect::<Vec<_>>(), one_by_one);
    assert_eq!(see(&store, tree).unwrap(), see(&alone, tree).unwrap());
    assert_eq!(store.admit_all(Vec::new()).unwrap(), []);
}
