use eid_core::{History, Judge, Question, ReadError, Refusal};
use eid_store::{Applied, Apply, Backend, Change, Memory, ViewRows, Wanted};

use super::*;

#[derive(Debug)]
struct Nothing;

impl Judge for Nothing {
    fn knows(&self, _: &TreeId, _: &PublicKey) -> bool {
        true
    }

    fn judge(&self, _: Question<'_>, _: &dyn History) -> Result<Result<(), Refusal>, ReadError> {
        Ok(Ok(()))
    }
}

impl Apply for Nothing {
    fn reads(&self, _: &Change<'_>, _: &mut Wanted) {}

    fn apply(&self, _: &Change<'_>, _: &mut dyn ViewRows) -> Result<Applied, ReadError> {
        Ok(Applied::default())
    }
}

const TREE: TreeId = TreeId([1; 32]);
const PEER: PublicKey = PublicKey([2; 32]);

fn ledger(disk: &Arc<Memory>) -> Ledger {
    let disk: Arc<dyn Backend> = Arc::<Memory>::clone(disk);
    let store = EntryStore::open(disk, Arc::new(Nothing), Arc::new(Nothing), [1; 32]).expect("a store");
    Ledger::in_store(&store)
}

/// A session that brought one entry, sent two and took 5 ms.
fn session(complete: bool) -> SessionReport {
    SessionReport {
        tree: Some(TREE),
        peer: PEER,
        via: None,
        pulled: 1,
        pushed: 2,
        duplicates: 0,
        refused: 0,
        bytes_in: 10,
        bytes_out: 20,
        handshake_bytes: 0,
        turns: 1,
        visited: 0,
        rung: None,
        began_ms: 90,
        ms: 5,
        complete,
        filled: 0,
        given: 0,
        missing: 0,
        behind: if complete { Some(0) } else { Some(3) },
    }
}

fn failure(at_ms: u64) -> Option<SyncFailure> {
    Some(SyncFailure { at_ms, code: "timed_out".to_owned(), text: "nobody answers".to_owned() })
}

#[test]
fn sums_count_every_session_and_failures_in_a_row_until_one_succeeds() {
    let disk = Arc::new(Memory::new());
    let rows = ledger(&disk);
    assert_eq!(rows.of(&TREE, &PEER).expect("rows"), None);
    rows.record(&session(true), None, 100).expect("a row");
    rows.record(&session(false), failure(200), 200).expect("a row");
    rows.record(&session(false), failure(300), 300).expect("a row");
    let sum = ledger(&disk).of(&TREE, &PEER).expect("rows").expect("there were some, also after a restart");
    assert_eq!((sum.sessions, sum.failed, sum.in_vain), (3, 2, 2));
    assert_eq!((sum.pulled, sum.pushed, sum.bytes_in, sum.bytes_out, sum.ms), (3, 6, 30, 60, 15));
    assert_eq!((sum.last_ended_ms, sum.last_success_ms), (300, Some(100)));
    assert_eq!((sum.behind, sum.behind_as_of_ms), (Some(3), Some(90)));
    // One in which nothing was said of how much there is takes nothing back of what was.
    rows.record(&SessionReport { behind: None, began_ms: 310, ..session(false) }, failure(320), 320)
        .expect("a row");
    let sum = rows.of(&TREE, &PEER).expect("rows").expect("there were some");
    assert_eq!((sum.behind, sum.behind_as_of_ms), (Some(3), Some(90)));
    assert_eq!(sum.last_error, failure(320));
    // That nothing differs says as much as a session that succeeds, and is none.
    rows.record_equal(&PEER, &[TREE], 390, 400).expect("a row");
    let sum = rows.of_tree(&TREE).expect("rows").remove(&PEER).expect("there were some");
    assert_eq!((sum.sessions, sum.failed, sum.in_vain, sum.last_error), (4, 3, 0, None));
    assert_eq!((sum.last_success_ms, sum.behind, sum.behind_as_of_ms), (Some(400), Some(0), Some(390)));
    assert_eq!(rows.history(9).expect("rows").len(), 4);
}

#[test]
fn the_last_sessions_are_remembered_and_no_more_than_so_many_also_over_restarts() {
    let disk = Arc::new(Memory::new());
    let mut rows = ledger(&disk);
    for n in 0..HISTORY_MAX + 7 {
        if n % 300 == 0 {
            rows = ledger(&disk);
        }
        rows.record(&session(true), None, n).expect("a row");
    }
    let all = ledger(&disk).history(usize::MAX).expect("rows");
    assert_eq!(all.len() as u64, HISTORY_MAX);
    let times: Vec<u64> = all.iter().map(|one| one.ended_ms).collect();
    let expected: Vec<u64> = (7..HISTORY_MAX + 7).rev().collect();
    assert_eq!(times, expected, "the last one first");
    assert_eq!(ledger(&disk).history(2).expect("rows"), all[..2]);
}

#[test]
fn sessions_that_are_old_enough_are_forgotten_and_the_numbers_go_on() {
    let disk = Arc::new(Memory::new());
    let rows = ledger(&disk);
    (0..10).for_each(|n| rows.record(&session(true), None, n).expect("a row"));
    assert_eq!(rows.cleanup(4).expect("rows"), 4);
    let times = |rows: &Ledger| -> Vec<u64> {
        rows.history(99).expect("rows").iter().map(|one| one.ended_ms).collect()
    };
    assert_eq!(times(&rows), [9, 8, 7, 6, 5, 4]);
    assert_eq!(rows.cleanup(99).expect("rows"), 6);
    assert_eq!((times(&rows), rows.cleanup(99).expect("rows")), (vec![], 0));
    let sum = rows.of(&TREE, &PEER).expect("rows").expect("there were some");
    assert_eq!(sum.sessions, 10, "what all came to stays");
    let rows = ledger(&disk);
    rows.record(&session(true), None, 11).expect("a row");
    rows.record(&session(true), None, 12).expect("a row");
    assert_eq!(times(&rows), [12, 11]);
}
