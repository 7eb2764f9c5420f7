//! Which of a plain store and an encryption config of its name was there first: what the entries say, and so equally on
//! every replica.
//!
//! A config makes a store encrypted unless its entry descends from one that writes the store in plain, or is one. Nobody
//! can add such an ancestor to an entry that is there, so what counts goes on counting. It is told by headers alone:
//! payloads may come late.
//!
//! Void entries say nothing, neither in plain nor as configs. When that takes the last config away, a store that others
//! have sealed stays encrypted, and locked for whoever has not got its key: nobody who took it for secret shall write to
//! it in plain.

use eid_core::dag::{Epoch, Replica as _, Seq};
use eid_core::{Entry, StoreName};
use eid_store::TreeSnapshot;

use crate::error::DbError;
use crate::kind::registry::{self, RegistryOp};
use crate::limits::LOG_PAGE_BYTES;
use crate::sealed::config::Config;

/// The log as far as it was read for one store, up to the first config that counts.
#[derive(Debug)]
pub(crate) struct Precedence {
    life: (Epoch, u32),
    /// How often other entries came to count.
    settled: u64,
    filled: u64,
    next: Seq,
    /// One bit for each entry that writes the store in plain or descends from one that does.
    after_plain: Vec<u64>,
    is_plain: bool,
    is_encrypted: bool,
    /// Whether an entry before any plain one writes the store sealed.
    is_sealed: bool,
    /// Entries before any plain one with a payload for the registry that is not here.
    waiting: Vec<Seq>,
}

impl Precedence {
    pub(crate) fn new(snapshot: &TreeSnapshot) -> Self {
        Self {
            life: (snapshot.epoch(), snapshot.life()),
            settled: snapshot.standing_changes(),
            filled: snapshot.filled_payloads(),
            next: Seq(0),
            after_plain: Vec::new(),
            is_plain: false,
            is_encrypted: false,
            is_sealed: false,
            waiting: Vec::new(),
        }
    }

    /// Whether it belongs to this life of the tree, in which the same entries count.
    pub(crate) fn is_of(&self, snapshot: &TreeSnapshot) -> bool {
        (self.life, self.settled) == ((snapshot.epoch(), snapshot.life()), snapshot.standing_changes())
    }

    /// Whether a config counts, as far as the snapshot goes. Reads what came since the last time.
    pub(crate) fn is_encrypted(
        &mut self,
        snapshot: &TreeSnapshot,
        store: &StoreName,
    ) -> Result<bool, DbError> {
        if self.filled != snapshot.filled_payloads() {
            for seq in self.waiting.clone() {
                let entry = snapshot.entry_at(seq)?.ok_or(DbError::Corrupt { what: "an entry" })?;
                self.is_encrypted |= says(&entry, store) == Said::Encrypted;
            }
            self.filled = snapshot.filled_payloads();
        }
        while !self.is_encrypted && self.next < snapshot.end() {
            self.read_page(snapshot, store)?;
        }
        Ok(self.is_encrypted)
    }

    /// Whether an entry that was looked at, and comes before any plain one, writes the store sealed.
    pub(crate) fn is_sealed(&self) -> bool {
        self.is_sealed
    }

    /// Whether anything of what was read writes the store in plain.
    pub(crate) fn is_plain(&self) -> bool {
        self.is_plain
    }

    fn read_page(&mut self, snapshot: &TreeSnapshot, store: &StoreName) -> Result<(), DbError> {
        let logged = snapshot.log(self.next..snapshot.end(), LOG_PAGE_BYTES)?;
        let nodes = snapshot.nodes(self.next, logged.len())?;
        if logged.is_empty() || nodes.len() != logged.len() {
            return Err(DbError::Corrupt { what: "the log" });
        }
        let seqs: Vec<Seq> = logged.iter().map(|logged| logged.seq).collect();
        for ((logged, node), stands) in logged.into_iter().zip(nodes).zip(snapshot.stand(&seqs)?) {
            let entry = Entry::parse(logged.block, logged.payloads);
            let entry = entry.map_err(|_| DbError::Corrupt { what: "an entry" })?;
            let mut sections = entry.header().sections.iter();
            let section = sections.find(|section| stands && section.store == *store);
            let is_plain = section.is_some_and(|section| section.enc.is_none());
            self.is_plain |= is_plain;
            if is_plain || node.parents.iter().any(|parent| self.is_after_plain(*parent)) {
                self.mark(logged.seq);
            } else if stands {
                self.is_sealed |= section.is_some();
                match says(&entry, store) {
                    Said::Encrypted => self.is_encrypted = true,
                    Said::Missing => self.waiting.push(logged.seq),
                    Said::Nothing => {}
                }
            }
            self.next = Seq(logged.seq.0 + 1);
        }
        Ok(())
    }

    fn is_after_plain(&self, seq: Seq) -> bool {
        let word = usize::try_from(seq.0 / 64).ok().and_then(|word| self.after_plain.get(word));
        word.is_some_and(|word| word >> (seq.0 % 64) & 1 == 1)
    }

    fn mark(&mut self, seq: Seq) {
        let word = usize::try_from(seq.0 / 64).expect("the log has been read up to there");
        if self.after_plain.len() <= word {
            self.after_plain.resize(word + 1, 0);
        }
        self.after_plain[word] |= 1 << (seq.0 % 64);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Nothing,
    Missing,
    Encrypted,
}

/// What an entry says of a store in the registry.
fn says(entry: &Entry, store: &StoreName) -> Said {
    let sections = entry.header().sections.iter().zip(entry.payloads());
    let mut ours =
        sections.filter(|(section, _)| section.store == registry::store() && section.enc.is_none());
    let Some((_, payload)) = ours.next() else { return Said::Nothing };
    let Some(payload) = payload else { return Said::Missing };
    let Ok(payload) = eid_core::Payload::decode(payload) else { return Said::Nothing };
    let is_config = |op: &bytes::Bytes| match registry::decode(op) {
        Ok(RegistryOp::Encryption { store: named, config }) => {
            named == store.as_str() && Config::decode(&config).is_ok()
        }
        _ => false,
    };
    if payload.kind == registry::KIND && payload.ops.iter().any(is_config) {
        Said::Encrypted
    } else {
        Said::Nothing
    }
}
