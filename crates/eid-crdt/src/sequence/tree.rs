//! The list of records, in leaves under a tree of pages that add up what lies below them.
//!
//! Finding by position, the position of a record, and the nearest record on either side that is low enough all read
//! one page of each level.

use super::limits::PAGE_ITEMS_MAX;
use super::paged::Paged;
use super::pages::{Inner, Leaf, Pages};
use super::record::{Measure, Record, Stretch};

/// Where a record is, until the next one is put in. An index past the last record of a leaf is a place to put one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) leaf: u32,
    pub(super) index: usize,
}

#[derive(Debug, Clone, Copy)]
enum Towards {
    First,
    Last,
}

impl Towards {
    fn pick<T>(self, parts: &[T], fits: impl Fn(&T) -> bool) -> Option<usize> {
        match self {
            Self::First => parts.iter().position(fits),
            Self::Last => parts.iter().rposition(fits),
        }
    }
}

const FIRST: Place = Place { leaf: 0, index: 0 };

impl<P: Pages> Paged<P> {
    pub(super) fn stretch(&self, place: Place) -> Result<Option<Stretch<P::Entry>>, P::Error> {
        Ok(self.pages.leaf(place.leaf)?.records.get(place.index).map(|record| record.stretch))
    }

    /// Changes a record in place.
    pub(super) fn change<A>(
        &mut self,
        place: Place,
        change: impl FnOnce(&mut Record<P::Entry, P::Run>) -> A,
    ) -> Result<Option<A>, P::Error> {
        let done = self.pages.leaf_mut(place.leaf)?.records.get_mut(place.index).map(change);
        self.measure_again(place.leaf)?;
        Ok(done)
    }

    pub(super) fn first(&self) -> Place {
        FIRST
    }

    /// The place after the last record.
    pub(super) fn end(&self) -> Result<Place, P::Error> {
        let head = self.pages.head();
        let mut at = head.root;
        for _ in 0..head.levels {
            let inner = self.pages.inner(at)?;
            at = inner.children.last().copied().unwrap_or(0);
        }
        Ok(Place { leaf: at, index: self.pages.leaf(at)?.records.len() })
    }

    /// The place of the next record, if there is one.
    pub(super) fn next(&self, place: Place) -> Result<Option<Place>, P::Error> {
        self.at_record(Place { index: place.index + 1, ..place })
    }

    /// The place itself where a record is, or that of the first one of the next leaf.
    pub(super) fn at_record(&self, place: Place) -> Result<Option<Place>, P::Error> {
        let leaf = self.pages.leaf(place.leaf)?;
        if place.index < leaf.records.len() {
            return Ok(Some(place));
        }
        Ok(leaf.after.map(|leaf| Place { leaf, index: 0 }))
    }

    /// The record that shows the element at a position, and which of its elements that is.
    pub(super) fn find(&self, position: usize) -> Result<Option<(Place, u32)>, P::Error> {
        let head = self.pages.head();
        let (mut at, mut rest) = (head.root, position);
        for _ in 0..head.levels {
            let inner = self.pages.inner(at)?;
            let slot = inner.measures.iter().position(|part| {
                let here = rest < part.shown;
                if !here {
                    rest -= part.shown;
                }
                here
            });
            let Some(slot) = slot else { return Ok(None) };
            at = inner.children[slot];
        }
        for (index, record) in self.pages.leaf(at)?.records.iter().enumerate() {
            let shown = record.stretch.shown();
            if rest < shown {
                return Ok(Some((Place { leaf: at, index }, u32::try_from(rest).unwrap_or(u32::MAX))));
            }
            rest -= shown;
        }
        Ok(None)
    }

    /// How many elements are shown before a place.
    pub(super) fn shown_before(&self, place: Place) -> Result<usize, P::Error> {
        let leaf = self.pages.leaf(place.leaf)?;
        let mut shown: usize =
            leaf.records.iter().take(place.index).map(|record| record.stretch.shown()).sum();
        let (mut child, mut above) = (place.leaf, leaf.above);
        while let Some(at) = above {
            let inner = self.pages.inner(at)?;
            shown += inner.measures[..inner.slot(child)].iter().map(|part| part.shown).sum::<usize>();
            (child, above) = (at, inner.above);
        }
        Ok(shown)
    }

