//! Kind `doc`: one row of the view for each path that was ever written, one for each increment, and the rows of lists.
//!
//! ```text
//! set        [0, [key ...], value]
//! delete     [1, [key ...]]
//! increment  [2, [key ...], by]
//! list       [3, [key ...], edit]
//! node       02 path -> [entries, [entry, op, value] | null, deleted, below, counted, listed, sum | null]
//! increment  03 path fe stamp -> by
//! list       04 path fe ...
//! ```
//! In keys of rows each key of a path ends with `00 01`, and a zero byte in it is written `00 ff`: so what lies below
//! a path is one range, right after it. What the parts of a node mean is in [`eid_crdt::Node`]; increments and their
//! sum are those of [`crate::kind::count`], lists and their edits those of [`crate::kind::list`]. A list that is set
//! stands in its node empty, and its items are put in at the start of the list of that path.

mod decided;

pub(crate) use decided::{Form, decided};

use std::convert::Infallible;

use bytes::Bytes;
use eid_core::ReadError;
use eid_core::cbor::{CborError, Reader, Writer};
use eid_core::dag::Seq;
use eid_crdt::sequence::Anchor;
use eid_crdt::{Integer, ListOp, Node, Register, Shape, Value, leaves};
use eid_store::{Direction, Key, ViewRows, Wanted};

use crate::codec::{read_value, write_value};
use crate::error::DbError;
use crate::kind::count::{self, Sum};
use crate::kind::sequence::Ref;
use crate::kind::{DamagedRow, list};
use crate::limits::{PAGE_ROWS, PATH_BYTES_MAX, PATH_KEYS_MAX, SET_SPREAD_MAX};
use crate::path::Path;
use crate::rows::Rows;
use crate::stamp::{Stamp, StampTable, resolve};

/// The name of this kind in payloads.
pub(crate) const KIND: &str = "doc";

const SET: u64 = 0;
const DELETE: u64 = 1;
const INCREMENT: u64 = 2;
const LIST: u64 = 3;

const NODE: u8 = 2;
const COUNT: u8 = 3;
const ITEMS: u8 = 4;
/// Ends the path in keys of increments and lists: no text has this byte.
const PATH_ENDS: u8 = 0xfe;

/// What can be done to a document, as it travels.
pub(crate) type DocOp = eid_crdt::DocOp<Ref>;

pub(crate) fn encode(op: &DocOp) -> Bytes {
    let mut w = Writer::new();
    let (code, items) = match op {
        DocOp::Set { .. } => (SET, 3),
        DocOp::Delete { .. } => (DELETE, 2),
        DocOp::Increment { .. } => (INCREMENT, 3),
        DocOp::List { .. } => (LIST, 3),
    };
    w.array(items).uint(code).array(path(op).len());
    for key in path(op) {
        w.text(key);
    }
    match op {
        DocOp::Set { value, .. } => write_value(&mut w, value),
        DocOp::Increment { by, .. } => drop(w.int(i128::from(*by))),
        DocOp::List { op, .. } => list::write(&mut w, op),
        DocOp::Delete { .. } => {}
    }
    Bytes::from(w.into_bytes())
}

/// The path that the operation names.
pub(crate) fn path(op: &DocOp) -> &[String] {
    let (DocOp::Set { path, .. }
    | DocOp::Delete { path }
    | DocOp::Increment { path, .. }
    | DocOp::List { path, .. }) = op;
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
        (LIST, 3) => DocOp::List { path, op: list::read(&mut r)? },
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
        DocOp::Delete { path } | DocOp::Increment { path, .. } | DocOp::List { path, .. } => {
            check(path, &Value::Null)
        }
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
    row.push(PATH_ENDS);
    row
}

