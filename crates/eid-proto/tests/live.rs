//! What comes to one side is with the other soon, nothing goes back to where it came from, and nothing is kept for who
//! does not take it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "a part of the harness is enough")]
mod pair;

use bytes::Bytes;
use eid_core::dag::{Epoch, Replica, Seq};
use eid_core::{EntryId, TreeId};
use eid_proto::limits::{FOLLOWED_MAX, LIVE_BEHIND_MAX, LIVE_WINDOW_BYTES, WORDS_MAX};
use eid_proto::message::{Batch, LiveMessage, Position};
use eid_proto::{Arrived, Cursor, Due, Live, LiveEvent, RefusalCode, Rights, SessionError, Side};

use pair::{ALL, Mem};

const NONE: Rights = Rights { read: false, push: false };

/// One side: a replica, and what keeps it in step.
struct Half {
    mem: Mem,
    live: Live,
    /// Entries that were pushed to it and were held already.
    duplicates: usize,
}

impl Half {
    fn new(side: Side, mem: Mem) -> Self {
        Self { mem, live: Live::new(side), duplicates: 0 }
    }

    fn at(&self) -> Option<Cursor> {
        Some(Cursor { epoch: Epoch(self.mem.epoch), seq: self.mem.end() })
    }

    fn write(&mut self, author: u8, text: &str) -> EntryId {
        let id = self.mem.write(author, &[], text);
        self.live.touch(&self.mem.tree());
        id
    }

    /// Pushes what is due.
    fn push(&mut self, rights: Rights) {
        if let Due::Now(trees) = self.live.due() {
            for tree in trees {
                self.live.push(&tree, &self.mem, rights).unwrap();
            }
        }
    }

    /// Takes what has arrived. What it admits may be due for others.
    fn take(&mut self) {
        while let Some((tree, entries)) = self.live.next_taken() {
            let outcomes = self.mem.admit(entries);
            let is_duplicate = |outcome: &&_| matches!(outcome, eid_proto::Outcome::Duplicate(_));
            self.duplicates += outcomes.iter().filter(is_duplicate).count();
            self.live.handle_taken(Some(&outcomes));
            self.live.touch(&tree);
        }
    }

    fn events(&mut self) -> Vec<LiveEvent> {
        std::iter::from_fn(|| self.live.poll_event()).collect()
    }

    fn words(&mut self) -> Vec<LiveMessage> {
        std::iter::from_fn(|| self.live.poll()).map(|frame| LiveMessage::decode(&frame).unwrap()).collect()
    }

    fn hear(&mut self, message: &LiveMessage) -> Result<(), SessionError> {
        self.live.handle_frame(&message.encode())
    }
}

/// Two sides over the same history.
struct Two {
    a: Half,
    b: Half,
    /// Pushes that went each way.
    pushes: usize,
}

impl Two {
    /// Both follow the other from where they are.
    fn in_step(entries: usize) -> Self {
        let mut mem = Mem::with_root(1);
        mem.chain(1, entries);
        let mut two = Self::over(mem.fork(1), mem.fork(2));
        two.follow();
        two.settle();
        assert!(two.a.live.is_in_step(&two.a.mem.tree()) && two.b.live.is_in_step(&two.b.mem.tree()));
        two
    }

    fn over(a: Mem, b: Mem) -> Self {
        Self { a: Half::new(Side::Dialler, a), b: Half::new(Side::Listener, b), pushes: 0 }
    }

    fn follow(&mut self) {
        let tree = self.a.mem.tree();
        let (a, b) = (self.a.at(), self.b.at());
        self.a.live.follow(tree, b);
        self.b.live.follow(tree, a);
    }

    /// Hands over what is said, once.
    fn carry(&mut self) {
        let Self { a, b, pushes } = self;
        *pushes += carry(a, b) + carry(b, a);
    }

    /// Until nobody has anything to do any more.
    fn settle(&mut self) {
        loop {
            for half in [&mut self.a, &mut self.b] {
                half.push(ALL);
                half.take();
            }
            if !self.a.live.has_words() && !self.b.live.has_words() {
                match (self.a.live.due(), self.b.live.due()) {
                    (Due::Later, Due::Later) => return,
                    (Due::Now(_), _) | (_, Due::Now(_)) => {}
                    (Due::Soon, _) | (_, Due::Soon) => {
                        self.a.live.waited();
                        self.b.live.waited();
                    }
                }
            }
            self.carry();
        }
    }

    fn assert_equal(&self) {
        assert_eq!(self.a.mem.ids(), self.b.mem.ids());
    }
}

