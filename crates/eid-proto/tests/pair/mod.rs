//! Two sessions and two replicas in memory, handing frames to each other.
#![expect(unreachable_pub, reason = "a harness of one test file")]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;
use eid_core::dag::{Dag, Epoch, Logged, Named, Replica, Seq, add_to_tips};
use eid_core::sketch::{Salt, Sketch};
use eid_core::{
    Draft, Entry, EntryId, Height, Invalid, Missing, Nonce, Payload, Permission, ReadError, SecretKey,
    SectionDraft, SettingsOp, Slot, StoreName, Time, TreeId,
};
use eid_proto::message::Message;
use eid_proto::{Arrived, Cursor, Known, Outcome, Output, Rights, Rung, Session, SessionError, Summary};

pub const ALL: Rights = Rights { read: true, push: true };

/// A replica in memory. Admits what is well formed and has its parents.
#[derive(Debug, Clone)]
pub struct Mem {
    pub epoch: u64,
    pub log: Vec<Entry>,
    parents: Vec<Vec<Seq>>,
    index: BTreeMap<EntryId, Seq>,
    tips: BTreeSet<EntryId>,
    /// Entries that are never admitted.
    pub refuse: BTreeSet<EntryId>,
}

pub fn key(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

pub fn root() -> Entry {
    let owner = key(1);
    let ops = [
        SettingsOp::Rules(1),
        SettingsOp::Set { slot: Slot::Key(owner.public()), permission: Permission::Admin(0) },
    ];
    Draft::root(Nonce([7; 16]), Time::from_ms(1), &ops).seal(&owner).unwrap()
}

impl Mem {
    pub fn empty(epoch: u64) -> Self {
        Self {
            epoch,
            log: vec![],
            parents: vec![],
            index: BTreeMap::new(),
            tips: BTreeSet::new(),
            refuse: BTreeSet::new(),
        }
    }

    pub fn with_root(epoch: u64) -> Self {
        let mut mem = Self::empty(epoch);
        mem.add(root());
        mem
    }

    /// A replica with the same entries and a life of its own.
    pub fn fork(&self, epoch: u64) -> Self {
        Self { epoch, ..self.clone() }
    }

    pub fn tree(&self) -> TreeId {
        TreeId(root().id().0)
    }

    pub fn ids(&self) -> BTreeSet<EntryId> {
        self.index.keys().copied().collect()
    }

    pub fn add(&mut self, entry: Entry) -> Outcome {
        if let Some(seq) = self.index.get(&entry.id()) {
            let held = &mut self.log[usize::try_from(seq.0).unwrap()];
            let late = held
                .payloads()
                .iter()
                .zip(entry.payloads())
                .map(|(held, late)| held.as_ref().or(late.as_ref()).cloned());
            *held = Entry::parse(held.block().clone(), late.collect()).unwrap();
            return Outcome::Duplicate(*seq);
        }
        if self.refuse.contains(&entry.id()) {
            return Outcome::Refused(Invalid::NotPermitted.into());
        }
        let header = entry.header();
        let absent: Vec<EntryId> =
            header.parents.iter().filter(|id| !self.index.contains_key(id)).copied().collect();
        if !absent.is_empty() {
            return Outcome::Refused(Missing::Parents(absent).into());
        }
        let seq = Seq(self.log.len() as u64);
        self.parents.push(header.parents.iter().map(|id| self.index[id]).collect());
        add_to_tips(&mut self.tips, entry.id(), &entry.header().parents);
        self.index.insert(entry.id(), seq);
        self.log.push(entry);
        Outcome::Admitted(seq)
    }

    pub fn admit(&mut self, arrived: Vec<Arrived>) -> Vec<Outcome> {
        arrived
            .into_iter()
            .map(|arrived| match Entry::parse(arrived.block, arrived.payloads) {
                Ok(entry) => self.add(entry),
                Err(refusal) => Outcome::Refused(refusal),
            })
            .collect()
    }

    /// Writes an entry on top of the given ones, or of all tips.
    pub fn write(&mut self, author: u8, on: &[EntryId], text: &str) -> EntryId {
        self.write_bytes(author, on, text.as_bytes())
    }

    pub fn write_bytes(&mut self, author: u8, on: &[EntryId], bytes: &[u8]) -> EntryId {
        let parents: Vec<EntryId> =
            if on.is_empty() { self.tips.iter().take(64).copied().collect() } else { on.to_vec() };
        let height = parents.iter().map(|id| self.log[self.at(id)].header().height.0).max().unwrap_or(0) + 1;
        let payload = Payload::encode("doc", bytes, &Vec::<Bytes>::new());
        let section = SectionDraft { store: StoreName::new("s").unwrap(), enc: None, payload };
        let draft = Draft {
            tree: Some(self.tree()),
            parents,
            height: Height(height),
            time: Time::from_ms(height),
            sections: vec![section],
            nonce: None,
        };
        let entry = draft.seal(&key(author)).unwrap();
        let id = entry.id();
        self.add(entry);
        id
    }

    pub fn chain(&mut self, author: u8, count: usize) {
        for i in 0..count {
            self.write(author, &[], &format!("{author} {i}"));
        }
    }

    /// As [`Self::chain`], on top of the newest entry alone.
    pub fn line(&mut self, author: u8, count: usize) {
        for i in 0..count {
            let on = self.log[self.log.len() - 1].id();
            self.write(author, &[on], &format!("{author} {i}"));
        }
    }

    /// Loses the payloads of an entry.
    pub fn lose(&mut self, at: usize) -> EntryId {
        let held = &mut self.log[at];
        *held = Entry::parse(held.block().clone(), vec![None; held.payloads().len()]).unwrap();
        held.id()
    }

    pub fn at(&self, id: &EntryId) -> usize {
        usize::try_from(self.index[id].0).unwrap()
    }
}

impl Dag for Mem {
    fn parents(&self, from: Seq, count: usize) -> Result<Vec<Vec<Seq>>, ReadError> {
        let from = usize::try_from(from.0).unwrap().min(self.log.len());
        Ok(self.parents[from..(from + count).min(self.log.len())].to_vec())
    }
}

impl Replica for Mem {
    fn epoch(&self) -> Epoch {
        Epoch(self.epoch)
    }

    fn end(&self) -> Seq {
        Seq(self.log.len() as u64)
    }

    fn tips(&self) -> Result<Vec<(EntryId, Seq)>, ReadError> {
        Ok(self.tips.iter().map(|id| (*id, self.index[id])).collect())
    }

    fn find(&self, ids: &[EntryId]) -> Result<Vec<Option<Seq>>, ReadError> {
        Ok(ids.iter().map(|id| self.index.get(id).copied()).collect())
    }

    fn find_prefixes(&self, prefixes: &[[u8; 8]]) -> Result<Vec<Option<Seq>>, ReadError> {
        let find = |prefix: &[u8; 8]| {
            let mut low = [0; 32];
            low[..8].copy_from_slice(prefix);
            let mut found = self.index.range(EntryId(low)..).take_while(|(id, _)| id.prefix() == *prefix);
            let first = found.next().map(|(_, seq)| *seq);
            first.filter(|_| found.next().is_none())
        };
        Ok(prefixes.iter().map(find).collect())
    }

    fn named(&self, from: Seq, count: usize) -> Result<Vec<Named>, ReadError> {
        let at = usize::try_from(from.0).unwrap().min(self.log.len());
        let named = self.parents(from, count)?.into_iter().zip(&self.log[at..]);
        Ok(named.map(|(parents, entry)| Named { short: entry.id().prefix(), parents }).collect())
    }

    fn sketch(&self) -> Result<Option<Sketch>, ReadError> {
        let mut sketch = Sketch::new(Salt::of(&self.tree()));
        self.log.iter().for_each(|entry| sketch.toggle(entry.id().prefix()));
        Ok(Some(sketch))
    }

    fn log(&self, range: Range<Seq>, bytes_max: usize) -> Result<Vec<Logged>, ReadError> {
        let mut logged = Vec::new();
        let mut bytes = 0;
        for seq in range.start.0..range.end.0.min(self.log.len() as u64) {
            let entry = &self.log[usize::try_from(seq).unwrap()];
            if bytes >= bytes_max {
                break;
            }
            bytes += entry.bytes_len();
            logged.push(Logged {
                seq: Seq(seq),
                block: entry.block().clone(),
                payloads: entry.payloads().to_vec(),
            });
        }
        Ok(logged)
    }

    fn missing(&self) -> u64 {
        self.lacking((Seq(0), 0), usize::MAX).unwrap().len() as u64
    }

    fn lacking(&self, from: (Seq, usize), count: usize) -> Result<Vec<(Seq, usize)>, ReadError> {
        let lacked = |(seq, entry): (u64, &Entry)| {
            let payloads = entry.payloads().iter().enumerate();
            payloads
                .filter(|(_, payload)| payload.is_none())
                .map(move |(n, _)| (Seq(seq), n))
                .collect::<Vec<_>>()
        };
        Ok((0..).zip(&self.log).flat_map(lacked).filter(|at| *at >= from).take(count).collect())
    }
}

/// One side of a pair.
pub struct Side {
    pub session: Session,
    pub mem: Mem,
    pub rights: Rights,
    pub sent: usize,
    /// Bytes of frames other than batches.
    pub metadata: usize,
    /// Entries that arrived.
    pub arrived: u64,
    pub largest_turn: usize,
    /// The most bytes of entries that waited to become durable.
    pub largest_wait: usize,
    turn: usize,
    waiting: Vec<Vec<Arrived>>,
}

impl Side {
    pub fn new(session: Session, mem: Mem) -> Self {
        Self {
            session,
            mem,
            rights: ALL,
            sent: 0,
            metadata: 0,
            arrived: 0,
            largest_turn: 0,
            largest_wait: 0,
            turn: 0,
            waiting: vec![],
        }
    }

    /// The oldest batch becomes durable.
    fn admit(&mut self) {
        let entries = self.waiting.remove(0);
        let outcomes = self.mem.admit(entries);
        self.session.handle_admitted(&outcomes);
    }
}

/// What a side did with its turn to act.
enum Acted {
    Nothing,
    Sent(Bytes),
    Aside(Bytes),
    EndTurn,
    Worked,
    Finished,
}

/// Looks at, and writes to, both sides after a number of steps.
type Meanwhile = Box<dyn FnMut(usize, &mut Side, &mut Side)>;

/// A run of two sessions.
pub struct Pair {
    pub initiator: Side,
    pub responder: Side,
    /// The connection is cut after this many frames.
    pub cut_after: Option<usize>,
    pub frames: usize,
    /// Round trips until the initiator had everything.
    pub pull_rounds: u32,
    /// Changes frames on their way to the responder (`true`) or the initiator.
    pub tamper: Box<dyn FnMut(bool, Bytes) -> Bytes>,
    /// Called after every step, to write to a replica in mid-session.
    pub meanwhile: Meanwhile,
}

#[derive(Debug)]
pub enum End {
    Done,
    Cut,
    InitiatorFailed(SessionError),
    ResponderFailed(SessionError),
}

impl Pair {
    pub fn new(initiator: Mem, responder: Mem, known: Known) -> Self {
        let tree = TreeId(root().id().0);
        Self {
            initiator: Side::new(Session::initiator(tree, known), initiator),
            responder: Side::new(Session::responder(), responder),
            cut_after: None,
            frames: 0,
            pull_rounds: 0,
            tamper: Box::new(|_, frame| frame),
            meanwhile: Box::new(|_, _, _| ()),
        }
    }

    /// Something can be said aside.
    pub fn duplex(mut self) -> Self {
        for side in [&mut self.initiator, &mut self.responder] {
            let session = std::mem::replace(&mut side.session, Session::responder());
            side.session = session.duplex(true);
        }
        self
    }

    /// Both sides begin the ladder at this rung.
    pub fn beginning_at(mut self, rung: Rung) -> Self {
        for side in [&mut self.initiator, &mut self.responder] {
            let session = std::mem::replace(&mut side.session, Session::responder());
            side.session = session.beginning_at(Some(rung));
        }
        self
    }

    /// Runs to the end, and says how it ended.
    pub fn run(&mut self) -> End {
        let mut idle = 0;
        let (mut first_done, mut second_done) = (false, false);
        for step in 0.. {
            assert!(step < 2_000_000, "the session does not end");
            (self.meanwhile)(step, &mut self.initiator, &mut self.responder);
            let to_responder = step % 2 == 0;
            let (from, to, done) = if to_responder {
                (&mut self.initiator, &mut self.responder, &mut first_done)
            } else {
                (&mut self.responder, &mut self.initiator, &mut second_done)
            };
            let failed =
                |error| if to_responder { End::InitiatorFailed(error) } else { End::ResponderFailed(error) };
            let other_failed =
                |error| if to_responder { End::ResponderFailed(error) } else { End::InitiatorFailed(error) };
            if *done {
                idle += 1;
            } else {
                match act(from) {
                    Err(error) => return failed(error),
                    // Batches become durable as late as possible: here when both sides would wait for ever.
                    Ok(Acted::Nothing) if idle > 4 && !from.waiting.is_empty() => {
                        from.admit();
                        idle = 0;
                    }
                    Ok(Acted::Nothing) => idle += 1,
                    Ok(Acted::Worked) => idle = 0,
                    Ok(Acted::Finished) => *done = true,
                    Ok(Acted::Sent(frame)) => {
                        idle = 0;
                        self.frames += 1;
                        if self.cut_after.is_some_and(|cut| self.frames > cut) {
                            return End::Cut;
                        }
                        let frame = (self.tamper)(to_responder, frame);
                        if !to_responder && matches!(Message::decode(&frame), Ok(Message::Done(_))) {
                            self.pull_rounds = to.session.summary().turns.div_ceil(2);
                        }
                        if let Err(error) = to.session.handle_frame(&frame) {
                            return other_failed(error);
                        }
                    }
                    Ok(Acted::Aside(frame)) => {
                        idle = 0;
                        let frame = (self.tamper)(to_responder, frame);
                        if let Err(error) = to.session.handle_aside(&frame) {
                            return other_failed(error);
                        }
                    }
                    Ok(Acted::EndTurn) => {
                        idle = 0;
                        if let Err(error) = to.session.handle_end_of_turn() {
                            return other_failed(error);
                        }
                    }
                }
            }
            if first_done && second_done {
                return End::Done;
            }
            assert!(idle < 10, "both sides wait: {:?} {:?}", self.initiator.session, self.responder.session);
        }
        End::Done
    }

    pub fn summaries(&self) -> (Summary, Summary) {
        (self.initiator.session.summary(), self.responder.session.summary())
    }

    pub fn known(&self) -> (Known, Known) {
        (self.initiator.session.known(), self.responder.session.known())
    }

    /// What the replicas are afterwards.
    pub fn into_mems(self) -> (Mem, Mem) {
        (self.initiator.mem, self.responder.mem)
    }
}

fn act(side: &mut Side) -> Result<Acted, SessionError> {
    let output = side.session.poll(&side.mem, side.rights)?;
    Ok(match output {
        Output::Send(frame) => {
            side.sent += frame.len();
            side.turn += frame.len();
            if !matches!(Message::decode(&frame), Ok(Message::Batch(_))) {
                side.metadata += frame.len();
            }
            side.largest_turn = side.largest_turn.max(side.turn);
            Acted::Sent(frame)
        }
        Output::EndTurn => {
            side.turn = 0;
            Acted::EndTurn
        }
        Output::Aside(frame) => {
            side.sent += frame.len();
            side.metadata += frame.len();
            Acted::Aside(frame)
        }
        Output::Admit(entries) => {
            side.arrived += entries.len() as u64;
            side.waiting.push(entries);
            let waiting = side.waiting.iter().flatten().map(Arrived::bytes_len).sum();
            side.largest_wait = side.largest_wait.max(waiting);
            Acted::Worked
        }
        Output::Again => Acted::Worked,
        // Batches become durable as late as possible: only what waits for them may see them.
        Output::NeedAdmitted => {
            side.admit();
            Acted::Worked
        }
        Output::NeedFrame => Acted::Nothing,
        Output::Finished => Acted::Finished,
    })
}

/// Checks that nobody believes the other to hold more than it does.
pub fn check_known(pair: &Pair) {
    let holds = |holder: &Mem, log: &Mem, cursor: Option<Cursor>| {
        let Some(cursor) = cursor.filter(|cursor| cursor.epoch == log.epoch()) else { return };
        let upto = usize::try_from(cursor.seq.0).unwrap();
        let held = holder.ids();
        assert!(log.log[..upto].iter().all(|entry| held.contains(&entry.id())), "{cursor:?} is not true");
    };
    let (first, second) = pair.known();
    let (initiator, responder) = (&pair.initiator.mem, &pair.responder.mem);
    holds(responder, initiator, first.mine);
    holds(initiator, responder, second.mine);
    holds(initiator, responder, first.theirs);
    holds(responder, initiator, second.theirs);
}

/// Runs one session that must succeed.
pub fn sync(initiator: Mem, responder: Mem, known: Known) -> Pair {
    finish(Pair::new(initiator, responder, known))
}

/// Runs a pair that must succeed.
pub fn finish(mut pair: Pair) -> Pair {
    let end = pair.run();
    assert!(matches!(end, End::Done), "{end:?}");
    assert_eq!(pair.initiator.mem.ids(), pair.responder.mem.ids());
    check_known(&pair);
    let (first, second) = pair.summaries();
    assert!(first.complete && second.complete, "{first:?} {second:?}");
    pair
}