fn list_prefix(path: &[String]) -> Key {
    let mut row = vec![ITEMS];
    push_path(&mut row, path);
    row.push(PATH_ENDS);
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
        for stamp in [&self.node.deleted, &self.node.below, &self.node.counted, &self.node.listed] {
            table.write_optional(&mut body, stamp.as_ref());
        }
        Sum::write(self.sum.as_ref(), &mut table, &mut body);
        let mut w = Writer::new();
        table.write_entries(w.array(7));
        w.raw(&body.into_bytes());
        Bytes::from(w.into_bytes())
    }

    fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        let mut r = Reader::new(bytes);
        r.array_exact(7)?;
        let table = StampTable::read_entries(&mut r)?;
        let set = r.nullable(|r| {
            r.array_exact(3)?;
            Ok((table.read(r)?, read_value(r)?))
        })?;
        let mut parts = [None; 4];
        for part in &mut parts {
            *part = table.read_optional(&mut r)?;
        }
        let [deleted, below, counted, listed] = parts;
        let sum = Sum::read(&table, &mut r)?;
        r.finish()?;
        Ok(Self { node: Node { set: Register::from_parts(set), deleted, below, counted, listed }, sum })
    }
}

/// Names the rows that the operation reads: the nodes from the root to every path that it writes.
pub(crate) fn reads(op: &DocOp, wanted: &mut Wanted) {
    let path = path(op);
    if !matches!(op, DocOp::Delete { .. }) {
        // An edit of a list does not touch them all, and yet looks for what hides it.
        for depth in 1..path.len() {
            wanted.key(&node_key(&path[..depth]));
        }
    }
    // Rows of increments are read only when one comes late, by themselves.
    if let DocOp::Set { value, .. } = op {
        let Ok(()) = leaves(path, value, |at, value| {
            wanted.key(&node_key(at));
            if let Some(op) = items_of(value) {
                list::reads(&list_prefix(at), &op, wanted);
            }
            Ok::<(), Infallible>(())
        });
    } else {
        wanted.key(&node_key(path));
    }
    if let DocOp::List { op, .. } = op {
        list::reads(&list_prefix(path), op, wanted);
    }
}

