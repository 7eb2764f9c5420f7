//! Two sessions, and somebody between them who does what the input says.

use std::collections::{BTreeSet, VecDeque};
use std::sync::OnceLock;

use bytes::Bytes;
use eid_core::EntryId;
use eid_core::dag::{Epoch, Replica, Seq, tips_hash};
use eid_core::pack::Arrived;
use eid_proto::limits::{CREDIT_BYTES, FRAME_BYTES_MAX};
use eid_proto::message::{Message, PROTOCOL_VERSION};
use eid_proto::{Cursor, Known, Output, RefusalCode, Rights, Rung, Session, SessionError};
use eid_transport::limits::ASIDE_BYTES_MAX;

use crate::replica::{Mem, tree};
use crate::source::Source;

/// Steps in which any session between small replicas has ended, whatever is said.
const STEPS_MAX: usize = 20_000;
/// Bytes that a side says in one turn: a window, and the frame that overshoots it.
const TURN_BYTES_MAX: usize = CREDIT_BYTES as usize + FRAME_BYTES_MAX;

const RIGHTS: [Rights; 4] = [
    Rights { read: true, push: true },
    Rights { read: true, push: false },
    Rights { read: false, push: true },
    Rights { read: false, push: false },
];

/// Where the ladder may begin.
const RUNGS: [Option<Rung>; 6] = [
    None,
    Some(Rung::TipsKnown),
    Some(Rung::Remembered),
    Some(Rung::Sketch),
    Some(Rung::Asked),
    Some(Rung::ByIds),
];

/// The two replicas of a session, before it.
struct Scene {
    initiator: Mem,
    responder: Mem,
    known: Known,
}

fn scenes() -> &'static [Scene] {
    static SCENES: OnceLock<Vec<Scene>> = OnceLock::new();
    SCENES.get_or_init(|| {
        let mut shared = Mem::rooted(1);
        (1..12).for_each(|n| shared.write(1, &[n - 1], &format!("shared {n}")));
        let ahead = |epoch: u64, author: u8, count: usize| {
            let mut mem = shared.fork(epoch);
            (0..count).for_each(|n| mem.write(author, &[mem.log.len() - 1], &format!("{author} {n}")));
            mem
        };
        let wide = |epoch: u64, author: u8| {
            let mut mem = shared.fork(epoch);
            (0..30).for_each(|n| mem.write(author, &[n % 12], &format!("{author} tip {n}")));
            mem
        };
        let lossy = |mut mem: Mem, lost: &[usize]| {
            lost.iter().for_each(|at| mem.lose(*at));
            mem
        };
        let none = Known::default();
        let at = |epoch: u64, seq: u64| Some(Cursor { epoch: Epoch(epoch), seq: Seq(seq) });
        let scene = |initiator, responder, known| Scene { initiator, responder, known };
        vec![
            scene(ahead(1, 1, 0), ahead(2, 1, 0), none),
            scene(Mem::empty(1), ahead(2, 2, 8), none),
            scene(ahead(1, 1, 8), Mem::empty(2), none),
            scene(ahead(1, 1, 5), ahead(2, 2, 7), none),
            scene(ahead(1, 1, 5), ahead(2, 2, 7), Known { theirs: at(2, 12), mine: at(1, 12) }),
            scene(ahead(1, 1, 5), ahead(2, 2, 7), Known { theirs: at(2, 15), mine: at(9, 3) }),
            scene(wide(1, 1), wide(2, 2), none),
            scene(wide(1, 1), ahead(2, 2, 90), none),
            scene(lossy(ahead(1, 1, 0), &[3, 4, 9]), lossy(ahead(2, 1, 0), &[4, 7]), none),
            scene(lossy(ahead(1, 1, 5), &[3, 14]), lossy(ahead(2, 2, 7), &[4, 5, 15]), none),
        ]
    })
}

/// Names that mean something to both replicas of a scene.
struct Names {
    ids: Vec<EntryId>,
    hashes: [[u8; 32]; 3],
}

impl Names {
    fn of(scene: &Scene) -> Self {
        let ids = scene.initiator.ids().union(&scene.responder.ids()).copied().collect();
        let hash = |mem: &Mem| {
            let tips = mem.tips().unwrap_or_default();
            tips_hash(tips.iter().map(|(id, _)| id))
        };
        Self { ids, hashes: [tree().0, hash(&scene.initiator), hash(&scene.responder)] }
    }
}

