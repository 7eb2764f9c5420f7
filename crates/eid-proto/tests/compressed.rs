//! Batches are compressed where both sides read that and it pays, and a frame that is not what it says costs nothing.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "a part of the harness is enough")]
mod pair;

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use eid_core::dag::{Epoch, Replica, Seq};
use eid_proto::limits::{
    COMPRESS_BYTES_MIN, COMPRESS_LEFT, COMPRESS_PERCENT_MAX, COMPRESS_RATIO_MAX, FRAME_BYTES_MAX,
};
use eid_proto::message::{Batch, CompressedBatch, LiveMessage, Message};
use eid_proto::{Arrived, Cursor, DecompressError, Due, Known, Live, Session, SessionError, Side, Summary};
use pair::{ALL, End, Mem, Pair};
use proptest::prelude::*;

/// Something that people write, never twice the same.
fn prose(n: usize) -> Vec<u8> {
    const WORDS: [&str; 8] = ["paper", "water", "because", "another", "yellow", "morning", "never", "houses"];
    let words: Vec<_> = (0..20).map(|at| WORDS[(n * 31 + at * (n % 7 + 3)) % 8]).collect();
    format!("{n} {}", words.join(" ")).into_bytes()
}

/// Something that is encrypted.
fn noise(n: usize) -> Vec<u8> {
    let mut bytes = vec![0; 240];
    blake3::Hasher::new().update(&n.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn written(from: &Mem, text: impl Fn(usize) -> Vec<u8>, entries: usize) -> Mem {
    let mut mem = from.fork(2);
    (0..entries).for_each(|n| {
        mem.write_bytes(1, &[], &text(n));
    });
    mem
}

fn arrived(mem: &Mem) -> Vec<Arrived> {
    let entries = mem.log.iter().skip(1);
    entries.map(|e| Arrived { block: e.block().clone(), payloads: e.payloads().to_vec() }).collect()
}

fn batch(entries: usize) -> (Mem, Batch) {
    let mem = written(&Mem::with_root(1), prose, entries);
    let batch = Batch::pack(&mem.tree(), &arrived(&mem), 7);
    (mem, batch)
}

#[test]
fn a_compressed_batch_is_smaller_and_becomes_what_it_was() {
    let (mem, plain) = batch(100);
    let compressed = plain.compress().unwrap();
    assert!(compressed.frame.len() <= plain.entries.len() * COMPRESS_PERCENT_MAX / 100);
    assert_eq!(compressed.decompress().unwrap(), plain);
    let message = Message::Compressed(compressed);
    assert_eq!(Message::decode(&message.encode()).unwrap(), message);
    assert_eq!(plain.unpack(&mem.tree()).unwrap(), arrived(&mem));
}

#[test]
fn what_does_not_pay_is_not_compressed() {
    let (_, small) = batch(2);
    assert!(small.entries.len() < COMPRESS_BYTES_MIN);
    assert_eq!(small.compress(), None);
    let mem = Mem::with_root(1);
    let entry =
        |payload: Vec<u8>| Arrived { block: vec![1; 96].into(), payloads: vec![Some(payload.into())] };
    let random = entry((0..20).flat_map(noise).collect());
    assert_eq!(Batch::pack(&mem.tree(), &[random], 0).compress(), None);
    let zeros = |len| Batch::pack(&mem.tree(), &[entry(vec![0; len])], 0);
    assert!(zeros(1_200).compress().is_some());
    assert_eq!(zeros(1_000_000).compress(), None, "nobody would take it");
}

/// The beginning of a frame of one segment.
fn head(len: u32) -> Vec<u8> {
    let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0xA0];
    frame.extend(len.to_le_bytes());
    frame
}

/// A block of one byte, so many times.
fn again(times: u32, is_last: bool) -> Vec<u8> {
    let head = times << 3 | 1 << 1 | u32::from(is_last);
    [&head.to_le_bytes()[..3], &[0]].concat()
}

fn refused(frame: Vec<u8>) -> DecompressError {
    CompressedBatch { frame: frame.into(), upto: 0 }.decompress().unwrap_err()
}

#[test]
fn a_bomb_is_refused_by_what_it_says() {
    let bomb = |len, blocks: u32| {
        let mut frame = head(len);
        (0..blocks).for_each(|n| frame.extend(again(128 * 1024, n + 1 == blocks)));
        frame
    };
    // It is as it says, but for the ratio.
    let frame = bomb(2 * 1024 * 1024, 16);
    assert_eq!(refused(frame.clone()), DecompressError::TooMuch(frame.len(), 2 * 1024 * 1024));
    // The bound itself is within.
    let (mut beyond, mut fits) = (head(2_501), head(2_500));
    (0..4).for_each(|n| beyond.extend(again(625 + u32::from(n == 3), n == 3)));
    (0..4).for_each(|n| fits.extend(again(625, n == 3)));
    assert_eq!((fits.len(), COMPRESS_RATIO_MAX), (25, 100));
    assert_eq!(refused(beyond), DecompressError::TooMuch(25, 2_501));
    let batch = CompressedBatch { frame: fits.into(), upto: 3 }.decompress().unwrap();
    assert_eq!(batch, Batch { entries: vec![0; 2_500].into(), upto: 3 });
    // More than a frame may hold, whatever the ratio; nothing of it is read.
    let mut large = head(FRAME_BYTES_MAX as u32 + 1);
    large.extend(vec![0; 100_000]);
    assert_eq!(refused(large), DecompressError::TooMuch(100_009, FRAME_BYTES_MAX as u64 + 1));
    let mut endless = vec![0x28, 0xB5, 0x2F, 0xFD, 0xE0];
    endless.extend(u64::MAX.to_le_bytes());
    assert_eq!(refused(endless), DecompressError::TooMuch(13, u64::MAX));
    // It says little, and its blocks hold more.
    assert_eq!(refused(bomb(7_000, 16)), DecompressError::Malformed);
}

#[test]
fn a_frame_in_another_form_is_none() {
    let (_, plain) = batch(100);
    let good = plain.compress().unwrap().frame.to_vec();
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = good.clone();
        change(&mut frame);
        refused(frame)
    };
    let none = DecompressError::Malformed;
    assert_eq!(changed(&|frame| frame.push(0)), none, "a byte behind it");
    assert_eq!(changed(&|frame| frame.extend(good.clone())), none, "two frames");
    assert_eq!(changed(&|frame| frame[4] |= 1), none, "a dictionary");
    assert_eq!(changed(&|frame| frame[4] |= 4), none, "a checksum");
    assert_eq!(changed(&|frame| frame[4] |= 8), none, "a bit without meaning");
    assert_eq!(changed(&|frame| frame[4] |= 16), none, "another");
    assert_eq!(changed(&|frame| frame[0] = 0x50), none, "a frame to be skipped");
    assert_eq!(changed(&|frame| frame.extend([0x50, 0x2A, 0x4D, 0x18, 0, 0, 0, 0])), none, "one behind it");
    assert_eq!(refused([&[0x50, 0x2A, 0x4D, 0x18, 0, 0, 0, 0], &good[..]].concat()), none, "one before it");
    // Of 2 bytes, less 256: one byte more or less than there is.
    assert_eq!(good[4] >> 6, 1, "{:x}", good[4]);
    assert_eq!(changed(&|frame| frame[5] = frame[5].wrapping_add(1)), none, "a byte too many");
    assert_eq!(changed(&|frame| frame[5] = frame[5].wrapping_sub(1)), none, "a byte too few");
    for len in 0..good.len() {
        refused(good[..len].to_vec());
    }
    // Blocks that go on and on.
    let mut endless = head(10);
    (0..1000).for_each(|_| endless.extend(again(0, false)));
    assert_eq!(refused(endless), none);
    let reserved = [&head(10)[..], &[7, 0, 0]].concat();
    assert_eq!(refused(reserved), none);
    // Without the length of its content, and with a window: as much as there is in it, and more than may be held.
    let window = |descriptor: u8, window: u8| {
        let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, descriptor, window];
        frame.extend(if descriptor == 0 { vec![] } else { 100_u32.to_le_bytes().to_vec() });
        frame.extend(again(100, true));
        CompressedBatch { frame: frame.into(), upto: 0 }.decompress()
    };
    assert_eq!(window(0, 0), Err(none));
    assert_eq!(window(0x80, 0).unwrap().entries.len(), 100);
    assert_eq!(window(0x80, 11 << 3).unwrap().entries.len(), 100);
    assert_eq!(window(0x80, 11 << 3 | 1), Err(DecompressError::Window(2 * 1024 * 1024 / 8 * 9)));
    assert_eq!(window(0x80, 255), Err(DecompressError::Window(15 << 38)));
}

