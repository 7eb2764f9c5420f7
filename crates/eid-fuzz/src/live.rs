//! Two sides that keep a database in step, and somebody between them who does what the input says.

use std::collections::VecDeque;
use std::sync::OnceLock;

use bytes::Bytes;
use eid_core::Entry;
use eid_core::dag::{Epoch, Seq};
use eid_core::pack::Arrived;
use eid_proto::limits::{FRAME_BYTES_MAX, LIVE_WINDOW_BYTES};
use eid_proto::message::{Batch, Delivery, LiveMessage, Position};
use eid_proto::{Cursor, Due, Live, Outcome, RefusalCode, Rights, Side};

use crate::replica::{Mem, tree};
use crate::source::Source;

const ALL: Rights = Rights { read: true, push: true };
/// Rounds in which two small replicas are in step, when nobody disturbs them.
const ROUNDS_MAX: usize = 200;
/// Most entries that each side writes.
const WRITTEN_MAX: usize = 40;

struct Half {
    mem: Mem,
    live: Live,
    /// Said, and not heard by the other side.
    said: VecDeque<Bytes>,
    /// How much of what it writes is written.
    written: usize,
    /// Of the other side.
    rights: Rights,
    /// It has heard something that nobody in good faith says: the connection is over.
    closed: bool,
}

impl Half {
    fn new(side: Side, mem: Mem) -> Self {
        Self {
            mem,
            live: Live::new(side).compressing(true),
            said: VecDeque::new(),
            written: 0,
            rights: ALL,
            closed: false,
        }
    }

    /// The next of what this side writes.
    fn write(&mut self, at: usize) {
        if let Some(entry) = scene().written[at].get(self.written) {
            self.mem.add(entry.clone());
            self.written += 1;
            self.live.touch(&tree());
        }
    }

    /// From where the other side may follow, whatever it has missed since.
    fn beginning(&self, entries: usize) -> Cursor {
        Cursor { epoch: Epoch(self.mem.epoch), seq: Seq(entries as u64) }
    }

    /// What there is to say, after each thing that happens.
    fn speak(&mut self) {
        while let Some(frame) = self.live.poll() {
            assert!(frame.len() <= FRAME_BYTES_MAX);
            let is_push = matches!(
                LiveMessage::decode(&frame),
                Ok(LiveMessage::Push { .. } | LiveMessage::PushCompressed { .. })
            );
            assert!(self.rights.read || !is_push, "entries go to a side that may not read");
            self.said.push_back(frame);
        }
        self.live.take_learnt();
        while self.live.poll_event().is_some() {}
        let most = LIVE_WINDOW_BYTES as usize + FRAME_BYTES_MAX;
        assert!(self.live.waiting_bytes() <= most, "more waits than a window");
    }

    fn push(&mut self) {
        if let Due::Now(trees) = self.live.due() {
            for tree in trees {
                if self.live.push(&tree, &self.mem, self.rights).is_err() {
                    self.closed = true;
                }
                self.speak();
            }
        }
    }

    fn hear(&mut self, frame: &[u8]) {
        if !self.closed {
            self.closed = self.live.handle_frame(frame).is_err();
            self.speak();
        }
    }

    /// Admits the oldest push that has arrived, unless the other side may not bring any.
    fn take(&mut self, may_push: bool) -> bool {
        let Some((_, entries)) = self.live.next_taken() else { return false };
        assert!(self.live.next_taken().is_none(), "two pushes at once");
        let outcomes: Option<Vec<Outcome>> = may_push.then(|| self.mem.admit(entries));
        self.live.handle_taken(outcomes.as_deref());
        self.live.touch(&tree());
        self.speak();
        true
    }
}

/// What both hold at the beginning, and what each writes after it: signing takes longer than all that is looked at here.
struct Scene {
    shared: Mem,
    written: [Vec<Entry>; 2],
}

fn scene() -> &'static Scene {
    static SCENE: OnceLock<Scene> = OnceLock::new();
    SCENE.get_or_init(|| {
        let mut shared = Mem::rooted(1);
        (1..6).for_each(|n| shared.write(1, &[n - 1], &format!("shared {n}")));
        let written = [1, 2].map(|author| {
            let mut mem = shared.fork(9);
            (0..WRITTEN_MAX).for_each(|n| mem.write(author, &[mem.log.len() - 1], &format!("{author} {n}")));
            mem.log.split_off(shared.log.len())
        });
        Scene { shared, written }
    })
}

/// Whatever is said, no more is kept than a window and nothing goes to who may not read; left alone, both sides come to hold
/// the same.
pub(crate) fn live(input: &[u8]) {
    let mut source = Source::new(input);
    let mem = &scene().shared;
    let shared = mem.log.len();
    let mut sides = [Half::new(Side::Dialler, mem.fork(1)), Half::new(Side::Listener, mem.fork(2))];
    let mut recorded: Vec<Bytes> = Vec::new();
    let mut alone = true;
    follow_both(&mut sides, shared);
    while !source.is_empty() && !sides.iter().any(|side| side.closed) {
        let action = source.byte();
        let at = usize::from(action >> 7);
        match action & 15 {
            0..=2 => sides[at].write(at),
            3 | 4 => sides[at].push(),
            5..=7 => {
                if let Some(frame) = sides[at].said.pop_front() {
                    sides[1 - at].hear(&frame);
                    recorded.push(frame);
                }
            }
            8 | 9 => drop(sides[at].take(true)),
            10 => {
                sides[at].live.waited();
                sides[at].push();
            }
            11 => {
                sides[at].live.leave(&tree());
                sides[at].speak();
            }
            12 => {
                // Not everything that was said before has to arrive: what is followed anew begins at the beginning.
                let held = sides[1 - at].beginning(shared);
                sides[at].live.follow(tree(), Some(held));
                sides[at].speak();
            }
            13 => {
                alone = false;
                sides[at].rights.read = source.bool();
                let (rights, side) = (sides[at].rights, &mut sides[at]);
                // What was said while there was a right is on its way.
                side.live.check(&tree(), rights);
                side.live.touch(&tree());
                side.speak();
            }
            14 => {
                alone = false;
                sides[at].take(false);
            }
            _ => {
                alone = false;
                let frame = made(&mut source, &sides[1 - at], &recorded);
                sides[at].hear(&frame);
            }
        }
    }
    if alone {
        assert!(!sides.iter().any(|side| side.closed), "one that is in good faith is given up");
        follow_both(&mut sides, shared);
        settle(&mut sides);
        assert_eq!(sides[0].mem.ids(), sides[1].mem.ids());
        assert!(sides.iter().all(|side| side.live.is_in_step(&tree()) && side.live.waiting_bytes() == 0));
    }
}

