//! What the engine promises besides its verdicts: what it asks for, what it keeps, what it costs, what it says.

#[expect(unreachable_pub, dead_code, reason = "shared with other tests")]
#[path = "support/play.rs"]
mod play;
#[expect(unreachable_pub, dead_code, reason = "shared with other tests")]
#[path = "support/random.rs"]
mod random;

use std::cell::Cell;
use std::sync::Arc;

use eid_auth::ledger::Ledger;
use eid_auth::oracle::Mutant;
use eid_auth::{Candidate, Change, Class, Data, Denied, Engine, History, Place, Reach, Standing};
use eid_core::Permission::{Admin, Relay, Write};
use eid_core::{
    Draft, Entry, EntryId, Height, Nonce, Permission, PublicKey, Question, ReadError, Refusal, SecretKey,
    SettingsNode, SettingsOp, SettingsPast, Slot, Time,
};
use play::Act::{Fence, Put};
use play::{Scene, put, rev};
use random::{key, set, slot};

/// Counts what is asked of a history.
struct Counted<'a> {
    history: &'a dyn History,
    settings: Cell<usize>,
    places: Cell<usize>,
}

impl<'a> Counted<'a> {
    fn new(history: &'a dyn History) -> Self {
        Self { history, settings: Cell::new(0), places: Cell::new(0) }
    }
}

impl SettingsPast for Counted<'_> {
    fn settings(&self, id: &EntryId) -> Result<Option<Arc<SettingsNode>>, ReadError> {
        self.settings.set(self.settings.get() + 1);
        self.history.settings(id)
    }
}

impl History for Counted<'_> {
    fn includes(&self, tips: &[EntryId], id: &EntryId) -> Result<bool, ReadError> {
        self.places.set(self.places.get() + 1);
        self.history.includes(tips, id)
    }

    fn frontier(&self, id: &EntryId) -> Result<Option<Vec<EntryId>>, ReadError> {
        self.history.frontier(id)
    }
}

fn id(n: usize) -> EntryId {
    let mut bytes = [1; 32];
    bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
    EntryId(bytes)
}

fn person(n: usize) -> PublicKey {
    let mut bytes = [2; 32];
    bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
    PublicKey(bytes)
}

/// A root that makes key 0 the recovery key, and then settings of it, each on the one before.
fn chain(ops: impl IntoIterator<Item = Vec<SettingsOp>>) -> Ledger {
    let mut ledger = Ledger::new(Engine::new()).expect("it is in memory");
    let begin = [set(slot(0), Admin(0)), set(slot(3), Write)];
    ledger.add(id(0), key(0), Some(&begin), &[]).expect("it is valid");
    for (n, ops) in (1..).zip(ops) {
        ledger.add(id(n), key(0), Some(&ops), &[id(n - 1)]).expect("it is valid");
    }
    ledger
}

#[test]
fn the_place_of_data_is_asked_for_only_when_its_author_was_removed_concurrently() {
    let mut ledger = chain([vec![set(slot(4), Write)], vec![set(slot(5), Write)]]);
    ledger.add(id(50), key(3), None, &[id(1)]).unwrap();
    ledger.add(id(51), key(4), None, &[id(1)]).unwrap();
    ledger.add(id(52), key(0), Some(&[rev(3)]), &[id(50), id(2)]).unwrap();
    let history = Counted::new(ledger.history());
    let mut engine = Engine::new();
    let now = engine.resolve(ledger.frontier(), &history).unwrap();
    assert_eq!(history.settings.get(), 4);
    let past = [id(1)];
    let data = |n, author| Data { id: id(n), author: key(author), past: &past };
    assert_eq!(engine.standing(&now, data(51, 4), &history).unwrap(), Standing::Stands);
    assert_eq!(engine.class(&now, &key(4), &past, &history).unwrap(), Class::Stands);
    assert_eq!(history.places.get(), 0);
    // The removed one is asked for: this lies below the removal.
    assert_eq!(engine.standing(&now, data(50, 3), &history).unwrap(), Standing::Stands);
    assert_eq!(history.places.get(), 1);
    assert!(!engine.standing(&now, data(51, 3), &history).unwrap().counts());
    // What has seen settings that the removal had not seen cannot lie below it: nothing is asked.
    ledger.add(id(53), key(0), Some(&[set(slot(6), Write)]), &[id(2)]).unwrap();
    let history = Counted::new(ledger.history());
    let now = engine.resolve(ledger.frontier(), &history).unwrap();
    let late = Data { id: id(54), author: key(3), past: &[id(53)] };
    assert!(!engine.standing(&now, late, &history).unwrap().counts());
    assert_eq!((history.places.get(), history.settings.get()), (0, 1));
}

