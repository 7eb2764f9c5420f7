//! Payloads that one side lacks of entries that both hold.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use eid_core::{Draft, EntryId, Height, Payload, SectionDraft, StoreName, Time};
use eid_proto::message::{Lacking, Message, Position};
use eid_proto::{Known, List, Output, Rights, Rung, Session, SessionError, Summary, limits};

use crate::pair::{self, End, Mem, Pair, finish, key, sync};
use crate::shared;

/// An entry with a payload of so many bytes.
fn write_large(mem: &mut Mem, len: usize, n: u64) -> EntryId {
    let parent = mem.log[mem.log.len() - 1].clone();
    let payload = Payload::encode("doc", &n.to_be_bytes(), &[Bytes::from(vec![0x60; len])]);
    let section = SectionDraft { store: StoreName::new("s").unwrap(), enc: None, payload };
    let draft = Draft {
        tree: Some(mem.tree()),
        parents: vec![parent.id()],
        height: Height(parent.header().height.0 + 1),
        time: Time::from_ms(n + 1),
        sections: vec![section],
        nonce: None,
    };
    let entry = draft.seal(&key(1)).unwrap();
    let id = entry.id();
    mem.add(entry);
    id
}

/// One is lacked, and none came late.
const ONE: Option<Lacking> = Some(Lacking { missing: 1, filled: 0 });

fn lacked(mem: &Mem) -> usize {
    mem.log.iter().flat_map(|entry| entry.payloads()).filter(|payload| payload.is_none()).count()
}

/// Names of the messages that go each way, the initiator's first.
fn watch(pair: &mut Pair) -> Rc<RefCell<Vec<(bool, Message)>>> {
    let heard = Rc::new(RefCell::new(Vec::new()));
    let log = Rc::clone(&heard);
    pair.tamper = Box::new(move |to_responder, frame| {
        log.borrow_mut().push((to_responder, Message::decode(&frame).unwrap()));
        frame
    });
    heard
}

fn wants(heard: &Rc<RefCell<Vec<(bool, Message)>>>) -> (usize, usize) {
    let heard = heard.borrow();
    let of = |initiator| {
        heard.iter().filter(|(to, said)| *to == initiator && matches!(said, Message::Want { .. })).count()
    };
    (of(true), of(false))
}

fn filled(pair: &Pair) -> (Summary, Summary) {
    let (first, second) = pair.summaries();
    assert_eq!((first.filled, second.filled), (second.given, first.given));
    (first, second)
}

#[test]
fn one_lost_payload_costs_that_payload_although_the_tips_are_equal() {
    for initiates in [true, false] {
        let (mut a, b) = shared(1_000);
        a.lose(500);
        let pair = if initiates { sync(a, b, Known::default()) } else { sync(b, a, Known::default()) };
        let (first, second) = filled(&pair);
        assert_eq!((first.rung, first.turns, first.pulled, first.duplicates), (Some(Rung::InSync), 6, 0, 0));
        assert_eq!((first.filled, second.filled), (u64::from(initiates), u64::from(!initiates)));
        assert_eq!((first.missing, second.missing), (0, 0));
        // All but the opening, which says once what is held.
        let bytes = pair.initiator.sent + pair.responder.sent;
        assert!(bytes < 4_000, "{bytes}");
        let (a, b) = pair.into_mems();
        assert_eq!((lacked(&a), lacked(&b)), (0, 0));
    }
}

#[test]
fn both_sides_are_filled_while_entries_go_both_ways() {
    let (mut a, mut b) = shared(100);
    a.chain(1, 20);
    b.chain(2, 30);
    for at in [7, 8, 50] {
        a.lose(at);
    }
    b.lose(60);
    let pair = sync(a, b, Known::default());
    let (first, second) = filled(&pair);
    assert_eq!((first.filled, second.filled), (3, 1));
    assert_eq!((first.pulled, second.pulled, first.duplicates, second.duplicates), (30, 20, 0, 0));
    let (a, b) = pair.into_mems();
    assert_eq!((lacked(&a), lacked(&b)), (0, 0));
}