/// Gives how many pushes there were.
fn carry(from: &mut Half, to: &mut Half) -> usize {
    let mut pushes = 0;
    while let Some(frame) = from.live.poll() {
        let is_push = matches!(LiveMessage::decode(&frame), Ok(LiveMessage::Push { .. }));
        pushes += usize::from(is_push);
        to.live.handle_frame(&frame).unwrap();
    }
    pushes
}

#[test]
fn what_one_side_writes_comes_to_the_other_once_and_not_back() {
    let mut two = Two::in_step(5);
    two.a.write(1, "from a");
    two.settle();
    two.b.write(2, "from b");
    two.settle();
    two.assert_equal();
    assert_eq!(two.pushes, 2);
    assert_eq!((two.a.duplicates, two.b.duplicates), (0, 0));
}

#[test]
fn what_is_between_the_position_and_the_end_is_pushed_at_once() {
    let mut mem = Mem::with_root(1);
    mem.chain(1, 3);
    let b = mem.fork(2);
    mem.chain(1, 700);
    let mut two = Two::over(mem, b);
    let at = Some(Cursor { epoch: Epoch(1), seq: two.b.mem.end() });
    two.b.live.follow(two.b.mem.tree(), at);
    two.settle();
    two.assert_equal();
    assert_eq!(two.pushes, 2, "at most 512 entries each");
}

#[test]
fn a_chain_passes_on_what_comes_and_each_entry_goes_over_each_connection_once() {
    let mut mem = Mem::with_root(1);
    mem.chain(1, 4);
    let mut ab = Two::over(mem.fork(1), mem.fork(2));
    let mut bc = Two::over(mem.fork(2), mem.fork(3));
    ab.follow();
    bc.follow();
    ab.settle();
    bc.settle();
    for n in 0..3 {
        ab.a.write(1, &format!("a {n}"));
        bc.b.write(3, &format!("c {n}"));
        for _ in 0..3 {
            ab.settle();
            // The node in the middle has one log.
            bc.a.mem = ab.b.mem.clone();
            bc.a.live.touch(&mem.tree());
            bc.settle();
            ab.b.mem = bc.a.mem.clone();
            ab.b.live.touch(&mem.tree());
        }
    }
    ab.assert_equal();
    bc.assert_equal();
    assert_eq!(ab.a.mem.end(), Seq(11));
    let duplicates = [&ab.a, &ab.b, &bc.a, &bc.b].map(|half| half.duplicates);
    assert_eq!(duplicates, [0; 4]);
    assert_eq!((ab.pushes, bc.pushes), (6, 6));
}

#[test]
fn entries_wait_for_what_is_under_way_and_no_longer_than_they_may() {
    let mut two = Two::in_step(1);
    two.a.write(1, "first");
    two.a.push(ALL);
    assert_eq!(two.a.words().len(), 1);
    for n in 0..5 {
        two.a.write(1, &format!("{n}"));
        two.a.push(ALL);
    }
    assert_eq!(two.a.words(), [], "nothing was acknowledged");
    assert_eq!(two.a.live.due(), Due::Soon);
    two.a.live.waited();
    two.a.push(ALL);
    let words = two.a.words();
    let [LiveMessage::Push { batch, .. }] = &words[..] else { panic!("one push, not {words:?}") };
    assert_eq!(batch.unpack(&two.a.mem.tree()).unwrap().len(), 5);
    assert_eq!(two.a.live.due(), Due::Later);
}

#[test]
fn an_acknowledgement_lets_what_has_waited_go_on_before_its_time() {
    let mut two = Two::in_step(1);
    two.a.write(1, "first");
    two.a.push(ALL);
    two.carry();
    two.a.write(1, "second");
    two.a.push(ALL);
    two.b.take();
    two.carry();
    assert_eq!(two.a.live.due(), Due::Now(vec![two.a.mem.tree()]));
}

#[test]
fn who_takes_nothing_is_pushed_a_window_and_gets_the_rest_from_the_log_later() {
    let mut two = Two::in_step(1);
    let large = "x".repeat(200_000);
    for n in 0..20 {
        two.a.write(1, &format!("{n}{large}"));
        two.a.push(ALL);
        two.a.live.waited();
        two.a.push(ALL);
    }
    let pushed: usize = std::iter::from_fn(|| two.a.live.poll()).map(|frame| frame.len()).sum();
    assert!(pushed as u64 > LIVE_WINDOW_BYTES / 2, "{pushed}");
    assert!((pushed as u64) < LIVE_WINDOW_BYTES + 2 * 256 * 1024, "{pushed}");
    // Only an acknowledgement can bring it on: no clock is asked.
    assert_eq!(two.a.live.due(), Due::Later);

    let mut two = Two::in_step(1);
    for n in 0..20 {
        two.a.write(1, &format!("{n}{large}"));
        two.a.push(ALL);
    }
    two.settle();
    two.assert_equal();
    assert_eq!(two.b.duplicates, 0);
}

