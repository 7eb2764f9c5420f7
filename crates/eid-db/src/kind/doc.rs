//! Kind `doc`: one row of the view for each path that was ever written, and one for each increment.
//!
//! ```text
//! set        [0, [key ...], value]
//! delete     [1, [key ...]]
//! increment  [2, [key ...], by]
//! node       02 path -> [entries, [entry, op, value] | null, deleted, below, counted, [sum, first, last] | null]
//! increment  03 path fe stamp -> by
//! ```
//! In keys of rows each key of a path ends with `00 01`, and a zero byte in it is written `00 ff`: so what lies below
//! a path is one range, right after it. What the parts of a node mean is in [`eid_crdt::Node`]; increments and their
//! sum are those of [`crate::kind::count`].

mod decided;

pub(crate) use decided::{Form, decided};

use std::convert::Infallible;

use bytes::Bytes;
use eid_core::ReadError;
use eid_core::cbor::{CborError, Reader, Writer};
use eid_crdt::{DocOp, Integer, Node, Register, Shape, Value, leaves};
use eid_store::{Direction, Key, ViewRows, Wanted};

use crate::codec::{read_value, write_value};
use crate::error::DbError;
use crate::kind::DamagedRow;
use crate::kind::count::{self, Sum};
use crate::limits::{PAGE_ROWS, PATH_BYTES_MAX, PATH_KEYS_MAX, SET_SPREAD_MAX};
use crate::path::Path;
use crate::rows::Rows;
use crate::stamp::{Stamp, StampTable, resolve};

/// The name of this kind in payloads.
pub(crate) const KIND: &str = "doc";

const SET: u64 = 0;
const DELETE: u64 = 1;
const INCREMENT: u64 = 2;

const NODE: u8 = 2;
const COUNT: u8 = 3;
/// Parts the path of an increment's key from its stamp: no text has this byte.
const STAMP_FOLLOWS: u8 = 0xfe;

pub(crate) fn encode(op: &DocOp) -> Bytes {
    let mut w = Writer::new();
    let (code, items) = match op {
        DocOp::Set { .. } => (SET, 3),
        DocOp::Delete { .. } => (DELETE, 2),
        DocOp::Increment { .. } => (INCREMENT, 3),
    };
    w.array(items).uint(code).array(path(op).len());
    for key in path(op) {
        w.text(key);
    }
    match op {
        DocOp::Set { value, .. } => write_value(&mut w, value),
        DocOp::Increment { by, .. } => drop(w.int(i128::from(*by))),
        DocOp::Delete { .. } => {}
    }
    Bytes::from(w.into_bytes())
}

/// The path that the operation names.
pub(crate) fn path(op: &DocOp) -> &[String] {
    let (DocOp::Set { path, .. } | DocOp::Delete { path } | DocOp::Increment { path, .. }) = op;
    path
}

/// Decodes an operation, strictly.
pub(crate) fn decode(bytes: &Bytes) -> Result<DocOp, CborError> {
    let mut r = Reader::new(bytes);
    let items = r.array(3)?;
    let code = r.uint()?;
    let count = r.array(PATH_KEYS_MAX)?;
    let path: Vec<String> =
        (0..count).map(|_| Ok(r.text(PATH_BYTES_MAX)?.to_owned())).collect::<Result<_, CborError>>()?;
    let op = match (code, items) {
        (SET, 3) => DocOp::Set { path, value: read_value(&mut r)? },
        (DELETE, 2) => DocOp::Delete { path },
        (INCREMENT, 3) => {
            let by = i64::try_from(r.int()?).map_err(|_| CborError::Limit)?;
            DocOp::Increment { path, by }
        }
        _ => return Err(CborError::Type),
    };
    r.finish()?;
    match fits(&op, bytes.len()) {
        Ok(()) => Ok(op),
        Err(Unfit::Path | Unfit::Spread) => Err(CborError::Limit),
    }
}

/// Why an operation is not one that replicas apply.
enum Unfit {
    Path,
    Spread,
}