#[test]
fn what_neither_side_has_is_told_and_not_asked_for_again_until_something_changes() {
    let (mut a, mut b) = shared(100);
    a.lose(40);
    b.lose(40);
    let run = |a: &Mem, b: &Mem, asked: Option<Lacking>| {
        let mut pair = Pair::new(a.clone(), b.clone(), Known::default());
        let heard = watch(&mut pair);
        pair.initiator.session.has_asked(asked);
        pair.responder.session.has_asked(asked);
        let pair = finish(pair);
        let (first, second) = filled(&pair);
        assert_eq!((first.missing, second.theirs), (1, ONE));
        (wants(&heard), (first.filled, second.missing, first.theirs))
    };
    assert_eq!(run(&a, &b, None), ((1, 1), (0, 1, ONE)));
    // Each was asked when it lacked one itself.
    assert_eq!(run(&a, &b, ONE), ((0, 0), (0, 1, ONE)));
    // It has got one since, and lost another.
    let since = Some(Lacking { missing: 1, filled: 7 });
    assert_eq!(run(&a, &b, since), ((1, 1), (0, 1, ONE)));
    // The other one lacks none now, or another one more.
    let (_, whole) = shared(100);
    let mut pair = Pair::new(a.clone(), whole, Known::default());
    pair.initiator.session.has_asked(ONE);
    assert_eq!(filled(&finish(pair)).0.filled, 1);
    b.lose(41);
    let mut pair = Pair::new(b, a, Known::default());
    pair.initiator.session.has_asked(Some(Lacking { missing: 2, filled: 0 }));
    let (first, second) = filled(&finish(pair));
    assert_eq!((first.filled, first.missing, second.missing), (1, 1, 1));
}

#[test]
fn what_is_lost_or_brought_by_others_in_mid_session_was_not_asked_for() {
    let (mut a, mut b) = shared(100);
    a.lose(40);
    b.lose(40);
    b.chain(2, 3);
    let run = |meanwhile: fn(&mut Mem)| {
        let mut pair = Pair::new(a.clone(), b.clone(), Known::default());
        let mut is_done = false;
        pair.meanwhile = Box::new(move |_, initiator, _| {
            if !is_done && initiator.session.summary().pull_total.is_some() {
                is_done = true;
                meanwhile(&mut initiator.mem);
            }
        });
        assert!(matches!(pair.run(), End::Done));
        let summary = pair.summaries().0;
        (summary.asked, summary.missing)
    };
    assert_eq!(run(|_| ()), (ONE, 1));
    assert_eq!(run(|mem| _ = mem.write(1, &[], "by others")), (None, 1));
    // After everything was asked for.
    let mut pair = Pair::new(a.clone(), b.clone(), Known::default());
    pair.meanwhile = Box::new(|_, initiator, _| {
        if initiator.session.summary().asked.is_some() {
            initiator.mem.lose(41);
        }
    });
    assert!(matches!(pair.run(), End::Done));
    let summary = pair.summaries().0;
    assert_eq!((summary.asked, summary.missing), (ONE, 2));
}

#[test]
fn payloads_that_come_absent_with_their_entries_are_not_asked_for_at_once() {
    let (a, mut b) = shared(10);
    b.chain(2, 20);
    b.lose(25);
    let mut pair = Pair::new(a, b, Known::default());
    let heard = watch(&mut pair);
    let pair = finish(pair);
    let (first, second) = pair.summaries();
    assert_eq!((first.pulled, first.missing, first.theirs, second.missing), (20, 1, ONE, 1));
    // The responder asks the initiator, which said at its end that it lacks one too.
    assert_eq!(wants(&heard), (0, 1));
}

#[test]
fn more_than_can_be_asked_for_at_once_is_asked_for_in_further_turns() {
    let lost = limits::WANT_MAX + 500;
    let (mut a, b) = shared(lost + 10);
    for at in 5..5 + lost {
        a.lose(at);
    }
    let mut pair = Pair::new(a, b, Known::default());
    let heard = watch(&mut pair);
    let pair = finish(pair);
    assert_eq!((wants(&heard), filled(&pair).0.filled), ((2, 0), lost as u64));
}

