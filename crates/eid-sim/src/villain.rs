//! Participants that break the rules: they alter what an honest engine sends, frame by frame.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use eid_core::pack::Arrived;
use eid_core::sketch::CELL_BYTES;
use eid_core::{Draft, Entry, Height, SecretKey, SectionDraft, StoreName, Time, TreeId};
use eid_proto::List;
use eid_proto::message::{Batch, Hints, LiveMessage, Message, Open, TipNames};

use crate::executor::Sim;
use crate::net::{Node, Tamper};
use crate::node::{behind, forged_section};
use crate::plan::Villain;
use crate::rng::Rng;

/// How many frames a replayer remembers.
const FRAMES_KEPT: usize = 40;
/// How many batches of a thousand a villain touches.
const TOUCHED_PER_MILLE: u64 = 400;

/// Alters the frames of one node.
#[derive(Debug)]
pub struct Tampering {
    kind: Villain,
    key: Arc<SecretKey>,
    sim: Sim,
    rng: Rng,
    sent: VecDeque<Bytes>,
    trees: Vec<TreeId>,
}

impl Tampering {
    /// A villain that signs with the key of its node.
    #[must_use]
    pub fn new(kind: Villain, key: Arc<SecretKey>, sim: &Sim, seed: u64, trees: Vec<TreeId>) -> Self {
        Self { kind, key, sim: sim.clone(), rng: Rng::new(seed, "villain"), sent: VecDeque::new(), trees }
    }

    /// The entries of a batch, and the database that they are of: the one in which they are signed.
    fn unpack(&self, batch: &Batch) -> Option<(TreeId, Vec<Arrived>)> {
        let is_of = |entries: &Vec<Arrived>| {
            let parsed =
                entries.first().map(|first| Entry::parse(first.block.clone(), first.payloads.clone()));
            parsed.is_some_and(|parsed| parsed.is_ok_and(|entry| entry.verify_signature().is_ok()))
        };
        self.trees.iter().find_map(|tree| Some((*tree, batch.unpack(tree).ok().filter(is_of)?)))
    }

    fn batch(&mut self, batch: Batch, to: Node) -> Batch {
        let Some((tree, mut entries)) = self.unpack(&batch) else { return batch };
        let own = |carried: &&Arrived| {
            let parsed = Entry::parse(carried.block.clone(), carried.payloads.clone());
            parsed.is_ok_and(|entry| entry.header().author == self.key.public())
        };
        let touched: Vec<Arrived> = match self.kind {
            Villain::Equivocator => entries.iter().filter(own).cloned().collect(),
            _ => entries.clone(),
        };
        let Some(victim) = self.rng.pick(&touched).cloned() else { return batch };
        let forged = match self.kind {
            Villain::Forger => self.forge(&victim),
            Villain::Liar => self.lie(&victim),
            Villain::Replayer => Some(victim.clone()),
            Villain::Equivocator => self.equivocate(&victim, to),
            Villain::BackDater | Villain::RogueAdmin => self.go_on(&victim),
            Villain::Poisoner => None,
        };
        let Some(forged) = forged else { return batch };
        if self.rng.chance(600) {
            entries.push(forged);
        } else if let Some(place) = entries.iter_mut().find(|entry| **entry == victim) {
            *place = forged;
        }
        Batch::pack(&tree, &entries, batch.upto)
    }

    /// What it signs behind an entry it has seen, whether or not it still may, and keeps to itself.
    fn go_on(&mut self, parent: &Arrived) -> Option<Arrived> {
        let parent = Entry::parse(parent.block.clone(), parent.payloads.clone()).ok()?;
        let entry = behind(&parent, &self.key, forged_section(&mut self.rng), &mut self.rng)?;
        self.sim.sometimes("entry signed for one peer alone");
        let payloads: Vec<Option<Bytes>> = entry.payloads().to_vec();
        Some(Arrived { block: entry.block().clone(), payloads })
    }

    /// A twin of an entry of its own, behind the same parents: some peers get it, others do not.
    fn equivocate(&mut self, victim: &Arrived, to: Node) -> Option<Arrived> {
        let entry = Entry::parse(victim.block.clone(), victim.payloads.clone()).ok()?;
        let header = entry.header();
        if to.0.is_multiple_of(2) || header.is_settings() {
            return None;
        }
        let draft = Draft {
            tree: header.tree,
            parents: header.parents.clone(),
            height: header.height,
            time: header.time,
            sections: vec![forged_section(&mut self.rng)],
            nonce: None,
        };
        let twin = draft.seal(&self.key).ok()?;
        self.sim.sometimes("two entries signed at one place");
        let payloads: Vec<Option<Bytes>> = twin.payloads().to_vec();
        Some(Arrived { block: twin.block().clone(), payloads })
    }

    /// A bit of somebody's entry is another.
    fn forge(&mut self, victim: &Arrived) -> Option<Arrived> {
        let mut block = victim.block.to_vec();
        // The signature is at the end: with a flipped bit there, all else about the entry is as it should be.
        let from = if self.rng.chance(700) { block.len().checked_sub(64)? } else { 0 };
        let at = from + self.rng.index(block.len() - from);
        block[at] ^= 1 << self.rng.below(8);
        self.sim.sometimes("entry forged");
        Some(Arrived { block: block.into(), payloads: victim.payloads.clone() })
    }