#[test]
fn who_is_too_far_behind_is_for_a_session_and_goes_on_after_it() {
    let mut two = Two::in_step(1);
    let behind = usize::try_from(LIVE_BEHIND_MAX).unwrap() + 1;
    two.b.mem.chain(2, behind);
    two.b.live.touch(&two.b.mem.tree());
    two.settle();
    let tree = two.a.mem.tree();
    assert_eq!(two.a.events().last(), Some(&LiveEvent::Behind(tree)));
    assert_eq!((two.pushes, two.a.live.follows(&tree)), (0, false));
    // The same towards a follower that has not dialled: the dialler knows by itself.
    two.a.mem.chain(1, behind);
    two.a.live.touch(&tree);
    two.settle();
    assert_eq!(two.a.events().last(), Some(&LiveEvent::Behind(tree)));

    two.a.mem = two.b.mem.fork(1);
    two.follow();
    two.settle();
    two.b.write(2, "after");
    two.settle();
    two.assert_equal();
}

#[test]
fn a_position_of_another_life_or_of_none_is_for_a_session() {
    for held in
        [None, Some(Cursor { epoch: Epoch(9), seq: Seq(1) }), Some(Cursor { epoch: Epoch(2), seq: Seq(99) })]
    {
        let mut two = Two::over(Mem::with_root(1), Mem::with_root(2));
        let tree = two.a.mem.tree();
        two.a.live.follow(tree, held);
        two.settle();
        assert_eq!(two.a.events(), [LiveEvent::Behind(tree)], "{held:?}");
    }
}

#[test]
fn a_parent_that_is_missing_is_for_a_session() {
    let mut two = Two::in_step(3);
    // What it once held is gone, as after a disk that lied.
    two.b.mem = Mem::with_root(2);
    two.a.write(1, "on top");
    two.settle();
    let tree = two.a.mem.tree();
    assert_eq!(two.a.events().last(), Some(&LiveEvent::Behind(tree)));
    assert!(!two.b.live.follows(&tree));
    assert_eq!(two.a.live.followers().count(), 0);
}

#[test]
fn a_refused_entry_stops_the_position_and_nothing_else() {
    let mut two = Two::in_step(2);
    let tree = two.a.mem.tree();
    let held = two.a.mem.end();
    two.a.live.take_learnt();
    let bad = two.a.mem.write(1, &[EntryId(tree.0)], "bad");
    two.b.mem.refuse.insert(bad);
    two.a.live.touch(&tree);
    two.settle();
    let good = two.a.mem.write(1, &[EntryId(tree.0)], "good");
    two.a.live.touch(&tree);
    two.settle();
    assert!(two.b.mem.ids().contains(&good));
    let upto = two.a.live.take_learnt().get(&tree).and_then(|known| known.mine);
    assert!(upto.is_none_or(|upto| upto.seq <= held), "{upto:?}");
}

#[test]
fn each_side_learns_what_the_other_holds() {
    let mut two = Two::in_step(2);
    let tree = two.a.mem.tree();
    two.a.write(1, "a");
    two.settle();
    two.b.write(2, "b");
    two.settle();
    // What b wrote last came to a, which did not have to say so.
    for (half, theirs, upto) in [(&mut two.a, 2, Seq(5)), (&mut two.b, 1, Seq(4))] {
        let known = half.live.take_learnt()[&tree];
        assert_eq!(known.mine.map(|mine| mine.seq), Some(half.mem.end()), "what it gave counts too");
        assert_eq!(known.theirs, Some(Cursor { epoch: Epoch(theirs), seq: upto }));
    }
}

#[test]
fn who_loses_its_right_is_told_with_the_next_thing_that_comes_or_when_it_is_looked_at() {
    for by_look in [false, true] {
        let mut two = Two::in_step(1);
        let tree = two.a.mem.tree();
        if by_look {
            two.a.live.check(&tree, NONE);
        } else {
            two.a.write(1, "secret");
            two.a.push(NONE);
        }
        let words = two.a.words();
        let [LiveMessage::Ended { code: RefusalCode::Unavailable, .. }] = &words[..] else {
            panic!("{words:?}")
        };
        two.b.hear(&words[0]).unwrap();
        assert_eq!(two.b.events().last(), Some(&LiveEvent::Ended(tree, RefusalCode::Unavailable)));
        two.a.write(1, "more");
        assert_eq!(two.a.live.due(), Due::Later);
    }
}

