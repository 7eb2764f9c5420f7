//! What happened, newest first.

use eid_core::dag::{Replica as _, Seq};
use eid_core::{Entry, EntryId, Height, PublicKey, SettingsOp, Time};

use crate::database::Database;
use crate::error::DbError;
use crate::limits::{LOG_PAGE_BYTES, LOG_PAGE_ENTRIES};

/// An entry in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Its id.
    pub id: EntryId,
    /// Its place in the order of arrival here.
    pub seq: Seq,
    /// Who signed it.
    pub author: PublicKey,
    /// Its time.
    pub time: Time,
    /// Its height.
    pub height: Height,
    /// What it descends from directly.
    pub parents: Vec<EntryId>,
    /// The stores that it writes, by name.
    pub stores: Vec<String>,
    /// What it changes in the settings.
    pub settings: Vec<SettingsOp>,
    /// Whether no other entry held descends from it.
    pub is_tip: bool,
    /// Whether it does not count: somebody removed its author, who wrote it all the same or without knowing.
    pub void: bool,
}

impl Database {
    /// The last `limit` entries, newest first in the order of arrival here, in which parents come before children.
    pub fn log(&self, limit: usize) -> Result<Vec<LogEntry>, DbError> {
        self.log_before(None, limit)
    }

    /// As [`Self::log`], beginning before an entry's place: the last one of the page before.
    pub fn log_before(&self, before: Option<Seq>, limit: usize) -> Result<Vec<LogEntry>, DbError> {
        let snapshot = self.snapshot()?;
        let tips = snapshot.tips()?;
        let mut end = before.map_or(snapshot.end(), |before| before.min(snapshot.end())).0;
        let mut found = Vec::new();
        while end > 0 && found.len() < limit {
            let count = LOG_PAGE_ENTRIES.min(u64::try_from(limit - found.len()).unwrap_or(u64::MAX));
            let start = end.saturating_sub(count);
            let mut page = Vec::new();
            let mut at = start;
            while at < end {
                let logged = snapshot.log(Seq(at)..Seq(end), LOG_PAGE_BYTES)?;
                // An older version has none of what came in between and is not its own.
                let Some(last) = logged.last().map(|logged| logged.seq.0) else { break };
                let seqs: Vec<Seq> = logged.iter().map(|logged| logged.seq).collect();
                for (logged, stands) in logged.into_iter().zip(snapshot.stand(&seqs)?) {
                    let entry = Entry::parse(logged.block, logged.payloads)
                        .map_err(|_| DbError::Corrupt { what: "an entry" })?;
                    let is_tip = tips.iter().any(|(_, seq)| *seq == logged.seq);
                    page.push(LogEntry { is_tip, void: !stands, ..log_entry(&entry, logged.seq) });
                }
                at = last + 1;
            }
            found.extend(page.into_iter().rev());
            end = start;
        }
        Ok(found)
    }
}

fn log_entry(entry: &Entry, seq: Seq) -> LogEntry {
    let header = entry.header();
    LogEntry {
        id: entry.id(),
        seq,
        author: header.author,
        time: header.time,
        height: header.height,
        parents: header.parents.clone(),
        stores: header.sections.iter().map(|section| section.store.as_str().to_owned()).collect(),
        settings: entry.settings().to_vec(),
        is_tip: false,
        void: false,
    }
}
