//! Which operation decides what a path of a document is.

use eid_crdt::Shape;
use eid_store::Key;

use super::{NodeRow, damaged, node_key};
use crate::error::DbError;
use crate::rows::Rows;
use crate::stamp::{Stamp, resolve};

/// What a path is, in the coarse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Nothing.
    Absent,
    /// A map.
    Map,
    /// A value with no paths below.
    Leaf,
}

/// What is known of a path from its own row and those above it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decided {
    /// What it is.
    pub(crate) form: Form,
    /// The operation that makes it what it is: that of the value, the last increment, or what removed it.
    pub(crate) by: Option<Stamp>,
    /// The last operation that had to do with the path, at it, above it or below.
    pub(crate) last: Option<Stamp>,
    /// Whether it is a map that was set, and so is there also when nothing is in it.
    pub(crate) is_set_map: bool,
    /// For a counter: what increments have to beat.
    pub(crate) counts_after: Option<Option<Stamp>>,
}

/// What each path from the root to this one is.
///
/// `probe` is made comparable with the stamps that are given.
pub(crate) fn decided(
    rows: &dyn Rows,
    path: &[String],
    probe: Option<&mut Stamp>,
) -> Result<Vec<Decided>, DbError> {
    let keys: Vec<Key> = (1..=path.len()).map(|depth| node_key(&path[..depth])).collect();
    let mut chain: Vec<NodeRow> = Vec::with_capacity(keys.len());
    for row in rows.get_many(&keys)? {
        chain.push(row.map_or(Ok(NodeRow::default()), |row| NodeRow::decode(&row)).map_err(damaged)?);
    }
    let mut stamps: Vec<&mut Stamp> = chain.iter_mut().flat_map(NodeRow::stamps_mut).collect();
    stamps.extend(probe);
    resolve(&mut stamps, |seq| rows.id_of(seq))?;
    let mut above: Option<Stamp> = None;
    Ok(chain
        .into_iter()
        .map(|row| {
            let node = &row.node;
            let set = node.set.stamp().copied();
            let last =
                [above, set, node.deleted, node.below, node.counted, node.listed].into_iter().max().flatten();
            let shape = node.shape(above.as_ref());
            let (form, by, counts_after) = match &shape {
                Shape::Value(_) => (Form::Leaf, set, None),
                Shape::Count { after, .. } => (Form::Leaf, node.counted, Some(*after)),
                Shape::List { .. } => (Form::Leaf, node.listed, None),
                Shape::Map { .. } => (Form::Map, set.max(node.below), None),
                Shape::Absent => (Form::Absent, last, None),
            };
            let is_set_map = matches!(shape, Shape::Map { explicit: true });
            above = node.kills_below(above.as_ref());
            Decided { form, by, last, is_set_map, counts_after }
        })
        .collect())
}
