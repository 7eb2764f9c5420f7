//! The values that devices have given one path without knowing of each other.

use std::collections::{BTreeMap, BTreeSet};

use eid_core::cbor::CborError;
use eid_core::dag::{Difference, Replica as _, Seq};
use eid_core::{Entry, EntryId, Height, Payload, PublicKey, Time};
use eid_crdt::{ListOp, Value};
use eid_store::TreeSnapshot;

use crate::doc_store::DocStore;
use crate::error::DbError;
use crate::kind::doc::{self, DocOp, Found};
use crate::limits::{CONCURRENT_READ_MAX, CONCURRENT_WALK_MAX};
use crate::path::Path;
use crate::rows::Rows;
use crate::sealed::Unreadable;
use crate::transaction::store_name;

/// The values that stand side by side at one path. See [`DocStore::get_all`].
#[derive(Debug, Clone, PartialEq)]
pub struct Concurrent {
    /// The values, the one that [`DocStore::get`] gives first. None covers another.
    pub values: Vec<ConcurrentValue>,
    /// Whether all were found: not when too much was written since the latest one, or a payload is not here.
    pub complete: bool,
}

/// One of several values of a path.
#[derive(Debug, Clone, PartialEq)]
pub struct ConcurrentValue {
    /// What was set.
    pub value: Value,
    /// The entry that set it.
    pub entry: EntryId,
    /// Who signed that.
    pub author: PublicKey,
    /// Its time.
    pub time: Time,
}

/// What an entry does to a path.
enum Effect {
    Nothing,
    /// It takes away what was there, or puts something below it.
    Covers,
    Sets(Value),
    /// It cannot be known here.
    Unknown,
}

struct Writer {
    seq: Seq,
    height: Height,
    value: Option<ConcurrentValue>,
}

impl DocStore {
    /// The values that were set at a path, by entries of which none descends from another and none has been covered by
    /// a later one: several when devices have set it without knowing of each other. The one that counts comes first;
    /// where a delete counts, what was set meanwhile is still listed.
    ///
    /// This is not kept anywhere: it walks over what was written beside the latest write of the path, back to where
    /// that began, and gives up after [`crate::limits::CONCURRENT_WALK_MAX`] entries, or
    /// [`crate::limits::CONCURRENT_READ_MAX`] that it had to read; the answer then says that it is not complete.
    /// Increments and items of lists are not values of their own: a counter, a list or a map is one value, the one that
    /// [`DocStore::get`] gives, by the entry that wrote to it last. What was set beside that is listed after it.
    pub fn get_all(&self, path: impl Into<Path>) -> Result<Concurrent, DbError> {
        let path = path.into();
        let snapshot = self.db.snapshot()?;
        let (merged, latest) = self.db.read_store_in(snapshot.clone(), &self.name, doc::KIND, |rows| {
            let merged = merged(rows, path.keys())?;
            Ok((merged, doc::last_write(rows, path.keys())?))
        })?;
        let latest = merged.as_ref().map(|(seq, _)| *seq).or(latest);
        let Some(latest) = latest else {
            return Ok(Concurrent { values: Vec::new(), complete: true });
        };
        let store = store_name(&self.name)?;
        let opened = self.db.opened_by(&snapshot, &store)?;
        let effect = |entry: &Entry| effect(self.db.payload_of(entry, &store, opened), path.keys());
        concurrent(&snapshot, &effect, latest, merged.map(|(_, value)| value))
    }
}

/// What many writes have made together, and the last of them: a counter, a list or a map.
fn merged(rows: &dyn Rows, path: &[String]) -> Result<Option<(Seq, Value)>, DbError> {
    let Some(decided) = doc::decided(rows, path, None)?.pop() else { return Ok(None) };
    let is_merged = match doc::find(rows, path)? {
        Found::List { depth, .. } => depth == path.len(),
        Found::Map => true,
        Found::Scalar { depth, .. } => depth == path.len() && decided.counts_after.is_some(),
        Found::Nothing { .. } => false,
    };
    let Some(by) = decided.by.filter(|_| is_merged) else { return Ok(None) };
    Ok(doc::get(rows, path)?.map(|value| (by.seq, value)))
}