proptest! {
    #[test]
    fn whatever_a_frame_holds_it_gives_what_it_says_or_nothing(
        at in 0_usize..4_000, to in any::<u8>(), behind in proptest::collection::vec(any::<u8>(), 0..64)
    ) {
        let (_, plain) = batch(40);
        let mut frame = plain.compress().unwrap().frame.to_vec();
        let at = at % frame.len();
        frame[at] = to;
        let most = frame.len() * COMPRESS_RATIO_MAX;
        if let Ok(batch) = (CompressedBatch { frame: frame.into(), upto: 0 }).decompress() {
            prop_assert!(batch.entries.len() <= most);
        }
        let made = [&[0x28, 0xB5, 0x2F, 0xFD][..], &behind].concat();
        let most = made.len() * COMPRESS_RATIO_MAX;
        if let Ok(batch) = (CompressedBatch { frame: made.into(), upto: 0 }).decompress() {
            prop_assert!(batch.entries.len() <= most);
        }
    }
}

fn compressing(pair: &mut Pair, compresses: bool) {
    for side in [&mut pair.initiator, &mut pair.responder] {
        let session = std::mem::replace(&mut side.session, Session::responder());
        side.session = session.compressing(compresses);
    }
}

/// What was heard of a session: bytes sent by both sides, and for each batch whether it was compressed.
struct Heard {
    bytes: usize,
    frames: usize,
    batches: Vec<bool>,
    summaries: (Summary, Summary),
    known: (Known, Known),
}