/// Whether every path that the operation writes is one, and whether they are not much more than the operation.
fn fits(op: &DocOp, bytes_len: usize) -> Result<(), Unfit> {
    let mut spread = 0;
    let mut check = |at: &[String], _: &Value| {
        spread += at.iter().map(String::len).sum::<usize>();
        match (Path::is_writable(at), spread <= bytes_len.saturating_mul(SET_SPREAD_MAX)) {
            (false, _) => Err(Unfit::Path),
            (true, false) => Err(Unfit::Spread),
            (true, true) => Ok(()),
        }
    };
    match op {
        DocOp::Set { path, value } => leaves(path, value, check),
        DocOp::Delete { path } | DocOp::Increment { path, .. } => check(path, &Value::Null),
    }
}

/// Encodes what is about to be written, unless no replica would apply it.
pub(crate) fn encode_checked(op: &DocOp) -> Result<Bytes, DbError> {
    let bytes = encode(op);
    match fits(op, bytes.len()) {
        Ok(()) => Ok(bytes),
        Err(Unfit::Path) => Err(DbError::Path),
        Err(Unfit::Spread) => Err(DbError::TooLarge),
    }
}

fn push_path(row: &mut Key, path: &[String]) {
    for key in path {
        for byte in key.bytes() {
            row.push(byte);
            if byte == 0 {
                row.push(0xff);
            }
        }
        row.extend_from_slice(&[0, 1]);
    }
}

fn node_key(path: &[String]) -> Key {
    let mut row = vec![NODE];
    push_path(&mut row, path);
    row
}

fn path_of(node_key: &[u8]) -> Result<Vec<String>, DbError> {
    let damaged = || DbError::Corrupt { what: "the key of a document's row" };
    let mut path = Vec::new();
    let mut key = Vec::new();
    let mut bytes = node_key.iter().skip(1);
    while let Some(byte) = bytes.next() {
        match (byte, if *byte == 0 { bytes.next() } else { None }) {
            (0, Some(1)) => {
                path.push(String::from_utf8(std::mem::take(&mut key)).map_err(|_| damaged())?);
            }
            (0, Some(0xff)) => key.push(0),
            (0, _) => return Err(damaged()),
            (byte, _) => key.push(*byte),
        }
    }
    if key.is_empty() { Ok(path) } else { Err(damaged()) }
}

fn count_prefix(path: &[String]) -> Key {
    let mut row = vec![COUNT];
    push_path(&mut row, path);
    row.push(STAMP_FOLLOWS);
    row
}

/// A node with the running sum of its increments.
#[derive(Debug, Clone, Default)]
struct NodeRow {
    node: Node<Stamp>,
    sum: Option<Sum>,
}

impl NodeRow {
    fn stamps_mut(&mut self) -> impl Iterator<Item = &mut Stamp> {
        let sum = self.sum.iter_mut().flat_map(Sum::stamps_mut);
        self.node.stamps_mut().chain(sum)
    }

    fn encode(&self) -> Bytes {
        let mut table = StampTable::default();
        let mut body = Writer::new();
        match self.node.set.get() {
            Some((stamp, value)) => {
                table.write(body.array(3), stamp);
                write_value(&mut body, value);
            }
            None => drop(body.null()),
        }
        for stamp in [&self.node.deleted, &self.node.below, &self.node.counted] {
            table.write_optional(&mut body, stamp.as_ref());
        }
        Sum::write(self.sum.as_ref(), &mut table, &mut body);
        let mut w = Writer::new();
        table.write_entries(w.array(6));
        w.raw(&body.into_bytes());
        Bytes::from(w.into_bytes())
    }

    fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        let mut r = Reader::new(bytes);
        r.array_exact(6)?;
        let table = StampTable::read_entries(&mut r)?;
        let set = r.nullable(|r| {
            r.array_exact(3)?;
            Ok((table.read(r)?, read_value(r)?))
        })?;
        let mut parts = [None; 3];
        for part in &mut parts {
            *part = table.read_optional(&mut r)?;
        }
        let [deleted, below, counted] = parts;
        let sum = Sum::read(&table, &mut r)?;
        r.finish()?;
        Ok(Self { node: Node { set: Register::from_parts(set), deleted, below, counted }, sum })
    }
}