#[test]
fn payloads_keep_to_the_credit_of_a_turn() {
    for initiates in [true, false] {
        let (mut a, _) = shared(3);
        for n in 0..30 {
            write_large(&mut a, 400_000, n);
        }
        let b = a.fork(2);
        for at in 5..30 {
            a.lose(at);
        }
        let (a, b) = if initiates { (a, b) } else { (b, a) };
        let mut pair = Pair::new(a, b, Known::default());
        let heard = watch(&mut pair);
        let pair = finish(pair);
        let (asks, gives) =
            if initiates { (wants(&heard).0, &pair.responder) } else { (wants(&heard).1, &pair.initiator) };
        assert_eq!(asks, 3);
        assert!(gives.largest_turn < 4 * 1024 * 1024 + 500_000, "{}", gives.largest_turn);
        assert_eq!(gives.session.summary().given, 25);
    }
}

#[test]
fn a_payload_that_is_not_what_its_entry_names_is_refused() {
    let (mut a, b) = shared(100);
    a.lose(40);
    let mut pair = Pair::new(a, b, Known::default());
    pair.tamper = Box::new(|_, frame| match Message::decode(&frame) {
        Ok(Message::Payloads(_)) => {
            Message::Payloads(List::new(vec![Some(Bytes::from_static(b"a lie"))])).encode()
        }
        _ => frame,
    });
    assert!(matches!(pair.run(), End::Done));
    let summary = pair.summaries().0;
    assert_eq!((summary.filled, summary.refused, summary.missing), (0, 1, 1));
    assert!(!summary.complete);
}

/// A responder that was opened by a replica with the same tips, and what it says to each of these turns.
fn answers(mem: &Mem, rights: Rights, turns: &[Message]) -> Result<Vec<Message>, SessionError> {
    let mut opening = Session::initiator(mem.tree(), Known::default());
    let mut lossy = mem.fork(9);
    lossy.lose(1);
    let open = loop {
        match opening.poll(&lossy, pair::ALL)? {
            Output::Send(frame) => break frame,
            output => assert_eq!(output, Output::Again),
        }
    };
    let mut session = Session::responder();
    let mut said = Vec::new();
    for frame in std::iter::once(open).chain(turns.iter().map(Message::encode)) {
        session.handle_frame(&frame)?;
        session.handle_end_of_turn()?;
        said.clear();
        loop {
            match session.poll(mem, rights)? {
                Output::Send(frame) => said.push(Message::decode(&frame)?),
                Output::EndTurn => break,
                _ => {}
            }
        }
    }
    Ok(said)
}

fn want(places: &[([u8; 32], u64)]) -> Message {
    Message::Want { credit: limits::CREDIT_BYTES, payloads: List::new(places.to_vec()) }
}

#[test]
fn an_entry_that_is_not_here_is_answered_as_one_whose_payload_is_not() {
    let (mut mem, _) = shared(10);
    let (lost, held) = (mem.lose(4), mem.log[5].id());
    let ask = |id: [u8; 32], sections: u64| answers(&mem, pair::ALL, &[want(&[(id, sections)])]).unwrap();
    let nothing = [Message::Payloads(List::new(vec![None]))];
    assert_eq!(ask(lost.0, 1), nothing);
    assert_eq!(ask([7; 32], 1), nothing);
    // A section that the entry has not.
    assert_eq!(ask(held.0, 1 << 63), nothing);
    let given = [Message::Payloads(List::new(vec![mem.log[5].payloads()[0].clone()]))];
    assert_eq!(ask(held.0, 1), given);
    assert!(matches!(&given[0], Message::Payloads(payloads) if payloads[0].is_some()));
}