fn heard(a: &Mem, b: &Mem, compresses: bool) -> Heard {
    let mut pair = Pair::new(a.clone(), b.clone(), Known::default());
    compressing(&mut pair, compresses);
    let batches = Rc::new(RefCell::new(Vec::new()));
    let said = Rc::clone(&batches);
    pair.tamper = Box::new(move |_, frame| {
        match Message::decode(&frame).unwrap() {
            Message::Batch(_) => said.borrow_mut().push(false),
            Message::Compressed(_) => said.borrow_mut().push(true),
            _ => {}
        }
        frame
    });
    let end = pair.run();
    assert!(matches!(end, End::Done), "{end:?}");
    assert_eq!(pair.initiator.mem.ids(), pair.responder.mem.ids());
    let bytes = pair.initiator.sent + pair.responder.sent;
    let batches = batches.borrow().clone();
    Heard { bytes, frames: pair.frames, batches, summaries: pair.summaries(), known: pair.known() }
}

#[test]
fn a_session_moves_fewer_bytes_and_nothing_else_of_it_changes() {
    let shared = Mem::with_root(1);
    let mut a = shared.fork(1);
    (0..700).for_each(|n| {
        a.write_bytes(1, &[], &prose(n));
    });
    // More than a window, in which what was compressed counts with what it was.
    let b = written(&shared, |n| prose(n + 1_000), 14_000);
    let (plain, compressed) = (heard(&a, &b, false), heard(&a, &b, true));
    assert!(plain.summaries.0.turns > 5 && plain.batches.len() > 3);
    assert!(plain.batches.iter().all(|compressed| !compressed));
    assert!(compressed.batches.iter().all(|compressed| *compressed), "{:?}", compressed.batches);
    assert!(compressed.bytes * 100 < plain.bytes * 90, "{} of {}", compressed.bytes, plain.bytes);
    assert_eq!(compressed.frames, plain.frames);
    assert_eq!(compressed.summaries, plain.summaries);
    assert_eq!(compressed.known, plain.known);
}

#[test]
fn what_is_encrypted_goes_as_it_is_and_is_tried_again_now_and_then() {
    let shared = Mem::with_root(1);
    let batches = COMPRESS_LEFT as usize + 2;
    let a = shared.fork(1);
    // Only what is in the first batch is encrypted.
    let b = written(&shared, |n| if n < 512 { noise(n) } else { prose(n) }, batches * 512);
    let heard = heard(&a, &b, true);
    let mut expected = vec![false; COMPRESS_LEFT as usize + 1];
    expected.push(true);
    assert_eq!(heard.batches, expected);
}