/// Names the rows that the operation reads: the nodes from the root to every path that it writes.
pub(crate) fn reads(op: &DocOp, wanted: &mut Wanted) {
    let path = path(op);
    if !matches!(op, DocOp::Delete { .. }) {
        for depth in 1..path.len() {
            wanted.key(&node_key(&path[..depth]));
        }
    }
    // Rows of increments are read only when one comes late, by themselves.
    if let DocOp::Set { value, .. } = op {
        let Ok(()) = leaves(path, value, |at, _| {
            wanted.key(&node_key(at));
            Ok::<(), Infallible>(())
        });
    } else {
        wanted.key(&node_key(path));
    }
}

fn load(view: &mut dyn ViewRows, path: &[String]) -> Result<NodeRow, ReadError> {
    match view.get(&node_key(path))? {
        Some(bytes) => {
            NodeRow::decode(&bytes).map_err(|cause| ReadError::new(DamagedRow { kind: KIND, cause }))
        }
        None => Ok(NodeRow::default()),
    }
}

/// Changes the node of a path by a join.
fn change(
    view: &mut dyn ViewRows,
    path: &[String],
    mut stamp: Stamp,
    join: impl FnOnce(&mut Node<Stamp>, &Stamp),
) -> Result<(), ReadError> {
    let mut row = load(view, path)?;
    let mut stamps: Vec<&mut Stamp> = row.stamps_mut().collect();
    stamps.push(&mut stamp);
    resolve(&mut stamps, |seq| view.id_of(seq))?;
    join(&mut row.node, &stamp);
    view.put(&node_key(path), row.encode());
    Ok(())
}

/// Joins the operation with the rows.
pub(crate) fn apply(op: &DocOp, stamp: Stamp, view: &mut dyn ViewRows) -> Result<(), ReadError> {
    match op {
        DocOp::Set { path, value } => {
            for depth in 1..path.len() {
                change(view, &path[..depth], stamp, Node::touch_below)?;
            }
            leaves(path, value, |at, value| change(view, at, stamp, |node, stamp| node.set(stamp, value)))
        }
        DocOp::Delete { path } => change(view, path, stamp, Node::delete),
        DocOp::Increment { path, by } => {
            for depth in 1..path.len() {
                change(view, &path[..depth], stamp, Node::touch_below)?;
            }
            increment(path, *by, stamp, view)
        }
    }
}

fn increment(path: &[String], by: i64, mut stamp: Stamp, view: &mut dyn ViewRows) -> Result<(), ReadError> {
    let mut chain: Vec<NodeRow> = Vec::with_capacity(path.len());
    for depth in 1..=path.len() {
        chain.push(load(view, &path[..depth])?);
    }
    let mut stamps: Vec<&mut Stamp> = chain.iter_mut().flat_map(NodeRow::stamps_mut).collect();
    stamps.push(&mut stamp);
    resolve(&mut stamps, |seq| view.id_of(seq))?;
    let Some(mut row) = chain.pop() else { return Ok(()) };
    let above = chain.iter().fold(None, |above, row| row.node.kills_below(above.as_ref()));
    let floor = row.node.count_floor(above.as_ref());
    row.node.count(&stamp);
    row.sum = count::add(view, &count_prefix(path), row.sum, by, stamp, floor)?;
    view.put(&node_key(path), row.encode());
    Ok(())
}

/// What a walk meets: never a map, unless it is empty.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Leaf {
    pub(crate) path: Vec<String>,
    pub(crate) value: Value,
}

/// The value at a path; a map with everything in it. The empty path is the whole document.
pub(crate) fn get(rows: &dyn Rows, path: &[String]) -> Result<Option<Value>, DbError> {
    let mut root = path.is_empty().then(|| Value::Map(Default::default()));
    walk(rows, path, &mut |leaf| {
        place(&mut root, &leaf.path[path.len()..], leaf.value);
        Ok(())
    })?;
    Ok(root)
}

fn place(root: &mut Option<Value>, path: &[String], value: Value) {
    let mut at = root.get_or_insert_with(|| Value::Map(Default::default()));
    for key in path {
        let Value::Map(items) = at else { return };
        at = items.entry(key.clone()).or_insert_with(|| Value::Map(Default::default()));
    }
    *at = value;
}

