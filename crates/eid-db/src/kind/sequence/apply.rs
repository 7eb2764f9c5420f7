//! Operations come to the rows: applied when all that they name is, kept until then.
//!
//! ```text
//! waits     06 entry id, op, seq op -> nothing: the operation at seq waits for that one
//! missing   07 seq op               -> how many operations it waits for
//! waiting   08 seq op               -> [time, height, void, edits]
//! ```

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use eid_core::cbor::{CborError, Reader, Writer};
use eid_core::dag::Seq;
use eid_core::{EntryId, Height, ReadError, Time};
use eid_crdt::sequence::{Op, Paged, Pages as _, Standing};
use eid_store::{Key, ViewRows};

use super::pages::{InView, Loaded, Source as _, key, op_key};
use super::{Content, Delta, Edits, OpId, Ref};
use crate::stamp::{STAGED, Stamp};

const WAITS: u8 = 6;
const MISSING: u8 = 7;
const WAITING: u8 = 8;

/// A sequence to be changed.
pub(super) struct Changing<'v, R> {
    pub(super) list: Paged<Loaded<R, InView<'v>>>,
    pub(super) changes: Vec<Delta<R>>,
    /// The entry that is being applied: it is not yet among those that the view finds by their ids.
    now: Seq,
}

/// What an operation names.
enum Named {
    /// Applied here, or never: an operation comes after those that it names.
    Known(Vec<Option<OpId>>),
    Missing(BTreeSet<(EntryId, u32)>),
}

impl<'v, R: Content> Changing<'v, R> {
    pub(super) fn open(view: &'v mut dyn ViewRows, prefix: &[u8]) -> Result<Self, ReadError> {
        let pages = Loaded::open(InView(RefCell::new(view)), prefix)?;
        Ok(Self { list: Paged::new(pages), changes: Vec::new(), now: STAGED })
    }

    /// Writes what has changed, and says what that was.
    pub(super) fn finish(self) -> Vec<Delta<R>> {
        self.list.into_pages().write_back();
        self.changes
    }

    fn view<T>(&mut self, with: impl FnOnce(&mut dyn ViewRows) -> T) -> T {
        with(&mut **self.list.pages().source.0.borrow_mut())
    }

    fn key(&self, tag: u8, op: OpId) -> Key {
        op_key(self.list.pages().prefix(), tag, op)
    }

    pub(super) fn apply(
        &mut self,
        stamp: Stamp,
        standing: Standing,
        edits: &Edits<R>,
    ) -> Result<(), ReadError> {
        let own = OpId::of(&stamp);
        self.now = own.seq;
        if self.list.pages().operation(own)?.is_some() {
            return Ok(());
        }
        match self.named(own, edits.refs())? {
            Named::Known(numbers) => {
                self.integrate(stamp, standing, edits.ops(&numbers))?;
                self.wake(own)
            }
            Named::Missing(missing) => self.wait(stamp, standing, edits, missing),
        }
    }

    fn integrate(
        &mut self,
        stamp: Stamp,
        standing: Standing,
        ops: impl Iterator<Item = Op<OpId, R>>,
    ) -> Result<(), ReadError> {
        let changes = self.list.integrate(OpId::of(&stamp), stamp, standing, ops)?;
        self.changes.extend(changes);
        Ok(())
    }

    /// Makes an operation void or standing, also one that waits.
    pub(super) fn set_standing(&mut self, op: OpId, standing: Standing) -> Result<(), ReadError> {
        self.changes = self.list.set_standing(op, standing)?;
        if self.list.pages().waiting() == 0 || self.list.pages().operation(op)?.is_some() {
            return Ok(());
        }
        let key = self.key(WAITING, op);
        if let Some(row) = self.view(|view| view.get(&key))? {
            let (stamp, _, edits) = decode_waiting::<R>(op, &row).map_err(InView::damaged)?;
            self.view(|view| view.put(&key, encode_waiting(&stamp, standing, &edits)));
        }
        Ok(())
    }

    fn named(&mut self, own: OpId, refs: &[Ref]) -> Result<Named, ReadError> {
        let (mut numbers, mut missing) = (vec![Some(own)], BTreeSet::new());
        for held in refs {
            let seq = match &held.entry {
                Some(id) => self.seq_of(id)?.filter(|seq| *seq != own.seq),
                // Nothing in an entry names itself or what comes later in it.
                None if held.op >= own.op => {
                    numbers.push(None);
                    continue;
                }
                None => Some(own.seq),
            };
            let op = seq.map(|seq| OpId { seq, op: held.op });
            let here = match op {
                Some(op) => self.list.pages().operation(op)?.is_some(),
                None => false,
            };
            if here || own.seq == STAGED {
                numbers.push(op.filter(|_| here));
                continue;
            }
            let id = match held.entry {
                Some(id) => id,
                None => self.view(|view| view.id_of(own.seq))?,
            };
            missing.insert((id, held.op));
        }
        Ok(if missing.is_empty() { Named::Known(numbers) } else { Named::Missing(missing) })
    }

    fn seq_of(&mut self, id: &EntryId) -> Result<Option<Seq>, ReadError> {
        let now = self.now;
        match self.view(|view| view.seq_of(id))? {
            None if now != STAGED && self.view(|view| view.id_of(now))? == *id => Ok(Some(now)),
            seq => Ok(seq),
        }
    }

