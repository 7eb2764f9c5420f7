//! Kind `registry`: what is said about stores. Nothing in it decides what a store holds.
//!
//! ```text
//! register    [0, store, kind]
//! index       [1, store, kind, field, on]
//! encryption  [2, store, config]
//! registered  01 store kind -> (nothing)
//! index       02 store kind field -> [entries, entry, op, on]
//! encryption  03 store hash(config) -> config
//! ```
//! In keys of rows a store is preceded by its length, and so is a kind that a field follows. Registrations and
//! encryption only grow; of the operations on one index the latest counts. What a config means is in
//! [`crate::sealed`].

use bytes::Bytes;
use eid_core::cbor::{CborError, Reader, Writer};
use eid_core::limits::STORE_NAME_BYTES_MAX;
use eid_core::{ReadError, StoreName};
use eid_crdt::Register;
use eid_store::{Direction, Key, ViewRows, Wanted};

use crate::error::DbError;
use crate::kind::DamagedRow;
use crate::limits::{ENCRYPTION_CONFIG_BYTES_MAX, INDEX_FIELD_BYTES_MAX, PAGE_ROWS};
use crate::rows::Rows;
use crate::stamp::{Stamp, StampTable, resolve};

/// The name of this kind in payloads.
pub(crate) const KIND: &str = "registry";
/// The only store of this kind that is looked at.
pub(crate) const STORE: &str = "_registry";

const REGISTER: u64 = 0;
const INDEX: u64 = 1;
const ENCRYPTION: u64 = 2;

const REGISTERED_ROW: u8 = 1;
const INDEX_ROW: u8 = 2;
const ENCRYPTION_ROW: u8 = 3;

/// The store.
pub(crate) fn store() -> StoreName {
    StoreName::new(STORE).expect("the name is within the limits")
}

/// Something said about a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RegistryOp {
    Register { store: String, kind: String },
    Index { store: String, kind: String, field: String, on: bool },
    Encryption { store: String, config: Bytes },
}

/// Encodes what is about to be written, unless no replica would apply it.
pub(crate) fn encode_checked(op: &RegistryOp) -> Result<Bytes, DbError> {
    let bytes = encode(op);
    match decode(&bytes) {
        Ok(_) => Ok(bytes),
        Err(_) => Err(DbError::Unregistrable),
    }
}

pub(crate) fn encode(op: &RegistryOp) -> Bytes {
    let mut w = Writer::new();
    match op {
        RegistryOp::Register { store, kind } => w.array(3).uint(REGISTER).text(store).text(kind),
        RegistryOp::Index { store, kind, field, on } => {
            w.array(5).uint(INDEX).text(store).text(kind).text(field).bool(*on)
        }
        RegistryOp::Encryption { store, config } => w.array(3).uint(ENCRYPTION).text(store).bytes(config),
    };
    Bytes::from(w.into_bytes())
}

/// Decodes an operation, strictly.
pub(crate) fn decode(bytes: &Bytes) -> Result<RegistryOp, CborError> {
    let mut r = Reader::new(bytes);
    let items = r.array(5)?;
    let code = r.uint()?;
    let store = text(&mut r, STORE_NAME_BYTES_MAX)?;
    let op = match (code, items) {
        (REGISTER, 3) => RegistryOp::Register { store, kind: text(&mut r, STORE_NAME_BYTES_MAX)? },
        (INDEX, 5) => {
            let kind = text(&mut r, STORE_NAME_BYTES_MAX)?;
            RegistryOp::Index { store, kind, field: text(&mut r, INDEX_FIELD_BYTES_MAX)?, on: r.bool()? }
        }
        (ENCRYPTION, 3) => match r.bytes(ENCRYPTION_CONFIG_BYTES_MAX)? {
            [] => return Err(CborError::Limit),
            config => RegistryOp::Encryption { store, config: Bytes::copy_from_slice(config) },
        },
        _ => return Err(CborError::Type),
    };
    r.finish()?;
    Ok(op)
}

/// A text that is not empty.
fn text(r: &mut Reader<'_>, bytes_max: usize) -> Result<String, CborError> {
    match r.text(bytes_max)? {
        "" => Err(CborError::Limit),
        text => Ok(text.to_owned()),
    }
}

fn push(row: &mut Key, name: &str) {
    row.push(u8::try_from(name.len()).expect("names of stores and kinds are short"));
    row.extend_from_slice(name.as_bytes());
}

/// The keys of one tag, of one store or of all.
fn prefix(tag: u8, store: Option<&str>) -> Key {
    let mut row = vec![tag];
    if let Some(store) = store {
        push(&mut row, store);
    }
    row
}

fn row_key(op: &RegistryOp) -> Key {
    match op {
        RegistryOp::Register { store, kind } => {
            let mut row = prefix(REGISTERED_ROW, Some(store));
            row.extend_from_slice(kind.as_bytes());
            row
        }
        RegistryOp::Index { store, kind, field, .. } => {
            let mut row = prefix(INDEX_ROW, Some(store));
            push(&mut row, kind);
            row.extend_from_slice(field.as_bytes());
            row
        }
        RegistryOp::Encryption { store, config } => {
            let mut row = prefix(ENCRYPTION_ROW, Some(store));
            row.extend_from_slice(blake3::hash(config).as_bytes());
            row
        }
    }
}

