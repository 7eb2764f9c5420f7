//! A sequence that many edit at once: text as runs of characters, lists as runs of values.
//!
//! The order is that of Fugue (Weidner and Kleppmann, "The Art of the Fugue", 2023): elements form a tree, a run hangs
//! before or after an element of its own causal past, and siblings stand in the order of their entries' stamps. So
//! the order is a function of the set of entries, whatever each of them claims, and runs that were typed at the same
//! place at the same time stand one after the other, forwards or backwards. The tree is kept as the list that walking
//! it gives: each element knows its depth and the depth of the topmost element whose part of the tree it begins, so
//! that the end of any part is the next element that is low enough.
//!
//! Elements are named by the entry that put them in and an offset, never by an id that a payload may choose. An
//! operation has no effect when it claims an offset that its entry has used, or names an element that does not exist
//! or is not in the causal past of its entry: each depends on that past alone, so all replicas agree.
//!
//! ```
//! use eid_crdt::sequence::{Cursor, Op, Sequence, Side, Standing};
//!
//! // Each replica numbers entries as it likes; stamps are the same everywhere.
//! let (mut here, mut there) = (Sequence::<u32, u64, String>::default(), Sequence::<u32, u64, String>::default());
//! let mut hello = Vec::new();
//! here.open(0, 1, Standing::Stands);
//! Op::push(&mut hello, 0, here.insert(0, 0, "helo".to_owned()).unwrap());
//! Op::push(&mut hello, 0, here.insert(0, 3, "l".to_owned()).unwrap());
//! there.integrate(0, 1, Standing::Stands, &hello, |_| true);
//!
//! let caret = here.cursor(5, Side::Left).unwrap();
//! there.open(1, 2, Standing::Stands);
//! let said = there.insert(1, 0, "she said ".to_owned()).unwrap();
//! here.integrate(1, 2, Standing::Stands, &[said], |_| true);
//! assert_eq!(here.text(), "she said hello");
//! assert_eq!(here.text(), there.text());
//! assert_eq!(here.position(&caret), Some(14));
//! ```

mod chunks;
mod limits;
mod op;
mod record;
mod run;

use std::collections::BTreeMap;
use std::fmt::Debug;

use chunks::{Chunks, Place};
use limits::RECORD_ELEMENTS_MAX;
use record::{Children, Record};

pub use op::{Anchor, Cursor, Delta, Name, Op, Side, Span, Standing};
pub use run::{Item, Run};

/// A sequence of elements of runs `R`, put in by entries that are numbered `E` here and ordered by `S` everywhere.
///
/// # Contract
/// An entry is integrated after its causal past and under one number. No two entries have equal stamps: where times can
/// be equal, the entry's name is the last part of its stamp. The order of the numbers does not matter.
#[derive(Debug, Clone)]
pub struct Sequence<E, S, R> {
    records: Chunks<Record<E, R>>,
    /// The leaf that holds the record that begins with an element.
    index: BTreeMap<Name<E>, u32>,
    /// What hangs somewhere, save that each element of a run hangs after the one before.
    children: BTreeMap<Anchor<E>, Children<E>>,
    entries: BTreeMap<E, Entry<E, S>>,
}

#[derive(Debug, Clone)]
struct Entry<E, S> {
    stamp: S,
    standing: Standing,
    /// The offset after the greatest one in use.
    next: u32,
    deletes: Vec<Span<E>>,
}

/// Where an element is: the record and which of its elements.
#[derive(Debug, Clone, Copy)]
struct Found {
    place: Place,
    within: u32,
}

impl<E, S, R> Default for Sequence<E, S, R> {
    fn default() -> Self {
        Self {
            records: Chunks::default(),
            index: BTreeMap::new(),
            children: BTreeMap::new(),
            entries: BTreeMap::new(),
        }
    }
}