#[test]
fn a_right_is_looked_at_also_while_nothing_is_acknowledged() {
    let mut two = Two::in_step(1);
    two.a.write(1, "first");
    two.a.push(ALL);
    two.a.words();
    two.a.write(1, "removes b");
    two.a.push(NONE);
    assert!(matches!(two.a.words()[..], [LiveMessage::Ended { .. }]));
}

#[test]
fn what_a_side_without_right_brings_is_not_taken_and_no_more_of_it_is_wanted() {
    let mut two = Two::in_step(1);
    two.a.write(1, "x");
    two.a.push(ALL);
    two.carry();
    assert!(two.b.live.next_taken().is_some());
    two.b.live.handle_taken(None);
    assert!(matches!(two.b.words()[..], [LiveMessage::Leave { .. }]));
    assert_eq!(two.b.events().last(), Some(&LiveEvent::Ended(two.b.mem.tree(), RefusalCode::Unavailable)));
}

#[test]
fn leaving_and_following_again_forgets_what_was_under_way() {
    let mut two = Two::in_step(1);
    let tree = two.a.mem.tree();
    for n in 0..6 {
        two.a.write(1, &format!("{n}{}", "y".repeat(200_000)));
    }
    two.a.push(ALL);
    two.carry();
    // One is being taken, the others wait.
    let (_, taking) = two.b.live.next_taken().unwrap();
    let held = Some(Cursor { epoch: Epoch(1), seq: Seq(2) });
    two.b.live.leave(&tree);
    two.b.live.follow(tree, held);
    assert!(two.b.live.next_taken().is_none());
    let outcomes = two.b.mem.admit(taking);
    two.b.live.handle_taken(Some(&outcomes));
    two.settle();
    two.assert_equal();
    assert!(two.b.duplicates > 0, "what had arrived comes again");
    assert!(two.a.events().contains(&LiveEvent::Left(tree)), "the other side hears of it");
}

#[test]
fn more_databases_than_the_limit_are_not_followed() {
    let mut half = Half::new(Side::Listener, Mem::with_root(1));
    let tree = |n: usize| {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&n.to_le_bytes());
        id
    };
    let follow = |n: usize| LiveMessage::Follow {
        number: u32::try_from(n).unwrap(),
        tree: tree(n),
        from: Some(Position { epoch: 1, seq: 1 }),
    };
    for n in 0..=FOLLOWED_MAX {
        half.hear(&follow(n)).unwrap();
    }
    assert_eq!(half.live.followers().count(), FOLLOWED_MAX);
    assert!(matches!(half.words()[..], [LiveMessage::Ended { code: RefusalCode::Busy, .. }]));
    for n in 0..FOLLOWED_MAX {
        assert!(half.live.follow(TreeId(tree(n)), None));
    }
    assert!(!half.live.follow(TreeId(tree(FOLLOWED_MAX)), None));
    // Somebody who asks on and takes no answers is left.
    let mut asked = FOLLOWED_MAX + 1;
    while half.hear(&follow(asked)).is_ok() {
        asked += 1;
        assert!(asked <= WORDS_MAX + FOLLOWED_MAX);
    }
}