#[test]
fn a_compressed_batch_that_was_not_agreed_upon_breaks_the_protocol() {
    let b = written(&Mem::with_root(1), prose, 100);
    let mut pair = Pair::new(Mem::empty(1), b, Known::default());
    pair.tamper = Box::new(|_, frame| match Message::decode(&frame).unwrap() {
        Message::Batch(batch) => Message::Compressed(batch.compress().unwrap()).encode(),
        _ => frame,
    });
    let end = pair.run();
    assert!(matches!(end, End::InitiatorFailed(SessionError::Misplaced(_))), "{end:?}");
    assert_eq!(pair.initiator.mem.end(), Seq(0));
}

#[test]
fn a_lie_in_a_session_ends_it_and_has_no_effect() {
    for frame in [head(1 << 20), vec![1, 2, 3], vec![]] {
        let b = written(&Mem::with_root(1), prose, 100);
        let mut pair = Pair::new(Mem::empty(1), b, Known::default());
        compressing(&mut pair, true);
        pair.tamper = Box::new(move |_, sent| match Message::decode(&sent).unwrap() {
            Message::Compressed(batch) => {
                let frame = Bytes::from(frame.clone());
                Message::Compressed(CompressedBatch { frame, ..batch }).encode()
            }
            _ => sent,
        });
        let end = pair.run();
        assert!(
            matches!(&end, End::InitiatorFailed(error @ SessionError::Compression(_)) if error.is_peers_fault()),
            "{end:?}"
        );
        assert_eq!(pair.initiator.mem.end(), Seq(0));
    }
}

/// What `from` says to who follows it from `held` on.
fn pushed(mem: &Mem, held: u64, compresses: bool) -> (Live, Vec<LiveMessage>) {
    let tree = mem.tree();
    let mut follower = Live::new(Side::Dialler).compressing(compresses);
    follower.follow(tree, Some(Cursor { epoch: Epoch(mem.epoch), seq: Seq(held) }));
    let mut live = Live::new(Side::Listener).compressing(compresses);
    live.handle_frame(&follower.poll().unwrap()).unwrap();
    let Due::Now(trees) = live.due() else { panic!("nothing is due") };
    assert_eq!(trees, [tree]);
    live.push(&tree, mem, ALL).unwrap();
    let said = std::iter::from_fn(|| live.poll()).map(|frame| LiveMessage::decode(&frame).unwrap());
    (follower, said.collect())
}

#[test]
fn what_is_pushed_live_is_compressed_where_both_sides_read_it() {
    let mem = written(&Mem::with_root(1), prose, 300);
    for compresses in [false, true] {
        let (mut follower, said) = pushed(&mem, 1, compresses);
        let mut held = Mem::with_root(7);
        for word in &said {
            let is_compressed = matches!(word, LiveMessage::PushCompressed { .. });
            assert_eq!(is_compressed, compresses && !matches!(word, LiveMessage::Following { .. }));
            follower.handle_frame(&word.encode()).unwrap();
        }
        let (_, entries) = follower.next_taken().unwrap();
        let outcomes = held.admit(entries);
        follower.handle_taken(Some(&outcomes));
        assert_eq!(held.ids(), mem.ids());
        assert!(follower.has_words(), "it is acknowledged");
    }
}

#[test]
fn a_live_push_of_a_few_entries_goes_as_it_is() {
    let mem = written(&Mem::with_root(1), prose, 300);
    let (_, said) = pushed(&mem, 299, true);
    assert!(said.iter().all(|word| !matches!(word, LiveMessage::PushCompressed { .. })));
    assert!(said.iter().any(|word| matches!(word, LiveMessage::Push { .. })));
}

#[test]
fn a_compressed_push_that_was_not_agreed_upon_breaks_the_protocol() {
    let mem = written(&Mem::with_root(1), prose, 300);
    let (_, said) = pushed(&mem, 1, true);
    let (mut follower, _) = pushed(&mem, 1, false);
    let errors: Vec<_> = said.iter().filter_map(|word| follower.handle_frame(&word.encode()).err()).collect();
    assert!(matches!(&errors[..], [SessionError::Misplaced(_)]), "{errors:?}");
    assert!(follower.next_taken().is_none());
}