/// A message of the input's making: a kind, and bytes, numbers and names in any order.
fn made(source: &mut Source<'_>, names: &Names) -> Bytes {
    let mut frame = vec![PROTOCOL_VERSION, source.byte() % 32];
    for _ in 0..source.below(16) {
        match source.below(8) {
            0 => frame.push(source.byte()),
            1 | 2 => varint(source.number(), &mut frame),
            3 => frame.extend(source.pick(&names.ids).iter().flat_map(|id| id.0)),
            4 => frame.extend(source.pick(&names.ids).iter().flat_map(EntryId::prefix)),
            5 => frame.extend(source.pick(&names.hashes).iter().flatten()),
            6 => frame.extend_from_slice(source.some(64)),
            _ => frame.extend([0; 2]),
        }
    }
    frame.into()
}

fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

struct Side {
    session: Session,
    mem: Mem,
    /// Of the other side.
    rights: Rights,
    waiting: VecDeque<Vec<Arrived>>,
    turn_bytes: usize,
    /// What only this side has, by the names that would give it away.
    private: Vec<[u8; 8]>,
    /// The other side could read at some time.
    told: bool,
}

enum Acted {
    Nothing,
    Worked,
    Sent(Bytes),
    Aside(Bytes),
    EndTurn,
    Finished,
}

impl Side {
    fn new(session: Session, mem: &Mem, other: &Mem, rights: Rights) -> Self {
        // The root names the database, and whoever asks for it has named it.
        let (mine, theirs) = (mem.ids(), other.ids());
        let private = mine.difference(&theirs).filter(|id| **id != tree().root());
        let private = private.map(EntryId::prefix).collect();
        Self {
            session,
            mem: mem.clone(),
            rights,
            waiting: VecDeque::new(),
            turn_bytes: 0,
            private,
            told: rights.read,
        }
    }

    fn act(&mut self) -> Result<Acted, SessionError> {
        Ok(match self.session.poll(&self.mem, self.rights)? {
            Output::Send(frame) => {
                self.turn_bytes += frame.len();
                assert!(frame.len() <= FRAME_BYTES_MAX && self.turn_bytes <= TURN_BYTES_MAX);
                assert!(
                    self.told || !self.gives_away(&frame),
                    "a side that may not read is told what is here"
                );
                let gives = match Message::decode(&frame) {
                    Ok(Message::Batch(_) | Message::Compressed(_)) => true,
                    Ok(Message::Payloads(payloads)) => payloads.iter().any(Option::is_some),
                    _ => false,
                };
                assert!(self.rights.read || !gives, "entries go to a side that may not read any more");
                Acted::Sent(frame)
            }
            Output::Aside(frame) => {
                assert!(frame.len() <= ASIDE_BYTES_MAX, "more than fits beside a turn");
                Acted::Aside(frame)
            }
            Output::EndTurn => {
                self.turn_bytes = 0;
                Acted::EndTurn
            }
            Output::Admit(entries) => {
                assert!(!entries.is_empty());
                let bytes: usize =
                    self.waiting.iter().flatten().chain(&entries).map(Arrived::bytes_len).sum();
                assert!(bytes <= TURN_BYTES_MAX, "more waits than a window");
                self.waiting.push_back(entries);
                Acted::Worked
            }
            Output::Again => Acted::Worked,
            // Batches become durable as late as possible.
            Output::NeedAdmitted => {
                let entries = self.waiting.pop_front().expect("what is waited for was handed out");
                let outcomes = self.mem.admit(entries);
                self.session.handle_admitted(&outcomes);
                Acted::Worked
            }
            Output::NeedFrame => Acted::Nothing,
            Output::Finished => Acted::Finished,
        })
    }

    fn gives_away(&self, frame: &[u8]) -> bool {
        frame.windows(8).any(|window| self.private.iter().any(|prefix| prefix == window))
    }
}

/// What may be between the two sides.
enum Between {
    Frame(Bytes),
    Aside(Bytes),
    EndTurn,
}