fn refusal(half: &mut Half, message: &LiveMessage) -> String {
    match half.hear(message) {
        Ok(()) => "taken".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_does_not_belong_ends_the_connection() {
    let mut mem = Mem::with_root(2);
    mem.chain(2, 3);
    let entries: Vec<Arrived> = mem
        .log(Seq(1)..Seq(3), usize::MAX)
        .unwrap()
        .into_iter()
        .map(|logged| Arrived { block: logged.block, payloads: logged.payloads })
        .collect();
    let tree = mem.tree();
    let batch = |upto: u64| Batch::pack(&tree, &entries, upto);
    let push = |number, from, batch| LiveMessage::Push { number, from, batch };
    let follower = |begun: bool| {
        let mut half = Half::new(Side::Listener, Mem::with_root(1));
        half.live.follow(tree, Some(Cursor { epoch: Epoch(2), seq: Seq(1) }));
        if begun {
            half.hear(&LiveMessage::Following { number: 0 }).unwrap();
        }
        half
    };
    let short = Batch::pack(&tree, &[Arrived { block: Bytes::from_static(&[1; 20]), payloads: vec![] }], 2);
    let cases = [
        ("before it begins", false, push(0, 1, batch(3))),
        ("a number that was not given", true, push(1, 1, batch(3))),
        ("after a gap", true, push(0, 2, batch(3))),
        ("backwards", true, push(0, 0, batch(3))),
        ("without an end", true, push(0, 1, batch(1))),
        ("more entries than places", true, push(0, 1, batch(2))),
        ("nothing", true, push(0, 1, Batch::pack(&tree, &[], 3))),
        ("no entry", true, push(0, 1, short)),
        ("malformed", true, push(0, 1, Batch { entries: Bytes::from_static(&[0xff, 1, 2]), upto: 3 })),
        ("begun twice", true, LiveMessage::Following { number: 0 }),
        ("an answer to nothing", true, LiveMessage::Following { number: 7 }),
        ("an end of nothing", true, LiveMessage::Ended { number: 7, code: RefusalCode::Busy }),
        ("a call to a listener", true, LiveMessage::Behind { tree: tree.0 }),
        ("another role", true, LiveMessage::Speak),
    ];
    for (what, begun, message) in cases {
        assert_ne!(refusal(&mut follower(begun), &message), "taken", "{what}");
    }
    let mut half = follower(true);
    assert_eq!(refusal(&mut half, &push(0, 1, batch(3))), "taken");
    assert_ne!(refusal(&mut half, &push(0, 1, batch(3))), "taken", "the same again");

    let mut followed = Two::in_step(3);
    let [ack, wrong] = [Some(5), Some(99)].map(|upto| LiveMessage::Ack { number: 0, upto });
    assert_ne!(refusal(&mut followed.a, &ack), "taken", "an acknowledgement of nothing");
    followed.a.write(1, "x");
    followed.a.push(ALL);
    assert_ne!(refusal(&mut followed.a, &wrong), "taken", "of what was not pushed");
    let again = LiveMessage::Follow { number: 0, tree: tree.0, from: None };
    assert_ne!(refusal(&mut followed.a, &again), "taken", "a number that was given");
    assert_eq!(refusal(&mut followed.a, &LiveMessage::Ack { number: 5, upto: Some(1) }), "taken");
    assert_ne!(followed.a.live.handle_frame(&[0x81, 0xff]).map_err(|e| e.to_string()), Ok(()));
}

#[test]
fn who_pushes_on_and_takes_no_acknowledgement_is_left() {
    let mut half = Half::new(Side::Listener, Mem::with_root(1));
    let mut mem = Mem::with_root(2);
    mem.chain(2, 1);
    let (tree, logged) = (mem.tree(), mem.log(Seq(1)..Seq(2), usize::MAX).unwrap().remove(0));
    let entries = [Arrived { block: logged.block, payloads: logged.payloads }];
    half.live.follow(tree, Some(Cursor { epoch: Epoch(2), seq: Seq(1) }));
    half.hear(&LiveMessage::Following { number: 0 }).unwrap();
    let mut taken = 0;
    loop {
        // The same entry at one place after the other.
        let from = 1 + taken as u64;
        let push = LiveMessage::Push { number: 0, from, batch: Batch::pack(&tree, &entries, from + 1) };
        if half.hear(&push).is_err() {
            break;
        }
        half.take();
        taken += 1;
        assert!(taken <= WORDS_MAX, "what it does not take piles up");
    }
    assert!(taken >= WORDS_MAX - 2 && half.duplicates >= taken - 1, "{taken} pushes were taken");
}

#[test]
fn more_than_the_window_is_not_taken() {
    let mut half = Half::new(Side::Listener, Mem::with_root(1));
    let mut mem = Mem::with_root(2);
    let tree = mem.tree();
    half.live.follow(tree, Some(Cursor { epoch: Epoch(2), seq: Seq(1) }));
    half.hear(&LiveMessage::Following { number: 0 }).unwrap();
    let mut taken = 0;
    for n in 0..20 {
        mem.write(2, &[], &format!("{n}{}", "z".repeat(200_000)));
        let logged = mem.log(Seq(n + 1)..Seq(n + 2), usize::MAX).unwrap().remove(0);
        let entry = Arrived { block: logged.block, payloads: logged.payloads };
        let push = LiveMessage::Push { number: 0, from: n + 1, batch: Batch::pack(&tree, &[entry], n + 2) };
        if half.hear(&push).is_err() {
            break;
        }
        taken += 1;
    }
    assert_eq!(taken, LIVE_WINDOW_BYTES / 200_000 + 1);
}