#[test]
fn data_is_not_kept_and_settings_are_read_once() {
    let mut ledger = chain([]);
    for n in 1..500 {
        ledger.add(id(n), key(3), None, &[id(n - 1)]).unwrap();
    }
    assert_eq!(ledger.engine().settings_known(), 1);
    let history = Counted::new(ledger.history());
    let mut engine = Engine::new();
    for _ in 0..3 {
        engine.resolve(ledger.frontier(), &history).unwrap();
    }
    assert_eq!(history.settings.get(), 1);
}

/// How many steps a resolution takes, one at a time.
fn steps(engine: &mut Engine, frontier: &[EntryId], history: &dyn History) -> usize {
    let mut job = engine.begin(frontier);
    let mut done = || engine.advance(&mut job, history, 1).expect("it is in memory").is_some();
    (1..).find(|_| done()).expect("it comes to an end")
}

#[test]
fn a_further_entry_costs_the_same_after_five_thousand() {
    let keys = (0..5_000).map(|n| vec![set(Slot::Key(person(n % 1_000)), Write)]);
    let ledger = chain(keys);
    let mut engine = Engine::new();
    let history = ledger.history();
    let cold = steps(&mut engine, &[id(4_999)], history);
    let further = steps(&mut engine, &[id(5_000)], history);
    assert!(cold < 10 * 5_000, "{cold}");
    assert!(further < 10, "{further}");
    let now = engine.resolve(&[id(5_000)], history).unwrap();
    assert_eq!(now.settings_count(), 5_001);
    assert_eq!(engine.slots(&now).len(), 1_002);
}

#[test]
fn ten_thousand_slots_and_256_concurrent_entries_are_resolved() {
    let grants = (0..10).map(|n| {
        let keys = (0..1_000).map(|m| set(Slot::Key(person(1_000 * n + m)), Write));
        keys.collect::<Vec<_>>()
    });
    let mut ledger = chain(grants);
    for n in 0..256 {
        let op = if n % 2 == 0 { put(7, Admin(n)) } else { rev(7) };
        ledger.add(id(100 + n as usize), key(0), Some(&[op]), &[id(10)]).unwrap();
    }
    assert_eq!(ledger.frontier().len(), 256);
    let mut engine = Engine::new();
    let taken = steps(&mut engine, ledger.frontier(), ledger.history());
    assert!(taken < 10 * 266, "{taken}");
    let now = engine.resolve(ledger.frontier(), ledger.history()).unwrap();
    assert_eq!((engine.slots(&now).len(), engine.permission(&now, &key(7))), (10_003, None));
    assert_eq!(ledger.recount().unwrap(), []);
}

#[test]
fn ordinary_grants_leave_all_data_alone() {
    let ledger = chain([vec![set(slot(4), Write)], vec![set(slot(4), Admin(3))], vec![rev(3)]]);
    let mut engine = Engine::new();
    let at: Vec<_> = (0..4).map(|n| engine.resolve(&[id(n)], ledger.history()).unwrap()).collect();
    assert_eq!(engine.change(&at[0], &at[1]), Change::default());
    assert!(engine.change(&at[1], &at[2]).leaves_data_alone());
    // A removal reaches what lies outside of what it had seen.
    let change = engine.change(&at[2], &at[3]);
    let [reach] = change.reaches.as_slice() else { panic!("{change:?}") };
    assert!(reach.concerns(&key(3)) && !reach.concerns(&key(4)));
    assert_eq!(reach.place, Place::Outside(vec![id(3)]));
    assert_eq!(engine.change(&at[3], &at[3]), Change::default());
}

