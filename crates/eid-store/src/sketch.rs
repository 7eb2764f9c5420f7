//! The sketch of each tree: a cache for sessions, in one row that is written at every checkpoint of the log.
//!
//! The row has the cells of what comes before the last checkpoint; what came since is read from the edges. So an
//! admission writes no row of its own, one in [`CHECKPOINT_ENTRIES`] writes one, opening reads nothing, and what is
//! stored follows from the log alone. A process that has worked a sketch out keeps it in memory and goes on from there.

use std::sync::PoisonError;

use eid_core::TreeId;
use eid_core::dag::Seq;
use eid_core::sabotage::{self, Sabotage};
use eid_core::sketch::{Salt, ShortId, Sketch};

use crate::backend::{Key, Scan, Snapshot, Value};
use crate::error::StoreError;
use crate::limits::CHECKPOINT_ENTRIES;
use crate::rows::{Edge, RowReader, Space, TreeNo, seq_key, seq_of_key, tree_key, write_uint};
use crate::settings::TreeMemory;

/// A sketch that is kept in memory.
#[derive(Debug)]
pub(crate) struct Kept {
    /// It has every entry before this position.
    upto: Seq,
    sketch: Sketch,
}

pub(crate) fn sketch_key(tree: TreeNo) -> Key {
    tree_key(Space::Sketch, tree, &[])
}

pub(crate) fn encode_sketch(upto: Seq, sketch: &Sketch) -> Value {
    let cells = sketch.to_bytes();
    let mut out = Vec::with_capacity(cells.len() + 10);
    write_uint(&mut out, upto.0);
    out.extend_from_slice(&cells);
    out.into()
}

fn decode_sketch(salt: Salt, value: &Value) -> Result<Kept, StoreError> {
    const WHAT: &str = "the row of a sketch";
    let mut r = RowReader::new(value, WHAT);
    let upto = Seq(r.uint()?);
    let sketch = Sketch::from_bytes(salt, &r.rest()).ok_or(StoreError::Corrupt { what: WHAT })?;
    Ok(Kept { upto, sketch })
}

/// The sketch of what comes before a position, which is one that the snapshot has. Nothing when that cannot be told in
/// bounded time, because the row is damaged.
pub(crate) fn before(
    end: Seq,
    (tree, memory): (&TreeId, &TreeMemory),
    snapshot: &dyn Snapshot,
) -> Result<Option<Sketch>, StoreError> {
    let salt = Salt::of(tree);
    let mut kept = memory.sketch.lock().unwrap_or_else(PoisonError::into_inner);
    let is_near = |upto: Seq| upto <= end && end.0 - upto.0 <= CHECKPOINT_ENTRIES;
    let in_memory = kept.as_ref().filter(|kept| is_near(kept.upto));
    let edges = |from: Seq| {
        let [first, last] = [from, end].map(|seq| seq_key(Space::Edges, memory.number, seq));
        Scan::range(first, last)
    };
    let (from, mut sketch, rows) = match in_memory {
        Some(Kept { upto, sketch }) if *upto == end => return Ok(Some(sketch.clone())),
        Some(Kept { upto, sketch }) => {
            let rows = snapshot.scan_many(&[edges(*upto)])?.pop().unwrap_or_default();
            (*upto, sketch.clone(), rows)
        }
        None => {
            // The row may be of any position since then.
            let since = Seq(end.0.saturating_sub(CHECKPOINT_ENTRIES));
            let row = Scan::prefix(&sketch_key(memory.number));
            let mut found = snapshot.scan_many(&[row, edges(since)])?;
            let rows = found.pop().unwrap_or_default();
            let row = found.pop().and_then(|mut rows| rows.pop());
            match row.map(|(_, row)| decode_sketch(salt, &row)).transpose() {
                Ok(Some(Kept { upto, sketch })) => (upto, sketch, rows),
                Ok(None) => (Seq(0), Sketch::new(salt), rows),
                Err(StoreError::Corrupt { .. }) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    };
    if !is_near(from) {
        return Ok(None);
    }
    for (key, row) in rows {
        if seq_of_key(&key)? >= from {
            sketch.toggle(Edge::decode_named(&row)?.short);
        }
    }
    if kept.as_ref().is_none_or(|kept| kept.upto < end) {
        *kept = Some(Kept { upto: end, sketch: sketch.clone() });
    }
    Ok(Some(sketch))
}

/// Takes in what a batch added, once it is committed.
pub(crate) fn absorb(memory: &TreeMemory, first: Seq, added: &[ShortId]) {
    let mut kept = memory.sketch.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(kept) = kept.as_mut().filter(|kept| kept.upto == first) {
        let left_out = usize::from(sabotage::is(Sabotage::StaleSketch));
        added.iter().skip(left_out).for_each(|short| kept.sketch.toggle(*short));
        kept.upto = Seq(first.0 + added.len() as u64);
    }
}
