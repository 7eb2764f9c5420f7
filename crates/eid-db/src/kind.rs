//! The kinds of stores: what their operations mean, and the rows that hold their state.

pub(crate) mod count;
pub(crate) mod doc;
pub(crate) mod index;
pub(crate) mod list;
pub(crate) mod registry;
pub(crate) mod sequence;
pub(crate) mod table;
pub(crate) mod text;

use bytes::Bytes;
use eid_core::cbor::CborError;
use eid_core::{Height, ReadError, StoreName, Time};
use eid_store::{Applied, Apply, Change, Key, ViewRows, Wanted};

use crate::stamp::Stamp;
use sequence::{OpId, Standing};

/// Every kind that this version knows, as the store's [`Apply`].
///
/// A store is a name and a kind; an operation that does not decode, of a known kind or not, has no effect.
#[derive(Debug, Clone, Copy, Default)]
pub struct Kinds;

impl Apply for Kinds {
    fn reads(&self, change: &Change<'_>, wanted: &mut Wanted) {
        match change.kind {
            doc::KIND => {
                each_decoded(change.ops, doc::decode, |op| doc::reads(&op, wanted));
            }
            table::KIND => each_decoded(change.ops, table::decode, |op| table::reads(&op, wanted)),
            text::KIND => {
                for (index, op) in (0..).zip(change.ops) {
                    if let Ok(op) = text::decode(op) {
                        text::reads(&op, Entry::of(change).stamp(index), wanted);
                    }
                }
            }
            registry::KIND => each_decoded(change.ops, registry::decode, |op| registry::reads(&op, wanted)),
            _ => {}
        }
    }

    fn apply(&self, change: &Change<'_>, view: &mut dyn ViewRows) -> Result<Applied, ReadError> {
        apply_from(0, Entry::of(change), change.kind, change.ops, view)
    }

    /// Leaves hidden places in texts and lists, on which others may hang.
    fn apply_void(&self, change: &Change<'_>, view: &mut dyn ViewRows) -> Result<Applied, ReadError> {
        each_applied(0, Entry::of(change), change.ops, |op, stamp| match change.kind {
            doc::KIND => decoded(doc::decode(op), |op| doc::apply_void(&op, stamp, view)),
            table::KIND => decoded(table::decode(op), |op| table::apply_void(&op, stamp, view)),
            text::KIND => decoded(text::decode(op), |op| text::apply(&op, stamp, Standing::Void, view)),
            registry::KIND => Ok(registry::decode(op).is_ok()),
            _ => Ok(false),
        })
    }

    /// Texts only: of rows and values nothing is known but who wrote them last.
    fn set_standing(
        &self,
        change: &Change<'_>,
        stands: bool,
        view: &mut dyn ViewRows,
    ) -> Result<bool, ReadError> {
        if change.kind != text::KIND {
            return Ok(false);
        }
        let standing = if stands { Standing::Stands } else { Standing::Void };
        for (op, bytes) in (0..).zip(change.ops) {
            if text::decode(bytes).is_ok() {
                text::set_standing(view, OpId { seq: change.seq, op }, standing)?;
            }
        }
        Ok(true)
    }

    fn replaced(
        &self,
        _store: &StoreName,
        kind: &str,
        before: &[(Key, Option<Bytes>)],
        view: &mut dyn ViewRows,
    ) -> Result<(), ReadError> {
        if kind == table::KIND { table::replaced(before, view) } else { Ok(()) }
    }
}

/// The kind of this name that applications may write, if there is one.
pub(crate) fn known(kind: &str) -> Option<&'static str> {
    [doc::KIND, table::KIND, text::KIND].into_iter().find(|known| *known == kind)
}

/// Where the operations of one entry stand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry(Stamp);

impl Entry {
    fn of(change: &Change<'_>) -> Self {
        Self::new(change.time, change.height, change.seq)
    }

    pub(crate) fn new(time: Time, height: Height, seq: eid_core::dag::Seq) -> Self {
        Self(Stamp::new(time, height, seq, 0))
    }

    /// What a transaction has staged.
    pub(crate) fn staged() -> Self {
        Self(Stamp::staged(0))
    }

    pub(crate) fn stamp(self, op: u32) -> Stamp {
        self.0.at(op)
    }
}

fn each_decoded<T>(ops: &[Bytes], decode: impl Fn(&Bytes) -> Result<T, CborError>, each: impl FnMut(T)) {
    ops.iter().filter_map(|op| decode(op).ok()).for_each(each);
}

/// Applies operations whose first one has the index `first` in its entry.
pub(crate) fn apply_from(
    first: u32,
    entry: Entry,
    kind: &str,
    ops: &[Bytes],
    view: &mut dyn ViewRows,
) -> Result<Applied, ReadError> {
    each_applied(first, entry, ops, |op, stamp| match kind {
        doc::KIND => decoded(doc::decode(op), |op| doc::apply(&op, stamp, view)),
        table::KIND => decoded(table::decode(op), |op| table::apply(&op, stamp, view)),
        text::KIND => decoded(text::decode(op), |op| text::apply(&op, stamp, Standing::Stands, view)),
        registry::KIND => decoded(registry::decode(op), |op| registry::apply(&op, stamp, view)),
        _ => Ok(false),
    })
}

/// Does something with every operation, and counts those that do not decode.
fn each_applied(
    first: u32,
    entry: Entry,
    ops: &[Bytes],
    mut apply: impl FnMut(&Bytes, Stamp) -> Result<bool, ReadError>,
) -> Result<Applied, ReadError> {
    let mut applied = Applied::default();
    for (index, op) in (first..).zip(ops) {
        applied.undecodable += u32::from(!apply(op, entry.stamp(index))?);
    }
    Ok(applied)
}

/// Does something with an operation, if it decodes. Says whether it does.
fn decoded<T>(
    op: Result<T, CborError>,
    apply: impl FnOnce(T) -> Result<(), ReadError>,
) -> Result<bool, ReadError> {
    op.map_or(Ok(false), |op| apply(op).map(|()| true))
}

/// A row that this crate wrote does not decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a row of a {kind} store does not decode")]
pub(crate) struct DamagedRow {
    pub(crate) kind: &'static str,
    #[source]
    pub(crate) cause: CborError,
}