#[test]
fn work_that_is_weaker_and_not_settled_yet_does_not_hurt_what_had_seen_it_void() {
    let mut s = Scene::new();
    let mut ops: Vec<SettingsOp> = (0..4).map(|n| put(n, Admin(n.into()))).collect();
    ops.push(put(4, Admin(2)));
    s.valid([
        ("r", 0, Put(ops), ""),
        ("g", 2, Put(vec![put(9, Admin(2))]), "r"),
        ("r0", 1, Put(vec![rev(2)]), "r"),
        ("j", 3, Put(vec![put(9, Permission::Read)]), "g r0"),
        ("r00", 0, Put(vec![rev(1)]), "r"),
        ("p", 4, Put(vec![put(8, Permission::Read)]), "r"),
        ("i", 9, Put(vec![put(8, Write)]), "j r00 p"),
        ("x4", 0, Put(vec![rev(4)]), "r"),
    ]);
    // From nothing, a resolution begins at the longer branch and finds all the others unsettled.
    let titles = ["t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7"];
    let mut last = "x4";
    for title in titles {
        s.valid([(title, 0, Put(vec![SettingsOp::Title(title.into())]), last)]);
        last = title;
    }
    assert!(s.stand("i") && s.fall("j p r0"));
}

#[test]
fn a_removal_that_gave_way_lets_what_was_built_on_an_unseen_grant_count_again() {
    let mut s = Scene::ladder();
    s.valid([
        ("g", 1, Put(vec![put(9, Admin(4))]), "r"),
        ("top", 0, Put(vec![put(9, Admin(4))]), "r"),
        ("x", 2, Put(vec![rev(9)]), "top"),
        ("i", 9, Put(vec![put(8, Write)]), "g"),
        ("d", 9, play::Act::Data, "g"),
    ]);
    assert!(s.fall("i d"));
    s.valid([("again", 0, Put(vec![put(9, Admin(4))]), "x")]);
    assert!(s.stand("i d"));
}

#[test]
fn who_relied_on_the_wildcard_in_his_past_falls_with_it_though_his_grant_counts_again() {
    let mut s = Scene::ladder();
    s.valid([
        ("w", 0, Put(vec![set(Slot::Everyone, Write)]), "r"),
        ("g", 2, Put(vec![put(8, Write)]), "w"),
        ("x2", 1, Put(vec![rev(2)]), "w"),
        ("d", 8, play::Act::Data, "g x2"),
        ("xw", 0, Put(vec![random::remove(Slot::Everyone, None)]), "w"),
        ("x1", 0, Put(vec![rev(1)]), "w"),
    ]);
    assert!(s.stand("g") && s.fall("x2 d"));
    assert_eq!(s.why("d"), "void because key 0 removed everyone in xw");
}

/// The gap of the definition that is known (decision 0012). When it is closed, the last two lines change places.
#[test]
fn a_self_demotion_that_is_void_lends_strength_to_what_was_written_below_it() {
    let mut s = Scene::ladder();
    s.valid([
        ("rv", 2, Put(vec![random::leave(slot(7))]), "r"),
        ("k1", 1, Put(vec![rev(2)]), "r"),
        ("s", 1, Put(vec![put(1, Admin(4))]), "k1 rv"),
        ("h", 1, Put(vec![put(7, Write)]), "s"),
        ("dem", 0, Put(vec![put(1, Admin(3))]), "r"),
    ]);
    assert!(s.fall("k1 s") && s.stand("rv") && s.permission(1) == Some(Admin(3)));
    assert!(s.stand("h") && s.permission(7) == Some(Write));
    assert_eq!(s.judged_by(Mutant::Mended).slots[&slot(7)], None);
}

#[test]
fn the_shared_title_is_that_of_the_last_who_had_seen_the_others() {
    let mut s = Scene::ladder();
    let title = |text: &str| Put(vec![SettingsOp::Title(text.to_owned())]);
    let shown = |s: &Scene| s.ledger().engine().title(s.ledger().now()).map(str::to_owned);
    assert_eq!(shown(&s), None);
    s.valid([("a", 1, title("one"), "r"), ("b", 3, title("two"), "a")]);
    assert_eq!(shown(&s).as_deref(), Some("two"));
    // One that has not seen the stronger does not count; of equals the smaller id does.
    s.valid([("c", 2, title("three"), "r"), ("d", 1, title("four"), "r")]);
    assert_eq!(shown(&s).as_deref(), Some("one"));
    assert_eq!(s.play([("e", 7, title("no"), "r")]), ["e"]);
}

#[test]
fn relay_and_read_do_not_write() {
    let mut s = Scene::ladder();
    let refused = s.play([
        ("g", 1, Put(vec![put(8, Relay), put(9, Permission::Read)]), "r"),
        ("d8", 8, play::Act::Data, "g"),
        ("d9", 9, play::Act::Data, "g"),
        ("less", 1, Put(vec![put(7, Relay)]), "r"),
        ("d7", 7, play::Act::Data, "r"),
    ]);
    assert!(refused == ["d8", "d9"] && s.fall("d7"));
    assert_eq!(s.why("d7"), "void because key 1 left key 7 only relay in less");
}

