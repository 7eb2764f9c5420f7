//! Edits as they travel.

use std::collections::BTreeSet;

use eid_core::EntryId;
use eid_core::cbor::{CborError, Reader, Writer};
use eid_crdt::sequence::{Anchor, Name, Op, Span};

use super::{Content, OpId};
use crate::stamp::STAGED;

/// An operation that elements are named by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ref {
    /// Its entry, or nothing for the entry that names it.
    pub(crate) entry: Option<EntryId>,
    /// Its place in the entry.
    pub(crate) op: u32,
}

impl Ref {
    /// Appends the reference.
    pub(crate) fn write(&self, w: &mut Writer) {
        w.array(2);
        match &self.entry {
            Some(id) => w.bytes(&id.0),
            None => w.null(),
        };
        w.uint(u64::from(self.op));
    }

    /// Reads a reference.
    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, CborError> {
        r.array_exact(2)?;
        let entry = r.nullable(|r| Ok(EntryId(r.fixed()?)))?;
        Ok(Self { entry, op: narrow(r)? })
    }
}

/// What one operation does to one sequence. Operations are numbered: 0 is this one, others count from 1 through the
/// refs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Edits<R> {
    refs: Vec<Ref>,
    inserts: Vec<(Anchor<u32>, R)>,
    deletes: Vec<Span<u32>>,
}

/// Number 0.
const OWN: u32 = 0;

const START: u64 = 0;
const AFTER: u64 = 1;
const BEFORE: u64 = 2;

impl<R> Default for Edits<R> {
    fn default() -> Self {
        Self { refs: Vec::new(), inserts: Vec::new(), deletes: Vec::new() }
    }
}

impl<R> Edits<R> {
    /// The operations that it names.
    pub(crate) fn refs(&self) -> &[Ref] {
        &self.refs
    }

    /// The edits, named by operations as they are numbered here: the first one is this operation itself, then the refs.
    /// What names one that is nothing is left out.
    pub(crate) fn ops(&self, numbers: &[Option<OpId>]) -> impl Iterator<Item = Op<OpId, R>>
    where
        R: Clone,
    {
        let name = |name: &Name<u32>| {
            let entry = *numbers.get(name.entry as usize)?.as_ref()?;
            Some(Name { entry, offset: name.offset })
        };
        let inserts = self.inserts.iter().filter_map(move |(at, run)| {
            let at = match at {
                Anchor::Start => Anchor::Start,
                Anchor::After(at) => Anchor::After(name(at)?),
                Anchor::Before(at) => Anchor::Before(name(at)?),
            };
            Some(Op::Insert { at, run: run.clone() })
        });
        let deletes = self
            .deletes
            .iter()
            .filter_map(move |span| Some(Op::Delete(Span { first: name(&span.first)?, count: span.count })));
        inserts.chain(deletes)
    }
}

impl<R: Content> Edits<R> {
    /// The wire form of what an operation did, in the order in which it was done; nothing if it did nothing. `id_of`
    /// gives the ids of stored entries.
    pub(crate) fn of<E>(
        own: OpId,
        ops: Vec<Op<OpId, R>>,
        mut id_of: impl FnMut(eid_core::dag::Seq) -> Result<EntryId, E>,
    ) -> Result<Option<Self>, E> {
        let mut numbers = vec![own];
        let mut known = std::collections::BTreeMap::from([(own, OWN)]);
        let mut number = |op: OpId| {
            *known.entry(op).or_insert_with(|| {
                numbers.push(op);
                u32::try_from(numbers.len() - 1).unwrap_or(u32::MAX)
            })
        };
        let (mut inserts, mut gone) = (Vec::new(), Vec::new());
        for op in ops {
            match op {
                Op::Insert { at, run } => {
                    let mut name = |name: Name<OpId>| Name { entry: number(name.entry), offset: name.offset };
                    let at = match at {
                        Anchor::Start => Anchor::Start,
                        Anchor::After(at) => Anchor::After(name(at)),
                        Anchor::Before(at) => Anchor::Before(name(at)),
                    };
                    inserts.push((at, run));
                }
                Op::Delete(span) => gone.push(span),
            }
        }
        gone.sort_unstable_by_key(|span| span.first);
        let mut deletes: Vec<Span<u32>> = Vec::with_capacity(gone.len());
        for span in gone {
            let first = Name { entry: number(span.first.entry), offset: span.first.offset };
            deletes.push(Span { first, count: span.count });
        }
        deletes.sort_unstable_by_key(|span| span.first);
        deletes.dedup_by(|next, held| {
            let joins = held.first.entry == next.first.entry
                && next.first.offset <= held.first.offset.saturating_add(held.count);
            if joins {
                let end = (next.first.offset + next.count).max(held.first.offset + held.count);
                held.count = end - held.first.offset;
            }
            joins
        });
        if inserts.is_empty() && deletes.is_empty() {
            return Ok(None);
        }
        let mut refs = Vec::with_capacity(numbers.len() - 1);
        for op in &numbers[1..] {
            let here = op.seq == own.seq || op.seq == STAGED;
            let entry = if here { None } else { Some(id_of(op.seq)?) };
            refs.push(Ref { entry, op: op.op });
        }
        Ok(Some(Self { refs, inserts, deletes }))
    }