/// Names the row that the operation changes.
pub(crate) fn reads(op: &RegistryOp, wanted: &mut Wanted) {
    wanted.key(&row_key(op));
}

/// Joins the operation with its row.
pub(crate) fn apply(op: &RegistryOp, stamp: Stamp, view: &mut dyn ViewRows) -> Result<(), ReadError> {
    let key = row_key(op);
    let held = view.get(&key)?;
    let bytes = match op {
        RegistryOp::Register { .. } => Bytes::new(),
        RegistryOp::Encryption { config, .. } => config.clone(),
        RegistryOp::Index { on, .. } => {
            let mut index = held.as_ref().map_or(Ok(Register::default()), decode_index);
            let index =
                index.as_mut().map_err(|cause| ReadError::new(DamagedRow { kind: KIND, cause: *cause }))?;
            let mut stamp = stamp;
            let mut stamps: Vec<&mut Stamp> = index.stamp_mut().into_iter().collect();
            stamps.push(&mut stamp);
            resolve(&mut stamps, |seq| view.id_of(seq))?;
            index.write(stamp, *on);
            encode_index(index)
        }
    };
    if held.as_ref() != Some(&bytes) {
        view.put(&key, bytes);
    }
    Ok(())
}

type Index = Register<Stamp, bool>;

fn encode_index(index: &Index) -> Bytes {
    let mut w = Writer::new();
    if let Some((stamp, on)) = index.get() {
        let (mut table, mut body) = (StampTable::default(), Writer::new());
        table.write(&mut body, stamp);
        table.write_entries(w.array(4));
        w.raw(&body.into_bytes()).bool(*on);
    }
    Bytes::from(w.into_bytes())
}

fn decode_index(bytes: &Bytes) -> Result<Index, CborError> {
    let mut r = Reader::new(bytes);
    r.array_exact(4)?;
    let table = StampTable::read_entries(&mut r)?;
    let written = (table.read(&mut r)?, r.bool()?);
    r.finish()?;
    Ok(Register::from_parts(Some(written)))
}

fn damaged() -> DbError {
    DbError::Corrupt { what: "a row of the registry" }
}

/// Takes the name off the beginning of a key.
fn take<'k>(key: &mut &'k [u8]) -> Result<&'k str, DbError> {
    let (length, rest) = key.split_first().ok_or_else(damaged)?;
    let (name, rest) = rest.split_at_checked(usize::from(*length)).ok_or_else(damaged)?;
    *key = rest;
    std::str::from_utf8(name).map_err(|_| damaged())
}

/// Every row of a tag, of one store or of all, page by page: the store, what follows it in the key, the value.
fn each(
    rows: &dyn Rows,
    tag: u8,
    store: Option<&str>,
    mut each: impl FnMut(&str, &[u8], Bytes) -> Result<(), DbError>,
) -> Result<(), DbError> {
    let prefix = prefix(tag, store);
    let mut from = prefix.clone();
    let to = {
        // Neither a tag nor the last byte of a name, which is UTF-8, is the greatest byte.
        let mut to = prefix;
        if let Some(last) = to.last_mut() {
            *last += 1;
        }
        to
    };
    loop {
        let found = rows.scan(&from, &to, Direction::Forward, PAGE_ROWS)?;
        let more = found.len() == PAGE_ROWS;
        for (key, value) in found {
            let mut rest = &key[1..];
            let name = take(&mut rest)?;
            each(name, rest, value)?;
            from.clone_from(&key);
            from.push(0);
        }
        if !more {
            return Ok(());
        }
    }
}

/// Calls `found` with every registration: store and kind.
pub(crate) fn each_registered(
    rows: &dyn Rows,
    store: Option<&str>,
    found: &mut dyn FnMut(&str, &str),
) -> Result<(), DbError> {
    each(rows, REGISTERED_ROW, store, |store, kind, _| {
        found(store, std::str::from_utf8(kind).map_err(|_| damaged())?);
        Ok(())
    })
}

/// Calls `found` with every index that is declared: store, kind and field.
pub(crate) fn each_index(
    rows: &dyn Rows,
    store: Option<&str>,
    found: &mut dyn FnMut(&str, &str, &str),
) -> Result<(), DbError> {
    each(rows, INDEX_ROW, store, |store, mut rest, value| {
        let kind = take(&mut rest)?;
        let field = std::str::from_utf8(rest).map_err(|_| damaged())?;
        let index = decode_index(&value).map_err(|_| damaged())?;
        if index.get().is_some_and(|(_, on)| *on) {
            found(store, kind, field);
        }
        Ok(())
    })
}

/// Calls `found` with every encryption: store and config.
pub(crate) fn each_encryption(
    rows: &dyn Rows,
    store: Option<&str>,
    found: &mut dyn FnMut(&str, Bytes),
) -> Result<(), DbError> {
    each(rows, ENCRYPTION_ROW, store, |store, _, config| {
        found(store, config);
        Ok(())
    })
}
