//! The algorithm, over pages wherever they are.

use std::collections::BTreeSet;

use super::pages::{Inner, Operation, Pages};
use super::record::{Marks, Record, Stretch, cut_up};
use super::tree::Place;
use super::{Anchor, Cursor, Delta, Name, Op, Run, Side, Span, Standing};

/// A sequence over pages.
///
/// # Contract
/// An operation is integrated under one number, after every operation that it names. No two operations have equal
/// stamps. The order of the numbers does not matter.
#[derive(Debug, Clone, Default)]
pub struct Paged<P> {
    pub(super) pages: P,
}

/// Where an element is: the record and which of its elements.
#[derive(Debug, Clone, Copy)]
struct Found<E> {
    place: Place,
    within: u32,
    stretch: Stretch<E>,
}

/// An edit of a sequence over pages.
pub type OpOf<P> = Op<<P as Pages>::Entry, <P as Pages>::Run>;

/// What changes, where somebody wants to know.
pub(super) type Changes<'c, R> = Option<&'c mut Vec<Delta<R>>>;

/// Where a run goes, the depth of its first element, and how low it begins.
#[derive(Debug, Clone, Copy)]
struct Spot {
    place: Place,
    depth: u32,
    low: u32,
}

impl<P: Pages> Paged<P> {
    /// The sequence that these pages hold.
    #[must_use]
    pub fn new(pages: P) -> Self {
        Self { pages }
    }

    /// The pages.
    #[must_use]
    pub fn pages(&self) -> &P {
        &self.pages
    }

    /// The pages, for what is kept beside the sequence.
    pub fn pages_mut(&mut self) -> &mut P {
        &mut self.pages
    }

    /// Gives the pages back.
    #[must_use]
    pub fn into_pages(self) -> P {
        self.pages
    }