fn follow_both(sides: &mut [Half; 2], entries: usize) {
    for at in [0, 1] {
        let held = sides[1 - at].beginning(entries);
        sides[at].live.follow(tree(), Some(held));
        sides[at].speak();
    }
}

fn settle(sides: &mut [Half; 2]) {
    for _ in 0..ROUNDS_MAX {
        for at in [0, 1] {
            sides[at].live.waited();
            sides[at].push();
            while let Some(frame) = sides[at].said.pop_front() {
                sides[1 - at].hear(&frame);
            }
            while sides[1 - at].take(true) {}
        }
        assert!(!sides.iter().any(|side| side.closed), "one that is in good faith is given up");
        let is_done = |side: &Half| side.said.is_empty() && side.live.due() == Due::Later;
        if sides.iter().all(is_done) {
            return;
        }
    }
    panic!("two that nobody disturbs say more and more");
}

/// A word of the input's making, or one that was said before, changed or not.
fn made(source: &mut Source<'_>, peer: &Half, recorded: &[Bytes]) -> Bytes {
    let number = source.below(8) as u32;
    let position = |source: &mut Source<'_>| Position { epoch: source.number(), seq: source.number() };
    let named = if source.bool() { tree().0 } else { [source.byte(); 32] };
    let message = match source.below(12) {
        0 => LiveMessage::Follow { number, tree: named, from: source.bool().then(|| position(source)) },
        1 => LiveMessage::Following { number },
        2 => LiveMessage::Leave { number },
        3 => LiveMessage::Ended { number, code: RefusalCode::Unavailable },
        4 => LiveMessage::Ack { number, upto: source.bool().then(|| source.number()) },
        5 => LiveMessage::Behind { tree: named },
        6 => [LiveMessage::Alive, LiveMessage::Speak, LiveMessage::Listen(Delivery::Streamed)]
            [source.below(3)]
        .clone(),
        7..10 => {
            let from = source.below(peer.mem.log.len());
            let count = source.below(4);
            let arrived = |at: usize| {
                let entry = &peer.mem.log[at];
                Arrived { block: entry.block().clone(), payloads: entry.payloads().to_vec() }
            };
            let entries: Vec<Arrived> = (from..peer.mem.log.len().min(from + count)).map(arrived).collect();
            let upto = if source.bool() { (from + entries.len()) as u64 } else { source.number() };
            let from = if source.bool() { from as u64 } else { source.number() };
            LiveMessage::Push { number, from, batch: Batch::pack(&tree(), &entries, upto) }
        }
        _ => {
            let frame = source.pick(&(0..recorded.len()).collect::<Vec<_>>()).map(|at| &recorded[at]);
            let mut frame = frame.map(|frame| frame.to_vec()).unwrap_or_default();
            for _ in 0..source.below(4) {
                let at = usize::from(source.byte()) % frame.len().max(1);
                if let Some(byte) = frame.get_mut(at) {
                    *byte = source.byte();
                }
            }
            return frame.into();
        }
    };
    message.encode()
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    const WRITE: u8 = 0;
    const PUSH: u8 = 3;
    const CARRY: u8 = 5;
    const TAKE: u8 = 8;
    const OTHER: u8 = 128;
    let begun = [CARRY, OTHER | CARRY, PUSH, OTHER | PUSH, CARRY, OTHER | CARRY];
    let once = [WRITE, PUSH, CARRY, OTHER | TAKE, OTHER | CARRY];
    let back = [OTHER | WRITE, OTHER | PUSH, OTHER | CARRY, TAKE, CARRY];
    let of = |parts: &[&[u8]]| parts.concat();
    vec![
        vec![],
        of(&[&begun, &once, &back, &once, &once]),
        of(&[&begun, &[WRITE, WRITE, PUSH, 11, OTHER | 12], &back]),
        of(&[&begun, &once, &[13, 0, WRITE, PUSH, 13, 1, PUSH]]),
        of(&[&begun, &once, &[OTHER | 15, 0, 1, 7, 1, 2, 1, 1, OTHER | TAKE, OTHER | 14]]),
        of(&[&begun, &once, &[15, 0, 1, 4, 1, 6], &back]),
        of(&[&begun, &[15, 0, 1, 10, 1, 2, 3, 4, 5]]),
    ]
}

/// What two say to each other, an entry among it.
pub(crate) fn transcript() -> Vec<Bytes> {
    let mem = &scene().shared;
    let mut sides = [Half::new(Side::Dialler, mem.fork(1)), Half::new(Side::Listener, mem.fork(2))];
    follow_both(&mut sides, mem.log.len());
    sides[0].write(0);
    sides[0].push();
    let mut heard = Vec::new();
    while let Some(frame) = sides[0].said.pop_front().or_else(|| sides[1].said.pop_front()) {
        heard.push(frame);
    }
    heard
}