    /// Appends the edits.
    pub(crate) fn write(&self, w: &mut Writer) {
        w.array(3).array(self.refs.len());
        self.refs.iter().for_each(|held| held.write(w));
        w.array(self.inserts.len());
        for (at, run) in &self.inserts {
            match at {
                Anchor::Start => w.array(2).uint(START),
                Anchor::After(name) => w.array(4).uint(AFTER).uint(u64::from(name.entry)),
                Anchor::Before(name) => w.array(4).uint(BEFORE).uint(u64::from(name.entry)),
            };
            if let Anchor::After(name) | Anchor::Before(name) = at {
                w.uint(u64::from(name.offset));
            }
            run.write(w);
        }
        w.array(self.deletes.len() * 3);
        for span in &self.deletes {
            w.uint(u64::from(span.first.entry))
                .uint(u64::from(span.first.offset))
                .uint(u64::from(span.count));
        }
    }

    /// Reads edits, strictly.
    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, CborError> {
        r.array_exact(3)?;
        let count = r.array(usize::MAX)?;
        let refs: Vec<Ref> = (0..count).map(|_| Ref::read(r)).collect::<Result<_, _>>()?;
        if refs.iter().collect::<BTreeSet<_>>().len() < refs.len() {
            return Err(CborError::NonCanonical);
        }
        let mut used = Used { refs: refs.len(), used: 0, elements: 0 };
        let count = r.array(usize::MAX)?;
        let mut inserts = Vec::new();
        for _ in 0..count {
            let items = r.array(4)?;
            let at = match (r.uint()?, items) {
                (START, 2) => Anchor::Start,
                (AFTER, 4) => Anchor::After(used.name(narrow(r)?, narrow(r)?)?),
                (BEFORE, 4) => Anchor::Before(used.name(narrow(r)?, narrow(r)?)?),
                _ => return Err(CborError::Type),
            };
            let run = R::read(r)?;
            let count = u32::try_from(run.count()).map_err(|_| CborError::Limit)?;
            used.elements = used.elements.checked_add(count).ok_or(CborError::Limit)?;
            if count == 0 {
                return Err(CborError::NonCanonical);
            }
            inserts.push((at, run));
        }
        let count = r.array(usize::MAX)?;
        let mut deletes: Vec<Span<u32>> = Vec::new();
        for _ in 0..count / 3 {
            let first = used.name(narrow(r)?, narrow(r)?)?;
            let count = narrow(r)?;
            first.offset.checked_add(count).ok_or(CborError::Limit)?;
            let apart = |held: &Span<u32>| {
                first.entry > held.first.entry
                    || (first.entry == held.first.entry && first.offset > held.first.offset + held.count)
            };
            if count == 0 || !deletes.last().is_none_or(apart) {
                return Err(CborError::NonCanonical);
            }
            deletes.push(Span { first, count });
        }
        if count % 3 != 0 {
            return Err(CborError::Type);
        }
        if used.used < used.refs || (inserts.is_empty() && deletes.is_empty()) {
            return Err(CborError::NonCanonical);
        }
        Ok(Self { refs, inserts, deletes })
    }
}

/// What was named so far.
struct Used {
    refs: usize,
    used: usize,
    /// Elements that this operation has put in.
    elements: u32,
}

impl Used {
    fn name(&mut self, entry: u32, offset: u32) -> Result<Name<u32>, CborError> {
        if entry == OWN && offset >= self.elements {
            return Err(CborError::Limit);
        }
        if entry as usize > self.refs {
            return Err(CborError::Limit);
        }
        match (entry as usize).checked_sub(self.used) {
            Some(0 | 1) if entry as usize <= self.used + 1 => self.used = self.used.max(entry as usize),
            Some(_) => return Err(CborError::NonCanonical),
            None => {}
        }
        Ok(Name { entry, offset })
    }
}

fn narrow(r: &mut Reader<'_>) -> Result<u32, CborError> {
    u32::try_from(r.uint()?).map_err(|_| CborError::Limit)
}