/// The keys right below a path under which something is.
pub(crate) fn keys(rows: &dyn Rows, path: &[String]) -> Result<Vec<String>, DbError> {
    let mut found: Vec<String> = Vec::new();
    walk(rows, path, &mut |leaf| {
        if let Some(key) = leaf.path.get(path.len())
            && found.last() != Some(key)
        {
            found.push(key.clone());
        }
        Ok(())
    })?;
    Ok(found)
}

fn damaged(_: CborError) -> DbError {
    DbError::Corrupt { what: "a row of a document" }
}

/// Everything at a path and below, in order of the paths, page by page.
pub(crate) fn walk(
    rows: &dyn Rows,
    path: &[String],
    each: &mut dyn FnMut(Leaf) -> Result<(), DbError>,
) -> Result<(), DbError> {
    let mut walk = Walk { rows, open: Vec::new(), empty_map: None, each };
    let chain: Vec<Key> = (1..=path.len()).map(|depth| node_key(&path[..depth])).collect();
    if !chain.is_empty() {
        for (depth, bytes) in (1..).zip(rows.get_many(&chain)?) {
            // A path that was written has a row for each part of it.
            let Some(bytes) = bytes else { return Ok(()) };
            let row = NodeRow::decode(&bytes).map_err(damaged)?;
            let here = depth == path.len();
            if walk.visit(path[..depth].to_vec(), row, here)? == Below::Nothing && here {
                return walk.finish();
            }
        }
    }
    // The node itself was visited; what is below it comes right after it.
    let mut from = node_key(path);
    from.push(0);
    let mut to = node_key(path);
    to.push(0xff);
    loop {
        let page = rows.scan(&from, &to, Direction::Forward, PAGE_ROWS)?;
        let more = page.len() == PAGE_ROWS;
        for (key, bytes) in &page {
            walk.visit(path_of(key)?, NodeRow::decode(bytes).map_err(damaged)?, true)?;
        }
        match page.into_iter().next_back() {
            Some((mut last, _)) if more => {
                last.push(0);
                from = last;
            }
            _ => return walk.finish(),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Below {
    Nothing,
    Something,
}

struct Walk<'a> {
    rows: &'a dyn Rows,
    /// For each path from the root to where the walk is: its depth and what has to be reached to be alive below it.
    open: Vec<(usize, Option<Stamp>)>,
    /// A map that was set, until something in it shows up.
    empty_map: Option<Vec<String>>,
    each: &'a mut dyn FnMut(Leaf) -> Result<(), DbError>,
}

impl Walk<'_> {
    fn visit(&mut self, path: Vec<String>, mut row: NodeRow, shown: bool) -> Result<Below, DbError> {
        while self.open.last().is_some_and(|(depth, _)| *depth >= path.len()) {
            self.open.pop();
        }
        let mut above = self.open.last().and_then(|(_, above)| *above);
        let mut stamps: Vec<&mut Stamp> = row.stamps_mut().collect();
        stamps.extend(above.iter_mut());
        resolve(&mut stamps, |seq| self.rows.id_of(seq))?;
        self.open.push((path.len(), row.node.kills_below(above.as_ref())));
        let value = match row.node.shape(above.as_ref()) {
            Shape::Value(value) => value.clone(),
            Shape::Count { base, after } => {
                let sum = count::sum_after(self.rows, &count_prefix(&path), row.sum, after)?;
                Value::Int(Integer::saturating(base.get().saturating_add(sum)))
            }
            Shape::Map { explicit } => {
                if explicit && shown {
                    self.flush_unless_above(&path)?;
                    self.empty_map = Some(path);
                }
                return Ok(Below::Something);
            }
            Shape::Absent => return Ok(Below::Nothing),
        };
        if shown {
            self.flush_unless_above(&path)?;
            (self.each)(Leaf { path, value })?;
        }
        Ok(Below::Nothing)
    }

    fn flush_unless_above(&mut self, path: &[String]) -> Result<(), DbError> {
        match self.empty_map.take() {
            Some(map) if !path.starts_with(&map) => {
                (self.each)(Leaf { path: map, value: Value::Map(Default::default()) })
            }
            _ => Ok(()),
        }
    }

    fn finish(mut self) -> Result<(), DbError> {
        match self.empty_map.take() {
            Some(map) => (self.each)(Leaf { path: map, value: Value::Map(Default::default()) }),
            None => Ok(()),
        }
    }
}