    /// The nearest record after this one whose low is at most `limit`.
    pub(super) fn next_low(&self, place: Place, limit: u32) -> Result<Option<Place>, P::Error> {
        let leaf = self.pages.leaf(place.leaf)?;
        let mut later = leaf.records.iter().enumerate().skip(place.index + 1);
        if let Some((index, _)) = later.find(|(_, record)| record.stretch.low <= limit) {
            return Ok(Some(Place { index, ..place }));
        }
        let (mut child, mut above, mut level) = (place.leaf, leaf.above, 1);
        while let Some(at) = above {
            let inner = self.pages.inner(at)?;
            let from = inner.slot(child) + 1;
            if let Some(ahead) = inner.measures[from..].iter().position(|part| part.low <= limit) {
                return self.descend(inner.children[from + ahead], level, limit, Towards::First);
            }
            (child, above, level) = (at, inner.above, level + 1);
        }
        Ok(None)
    }

    /// The nearest record before this place whose low is at most `limit`.
    pub(super) fn previous_low(&self, place: Place, limit: u32) -> Result<Option<Place>, P::Error> {
        let leaf = self.pages.leaf(place.leaf)?;
        let low = |record: &Record<P::Entry, P::Run>| record.stretch.low <= limit;
        if let Some(index) = leaf.records[..place.index].iter().rposition(low) {
            return Ok(Some(Place { index, ..place }));
        }
        let (mut child, mut above, mut level) = (place.leaf, leaf.above, 1);
        while let Some(at) = above {
            let inner = self.pages.inner(at)?;
            let slot = inner.slot(child);
            if let Some(slot) = inner.measures[..slot].iter().rposition(|part| part.low <= limit) {
                return self.descend(inner.children[slot], level, limit, Towards::Last);
            }
            (child, above, level) = (at, inner.above, level + 1);
        }
        Ok(None)
    }

    /// The first record below a page of this level, leaves being 0, whose low is at most `limit`.
    pub(super) fn first_low(&self, page: u32, level: usize, limit: u32) -> Result<Option<Place>, P::Error> {
        self.descend(page, u32::try_from(level).unwrap_or(u32::MAX) + 1, limit, Towards::First)
    }

    /// A leaf and the pages above it, up to the root.
    pub(super) fn path(&self, leaf: u32) -> Result<Vec<u32>, P::Error> {
        let (mut path, mut above) = (vec![leaf], self.pages.leaf(leaf)?.above);
        while let Some(at) = above {
            path.push(at);
            above = self.pages.inner(at)?.above;
        }
        Ok(path)
    }

    /// Goes down from a child of an inner page of this level to the first or the last record that is low enough.
    fn descend(
        &self,
        mut child: u32,
        level: u32,
        limit: u32,
        towards: Towards,
    ) -> Result<Option<Place>, P::Error> {
        for _ in 1..level {
            let inner = self.pages.inner(child)?;
            let Some(slot) = towards.pick(&inner.measures, |part| part.low <= limit) else { return Ok(None) };
            child = inner.children[slot];
        }
        let leaf = self.pages.leaf(child)?;
        let index = towards.pick(&leaf.records, |record| record.stretch.low <= limit);
        Ok(index.map(|index| Place { leaf: child, index }))
    }

    /// Puts a record in before what is at a place, and says where it is then.
    pub(super) fn insert_record(
        &mut self,
        place: Place,
        record: Record<P::Entry, P::Run>,
    ) -> Result<Place, P::Error> {
        self.pages.assign(record.span(), place.leaf)?;
        let leaf = self.pages.leaf_mut(place.leaf)?;
        leaf.insert(place.index, record);
        self.split_if_full(place)
    }