fn concurrent(
    snapshot: &TreeSnapshot,
    effect: &dyn Fn(&Entry) -> Effect,
    latest: Seq,
    merged: Option<Value>,
) -> Result<Concurrent, DbError> {
    let tips: Vec<Seq> = snapshot.tips()?.into_iter().map(|(_, seq)| seq).collect();
    let mut walk = Difference::new(tips, [latest]);
    let mut complete = walk.step(snapshot, CONCURRENT_WALK_MAX)?;
    let beside: Vec<Seq> = walk.finish().iter().collect();

    // What descends from the latest write does not write the path: nobody has to read it.
    let parents = parents_of(snapshot, &beside)?;
    let mut below = BTreeSet::from([latest]);
    let mut candidates = vec![latest];
    for seq in &beside {
        match parents.get(seq).is_some_and(|parents| parents.iter().any(|seq| below.contains(seq))) {
            true => drop(below.insert(*seq)),
            false => candidates.push(*seq),
        }
    }
    // What does not count wrote nothing, and so covers nothing.
    let counts = snapshot.stand(&candidates)?;
    let mut counts = counts.into_iter();
    candidates.retain(|_| counts.next() == Some(true));
    // The last ones are the likeliest to stand.
    if candidates.len() > CONCURRENT_READ_MAX {
        complete = false;
        candidates.drain(1..=candidates.len() - CONCURRENT_READ_MAX);
    }

    let mut writers: BTreeMap<Seq, Writer> = BTreeMap::new();
    for seq in candidates {
        let Some(entry) = snapshot.entry_at(seq)? else { continue };
        let done = match &merged {
            Some(value) if seq == latest => Effect::Sets(value.clone()),
            _ => effect(&entry),
        };
        let value = match done {
            Effect::Nothing => continue,
            Effect::Unknown => {
                complete = false;
                continue;
            }
            Effect::Covers => None,
            Effect::Sets(value) => Some(ConcurrentValue {
                value,
                entry: entry.id(),
                author: entry.header().author,
                time: entry.header().time,
            }),
        };
        writers.insert(seq, Writer { seq, height: entry.header().height, value });
    }

    // Whatever lies between two writers beside the latest write lies beside it too.
    let mut covered: BTreeSet<Seq> = BTreeSet::new();
    for seq in beside.iter().rev() {
        if covered.contains(seq) || writers.contains_key(seq) {
            covered.extend(parents.get(seq).into_iter().flatten().copied());
        }
    }
    let mut standing: Vec<Writer> = writers
        .into_values()
        .filter(|writer| writer.seq == latest || !covered.contains(&writer.seq))
        .collect();
    standing.sort_by_key(|writer| {
        let value = writer.value.as_ref();
        let place = (value.map(|value| value.time), writer.height, value.map(|value| value.entry));
        std::cmp::Reverse((merged.is_some() && writer.seq == latest, place))
    });
    let values = standing.into_iter().filter_map(|writer| writer.value).collect();
    Ok(Concurrent { values, complete })
}

/// The parents of entries, which ascend.
fn parents_of(snapshot: &TreeSnapshot, seqs: &[Seq]) -> Result<BTreeMap<Seq, Vec<Seq>>, DbError> {
    let mut found = BTreeMap::new();
    let mut rest = seqs;
    while let Some(first) = rest.first() {
        let run = rest.iter().zip(0..).take_while(|(seq, n)| seq.0 == first.0 + n).count();
        for node in snapshot.nodes(*first, run)? {
            found.insert(node.seq, node.parents);
        }
        rest = &rest[run..];
    }
    Ok(found)
}

fn effect(payload: Result<Option<Payload>, Unreadable>, path: &[String]) -> Effect {
    let payload = match payload {
        Ok(Some(payload)) if payload.kind == doc::KIND => payload,
        Ok(_) | Err(Unreadable::Damaged) => return Effect::Nothing,
        // It is not here, or sealed under a key that is not open.
        Err(Unreadable::Missing | Unreadable::Locked) => return Effect::Unknown,
    };
    let mut effect = Effect::Nothing;
    for op in payload.ops.iter().map(doc::decode).filter_map(Result::<DocOp, CborError>::ok) {
        effect = match effect_of(op, path) {
            Effect::Nothing => effect,
            other => other,
        };
    }
    effect
}

fn effect_of(op: DocOp, path: &[String]) -> Effect {
    match op {
        DocOp::Set { path: at, value } => match path.strip_prefix(&at[..]) {
            Some(rest) => doc::within(value, rest).map_or(Effect::Covers, Effect::Sets),
            None if at.starts_with(path) => Effect::Covers,
            None => Effect::Nothing,
        },
        DocOp::Delete { path: at } if path.starts_with(&at) => Effect::Covers,
        DocOp::Increment { path: at, .. } | DocOp::List { path: at, op: ListOp::Insert { .. } } => {
            let deeper = at.len() > path.len() && at.starts_with(path);
            let above = at.len() < path.len() && path.starts_with(&at);
            if deeper || above { Effect::Covers } else { Effect::Nothing }
        }
        DocOp::Delete { .. } | DocOp::List { .. } => Effect::Nothing,
    }
}