    /// An entry that is signed as it should be, by somebody who may write, at a height that is not its own.
    fn lie(&mut self, parent: &Arrived) -> Option<Arrived> {
        let parent = Entry::parse(parent.block.clone(), parent.payloads.clone()).ok()?;
        let header = parent.header();
        let height = match self.rng.below(4) {
            0 => Height(header.height.0),
            1 => Height(header.height.0 + 2),
            2 => Height(u64::MAX / 2),
            _ => Height(1),
        };
        let payload = eid_core::Payload::encode("doc", &self.rng.bytes32(), &[] as &[Bytes]);
        let draft = Draft {
            tree: Some(parent.tree()),
            parents: vec![parent.id()],
            height,
            time: Time(header.time.0.saturating_add(1)),
            sections: vec![SectionDraft { store: StoreName::new("lies").ok()?, enc: None, payload }],
            nonce: None,
        };
        let entry = draft.seal(&self.key).ok()?;
        self.sim.sometimes("height invented");
        let payloads: Vec<Option<Bytes>> = entry.payloads().to_vec();
        Some(Arrived { block: entry.block().clone(), payloads })
    }
}

impl Tampering {
    /// Short ids of nothing, and some of these.
    fn shorts(&mut self, known: &[[u8; 8]], count: usize) -> Vec<[u8; 8]> {
        let short = |_| match self.rng.pick(known).copied() {
            Some(short) if self.rng.chance(700) => short,
            _ => self.rng.next_u64().to_be_bytes(),
        };
        (0..count).map(short).collect()
    }

    /// Says anything of what it holds.
    fn poison(&mut self, mut open: Open) -> Open {
        let named = match &open.tips.names {
            TipNames::Short(names) => names.to_vec(),
            TipNames::Full(_) => Vec::new(),
        };
        let count = self.rng.index(40);
        match self.rng.below(6) {
            0 => open.tips.names = TipNames::Short(List::new(self.shorts(&named, count))),
            1 => open.end.seq = self.rng.below(200),
            2 => open.common = List::new(self.shorts(&named, count)),
            3 => open.hints = Hints::All(List::new(self.shorts(&named, count))),
            4 => open.hints = Hints::Samples(List::new(self.shorts(&named, count))),
            _ => {
                let samples = List::new(self.shorts(&named, count));
                let mut strata = Vec::new();
                for _ in 0..self.rng.index(6) {
                    let cells = match self.rng.below(4) {
                        0 => Vec::new(),
                        // Those of nothing.
                        1 => vec![0; 112 * CELL_BYTES],
                        // Those of no whole cells.
                        2 => vec![7; 35],
                        _ => self.rng.bytes32()[..3 * CELL_BYTES].to_vec(),
                    };
                    strata.push(Bytes::from(cells));
                }
                open.hints = Hints::Sketch { samples, strata: List::new(strata) };
            }
        }
        self.sim.sometimes("hints poisoned");
        open
    }

    /// A bitmap of the same length that says something else.
    fn misanswer(&mut self, held: &Bytes) -> Bytes {
        let mut bits = held.to_vec();
        if !bits.is_empty() {
            let at = self.rng.index(bits.len());
            bits[at] ^= 1 << self.rng.below(8);
        }
        bits.into()
    }
}

impl Tamper for Tampering {
    fn outgoing(&mut self, _connection: u64, _link: usize, to: Node, frame: Bytes) -> Vec<Bytes> {
        if self.kind == Villain::Replayer {
            self.sent.push_back(frame.clone());
            if self.sent.len() > FRAMES_KEPT {
                self.sent.pop_front();
            }
            if self.rng.chance(30) {
                let at = self.rng.index(self.sent.len());
                self.sim.sometimes("frame replayed");
                return vec![self.sent[at].clone(), frame];
            }
        }
        match LiveMessage::decode(&frame) {
            Ok(LiveMessage::Push { number, from, batch }) if self.rng.chance(TOUCHED_PER_MILLE) => {
                self.sim.sometimes("push altered");
                return vec![LiveMessage::Push { number, from, batch: self.batch(batch, to) }.encode()];
            }
            _ => {}
        }
        match Message::decode(&frame) {
            Ok(Message::Batch(batch)) if self.rng.chance(TOUCHED_PER_MILLE) => {
                vec![Message::Batch(self.batch(batch, to)).encode()]
            }
            Ok(Message::Ack { credit, .. }) if self.kind == Villain::Liar && self.rng.chance(200) => {
                self.sim.sometimes("acknowledgement invented");
                vec![Message::Ack { upto: Some(self.rng.below(1000)), credit }.encode()]
            }
            Ok(Message::Open(open)) if self.kind == Villain::Poisoner && self.rng.chance(600) => {
                vec![Message::Open(self.poison(open)).encode()]
            }
            Ok(Message::Held(held)) if self.kind == Villain::Poisoner && self.rng.chance(300) => {
                self.sim.sometimes("answer poisoned");
                vec![Message::Held(self.misanswer(&held)).encode()]
            }
            Ok(Message::Plan(mut plan)) if self.kind == Villain::Poisoner && self.rng.chance(200) => {
                plan.tips.names = TipNames::Short(List::new(Vec::new()));
                vec![Message::Plan(plan).encode()]
            }
            _ => vec![frame],
        }
    }
}
