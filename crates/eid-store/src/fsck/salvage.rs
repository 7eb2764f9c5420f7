//! What can be saved of a row of the log: everything whose hash is the one that its entry names.

use std::collections::HashMap;

use bytes::{Buf, Bytes};
use eid_core::dag::{Logged, Seq};
use eid_core::limits::SECTIONS_MAX;
use eid_core::{Entry, EntryId, StoreName};

use crate::backend::{Key, Snapshot, Value};
use crate::cursor::Cursor;
use crate::error::StoreError;
use crate::limits::FSCK_ENTRIES_MAX;
use crate::rows::{Facts, RowReader, Space, TreeNo, decode_log, id_key, seq_of_key, tree_range, write_uint};
use crate::settings::logged_of_settings;

/// What a row of the log gave.
#[derive(Debug)]
pub(super) struct Salvaged {
    pub block: Bytes,
    pub payloads: Vec<Option<Bytes>>,
    pub harm: Harm,
    /// The id and the parents, where the block reads.
    pub place: Option<(EntryId, Vec<EntryId>)>,
}

/// How damaged the row is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Harm {
    /// Not at all, as far as the row alone says.
    None,
    /// The entry is that of the settings row.
    Copied,
    /// The payloads for these stores are left out.
    Payloads(Vec<StoreName>),
}

impl Salvaged {
    pub(super) fn bytes_len(&self) -> usize {
        self.block.len() + self.payloads.iter().flatten().map(Bytes::len).sum::<usize>()
    }

    fn of(entry: &Entry, harm: Harm) -> Self {
        let place = Some((entry.id(), entry.header().parents.clone()));
        Self { block: entry.block().clone(), payloads: entry.payloads().to_vec(), harm, place }
    }
}

/// Settings entries are kept a second time: where, by their positions. Looked up once something is damaged.
#[derive(Debug, Default)]
pub(super) struct Copies(Option<HashMap<Seq, Key>>);

impl Copies {
    fn entry(
        &mut self,
        (snapshot, tree): (&dyn Snapshot, TreeNo),
        seq: Seq,
    ) -> Result<Option<Entry>, StoreError> {
        let places = match &mut self.0 {
            Some(places) => places,
            none => {
                let mut places = HashMap::new();
                let mut rows = Cursor::new(snapshot, tree_range(Space::Settings, tree), FSCK_ENTRIES_MAX);
                while let Some((key, row)) = rows.next()? {
                    if let Ok(logged) = logged_of_settings(&row) {
                        places.insert(logged.seq, key);
                    }
                }
                none.insert(places)
            }
        };
        let Some(key) = places.get(&seq) else { return Ok(None) };
        let row = snapshot.get_many(std::slice::from_ref(key))?.pop().flatten();
        let logged = row.and_then(|row| logged_of_settings(&row).ok());
        let entry = logged.and_then(|logged| Entry::parse(logged.block, logged.payloads).ok());
        Ok(entry.filter(|entry| key.get(5..) == Some(&entry.id().0[..])))
    }
}

/// Whether the blocks in these rows of the log are those that the rows by id name.
pub(super) fn are_known(
    (snapshot, tree): (&dyn Snapshot, TreeNo),
    rows: &[(Key, Value)],
) -> Result<Vec<bool>, StoreError> {
    let id_of = |(key, row): &(Key, Value)| {
        let seq = seq_of_key(key)?;
        Ok((seq, decode_log(seq, row).map(|logged| EntryId::of_block(&logged.block)).ok()))
    };
    let ids = rows.iter().map(id_of).collect::<Result<Vec<_>, StoreError>>()?;
    let keys: Vec<Key> = ids.iter().map(|(_, id)| id_key(tree, &id.unwrap_or(EntryId([0; 32])))).collect();
    let stands = |(row, (seq, id)): (Option<Value>, &(Seq, Option<EntryId>))| {
        id.is_some() && row.and_then(|row| Facts::decode(&row).ok()).is_some_and(|facts| facts.seq == *seq)
    };
    Ok(snapshot.get_many(&keys)?.into_iter().zip(&ids).map(stands).collect())
}

/// The entry at a position of which the log has this row, or none; `is_known` says whether its block is the right one.
/// Nothing when there is nothing that looks like an entry.
pub(super) fn salvage(
    source: (&dyn Snapshot, TreeNo),
    seq: Seq,
    (row, is_known): (Option<&Value>, bool),
    copies: &mut Copies,
) -> Result<Option<Salvaged>, StoreError> {
    // What does not read is what is being looked for: what is left of it is found below, and reported there.
    let logged = row.and_then(|row| decode_log(seq, row).ok());
    let parse = |logged: &Logged| Entry::parse(logged.block.clone(), logged.payloads.clone()).ok();
    let parsed = logged.as_ref().and_then(parse);
    if let Some(entry) = parsed.as_ref().filter(|_| is_known) {
        return Ok(Some(Salvaged::of(entry, Harm::None)));
    }
    if let Some(copy) = copies.entry(source, seq)?
        && parsed.as_ref().is_none_or(|entry| entry.id() != copy.id())
    {
        return Ok(Some(Salvaged::of(&copy, Harm::Copied)));
    }
    // Where it is wrong, the door says how.
    if let Some(entry) = parsed {
        return Ok(Some(Salvaged::of(&entry, Harm::None)));
    }
    if let Some(salvaged) = row.and_then(without_damaged_payloads) {
        return Ok(Some(salvaged));
    }
    Ok(logged.map(|logged| Salvaged {
        block: logged.block,
        payloads: logged.payloads,
        harm: Harm::None,
        place: None,
    }))
}

/// Reads the payloads by the lengths that the block names, whatever the row says of them.
fn without_damaged_payloads(row: &Value) -> Option<Salvaged> {
    let mut r = RowReader::new(row, "a row of the log");
    let len = r.usize().ok()?;
    let block = r.bytes(len).ok()?;
    let mut rest = r.rest();
    // How many sections there are is in the block, so one number fits at most; the others do not parse.
    let bare = |sections: usize| Entry::parse(block.clone(), vec![None; sections]).ok();
    let entry = (0..=SECTIONS_MAX).find_map(bare)?;
    let (mut payloads, mut damaged) = (Vec::new(), Vec::new());
    for section in &entry.header().sections {
        let len = section.payload_len as usize;
        let mut head = Vec::new();
        write_uint(&mut head, len as u64 + 1);
        let is_sound = |payload: &[u8]| *blake3::hash(payload).as_bytes() == section.payload_hash;
        let payload = rest.get(head.len()..head.len() + len).filter(|payload| is_sound(payload));
        let payload = payload.map(|payload| rest.slice_ref(payload));
        let read = match (&payload, rest.first()) {
            (None, Some(0)) => 1,
            _ => head.len() + len,
        };
        // What was not here before is not lost.
        if payload.is_none() && rest.first() != Some(&0) {
            damaged.push(section.store.clone());
        }
        payloads.push(payload);
        rest.advance(read.min(rest.len()));
    }
    let place = Some((entry.id(), entry.header().parents.clone()));
    Some(Salvaged { block, payloads, harm: Harm::Payloads(damaged), place })
}