#[test]
fn every_refusal_says_why() {
    let mut ledger = chain([vec![set(slot(1), Admin(1)), set(slot(2), Admin(1))], vec![rev(3)]]);
    ledger.add(id(60), key(0), None, &[id(2)]).unwrap();
    let refused = |author: u8, ops: Option<Vec<SettingsOp>>| {
        let parents = [id(2)];
        let mut engine = Engine::new();
        let candidate =
            Candidate { author: key(author), settings: ops.as_deref(), parents: &parents, past: &parents };
        engine.judge(candidate, ledger.history()).unwrap().unwrap_err()
    };
    let cases = [
        (refused(3, None), Denied::NotWriter(key(3)), "had no right to write"),
        (refused(9, Some(vec![put(8, Write)])), Denied::NotAdmin(key(9)), "no right to change settings"),
        (
            refused(1, Some(vec![rev(2)])),
            Denied::Outranked { slot: slot(2), by: id(1) },
            "does not outrank what",
        ),
        (
            refused(1, Some(vec![put(3, Write)])),
            Denied::Outranked { slot: slot(3), by: id(2) },
            "does not outrank what",
        ),
        (
            refused(1, Some(vec![put(8, Admin(0))])),
            Denied::AboveOneself { slot: slot(8) },
            "more than he has",
        ),
        (
            refused(1, Some(vec![SettingsOp::Accept(vec![id(60)])])),
            Denied::NotInPast(id(60)),
            "not in its past",
        ),
        (
            refused(1, Some(vec![random::remove(slot(8), Some(vec![id(60)]))])),
            Denied::NotInPast(id(60)),
            "not in its past",
        ),
        (
            refused(1, Some(vec![SettingsOp::Accept(vec![id(1)])])),
            Denied::AcceptsSettings(id(1)),
            "which is a settings entry",
        ),
        (
            refused(1, Some(vec![random::invite(0, Write)])),
            Denied::Rules { needed: 2, rules: 1 },
            "has rules 1, and this belongs to rules 2",
        ),
        (refused(8, Some(vec![random::join(0, Write)])), Denied::Rules { needed: 2, rules: 1 }, "rules 2"),
        (refused(1, Some(vec![])), Denied::Malformed, "not a set of settings"),
        (refused(1, Some(vec![put(8, Write), rev(8)])), Denied::Malformed, "not a set of settings"),
    ];
    for (found, expected, sentence) in cases {
        assert_eq!(found, expected);
        let said = found.to_string();
        assert!(said.starts_with("refused because") && said.contains(sentence), "{said}");
        assert!(matches!(Refusal::from(&found), Refusal::Invalid(_)));
    }
}

#[test]
fn every_refusal_of_a_join_says_why() {
    let open = vec![SettingsOp::Rules(2), random::invite(0, Permission::Read)];
    let ledger = chain([open, vec![rev(4)]]);
    let invite = random::invite_key(0);
    let refused = |author: u8, op: SettingsOp| {
        let (parents, ops) = ([id(2)], [op]);
        let candidate =
            Candidate { author: key(author), settings: Some(&ops), parents: &parents, past: &parents };
        Engine::new().judge(candidate, ledger.history()).unwrap()
    };
    let cases = [
        (
            8,
            random::join(1, Relay),
            Denied::Invite { invite: random::invite_key(1), gives: None },
            "not open",
        ),
        (8, random::join(0, Write), Denied::Invite { invite, gives: Some(Permission::Read) }, "only read"),
        (3, random::join(0, Relay), Denied::Taken { joiner: key(3), by: id(0) }, "so that no invite can"),
        (4, random::join(0, Relay), Denied::Taken { joiner: key(4), by: id(2) }, "so that no invite can"),
    ];
    for (author, op, expected, sentence) in cases {
        let found = refused(author, op).unwrap_err();
        assert_eq!(found, expected);
        let said = found.to_string();
        assert!(said.starts_with("refused because") && said.contains(sentence), "{said}");
        assert!(matches!(Refusal::from(&found), Refusal::Invalid(_)));
    }
    assert_eq!(refused(8, random::join(0, Relay)), Ok(()));
    // Whoever holds the key of an invite may join, and nothing else.
    assert_eq!(ledger.permission(&invite), None);
}