    fn wait(
        &mut self,
        stamp: Stamp,
        standing: Standing,
        edits: &Edits<R>,
        missing: BTreeSet<(EntryId, u32)>,
    ) -> Result<(), ReadError> {
        let own = OpId::of(&stamp);
        let (count, waiting) = (self.key(MISSING, own), self.key(WAITING, own));
        if self.list.pages().waiting() > 0 && self.view(|view| view.get(&count))?.is_some() {
            return Ok(());
        }
        let row = encode_waiting(&stamp, standing, edits);
        let keys: Vec<Key> = missing
            .iter()
            .map(|(id, op)| waits_key(self.list.pages().prefix(), id, *op, Some(own)))
            .collect();
        self.view(|view| {
            view.put(&waiting, row);
            view.put(&count, encode_count(missing.len()));
            keys.iter().for_each(|key| view.put(key, Bytes::new()));
        });
        *self.list.pages_mut().waiting_mut() += 1;
        Ok(())
    }

    /// Applies what has waited for an operation and for no other, and what has waited for that, until none is left.
    fn wake(&mut self, applied: OpId) -> Result<(), ReadError> {
        let mut applied = VecDeque::from([applied]);
        while let Some(op) = applied.pop_front() {
            if self.list.pages().waiting() == 0 || op.seq == STAGED {
                return Ok(());
            }
            let id = self.view(|view| view.id_of(op.seq))?;
            let from = waits_key(self.list.pages().prefix(), &id, op.op, None);
            let mut to = from.clone();
            to.extend_from_slice(&[0xff; 13]);
            for (key, _) in self.view(|view| view.scan(&from, &to))? {
                let waiter =
                    waiter(&key[from.len()..]).ok_or_else(|| InView::damaged(CborError::Truncated))?;
                self.view(|view| view.delete(&key));
                if let Some(stamp) = self.came(waiter)? {
                    applied.push_back(OpId::of(&stamp));
                }
            }
        }
        Ok(())
    }

    /// One of the operations that another waits for has come. Applies it if that was the last.
    fn came(&mut self, waiter: OpId) -> Result<Option<Stamp>, ReadError> {
        let (count_key, waiting_key) = (self.key(MISSING, waiter), self.key(WAITING, waiter));
        let Some(count) = self.view(|view| view.get(&count_key))? else { return Ok(None) };
        let count = decode_count(&count).map_err(InView::damaged)?;
        if count > 1 {
            self.view(|view| view.put(&count_key, encode_count(count - 1)));
            return Ok(None);
        }
        let row = self.view(|view| {
            let row = view.get(&waiting_key);
            view.delete(&count_key);
            view.delete(&waiting_key);
            row
        })?;
        let waiting = self.list.pages_mut().waiting_mut();
        *waiting = waiting.saturating_sub(1);
        let Some(row) = row else { return Ok(None) };
        let (stamp, standing, edits) = decode_waiting::<R>(waiter, &row).map_err(InView::damaged)?;
        match self.named(waiter, edits.refs())? {
            Named::Known(numbers) => {
                self.integrate(stamp, standing, edits.ops(&numbers))?;
                Ok(Some(stamp))
            }
            Named::Missing(missing) => {
                self.wait(stamp, standing, &edits, missing)?;
                Ok(None)
            }
        }
    }
}

fn encode_waiting<R: Content>(stamp: &Stamp, standing: Standing, edits: &Edits<R>) -> Bytes {
    let mut w = Writer::new();
    w.array(4).uint(stamp.time.0).uint(stamp.height.0).bool(standing == Standing::Void);
    edits.write(&mut w);
    Bytes::from(w.into_bytes())
}

fn waits_key(prefix: &[u8], id: &EntryId, op: u32, waiter: Option<OpId>) -> Key {
    let mut row = key(prefix, WAITS, &[&id.0, &op.to_be_bytes()]);
    if let Some(waiter) = waiter {
        row.extend_from_slice(&waiter.seq.0.to_be_bytes());
        row.extend_from_slice(&waiter.op.to_be_bytes());
    }
    row
}

fn waiter(key: &[u8]) -> Option<OpId> {
    let (seq, op) = key.split_first_chunk::<8>()?;
    Some(OpId { seq: Seq(u64::from_be_bytes(*seq)), op: u32::from_be_bytes(op.try_into().ok()?) })
}

fn encode_count(count: usize) -> Bytes {
    let mut w = Writer::new();
    w.uint(count as u64);
    Bytes::from(w.into_bytes())
}

fn decode_count(row: &[u8]) -> Result<usize, CborError> {
    let mut r = Reader::new(row);
    let count = usize::try_from(r.uint()?).map_err(|_| CborError::Limit)?;
    r.finish()?;
    Ok(count)
}

fn decode_waiting<R: Content>(op: OpId, row: &[u8]) -> Result<(Stamp, Standing, Edits<R>), CborError> {
    let mut r = Reader::new(row);
    r.array_exact(4)?;
    let stamp = Stamp::new(Time(r.uint()?), Height(r.uint()?), op.seq, op.op);
    let standing = if r.bool()? { Standing::Void } else { Standing::Stands };
    let edits = Edits::read(&mut r)?;
    r.finish()?;
    Ok((stamp, standing, edits))
}