/// Whatever comes between two sides, each ends in bounded steps, says no more than may be said, and gives nothing to
/// whoever may not read. Left alone, both hold the same at the end and know it.
pub(crate) fn session(input: &[u8]) {
    let mut source = Source::new(input);
    let scene = &scenes()[source.below(scenes().len())];
    let names = Names::of(scene);
    let pick = |source: &mut Source<'_>| RIGHTS[source.below(RIGHTS.len())];
    let (of_responder, of_initiator) = (pick(&mut source), pick(&mut source));
    let initiator = Session::initiator(tree(), scene.known).beginning_at(RUNGS[source.below(RUNGS.len())]);
    let responder = Session::responder().beginning_at(RUNGS[source.below(RUNGS.len())]);
    let [initiator, responder] = [initiator, responder].map(|side| side.duplex(true).compressing(true));
    let mut first = Side::new(initiator, &scene.initiator, &scene.responder, of_responder);
    let mut second = Side::new(responder, &scene.responder, &scene.initiator, of_initiator);
    let mut honest = of_responder == RIGHTS[0] && of_initiator == RIGHTS[0];
    let (mut finished, mut idle) = ([false, false], 0);
    for step in 0.. {
        assert!(step < STEPS_MAX, "the session does not end");
        let at = step % 2;
        let (from, to) = if at == 0 { (&mut first, &mut second) } else { (&mut second, &mut first) };
        let acted = if finished[at] { Ok(Acted::Nothing) } else { from.act() };
        let between = match acted {
            Err(error) => {
                assert!(!honest, "{error}");
                return;
            }
            Ok(Acted::Nothing) => {
                idle += 1;
                // Somebody has kept a frame to himself, and a deadline ends what waits for it.
                if idle > 4 {
                    assert!(!honest || finished == [true, true], "both sides wait");
                    break;
                }
                continue;
            }
            Ok(Acted::Worked) => {
                idle = 0;
                continue;
            }
            Ok(Acted::Finished) => {
                finished[at] = true;
                continue;
            }
            Ok(Acted::Sent(frame)) => Between::Frame(frame),
            Ok(Acted::Aside(frame)) => Between::Aside(frame),
            Ok(Acted::EndTurn) => Between::EndTurn,
        };
        idle = 0;
        for said in tampered(between, &mut source, &names, &mut honest) {
            let taken = match said {
                Between::Frame(frame) => to.session.handle_frame(&frame),
                Between::Aside(frame) => to.session.handle_aside(&frame),
                Between::EndTurn => to.session.handle_end_of_turn(),
            };
            if let Err(error) = taken {
                assert!(!honest, "{error}");
                return;
            }
        }
        if source.byte() == 0xfe {
            honest = false;
            to.rights = pick(&mut source);
            to.told |= to.rights.read;
        }
    }
    if honest {
        assert_eq!(first.mem.ids(), second.mem.ids());
        assert_eq!(first.mem.lost(), second.mem.lost(), "what one lacks and the other has was not given");
        assert!(first.session.summary().complete && second.session.summary().complete);
        is_true(&first, &second);
        is_true(&second, &first);
    }
}

/// What a side believes that the other holds is held there.
fn is_true(side: &Side, other: &Side) {
    let holds = |holder: &Mem, log: &Mem, cursor: Option<Cursor>| {
        let Some(cursor) = cursor.filter(|cursor| cursor.epoch == log.epoch()) else { return };
        let held: BTreeSet<EntryId> = holder.ids();
        let below = usize::try_from(cursor.seq.0).expect("the log is short");
        assert!(log.log[..below].iter().all(|entry| held.contains(&entry.id())), "{cursor:?} is not true");
    };
    holds(&other.mem, &side.mem, side.session.known().mine);
    holds(&side.mem, &other.mem, side.session.known().theirs);
}

/// What arrives in place of what was sent.
fn tampered(sent: Between, source: &mut Source<'_>, names: &Names, honest: &mut bool) -> Vec<Between> {
    let choice = source.byte();
    *honest &= choice < 128;
    let spoilt = |frame: &Bytes, source: &mut Source<'_>| {
        let mut frame = frame.to_vec();
        for _ in 0..=source.below(3) {
            let at = usize::from(u16::from_le_bytes([source.byte(), source.byte()])) % frame.len().max(1);
            if let Some(byte) = frame.get_mut(at) {
                *byte = byte.wrapping_add(source.byte());
            }
        }
        Between::Frame(frame.into())
    };
    match (choice, sent) {
        (0..128, sent) => vec![sent],
        (128..150, Between::Frame(frame)) => vec![spoilt(&frame, source)],
        (150..155, Between::Frame(frame)) => {
            let keep = source.below(256).min(frame.len());
            vec![Between::Frame(frame.slice(..keep))]
        }
        (155..165, Between::Frame(frame)) => vec![Between::Frame(frame.clone()), Between::Frame(frame)],
        (165..175, Between::EndTurn) => vec![Between::EndTurn, Between::EndTurn],
        (175..185, _) => vec![],
        (185..200, _) => vec![Between::Frame(made(source, names))],
        (200..220, sent) => vec![Between::Frame(made(source, names)), sent],
        (220..240, sent) => vec![sent, Between::Frame(made(source, names))],
        (240..250, sent) => vec![sent, Between::EndTurn],
        (250..253, sent) => vec![Between::Aside(made(source, names)), sent],
        (_, sent) => vec![Between::Frame(Bytes::copy_from_slice(source.some(64))), sent],
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for scene in 0..scenes().len() as u8 {
        for rung in 0..RUNGS.len() as u8 {
            seeds.push(vec![scene, 0, 0, rung, rung]);
        }
        seeds.push(vec![scene, 1, 2]);
        seeds.push(vec![scene, 0, 0, 0, 0, 1, 0, 1, 0, 1, 0, 1, 0, 130, 0, 1, 0, 1]);
    }
    seeds.push(vec![3, 0, 0, 0, 0, 1, 0, 1, 0xfe, 3]);
    seeds
}