#[test]
fn open_invites_are_listed_with_the_earliest_of_the_times_that_were_given_at_once() {
    let open = |n: u8, permission, expires_ms| SettingsOp::Invite {
        key: random::invite_key(n),
        permission,
        expires_ms,
    };
    let mut ledger = chain([vec![SettingsOp::Rules(2), open(0, Write, None), open(1, Write, Some(9))]]);
    let shown = |ledger: &Ledger| -> Vec<_> {
        let invites = ledger.engine().invites(ledger.now());
        invites.iter().map(|invite| (invite.key, invite.permission, invite.expires_ms)).collect()
    };
    let (first, second) = (random::invite_key(0), random::invite_key(1));
    assert_eq!(shown(&ledger), [(first, Write, None), (second, Write, Some(9))]);
    assert_eq!(ledger.engine().rules(ledger.now()), 2);
    ledger.add(id(60), key(0), Some(&[open(0, Write, Some(7))]), &[id(1)]).unwrap();
    ledger.add(id(61), key(0), Some(&[open(0, Write, Some(5))]), &[id(1)]).unwrap();
    ledger.add(id(62), key(0), Some(&[random::remove(random::invite_slot(1), None)]), &[id(1)]).unwrap();
    assert_eq!(shown(&ledger), [(first, Write, Some(5))]);
}

#[test]
fn joins_leave_all_data_alone() {
    let open = vec![SettingsOp::Rules(2), random::invite(0, Write)];
    let mut ledger = chain([open]);
    ledger.add(id(60), key(8), Some(&[random::join(0, Write)]), &[id(1)]).unwrap();
    let mut engine = Engine::new();
    let at = [id(1), id(60)].map(|id| engine.resolve(&[id], ledger.history()).unwrap());
    assert!(engine.change(&at[0], &at[1]).leaves_data_alone());
    // Withdrawn beside it: only what descends from the join can have changed.
    ledger.add(id(61), key(0), Some(&[random::remove(random::invite_slot(0), None)]), &[id(1)]).unwrap();
    let after = engine.resolve(ledger.frontier(), ledger.history()).unwrap();
    let change = engine.change(&at[1], &after);
    assert_eq!(change.voided, [id(60)]);
    assert_eq!(change.reaches, [Reach { slot: slot(8), place: Place::After(id(60)) }]);
}

#[test]
fn signed_entries_are_judged_as_they_are() {
    let (recovery, writer) = (SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32]));
    let ops = [
        SettingsOp::Rules(1),
        set(Slot::Key(recovery.public()), Admin(0)),
        set(Slot::Key(writer.public()), Write),
    ];
    let root = Draft::root(Nonce([0; 16]), Time(0), &ops).seal(&recovery).unwrap();
    let child = |author: &SecretKey| {
        let draft = Draft {
            tree: Some(root.tree()),
            parents: vec![root.id()],
            height: Height(1),
            time: Time(1),
            sections: Vec::new(),
            nonce: None,
        };
        draft.seal(author).unwrap()
    };
    let mut ledger = Ledger::new(Engine::new()).unwrap();
    ledger.add(root.id(), root.header().author, Some(root.settings()), &[]).unwrap();
    let mut engine = Engine::new();
    let mut judged = |entry: &Entry, past: &[EntryId]| {
        engine.judge(Question { entry, past }.into(), ledger.history()).unwrap()
    };
    assert_eq!(judged(&root, &[]), Ok(()));
    assert_eq!(judged(&child(&writer), &[root.id()]), Ok(()));
    let stranger = SecretKey::from_seed([3; 32]);
    assert_eq!(judged(&child(&stranger), &[root.id()]), Err(Denied::NotWriter(stranger.public())));
}

#[test]
fn what_is_not_held_is_an_error_and_not_a_verdict() {
    let ledger = chain([]);
    let mut engine = Engine::new();
    assert!(engine.resolve(&[id(77)], ledger.history()).is_err());
    assert!(engine.resolve(&[id(0)], ledger.history()).is_ok());
}

#[test]
fn fences_that_name_data_keep_the_settings_below_it() {
    let mut s = Scene::ladder();
    s.valid([
        ("old", 2, Put(vec![put(8, Write)]), "r"),
        ("d", 2, play::Act::Data, "old"),
        ("late", 2, Put(vec![put(9, Write)]), "d"),
        ("x", 1, Fence(2, &["d"]), "late"),
    ]);
    assert!(s.stand("old d") && s.fall("late"));
}