    /// How many elements are shown.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pages.head().shown
    }

    /// Whether no element is shown.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Visits what is shown from a position on, until `visit` has seen enough: each record, and which of its elements
    /// is the first one asked for.
    pub fn visit<X: From<P::Error>>(
        &self,
        position: usize,
        mut visit: impl FnMut(&Record<P::Entry, P::Run>, u32) -> Result<Visit, X>,
    ) -> Result<(), X> {
        let Some((mut place, mut within)) = self.find(position)? else { return Ok(()) };
        loop {
            let leaf = self.pages.leaf(place.leaf)?;
            for record in &leaf.records[place.index..] {
                if record.stretch.is_shown() && visit(record, within)? == Visit::Enough {
                    return Ok(());
                }
                within = 0;
            }
            let Some(leaf) = leaf.after else { return Ok(()) };
            place = Place { leaf, index: 0 };
        }
    }

    /// Which elements are shown in a range of positions, as far as there are any.
    pub fn spans(&self, position: usize, count: usize) -> Result<Vec<Span<P::Entry>>, P::Error> {
        let (mut spans, mut rest) = (Vec::<Span<P::Entry>>::new(), count);
        if rest == 0 {
            return Ok(spans);
        }
        self.visit(position, |record, within| {
            let here = (record.stretch.count - within).min(u32::try_from(rest).unwrap_or(u32::MAX));
            rest -= here as usize;
            let span = Span { first: record.stretch.name(within), count: here };
            if !spans.last_mut().is_some_and(|held| held.join(span)) {
                spans.push(span);
            }
            Ok::<_, P::Error>(if rest == 0 { Visit::Enough } else { Visit::More })
        })?;
        Ok(spans)
    }

    /// The name of the element at a position, or nothing at the end and beyond.
    pub fn name_at(&self, position: usize) -> Result<Option<Name<P::Entry>>, P::Error> {
        let Some((place, within)) = self.find(position)? else { return Ok(None) };
        Ok(self.stretch(place)?.map(|held| held.name(within)))
    }

    /// A cursor at a position, or nothing beyond the end.
    pub fn cursor(&self, position: usize, side: Side) -> Result<Option<Cursor<P::Entry>>, P::Error> {
        if position > self.len() {
            return Ok(None);
        }
        Ok(match side {
            Side::Left if position == 0 => Some(Cursor::Start),
            Side::Left => self.name_at(position - 1)?.map(Cursor::After),
            Side::Right => Some(self.name_at(position)?.map_or(Cursor::End, Cursor::Before)),
        })
    }

    /// Where a cursor stands: how many elements are before it. Nothing if its neighbour never came here.
    pub fn position(&self, cursor: &Cursor<P::Entry>) -> Result<Option<usize>, P::Error> {
        let (name, after) = match cursor {
            Cursor::Start => return Ok(Some(0)),
            Cursor::End => return Ok(Some(self.len())),
            Cursor::Before(name) => (name, 0),
            Cursor::After(name) => (name, 1),
        };
        let Some(found) = self.seek(name)? else { return Ok(None) };
        let here = if found.stretch.is_shown() { found.within as usize + after } else { 0 };
        Ok(Some(self.shown_before(found.place)? + here))
    }

    /// The record that an element is in; nothing if it never came here.
    pub fn stretch_of(&self, name: &Name<P::Entry>) -> Result<Option<Stretch<P::Entry>>, P::Error> {
        Ok(self.seek(name)?.map(|found| found.stretch))
    }

    /// An element, alone in its run, with what is known of the record that it is in.
    #[expect(clippy::type_complexity, reason = "each part is a type of the pages")]
    pub fn element(&self, name: &Name<P::Entry>) -> Result<Option<(Stretch<P::Entry>, P::Run)>, P::Error> {
        let Some(Found { place, within, stretch }) = self.seek(name)? else { return Ok(None) };
        let leaf = self.pages.leaf(place.leaf)?;
        Ok(leaf.records.get(place.index).map(|record| {
            let mut run = record.run.clone();
            let mut run = if within > 0 { run.split_off(within as usize) } else { run };
            drop(run.split_off(1));
            (stretch, run)
        }))
    }

    /// Integrates a whole operation and gives what changes. One that is here already changes nothing.
    pub fn integrate(
        &mut self,
        entry: P::Entry,
        stamp: P::Stamp,
        standing: Standing,
        ops: impl IntoIterator<Item = Op<P::Entry, P::Run>>,
    ) -> Result<Vec<Delta<P::Run>>, P::Error> {
        let mut changes = Vec::new();
        if self.open(entry, stamp, standing)? {
            for op in ops {
                self.apply(entry, op, Some(&mut changes))?;
            }
        }
        Ok(changes)
    }

    /// Makes an operation known, so that its edits can be applied one by one. Says whether it was unknown.
    pub fn open(&mut self, entry: P::Entry, stamp: P::Stamp, standing: Standing) -> Result<bool, P::Error> {
        if self.pages.operation(entry)?.is_some() {
            return Ok(false);
        }
        self.pages.set_operation(entry, Operation { stamp, standing, count: 0 })?;
        Ok(true)
    }

    /// Gives an operation that was open for local edits the stamp that it has for all, under a number of its own.
    ///
    /// While it was open and when it is sealed, its stamp must be greater than those of all other operations here. Work
    /// is in proportion to what the operation did.
    pub fn seal(&mut self, open: P::Entry, entry: P::Entry, stamp: P::Stamp) -> Result<(), P::Error> {
        let Some(held) = self.pages.operation(open)? else { return Ok(()) };
        self.lower(&stamp)?;
        self.pages.set_operation(entry, Operation { stamp, standing: held.standing, count: held.count })?;
        if entry == open {
            return Ok(());
        }
        let named = |name: Name<P::Entry>| Name {
            entry: if name.entry == open { entry } else { name.entry },
            ..name
        };
        for span in self.pages.deletes(open)? {
            self.pages.add_delete(entry, Span { first: named(span.first), ..span })?;
        }
        let (mut leaves, mut at) = (BTreeSet::new(), Name { entry: open, offset: 0 });
        while let Some(found) = self.seek(&at)? {
            leaves.insert(found.place.leaf);
            at.offset = found.stretch.end();
        }
        let mut moved = Vec::new();
        for leaf in leaves {
            for record in &mut self.pages.leaf_mut(leaf)?.records {
                if record.stretch.first.entry == open {
                    record.stretch.first.entry = entry;
                    moved.push((record.span(), leaf));
                }
            }
        }
        moved.sort_unstable_by_key(|(span, _)| span.first);
        for (span, leaf) in moved {
            self.pages.assign(span, leaf)?;
        }
        self.pages.remove_operation(open)
    }

    /// Applies one edit of an open operation. Edits of one operation come in their order. One that names what is not
    /// there has no effect.
    pub fn apply(
        &mut self,
        entry: P::Entry,
        op: Op<P::Entry, P::Run>,
        changes: Changes<'_, P::Run>,
    ) -> Result<(), P::Error> {
        match op {
            Op::Insert { at, run } => self.put(entry, at, run, changes).map(drop),
            Op::Delete(span) => self.take(entry, span, changes).map(drop),
        }
    }

    /// Inserts a run at a position for an open operation and gives the edit that says so. Nothing happens beyond the
    /// end, for an operation that is not open, and when it has no offsets left.
    pub fn insert(
        &mut self,
        entry: P::Entry,
        position: usize,
        run: P::Run,
    ) -> Result<Option<OpOf<P>>, P::Error> {
        let Some(at) = self.anchor(position)? else { return Ok(None) };
        let op = Op::Insert { at, run: run.clone() };
        Ok(self.put(entry, at, run, None)?.then_some(op))
    }

    /// Deletes elements from a position on for an open operation and gives the edits that say so. Nothing happens when
    /// the range goes beyond the end, and for an operation that is not open.
    pub fn delete(
        &mut self,
        entry: P::Entry,
        position: usize,
        count: usize,
    ) -> Result<Option<Vec<OpOf<P>>>, P::Error> {
        let inside = position.checked_add(count).is_some_and(|end| end <= self.len());
        if !inside || self.pages.operation(entry)?.is_none() {
            return Ok(None);
        }
        let spans = self.spans(position, count)?;
        for span in &spans {
            self.take(entry, *span, None)?;
        }
        Ok(Some(spans.into_iter().map(Op::Delete).collect()))
    }

    /// Makes an operation void or standing and gives what changes. Work is in proportion to what the operation did.
    pub fn set_standing(
        &mut self,
        entry: P::Entry,
        standing: Standing,
    ) -> Result<Vec<Delta<P::Run>>, P::Error> {
        let mut changes = Vec::new();
        let Some(held) = self.pages.operation(entry)?.filter(|held| held.standing != standing) else {
            return Ok(changes);
        };
        let own = Span { first: Name { entry, offset: 0 }, count: held.count };
        self.pages.set_operation(entry, Operation { standing, ..held })?;
        self.update(own, Some(&mut changes), |held| match standing {
            Standing::Void => held.marks = held.marks.with(Marks::VOID),
            Standing::Stands => held.marks = held.marks.without(Marks::VOID),
        })?;
        for span in self.pages.deletes(entry)? {
            self.update(span, Some(&mut changes), |held| match standing {
                Standing::Void => held.deleted = held.deleted.saturating_sub(1),
                Standing::Stands => held.deleted += 1,
            })?;
        }
        Ok(changes)
    }

    /// Hides an element for a reason of the caller's own, or takes that back, and gives what changes.
    pub fn set_taken(&mut self, name: Name<P::Entry>, taken: bool) -> Result<Vec<Delta<P::Run>>, P::Error> {
        let mut changes = Vec::new();
        if self.seek(&name)?.is_some_and(|found| found.stretch.marks.has(Marks::TAKEN) != taken) {
            self.update(Span { first: name, count: 1 }, Some(&mut changes), |held| {
                held.marks =
                    if taken { held.marks.with(Marks::TAKEN) } else { held.marks.without(Marks::TAKEN) };
            })?;
        }
        Ok(changes)
    }

    /// Hides the elements of all operations below a stamp and gives what changes. A lower floor than before is nothing,
    /// and one that is not above what is shown costs nothing.
    pub fn raise_floor(&mut self, floor: P::Stamp) -> Result<Vec<Delta<P::Run>>, P::Error> {
        let mut changes = Vec::new();
        if let Some(held) = &self.pages.head().floor
            && !self.pages.precedes(held, &floor)?
        {
            return Ok(changes);
        }
        self.pages.head_mut().floor = Some(floor.clone());
        match &self.pages.head().lowest {
            Some(lowest) if self.pages.precedes(lowest, &floor)? => {}
            _ => return Ok(changes),
        }
        // What is hidden meets the floor when it would be shown again.
        let (mut position, mut lowest) = (0, None);
        while let Some((place, _)) = self.find(position)? {
            let Some(held) = self.stretch(place)? else { break };
            let stamp = self.pages.operation(held.first.entry)?.map(|held| held.stamp);
            let Some(stamp) = stamp else { break };
            if self.pages.precedes(&stamp, &floor)? {
                self.change(place, |record| {
                    record.stretch.marks = record.stretch.marks.with(Marks::FLOORED);
                })?;
                Delta::push(&mut changes, Delta::Deleted { position, count: held.count as usize });
            } else {
                position += held.count as usize;
                match &lowest {
                    Some(lowest) if !self.pages.precedes(&stamp, lowest)? => {}
                    _ => lowest = Some(stamp),
                }
            }
        }
        self.pages.head_mut().lowest = lowest;
        Ok(changes)
    }

    /// Takes note that elements of an operation with this stamp may be shown.
    fn lower(&mut self, stamp: &P::Stamp) -> Result<(), P::Error> {
        match &self.pages.head().lowest {
            Some(lowest) if !self.pages.precedes(stamp, lowest)? => {}
            _ => self.pages.head_mut().lowest = Some(stamp.clone()),
        }
        Ok(())
    }

    /// Whether an operation is below the floor.
    pub fn is_floored(&self, entry: P::Entry) -> Result<bool, P::Error> {
        let Some(floor) = &self.pages.head().floor else { return Ok(false) };
        match self.pages.operation(entry)? {
            Some(held) => self.pages.precedes(&held.stamp, floor),
            None => Ok(false),
        }
    }

    /// Where a run goes that is put in at a position: after its left neighbour, unless something hangs there already.
    /// Nothing beyond the end.
    pub fn anchor(&self, position: usize) -> Result<Option<Anchor<P::Entry>>, P::Error> {
        let Some(left) = position.checked_sub(1) else {
            let first = self.stretch(self.first())?;
            return Ok(Some(first.map_or(Anchor::Start, |held| Anchor::Before(held.first))));
        };
        let Some((place, within)) = self.find(left)? else { return Ok(None) };
        let Some(held) = self.stretch(place)? else { return Ok(None) };
        if within + 1 < held.count {
            return Ok(Some(Anchor::Before(held.name(within + 1))));
        }
        let next = match self.next(place)? {
            Some(next) => self.stretch(next)?.filter(|next| next.low > held.depth + within),
            None => None,
        };
        Ok(Some(next.map_or(Anchor::After(held.name(within)), |next| Anchor::Before(next.first))))
    }

    /// Puts a run where it hangs. Says whether it may hang there.
    fn put(
        &mut self,
        entry: P::Entry,
        at: Anchor<P::Entry>,
        run: P::Run,
        changes: Changes<'_, P::Run>,
    ) -> Result<bool, P::Error> {
        let Some(held) = self.pages.operation(entry)? else { return Ok(false) };
        let count = u32::try_from(run.count()).unwrap_or(u32::MAX);
        let Some(end) = held.count.checked_add(count).filter(|_| count > 0) else { return Ok(false) };
        let first = Name { entry, offset: held.count };
        let spot = match at {
            Anchor::Start => self.spot_at_start(first, count, &held)?,
            Anchor::After(name) => self.spot_after(name, first, count, &held)?,
            Anchor::Before(name) => self.spot_before(name, first, count, &held)?,
        };
        let Some(spot) = spot else { return Ok(false) };
        let mut marks = Marks::default();
        if held.standing == Standing::Void {
            marks = marks.with(Marks::VOID);
        }
        if self.pages.head().floor.is_some() && self.is_floored(entry)? {
            marks = marks.with(Marks::FLOORED);
        } else {
            self.lower(&held.stamp)?;
        }
        self.pages.set_operation(entry, Operation { count: end, ..held })?;
        if let Some(changes) = changes.filter(|_| marks == Marks::default()) {
            let position = self.shown_before(spot.place)?;
            Delta::push(changes, Delta::Inserted { position, run: run.clone() });
        }
        let mut place = spot.place;
        let mut stretch = Stretch { first, count, depth: spot.depth, low: spot.low, deleted: 0, marks };
        for run in cut_up(run) {
            stretch.count = u32::try_from(run.count()).unwrap_or(u32::MAX);
            let next = Stretch {
                first: stretch.name(stretch.count),
                depth: stretch.depth + stretch.count,
                low: stretch.depth + stretch.count,
                ..stretch
            };
            place = self.grow_or_insert(place, Record { stretch, run })?;
            stretch = next;
        }
        Ok(true)
    }

    /// Puts a record in, as part of the one before it if it goes on with that. Gives the place after it.
    fn grow_or_insert(&mut self, place: Place, record: Record<P::Entry, P::Run>) -> Result<Place, P::Error> {
        let span = record.span();
        if let Some(index) = place.index.checked_sub(1) {
            let leaf = self.pages.leaf(place.leaf)?;
            let goes_on =
                leaf.records.get(index).is_some_and(|held| held.goes_on_with(&record.stretch, &record.run));
            drop(leaf);
            if goes_on {
                let leaf = self.pages.leaf_mut(place.leaf)?;
                let weight = record.run.weight();
                leaf.records[index].join(record);
                leaf.weight += weight;
                self.pages.assign(span, place.leaf)?;
                let grown = self.split_if_full(Place { index, ..place })?;
                return Ok(Place { index: grown.index + 1, ..grown });
            }
        }
        let place = self.insert_record(place, record)?;
        Ok(Place { index: place.index + 1, ..place })
    }

    fn spot_at_start(
        &self,
        name: Name<P::Entry>,
        count: u32,
        held: &Operation<P::Stamp>,
    ) -> Result<Option<Spot>, P::Error> {
        if count == u32::MAX {
            return Ok(None);
        }
        let first = self.first();
        let place = match self.stretch(first)? {
            Some(_) => self.among(first, 1, name, held)?,
            None => first,
        };
        Ok(Some(Spot { place, depth: 1, low: 1 }))
    }

    fn spot_after(
        &mut self,
        parent: Name<P::Entry>,
        name: Name<P::Entry>,
        count: u32,
        held: &Operation<P::Stamp>,
    ) -> Result<Option<Spot>, P::Error> {
        let Some(found) = self.seek(&parent)? else { return Ok(None) };
        let Some(depth) = found.child_depth(count) else { return Ok(None) };
        let mut place = self.cut(found.place, found.within + 1)?;
        if let Some(next) = self.at_record(place)?
            && self.stretch(next)?.is_some_and(|next| next.low >= depth)
        {
            place = self.among(next, depth, name, held)?;
        }
        Ok(Some(Spot { place, depth, low: depth }))
    }

    fn spot_before(
        &mut self,
        parent: Name<P::Entry>,
        name: Name<P::Entry>,
        count: u32,
        held: &Operation<P::Stamp>,
    ) -> Result<Option<Spot>, P::Error> {
        let Some(found) = self.seek(&parent)? else { return Ok(None) };
        let Some(depth) = found.child_depth(count) else { return Ok(None) };
        let at = self.cut(found.place, found.within)?;
        let Some(stretch) = self.stretch(at)? else { return Ok(None) };
        let (begins, stays) = if stretch.marks.has(Marks::HUNG_BEFORE) {
            let Some(begins) = self.previous_low(at, depth - 1)? else { return Ok(None) };
            let place = self.among(begins, depth, name, held)?;
            if place != begins {
                return Ok(Some(Spot { place, depth, low: depth }));
            }
            (begins, depth)
        } else {
            (at, depth - 1)
        };
        let low = self.change(begins, |record| {
            if begins == at {
                record.stretch.marks = record.stretch.marks.with(Marks::HUNG_BEFORE);
            }
            std::mem::replace(&mut record.stretch.low, stays)
        })?;
        Ok(low.map(|low| Spot { place: begins, depth, low }))
    }

    /// Where among siblings of this depth a run goes, the first of which has its part of the tree begin at `first`:
    /// siblings stand in the order of their stamps and offsets.
    ///
    /// Nearly always there is one, and nearly always what comes later is greater. Where somebody has made many, whole
    /// pages that begin with a greater one are passed over.
    fn among(
        &self,
        first: Place,
        depth: u32,
        name: Name<P::Entry>,
        held: &Operation<P::Stamp>,
    ) -> Result<Place, P::Error> {
        let mut place = match self.next_low(first, depth - 1)? {
            Some(end) => end,
            None => self.end()?,
        };
        let below = |begins| self.ranks_below(begins, depth, name, held);
        let end = place;
        if self.among_records(end.leaf, end.index, first, depth, &mut place, &below)? {
            return Ok(place);
        }
        let path = self.path(first.leaf)?;
        let (mut page, mut above, mut level) = (end.leaf, self.pages.leaf(end.leaf)?.above, 0);
        // Up to a page that has, left of where the search comes from, one that begins with a lesser sibling ...
        let mut found = loop {
            let Some(at) = above.filter(|_| path.get(level) != Some(&page)) else { return Ok(place) };
            let inner = self.pages.inner(at)?;
            let slot = inner.slot(page);
            if let Some(child) = self.among_pages(&inner, slot, level, &path, depth, &mut place, &below)? {
                break child;
            }
            (page, above, level) = (at, inner.above, level + 1);
        };
        // ... and down to the last lesser one.
        while level > 0 {
            level -= 1;
            let inner = self.pages.inner(found)?;
            let slots = inner.children.len();
            match self.among_pages(&inner, slots, level, &path, depth, &mut place, &below)? {
                Some(child) => found = child,
                None => return Ok(place),
            }
        }
        self.among_records(found, usize::MAX, first, depth, &mut place, &below)?;
        Ok(place)
    }

    /// Goes left through the siblings that begin in a leaf. Says whether the first one of all or a lesser one was met.
    fn among_records(
        &self,
        leaf: u32,
        end: usize,
        first: Place,
        depth: u32,
        place: &mut Place,
        below: &impl Fn(Place) -> Result<bool, P::Error>,
    ) -> Result<bool, P::Error> {
        let page = self.pages.leaf(leaf)?;
        let end = end.min(page.records.len());
        for index in (0..end).rev().filter(|index| page.records[*index].stretch.low <= depth) {
            let begins = Place { leaf, index };
            if *place == first || below(begins)? {
                return Ok(true);
            }
            *place = begins;
        }
        Ok(*place == first)
    }

    /// Goes left through pages below one, as long as they begin with a greater sibling. Gives the one that does not, or
    /// that has the first sibling of all.
    #[expect(clippy::too_many_arguments, reason = "the state of one search")]
    fn among_pages(
        &self,
        inner: &Inner,
        end: usize,
        level: usize,
        path: &[u32],
        depth: u32,
        place: &mut Place,
        below: &impl Fn(Place) -> Result<bool, P::Error>,
    ) -> Result<Option<u32>, P::Error> {
        for slot in (0..end).rev().filter(|slot| inner.measures[*slot].low <= depth) {
            let child = inner.children[slot];
            if path.get(level) == Some(&child) {
                return Ok(Some(child));
            }
            let Some(begins) = self.first_low(child, level, depth)? else { continue };
            if below(begins)? {
                return Ok(Some(child));
            }
            *place = begins;
        }
        Ok(None)
    }

    /// Whether the element of this depth whose part begins at a place ranks below another.
    fn ranks_below(
        &self,
        begins: Place,
        depth: u32,
        name: Name<P::Entry>,
        held: &Operation<P::Stamp>,
    ) -> Result<bool, P::Error> {
        let mut sibling = self.stretch(begins)?;
        if sibling.is_none_or(|sibling| sibling.depth != depth) {
            sibling = match self.next_low(begins, depth)? {
                Some(place) => self.stretch(place)?,
                None => None,
            };
        }
        let Some(Stretch { first, .. }) = sibling else { return Ok(true) };
        if first.entry == name.entry {
            return Ok(first.offset < name.offset);
        }
        match self.pages.operation(first.entry)? {
            Some(other) => self.pages.precedes(&other.stamp, &held.stamp),
            None => Ok(true),
        }
    }

    /// Hides what another operation, or this one, put in. Says whether what it names exists.
    fn take(
        &mut self,
        entry: P::Entry,
        span: Span<P::Entry>,
        changes: Changes<'_, P::Run>,
    ) -> Result<bool, P::Error> {
        let (Some(held), Some(target)) =
            (self.pages.operation(entry)?, self.pages.operation(span.first.entry)?)
        else {
            return Ok(false);
        };
        if span.count == 0 || span.end().is_none_or(|end| end > target.count) {
            return Ok(false);
        }
        self.pages.add_delete(entry, span)?;
        if held.standing == Standing::Stands {
            self.update(span, changes, |held| held.deleted += 1)?;
        }
        Ok(true)
    }

    /// Changes what is known of elements, and shows or hides them as that says.
    fn update(
        &mut self,
        span: Span<P::Entry>,
        mut changes: Changes<'_, P::Run>,
        change: impl Fn(&mut Stretch<P::Entry>),
    ) -> Result<(), P::Error> {
        let (mut at, mut rest) = (span.first, span.count);
        while rest > 0 {
            let Some(found) = self.seek(&at)? else { return Ok(()) };
            let mut place = self.cut(found.place, found.within)?;
            let count = found.stretch.count - found.within;
            if rest < count {
                self.cut(place, rest)?;
                let Some(found) = self.seek(&at)? else { return Ok(()) };
                place = found.place;
            }
            let here = rest.min(count);
            let Some(held) = self.stretch(place)? else { return Ok(()) };
            let mut now = held;
            change(&mut now);
            if !held.is_shown() && now.is_shown() {
                if self.is_floored(at.entry)? {
                    now.marks = now.marks.with(Marks::FLOORED);
                } else if let Some(operation) = self.pages.operation(at.entry)? {
                    self.lower(&operation.stamp)?;
                }
            }
            self.change(place, |record| record.stretch = now)?;
            if let Some(changes) = changes.as_deref_mut().filter(|_| held.is_shown() != now.is_shown()) {
                let position = self.shown_before(place)?;
                Delta::push(
                    changes,
                    if now.is_shown() {
                        let leaf = self.pages.leaf(place.leaf)?;
                        Delta::Inserted { position, run: leaf.records[place.index].run.clone() }
                    } else {
                        Delta::Deleted { position, count: here as usize }
                    },
                );
            }
            self.settle(place)?;
            at.offset += here;
            rest -= here;
        }
        Ok(())
    }

    /// Makes a record one with its neighbours, where it goes on with them.
    fn settle(&mut self, place: Place) -> Result<(), P::Error> {
        for index in [Some(place.index), place.index.checked_sub(1)].into_iter().flatten() {
            let leaf = self.pages.leaf(place.leaf)?;
            let joins = match leaf.records.get(index..index + 2) {
                Some([held, next]) => held.goes_on_with(&next.stretch, &next.run),
                _ => false,
            };
            drop(leaf);
            if joins {
                let leaf = self.pages.leaf_mut(place.leaf)?;
                let next = leaf.records.remove(index + 1);
                leaf.records[index].join(next);
                self.measure_again(place.leaf)?;
            }
        }
        Ok(())
    }

    fn seek(&self, name: &Name<P::Entry>) -> Result<Option<Found<P::Entry>>, P::Error> {
        let count = self.pages.operation(name.entry)?.map_or(0, |held| held.count);
        if name.offset >= count {
            return Ok(None);
        }
        let leaf = self.pages.leaf_of(*name)?;
        let page = self.pages.leaf(leaf)?;
        Ok(page.records.iter().enumerate().find_map(|(index, record)| {
            let held = &record.stretch;
            let within = name.offset.checked_sub(held.first.offset)?;
            (held.first.entry == name.entry && within < held.count).then_some(Found {
                place: Place { leaf, index },
                within,
                stretch: *held,
            })
        }))
    }

    /// Cuts a record in two, unless the cut is at one of its ends. Gives the place of what is right of the cut.
    fn cut(&mut self, place: Place, within: u32) -> Result<Place, P::Error> {
        if within == 0 {
            return Ok(place);
        }
        let after = Place { index: place.index + 1, ..place };
        let leaf = self.pages.leaf(place.leaf)?;
        let inside = leaf.records.get(place.index).is_some_and(|held| within < held.stretch.count);
        drop(leaf);
        if !inside {
            return Ok(after);
        }
        let leaf = self.pages.leaf_mut(place.leaf)?;
        let rest = leaf.records[place.index].split_off(within);
        leaf.weight -= rest.run.weight();
        self.insert_record(after, rest)
    }
}