impl<E: Copy + Ord + Debug, S: Ord + Clone + Debug, R: Run> Sequence<E, S, R> {
    /// How many elements are shown.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.measure().shown
    }

    /// Whether no element is shown.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is shown, from start to end.
    pub fn runs(&self) -> impl Iterator<Item = &R> {
        std::iter::successors(self.records.first(), |place| self.records.next(*place))
            .filter_map(|place| self.records.get(place))
            .filter(|record| record.shown)
            .map(|record| &record.run)
    }

    /// The name of the element at a position, or nothing at the end and beyond.
    #[must_use]
    pub fn name_at(&self, position: usize) -> Option<Name<E>> {
        let (place, within) = self.records.find(position)?;
        Some(self.records.get(place)?.name(narrow(within)))
    }

    /// A cursor at a position, or nothing beyond the end.
    #[must_use]
    pub fn cursor(&self, position: usize, side: Side) -> Option<Cursor<E>> {
        if position > self.len() {
            return None;
        }
        Some(match side {
            Side::Left if position == 0 => Cursor::Start,
            Side::Left => Cursor::After(self.name_at(position - 1)?),
            Side::Right => self.name_at(position).map_or(Cursor::End, Cursor::Before),
        })
    }

    /// Where a cursor stands: how many elements are before it. Nothing if its neighbour never came here.
    #[must_use]
    pub fn position(&self, cursor: &Cursor<E>) -> Option<usize> {
        let (name, after) = match cursor {
            Cursor::Start => return Some(0),
            Cursor::End => return Some(self.len()),
            Cursor::Before(name) => (name, 0),
            Cursor::After(name) => (name, 1),
        };
        let Found { place, within } = self.seek(name)?;
        let here = if self.records.get(place)?.shown { within as usize + after } else { 0 };
        Some(self.records.shown_before(place) + here)
    }

    /// Integrates a whole entry and gives what changes. An entry that is here already changes nothing.
    ///
    /// `past` says whether an entry is in the causal past of this one; it is asked only about entries that are named
    /// by `ops` and are here.
    pub fn integrate(
        &mut self,
        entry: E,
        stamp: S,
        standing: Standing,
        ops: &[Op<E, R>],
        past: impl Fn(E) -> bool,
    ) -> Vec<Delta<R>> {
        let mut changes = Vec::new();
        if self.open(entry, stamp, standing) {
            for op in ops {
                for change in self.apply(entry, op, &past) {
                    Delta::push(&mut changes, change);
                }
            }
        }
        changes
    }

    /// Makes an entry known, so that its operations can be applied one by one. Says whether it was unknown.
    pub fn open(&mut self, entry: E, stamp: S, standing: Standing) -> bool {
        if self.entries.contains_key(&entry) {
            return false;
        }
        self.entries.insert(entry, Entry { stamp, standing, next: 0, deletes: Vec::new() });
        true
    }

    /// Gives an entry that was open for local edits the stamp that it has for all.
    ///
    /// While it was open and when it is sealed, its stamp must be greater than those of all other entries here; with
    /// the tips of that moment as its parents it is.
    pub fn seal(&mut self, entry: E, stamp: S) {
        if let Some(held) = self.entries.get_mut(&entry) {
            held.stamp = stamp;
        }
    }

    /// Applies one operation of an open entry and gives what changes. Operations of one entry come in their order.
    pub fn apply(&mut self, entry: E, op: &Op<E, R>, past: impl Fn(E) -> bool) -> Vec<Delta<R>> {
        let mut changes = Vec::new();
        let named = match op {
            Op::Insert { at: Anchor::Start, .. } => None,
            Op::Insert { at: Anchor::After(name) | Anchor::Before(name), .. } => Some(*name),
            Op::Delete(span) => Some(span.first),
        };
        let known = |name: Name<E>| {
            self.entries.contains_key(&name.entry) && (name.entry == entry || past(name.entry))
        };
        if !self.entries.contains_key(&entry) || !named.is_none_or(known) {
            return changes;
        }
        match op {
            Op::Insert { at, first, run } => drop(self.put(entry, *at, *first, run, &mut changes)),
            Op::Delete(span) => drop(self.take(entry, *span, &mut changes)),
        }
        changes
    }

    /// Inserts a run at a position for an open entry and gives the operation that says so. Nothing happens beyond the
    /// end, for an entry that is not open, and when the entry has no offsets left.
    pub fn insert(&mut self, entry: E, position: usize, run: R) -> Option<Op<E, R>> {
        let first = self.entries.get(&entry)?.next;
        let at = self.anchor(position)?;
        let op = Op::Insert { at, first, run };
        let Op::Insert { run, .. } = &op else { return None };
        self.put(entry, at, first, run, &mut Vec::new())?;
        Some(op)
    }

    /// Deletes elements from a position on for an open entry and gives the operations that say so. Nothing happens
    /// when the range goes beyond the end, and for an entry that is not open.
    pub fn delete(&mut self, entry: E, position: usize, count: usize) -> Option<Vec<Op<E, R>>> {
        if !self.entries.contains_key(&entry) || position.checked_add(count)? > self.len() {
            return None;
        }
        let mut spans: Vec<Span<E>> = Vec::new();
        let mut at = self.records.find(position);
        let mut rest = count;
        while let Some((place, within)) = at.filter(|_| rest > 0) {
            let record = self.records.get(place)?;
            if record.shown {
                let here = (record.count as usize - within).min(rest);
                rest -= here;
                let span = Span { first: record.name(narrow(within)), count: narrow(here) };
                if !spans.last_mut().is_some_and(|held| held.join(span)) {
                    spans.push(span);
                }
            }
            at = self.records.next(place).map(|place| (place, 0));
        }
        for span in &spans {
            self.take(entry, *span, &mut Vec::new())?;
        }
        Some(spans.into_iter().map(Op::Delete).collect())
    }

    /// Makes an entry void or standing and gives what changes. Work is in proportion to what the entry did.
    pub fn set_standing(&mut self, entry: E, standing: Standing) -> Vec<Delta<R>> {
        let mut changes = Vec::new();
        let Some(held) = self.entries.get_mut(&entry) else { return changes };
        if held.standing == standing {
            return changes;
        }
        held.standing = standing;
        let own = Span { first: Name { entry, offset: 0 }, count: held.next };
        let spans: Vec<Span<E>> = std::iter::once(own).chain(held.deletes.iter().copied()).collect();
        for span in spans {
            for name in self.begins(span) {
                self.show(name, &mut changes);
            }
        }
        changes
    }

    /// Where a run goes that is put in at a position: after its left neighbour, unless something hangs there already.
    fn anchor(&self, position: usize) -> Option<Anchor<E>> {
        let Some(left) = position.checked_sub(1) else {
            let first = self.records.first().and_then(|place| self.records.get(place));
            return Some(first.map_or(Anchor::Start, |record| Anchor::Before(record.first)));
        };
        let (place, within) = self.records.find(left)?;
        let record = self.records.get(place)?;
        let within = narrow(within);
        let left = record.name(within);
        if within + 1 < record.count {
            return Some(Anchor::Before(record.name(within + 1)));
        }
        let next = self.records.next(place).and_then(|place| self.records.get(place));
        let hangs = next.filter(|next| next.low > record.depth + within);
        Some(hangs.map_or(Anchor::After(left), |next| Anchor::Before(next.first)))
    }

    /// Puts a run where it hangs. Nothing if it may not hang there.
    fn put(
        &mut self,
        entry: E,
        at: Anchor<E>,
        first: u32,
        run: &R,
        changes: &mut Vec<Delta<R>>,
    ) -> Option<()> {
        let count = u32::try_from(run.count()).ok()?;
        let end = first.checked_add(count).filter(|_| count > 0)?;
        let last_before = self.index.range(..Name { entry, offset: end }).next_back();
        if let Some((name, _)) = last_before.filter(|(name, _)| name.entry == entry) {
            let found = self.seek(name)?;
            if self.records.get(found.place)?.end() > first {
                return None;
            }
        }
        let depth = match at {
            Anchor::Start => 1,
            Anchor::After(name) | Anchor::Before(name) => {
                let Found { place, within } = self.seek(&name)?;
                self.records.get(place)?.depth.checked_add(within)?.checked_add(1)?
            }
        };
        depth.checked_add(count)?;

        let name = Name { entry, offset: first };
        let (place, low) = self.locate(name, at, depth)?;
        let held = self.entries.get_mut(&entry)?;
        held.next = held.next.max(end);
        let shown = held.standing == Standing::Stands;
        let continues = name.follows(&at);
        if !continues {
            let rank =
                |name: &Name<E>| (self.entries.get(&name.entry).map(|entry| &entry.stamp), name.offset);
            self.children.entry(at).or_default().add(name, rank);
        }
        if shown {
            Delta::push(changes, Delta::Inserted { position: self.shown_before(place), run: run.clone() });
        }
        let mut record =
            Record { first: name, count, at, depth, low, shown, deleted_by: Vec::new(), run: run.clone() };
        if let Some(before) = place.index.checked_sub(1).map(|index| Place { index, ..place })
            && continues
            && self.records.get(before).is_some_and(|held| held.can_grow(&record))
        {
            self.records.change(before, |held| {
                held.count += count;
                held.run.append(record.run);
            });
            return Some(());
        }
        let mut place = place;
        while record.count as usize > RECORD_ELEMENTS_MAX {
            let rest = record.split_off(narrow(RECORD_ELEMENTS_MAX));
            let part = std::mem::replace(&mut record, rest);
            let name = part.first;
            self.put_record(place, part);
            let put = self.seek(&name)?.place;
            place = Place { index: put.index + 1, ..put };
        }
        self.put_record(place, record);
        Some(())
    }

    /// Finds the place of a run among what hangs at its anchor, cuts the record there if need be, and says how low the
    /// run begins.
    fn locate(&mut self, name: Name<E>, at: Anchor<E>, depth: u32) -> Option<(Place, u32)> {
        let sibling = self.sibling_before(name, at);
        if let Some(sibling) = sibling {
            let Found { place, .. } = self.seek(&sibling)?;
            return Some((self.records.next_low(place, depth).unwrap_or_else(|| self.records.end()), depth));
        }
        match at {
            Anchor::Start => Some((Place { leaf: 0, index: 0 }, depth)),
            Anchor::After(parent) => {
                let Found { place, within } = self.seek(&parent)?;
                self.cut(place, within + 1)?;
                let Found { place, .. } = self.seek(&parent)?;
                Some((Place { index: place.index + 1, ..place }, depth))
            }
            Anchor::Before(parent) => {
                let Found { place, within } = self.seek(&parent)?;
                self.cut(place, within)?;
                let Found { place, .. } = self.seek(&parent)?;
                let hangs = self.children.get(&at).is_some_and(|children| !children.is_empty());
                let (begins, stays) = if hangs {
                    (self.records.previous_low(place, depth - 1)?, depth)
                } else {
                    (place, depth - 1)
                };
                let low = self.records.change(begins, |record| std::mem::replace(&mut record.low, stays));
                Some((begins, low))
            }
        }
    }

    /// The greatest element that hangs at an anchor and stands before one that is put there.
    fn sibling_before(&self, name: Name<E>, at: Anchor<E>) -> Option<Name<E>> {
        let rank = |name: &Name<E>| (self.entries.get(&name.entry).map(|entry| &entry.stamp), name.offset);
        let hung = self.children.get(&at).and_then(|children| children.before(&name, rank));
        let next = match at {
            Anchor::After(parent) => self.continuation(parent).filter(|next| rank(next) < rank(&name)),
            Anchor::Start | Anchor::Before(_) => None,
        };
        [hung, next].into_iter().flatten().max_by(|a, b| rank(a).cmp(&rank(b)))
    }

    /// The next element of the same entry, if it hangs after this one.
    fn continuation(&self, name: Name<E>) -> Option<Name<E>> {
        let next = Name { entry: name.entry, offset: name.offset.checked_add(1)? };
        let Found { place, within } = self.seek(&next)?;
        let hangs = within > 0 || self.records.get(place)?.at == Anchor::After(name);
        hangs.then_some(next)
    }

    /// Hides what another entry, or this one, put in. Nothing if the entry names what does not exist.
    fn take(&mut self, entry: E, span: Span<E>, changes: &mut Vec<Delta<R>>) -> Option<()> {
        let end = span.end().filter(|_| span.count > 0)?;
        let mut missing = span.count;
        let mut at = span.first;
        while missing > 0 {
            let Found { place, within } = self.seek(&at)?;
            let here = (self.records.get(place)?.count - within).min(missing);
            missing -= here;
            at.offset += here;
        }
        for edge in [span.first, Name { offset: end, ..span.first }] {
            if let Some(Found { place, within }) = self.seek(&edge) {
                self.cut(place, within)?;
            }
        }
        self.entries.get_mut(&entry)?.deletes.push(span);
        for name in self.begins(span) {
            let Found { place, .. } = self.seek(&name)?;
            self.records.change(place, |record| {
                if !record.deleted_by.contains(&entry) {
                    record.deleted_by.push(entry);
                }
            });
            self.show(name, changes);
        }
        Some(())
    }

    /// The first elements of the records in a span.
    fn begins(&self, span: Span<E>) -> Vec<Name<E>> {
        let end = Name { entry: span.first.entry, offset: span.end().unwrap_or(u32::MAX) };
        self.index.range(span.first..end).map(|(name, _)| *name).collect()
    }

    /// Shows or hides a record as its entry and those that deleted it stand.
    fn show(&mut self, name: Name<E>, changes: &mut Vec<Delta<R>>) {
        let Some(Found { place, .. }) = self.seek(&name) else { return };
        let Some(record) = self.records.get(place) else { return };
        let stands =
            |entry: &E| self.entries.get(entry).is_some_and(|entry| entry.standing == Standing::Stands);
        let shown = stands(&name.entry) && !record.deleted_by.iter().any(stands);
        if shown == record.shown {
            return;
        }
        let position = self.records.shown_before(place);
        let change = if shown {
            Delta::Inserted { position, run: record.run.clone() }
        } else {
            Delta::Deleted { position, count: record.count as usize }
        };
        Delta::push(changes, change);
        self.records.change(place, |record| record.shown = shown);
    }

    fn seek(&self, name: &Name<E>) -> Option<Found> {
        let (first, leaf) = self.index.range(..=name).next_back()?;
        if first.entry != name.entry {
            return None;
        }
        let index = self.records.items(*leaf).iter().position(|record| record.first == *first)?;
        let place = Place { leaf: *leaf, index };
        let within = name.offset - first.offset;
        (within < self.records.get(place)?.count).then_some(Found { place, within })
    }

    /// How many elements are shown before a place, which may be past the last record of its leaf.
    fn shown_before(&self, place: Place) -> usize {
        if self.records.get(place).is_some() {
            return self.records.shown_before(place);
        }
        let Some(index) = place.index.checked_sub(1) else { return 0 };
        let last = Place { index, ..place };
        let shown =
            self.records.get(last).map_or(0, |record| if record.shown { record.count as usize } else { 0 });
        self.records.shown_before(last) + shown
    }

    /// Cuts a record in two, unless the cut is at one of its ends.
    fn cut(&mut self, place: Place, within: u32) -> Option<()> {
        if within > 0 && within < self.records.get(place)?.count {
            let rest = self.records.change(place, |record| record.split_off(within));
            self.put_record(Place { index: place.index + 1, ..place }, rest);
        }
        Some(())
    }

    fn put_record(&mut self, place: Place, record: Record<E, R>) {
        let index = &mut self.index;
        self.records.insert(place, record, |record, leaf| {
            index.insert(record.first, leaf);
        });
    }
}

impl<E: Copy + Ord + Debug, S: Ord + Clone + Debug> Sequence<E, S, String> {
    /// The text that is shown.
    #[must_use]
    pub fn text(&self) -> String {
        self.runs().map(String::as_str).collect()
    }
}

fn narrow(count: usize) -> u32 {
    u32::try_from(count).expect("a record has at most as many elements as offsets")
}