#[test]
fn a_wish_that_is_none_ends_the_session() {
    let (mem, _) = shared(10);
    let id = mem.log[5].id().0;
    let wide = (0..17).map(|n| ([n; 32], u64::MAX)).collect::<Vec<_>>();
    let least = Message::Want { credit: limits::CREDIT_BYTES_MIN - 1, payloads: List::new(vec![(id, 1)]) };
    for bad in [want(&[]), want(&[(id, 0)]), want(&wide), least, Message::Payloads(List::new(vec![None]))] {
        let error = answers(&mem, pair::ALL, &[bad]).unwrap_err();
        assert!(matches!(error, SessionError::Misplaced(_)), "{error}");
    }
    assert!(answers(&mem, pair::ALL, &[want(&wide[..16])]).is_ok());
}

#[test]
fn more_payloads_than_were_asked_for_end_the_session() {
    let (mut a, b) = shared(100);
    a.lose(40);
    let mut pair = Pair::new(a, b, Known::default());
    pair.tamper = Box::new(|_, frame| match Message::decode(&frame) {
        Ok(Message::Payloads(_)) => Message::Payloads(List::new(vec![None, None])).encode(),
        _ => frame,
    });
    assert!(matches!(pair.run(), End::InitiatorFailed(SessionError::Misplaced(_))));
}

#[test]
fn who_may_not_read_is_neither_given_payloads_nor_asked_for_any() {
    // The responder gives nothing to an initiator that may only bring, and asks it for nothing.
    let pushes = Rights { read: false, push: true };
    let (mut a, mut b) = shared(100);
    a.lose(40);
    b.lose(41);
    let mut pair = Pair::new(a.clone(), b.clone(), Known::default());
    pair.responder.rights = pushes;
    let heard = watch(&mut pair);
    assert!(matches!(pair.run(), End::Done));
    assert_eq!((wants(&heard), filled(&pair).0.filled), ((0, 0), 0));
    let asked = answers(&b, pushes, &[want(&[(b.log[5].id().0, 1)])]).unwrap();
    assert_eq!(asked, [Message::Payloads(List::new(vec![None]))]);
    // The initiator gives nothing to a responder that may not read, whatever that asks for, and asks it for nothing.
    let mut pair = Pair::new(a, b, Known::default());
    pair.initiator.rights = pushes;
    let heard = watch(&mut pair);
    assert!(matches!(pair.run(), End::Done));
    assert_eq!((wants(&heard), filled(&pair).1.filled), ((0, 1), 0));
    let is_given =
        |said: &Message| matches!(said, Message::Payloads(list) if list.iter().any(Option::is_some));
    assert!(!heard.borrow().iter().any(|(_, said)| is_given(said)));
}

#[test]
fn an_opening_to_who_may_not_read_does_not_tell_what_is_missing() {
    let (mut a, _) = shared(10);
    a.lose(4);
    let open = |rights| {
        let mut session = Session::initiator(a.tree(), Known::default());
        loop {
            match session.poll(&a, rights).unwrap() {
                Output::Send(frame) => match Message::decode(&frame).unwrap() {
                    Message::Open(open) => break open,
                    other => panic!("{other:?}"),
                },
                output => assert_eq!(output, Output::Again),
            }
        }
    };
    let told = open(Rights { read: false, push: true });
    assert_eq!((told.lacking, told.end), (Lacking::default(), Position { epoch: 0, seq: 0 }));
    assert_eq!(Some(open(pair::ALL).lacking), ONE);
}

#[test]
fn a_cut_while_payloads_come_loses_none_that_came() {
    let (mut a, b) = shared(300);
    for at in 5..200 {
        a.lose(at);
    }
    for cut in 0..12 {
        let mut pair = Pair::new(a.clone(), b.clone(), Known::default());
        pair.cut_after = Some(cut);
        pair.run();
        assert!(!pair.summaries().0.complete || lacked(&pair.initiator.mem) == 0);
        let (a, b) = pair.into_mems();
        let (a, _) = finish(Pair::new(a, b, Known::default())).into_mems();
        assert_eq!(lacked(&a), 0);
    }
}