/// Whether a visit goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visit {
    /// It does.
    More,
    /// It ends.
    Enough,
}

impl<E: Copy> Found<E> {
    /// The depth of what hangs there, if a run of `count` elements can.
    fn child_depth(&self, count: u32) -> Option<u32> {
        let depth = self.stretch.depth.checked_add(self.within)?.checked_add(1)?;
        depth.checked_add(count)?;
        Some(depth)
    }
}

/// A record of the sequence in pages, and where it stands.
type StandpointIn<P> = Standpoint<<P as Pages>::Entry, <P as Pages>::Run>;

/// A record, and where it stands.
#[derive(Debug, Clone)]
pub struct Standpoint<E, R> {
    /// The record, whole.
    pub record: Record<E, R>,
    /// How many elements are shown before it.
    pub position: usize,
    /// What orders records as they stand in the sequence.
    pub rank: Vec<usize>,
}

impl<P: Pages> Paged<P> {
    /// The records that hold the elements of a span, as far as there are any.
    pub fn records_of(&self, span: Span<P::Entry>) -> Result<Vec<StandpointIn<P>>, P::Error> {
        let end = span.first.offset.saturating_add(span.count);
        let (mut found, mut at) = (Vec::new(), span.first);
        while at.offset < end
            && let Some(Found { place, stretch, .. }) = self.seek(&at)?
        {
            at.offset = stretch.end();
            let leaf = self.pages.leaf(place.leaf)?;
            let Some(record) = leaf.records.get(place.index).cloned() else { break };
            let mut rank = vec![place.index];
            let (mut child, mut above) = (place.leaf, leaf.above);
            while let Some(number) = above {
                let inner = self.pages.inner(number)?;
                rank.push(inner.slot(child));
                (child, above) = (number, inner.above);
            }
            rank.reverse();
            found.push(Standpoint { record, position: self.shown_before(place)?, rank });
        }
        Ok(found)
    }
}