/// Every frame of a session in each scene.
pub(crate) fn transcripts() -> Vec<Bytes> {
    let mut frames = Vec::new();
    for scene in scenes() {
        let initiator = Session::initiator(tree(), scene.known).compressing(true);
        let responder = Session::responder().compressing(true);
        let mut sides = [
            Side::new(initiator, &scene.initiator, &scene.responder, RIGHTS[0]),
            Side::new(responder, &scene.responder, &scene.initiator, RIGHTS[0]),
        ];
        for step in 0..STEPS_MAX {
            let [first, second] = &mut sides;
            let (from, to) = if step % 2 == 0 { (first, second) } else { (second, first) };
            let taken = match from.act() {
                Ok(Acted::Sent(frame)) => {
                    frames.push(frame.clone());
                    to.session.handle_frame(&frame)
                }
                Ok(Acted::EndTurn) => to.session.handle_end_of_turn(),
                Ok(_) => Ok(()),
                Err(error) => Err(error),
            };
            taken.expect("both are honest");
        }
    }
    frames.sort_by_key(Bytes::len);
    frames.dedup();
    frames.retain(|frame| frame.len() < 4096);
    frames
}

/// To a peer without any right a responder says the same, whatever it has.
pub(crate) fn stranger(input: &[u8]) {
    let mut source = Source::new(input);
    let scene = &scenes()[source.below(scenes().len())];
    let names = Names::of(scene);
    let mut said: Vec<(bool, Bytes)> = Vec::new();
    for _ in 0..16 {
        match source.below(4) {
            0 if source.is_empty() => break,
            0 => said.push((true, Bytes::new())),
            1 => said.push((false, Bytes::copy_from_slice(source.some(256)))),
            _ => said.push((false, made(&mut source, &names))),
        }
    }
    let first = answers(&scene.responder, &said);
    let second = answers(&Mem::empty(scene.responder.epoch), &said);
    assert_eq!(first, second);
    for frame in first.iter().filter_map(|answer| answer.as_ref().ok()) {
        let said = Message::decode(frame);
        assert!(
            matches!(said, Ok(Message::Refused(RefusalCode::Unavailable))),
            "a stranger is told {said:?}"
        );
    }
}

/// What a responder says to a peer without rights, and what it makes of what it hears.
fn answers(mem: &Mem, said: &[(bool, Bytes)]) -> Vec<Result<Bytes, String>> {
    let mut session = Session::responder();
    let mut answers = Vec::new();
    for (ends, frame) in said {
        let taken = if *ends { session.handle_end_of_turn() } else { session.handle_frame(frame) };
        if let Err(error) = taken {
            answers.push(Err(error.to_string()));
            return answers;
        }
        for step in 0.. {
            assert!(step < 100, "the responder does not wait");
            match session.poll(mem, RIGHTS[3]) {
                Ok(Output::Send(frame)) => answers.push(Ok(frame)),
                Ok(Output::Admit(_)) => answers.push(Err("entries are taken in".to_owned())),
                Ok(Output::EndTurn | Output::Again | Output::NeedAdmitted) => {}
                Ok(_) => break,
                Err(error) => {
                    answers.push(Err(error.to_string()));
                    return answers;
                }
            }
        }
    }
    answers
}

pub(crate) fn stranger_seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = vec![vec![0], vec![3, 2, 0, 0, 0, 0]];
    let opens = |frame: &Bytes| matches!(Message::decode(frame), Ok(Message::Open(_)));
    for frame in transcripts().into_iter().filter(|frame| frame.len() < 256 && opens(frame)) {
        let len = (frame.len() as u16).to_le_bytes();
        seeds.push([&[3, 1, len[0], len[1]], &frame[..], &[0, 1]].concat());
    }
    seeds.truncate(12);
    seeds
}