    /// Splits a leaf that grew too large, and says where the record at a place is then.
    pub(super) fn split_if_full(&mut self, place: Place) -> Result<Place, P::Error> {
        if !self.pages.leaf(place.leaf)?.is_full() {
            self.measure_again(place.leaf)?;
            return Ok(place);
        }
        let leaf = self.pages.leaf_mut(place.leaf)?;
        let records = leaf.split_off();
        let (above, after, stays, kept) = (leaf.above, leaf.after, leaf.measure(), leaf.records.len());
        let spans: Vec<_> = records.iter().map(Record::span).collect();
        let made = Leaf::new(above, after, records);
        let goes = made.measure();
        let number = self.pages.add_leaf(made)?;
        self.pages.leaf_mut(place.leaf)?.after = Some(number);
        for span in spans {
            self.pages.assign(span, number)?;
        }
        self.adopt(above, (place.leaf, stays), (number, goes))?;
        Ok(match place.index.checked_sub(kept) {
            Some(index) => Place { leaf: number, index },
            None => place,
        })
    }

    /// Makes a page the next one after another below the same page, and splits what grows too large.
    fn adopt(
        &mut self,
        above: Option<u32>,
        stays: (u32, Measure),
        goes: (u32, Measure),
    ) -> Result<(), P::Error> {
        let (mut above, mut stays, mut goes, mut level) = (above, stays, goes, 0);
        loop {
            let Some(at) = above else {
                let root =
                    Inner { above: None, children: vec![stays.0, goes.0], measures: vec![stays.1, goes.1] };
                let root = self.pages.add_inner(root)?;
                self.set_above(level, stays.0, root)?;
                self.set_above(level, goes.0, root)?;
                let head = self.pages.head_mut();
                head.root = root;
                head.levels = level + 1;
                head.shown = stays.1.shown + goes.1.shown;
                return Ok(());
            };
            let inner = self.pages.inner_mut(at)?;
            let slot = inner.slot(stays.0);
            inner.measures[slot] = stays.1;
            inner.children.insert(slot + 1, goes.0);
            inner.measures.insert(slot + 1, goes.1);
            if inner.children.len() <= PAGE_ITEMS_MAX {
                return self.measure_above(at);
            }
            let half = inner.children.len() / 2;
            let (children, measures) = (inner.children.split_off(half), inner.measures.split_off(half));
            stays = (at, Measure::sum(inner.measures.iter().copied()));
            above = inner.above;
            let measure = Measure::sum(measures.iter().copied());
            let number = self.pages.add_inner(Inner { above, children: children.clone(), measures })?;
            for child in children {
                self.set_above(level, child, number)?;
            }
            goes = (number, measure);
            level += 1;
        }
    }

    fn set_above(&mut self, level: u32, page: u32, above: u32) -> Result<(), P::Error> {
        if level == 0 {
            self.pages.leaf_mut(page)?.above = Some(above);
        } else {
            self.pages.inner_mut(page)?.above = Some(above);
        }
        Ok(())
    }

    pub(super) fn measure_again(&mut self, leaf: u32) -> Result<(), P::Error> {
        let held = self.pages.leaf(leaf)?;
        let (measure, above) = (held.measure(), held.above);
        drop(held);
        self.measured(leaf, measure, above)
    }

    fn measure_above(&mut self, inner: u32) -> Result<(), P::Error> {
        let held = self.pages.inner(inner)?;
        let (measure, above) = (Measure::sum(held.measures.iter().copied()), held.above);
        drop(held);
        self.measured(inner, measure, above)
    }

    /// Puts down what a page measures in the pages above it, as far as that changes them.
    fn measured(
        &mut self,
        mut child: u32,
        mut measure: Measure,
        mut above: Option<u32>,
    ) -> Result<(), P::Error> {
        while let Some(at) = above {
            let inner = self.pages.inner(at)?;
            let slot = inner.slot(child);
            if inner.measures[slot] == measure {
                return Ok(());
            }
            drop(inner);
            let inner = self.pages.inner_mut(at)?;
            inner.measures[slot] = measure;
            measure = Measure::sum(inner.measures.iter().copied());
            (child, above) = (at, inner.above);
        }
        let head = self.pages.head_mut();
        head.shown = measure.shown;
        Ok(())
    }
}