/// What setting a value does to the list at its path.
fn items_of(value: &Value) -> Option<ListOp<Ref>> {
    match value {
        Value::List(items) if !items.is_empty() => {
            Some(ListOp::Insert { at: Anchor::Start, items: items.clone() })
        }
        _ => None,
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

/// Changes the node of a path by a join, and gives it.
fn change(
    view: &mut dyn ViewRows,
    path: &[String],
    mut stamp: Stamp,
    join: impl FnOnce(&mut Node<Stamp>, &Stamp),
) -> Result<Node<Stamp>, ReadError> {
    let mut row = load(view, path)?;
    let mut stamps: Vec<&mut Stamp> = row.stamps_mut().collect();
    stamps.push(&mut stamp);
    resolve(&mut stamps, |seq| view.id_of(seq))?;
    join(&mut row.node, &stamp);
    view.put(&node_key(path), row.encode());
    Ok(row.node)
}

/// Joins the operation with the rows.
pub(crate) fn apply(op: &DocOp, stamp: Stamp, view: &mut dyn ViewRows) -> Result<(), ReadError> {
    match op {
        DocOp::Set { path, value } => {
            touch_above(path, stamp, view)?;
            leaves(path, value, |at, value| {
                let node = change(view, at, stamp, |node, stamp| node.set(stamp, value))?;
                match items_of(value) {
                    Some(op) => list::apply(view, &list_prefix(at), &op, stamp, node.list_floor(None)),
                    None => raise_list(at, &node, view),
                }
            })
        }
        DocOp::Delete { path } => {
            let node = change(view, path, stamp, Node::delete)?;
            raise_list(path, &node, view)
        }
        DocOp::Increment { path, by } => {
            touch_above(path, stamp, view)?;
            increment(path, *by, stamp, view)
        }
        DocOp::List { path, op } => {
            let inserts = matches!(op, ListOp::Insert { .. });
            if inserts {
                touch_above(path, stamp, view)?;
            }
            let (above, mut row, stamp) = load_chain(path, stamp, view)?;
            let floor = row.node.list_floor(above.as_ref());
            if inserts {
                row.node.list(&stamp);
                view.put(&node_key(path), row.encode());
            }
            list::apply(view, &list_prefix(path), op, stamp, floor)
        }
    }
}

/// Takes in an operation that does not count: of lists the places that others may name, of everything else nothing.
pub(crate) fn apply_void(op: &DocOp, stamp: Stamp, view: &mut dyn ViewRows) -> Result<(), ReadError> {
    match op {
        DocOp::Set { path, value } => leaves(path, value, |at, value| match items_of(value) {
            Some(op) => list::apply_void(view, &list_prefix(at), &op, stamp),
            None => Ok(()),
        }),
        DocOp::List { path, op } => list::apply_void(view, &list_prefix(path), op, stamp),
        DocOp::Delete { .. } | DocOp::Increment { .. } => Ok(()),
    }
}

fn touch_above(path: &[String], stamp: Stamp, view: &mut dyn ViewRows) -> Result<(), ReadError> {
    for depth in 1..path.len() {
        change(view, &path[..depth], stamp, Node::touch_below)?;
    }
    Ok(())
}

/// Hides items that what was just written at the path hides, if there still is a list.
fn raise_list(path: &[String], node: &Node<Stamp>, view: &mut dyn ViewRows) -> Result<(), ReadError> {
    let floor = node.list_floor(None);
    if node.listed.is_some() && node.listed >= floor {
        list::raise(view, &list_prefix(path), floor)?;
    }
    Ok(())
}

/// The node of a path, with what has to be reached to be alive there; all stamps comparable with each other.
fn load_chain(
    path: &[String],
    mut stamp: Stamp,
    view: &mut dyn ViewRows,
) -> Result<(Option<Stamp>, NodeRow, Stamp), ReadError> {
    let mut chain: Vec<NodeRow> = Vec::with_capacity(path.len());
    for depth in 1..=path.len() {
        chain.push(load(view, &path[..depth])?);
    }
    let mut stamps: Vec<&mut Stamp> = chain.iter_mut().flat_map(NodeRow::stamps_mut).collect();
    stamps.push(&mut stamp);
    resolve(&mut stamps, |seq| view.id_of(seq))?;
    let row = chain.pop().unwrap_or_default();
    let above = chain.iter().fold(None, |above, row| row.node.kills_below(above.as_ref()));
    Ok((above, row, stamp))
}

fn increment(path: &[String], by: i64, stamp: Stamp, view: &mut dyn ViewRows) -> Result<(), ReadError> {
    let (above, mut row, stamp) = load_chain(path, stamp, view)?;
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

/// The value at a path; a map with everything in it. The empty path is the whole document. A path that goes on where a
/// list is names an item by its index, and then what is in the item.
pub(crate) fn get(rows: &dyn Rows, path: &[String]) -> Result<Option<Value>, DbError> {
    if let Found::List { depth, floor } = find(rows, path)?
        && depth < path.len()
    {
        let Some(index) = index(&path[depth]) else { return Ok(None) };
        let item = list::with(rows, &list_prefix(&path[..depth]), floor, |list| list.get(index))?;
        return Ok(item.and_then(|item| within(item, &path[depth + 1..])));
    }
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

/// The position that a key names in a list: as in JSON pointers, digits without a zero in front.
pub(crate) fn index(key: &str) -> Option<usize> {
    let plain = key == "0" || (!key.starts_with('0') && key.bytes().all(|byte| byte.is_ascii_digit()));
    if plain { key.parse().ok() } else { None }
}

/// What lies at a path within a value.
pub(crate) fn within(value: Value, path: &[String]) -> Option<Value> {
    path.iter().try_fold(value, |value, key| match value {
        Value::Map(mut items) => items.remove(key),
        Value::List(mut items) => {
            let index = index(key).filter(|index| *index < items.len())?;
            Some(items.swap_remove(index))
        }
        _ => None,
    })
}

/// What is at a path, or on the way to it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Found {
    /// Nothing, or only what is hidden. A list that is put there begins above this floor.
    Nothing { floor: Option<Stamp> },
    /// A list, `depth` keys down: fewer than the path has when the rest goes into it.
    List { depth: usize, floor: Option<Stamp> },
    /// A map, which may have nothing in it.
    Map,
    /// A value that is neither map nor list, `depth` keys down.
    Scalar { depth: usize, type_name: &'static str },
}

/// The nodes from the root to a path; all stamps comparable with each other.
fn chain(rows: &dyn Rows, path: &[String]) -> Result<Vec<NodeRow>, DbError> {
    let keys: Vec<Key> = (1..=path.len()).map(|depth| node_key(&path[..depth])).collect();
    let mut chain: Vec<NodeRow> = Vec::with_capacity(keys.len());
    for bytes in rows.get_many(&keys)? {
        let row = bytes.map_or_else(|| Ok(NodeRow::default()), |bytes| NodeRow::decode(&bytes));
        chain.push(row.map_err(damaged)?);
    }
    let mut stamps: Vec<&mut Stamp> = chain.iter_mut().flat_map(NodeRow::stamps_mut).collect();
    resolve(&mut stamps, |seq| rows.id_of(seq))?;
    Ok(chain)
}

/// Looks along a path.
pub(crate) fn find(rows: &dyn Rows, path: &[String]) -> Result<Found, DbError> {
    let mut above: Option<Stamp> = None;
    let mut found = Found::Map;
    for (depth, NodeRow { node, .. }) in (1..).zip(&chain(rows, path)?) {
        found = match node.shape(above.as_ref()) {
            Shape::Absent => Found::Nothing { floor: node.list_floor(above.as_ref()) },
            Shape::List { floor } => return Ok(Found::List { depth, floor }),
            Shape::Map { .. } => Found::Map,
            Shape::Value(value) => return Ok(Found::Scalar { depth, type_name: value.type_name() }),
            Shape::Count { .. } => return Ok(Found::Scalar { depth, type_name: "integer" }),
        };
        above = node.kills_below(above.as_ref());
    }
    Ok(found)
}

/// The entry that wrote a path last: set it, or deleted or replaced it or something above it, or put something below
/// it. Increments and edits of lists at the path itself do not count.
pub(crate) fn last_write(rows: &dyn Rows, path: &[String]) -> Result<Option<Seq>, DbError> {
    let mut chain = chain(rows, path)?;
    let Some(NodeRow { node, .. }) = chain.pop() else { return Ok(None) };
    let above = chain.iter().fold(None, |above, row| row.node.kills_below(above.as_ref()));
    Ok(node.list_floor(above.as_ref()).map(|stamp| stamp.seq))
}

/// Reads the list at a path. Where nothing is, it is empty.
///
/// # Errors
/// [`DbError::Type`] when something else is there, or on the way there.
pub(crate) fn with_list<R>(
    rows: &dyn Rows,
    path: &[String],
    read: impl FnOnce(&list::ListReader<'_>) -> Result<R, DbError>,
) -> Result<R, DbError> {
    let wanted = "list";
    let floor = match find(rows, path)? {
        Found::Nothing { floor } => floor,
        Found::List { depth, floor } if depth == path.len() => floor,
        Found::List { .. } => return Err(DbError::Type { found: "list", wanted: "map" }),
        Found::Map => return Err(DbError::Type { found: "map", wanted }),
        Found::Scalar { depth, type_name } => {
            let wanted = if depth == path.len() { wanted } else { "map" };
            return Err(DbError::Type { found: type_name, wanted });
        }
    };
    list::with(rows, &list_prefix(path), floor, read)
}

/// The keys right below a path under which something is.
pub(crate) fn keys(rows: &dyn Rows, path: &[String]) -> Result<Vec<String>, DbError> {
    let mut found: Vec<String> = Vec::new();
    let walk = Walk { rows, open: Vec::new(), empty_map: None, values: Values::Skipped };
    walk.run(path, &mut |leaf| {
        let Some(key) = leaf.path.get(path.len()) else { return Ok(Next::Onwards) };
        if found.last() != Some(key) {
            found.push(key.clone());
        }
        // One thing below a key suffices.
        Ok(Next::Past(path.len() + 1))
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
    let walk = Walk { rows, open: Vec::new(), empty_map: None, values: Values::Read };
    walk.run(path, &mut |leaf| each(leaf).map(|()| Next::Onwards))
}

/// Where a walk goes from a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// To the next one.
    Onwards,
    /// Past everything whose path begins with as many of its keys.
    Past(usize),
}

type Each<'e> = dyn FnMut(Leaf) -> Result<Next, DbError> + 'e;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Values {
    Read,
    /// Every leaf is null.
    Skipped,
}

/// What a walk has found at a path.
enum Visited {
    Leaf(Leaf),
    /// A map, with or without anything in it.
    Map,
    Nothing,
}

struct Walk<'a> {
    rows: &'a dyn Rows,
    /// For each path from the root to where the walk is: its depth and what has to be reached to be alive below it.
    open: Vec<(usize, Option<Stamp>)>,
    /// A map that was set, until something in it shows up.
    empty_map: Option<Vec<String>>,
    values: Values,
}

impl Walk<'_> {
    fn run(mut self, path: &[String], each: &mut Each<'_>) -> Result<(), DbError> {
        let chain: Vec<Key> = (1..=path.len()).map(|depth| node_key(&path[..depth])).collect();
        if !chain.is_empty() {
            for (depth, bytes) in (1..).zip(self.rows.get_many(&chain)?) {
                // A path that was written has a row for each part of it.
                let Some(bytes) = bytes else { return Ok(()) };
                let row = NodeRow::decode(&bytes).map_err(damaged)?;
                let here = depth == path.len();
                match self.visit(&path[..depth], row, here)? {
                    Visited::Leaf(leaf) => return each(leaf).map(|_| ()),
                    Visited::Nothing => return Ok(()),
                    Visited::Map => {}
                }
            }
        }
        // The node itself was visited; what is below it comes right after it.
        let mut from = node_key(path);
        from.push(0);
        let mut to = node_key(path);
        to.push(0xff);
        // Begins the keys of what is passed over.
        let mut past: Option<Key> = None;
        loop {
            let page = self.rows.scan(&from, &to, Direction::Forward, PAGE_ROWS)?;
            let Some((last, _)) = page.last() else { break };
            let more = page.len() == PAGE_ROWS;
            from.clone_from(last);
            from.push(0);
            for (key, bytes) in &page {
                if past.as_ref().is_some_and(|past| key.starts_with(past)) {
                    continue;
                }
                let at = path_of(key)?;
                self.flush_unless_above(&at, each)?;
                // Below what is no map nothing is alive.
                let depth = match self.visit(&at, NodeRow::decode(bytes).map_err(damaged)?, true)? {
                    Visited::Map => continue,
                    Visited::Nothing => at.len(),
                    Visited::Leaf(leaf) => {
                        self.empty_map = None;
                        match each(leaf)? {
                            Next::Onwards => at.len(),
                            Next::Past(depth) => depth,
                        }
                    }
                };
                past = Some(node_key(&at[..depth]));
            }
            if !more {
                break;
            }
            if let Some(past) = past.as_ref().filter(|past| from.starts_with(past)) {
                from.clone_from(past);
                from.push(0xff);
            }
        }
        if let Some(path) = self.empty_map.take() {
            each(Leaf { path, value: Value::Map(Default::default()) })?;
        }
        Ok(())
    }

    fn visit(&mut self, path: &[String], mut row: NodeRow, shown: bool) -> Result<Visited, DbError> {
        while self.open.last().is_some_and(|(depth, _)| *depth >= path.len()) {
            self.open.pop();
        }
        let mut above = self.open.last().and_then(|(_, above)| *above);
        let mut stamps: Vec<&mut Stamp> = row.stamps_mut().collect();
        stamps.extend(above.iter_mut());
        resolve(&mut stamps, |seq| self.rows.id_of(seq))?;
        self.open.push((path.len(), row.node.kills_below(above.as_ref())));
        let value = match row.node.shape(above.as_ref()) {
            Shape::Map { explicit } => {
                if explicit && shown {
                    self.empty_map = Some(path.to_vec());
                }
                return Ok(Visited::Map);
            }
            Shape::Absent => return Ok(Visited::Nothing),
            _ if !shown => return Ok(Visited::Nothing),
            _ if self.values == Values::Skipped => Value::Null,
            Shape::Value(value) => value.clone(),
            Shape::Count { base, after } => {
                let sum = count::sum_after(self.rows, &count_prefix(path), row.sum, after)?;
                Value::Int(Integer::saturating(base.get().saturating_add(sum)))
            }
            Shape::List { floor } => {
                let values = |list: &list::ListReader<'_>| list.values(0..list.len());
                Value::List(list::with(self.rows, &list_prefix(path), floor, values)?)
            }
        };
        Ok(Visited::Leaf(Leaf { path: path.to_vec(), value }))
    }

    /// Gives the empty map that the walk has left. It stays open while nothing that is alive was found in it.
    fn flush_unless_above(&mut self, path: &[String], each: &mut Each<'_>) -> Result<(), DbError> {
        match self.empty_map.take_if(|map| !path.starts_with(map)) {
            Some(map) => each(Leaf { path: map, value: Value::Map(Default::default()) }).map(|_| ()),
            None => Ok(()),
        }
    }
}
