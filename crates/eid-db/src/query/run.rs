//! Answering a query by its plan.

use std::cmp::Ordering;
use std::collections::{BTreeSet, BinaryHeap};
use std::ops::Bound;

use eid_store::{Direction, Key, prefix_end};

use super::Spec;
use super::page::{Order, Place};
use super::plan::{Found, Plan, Sorting, Source};
use crate::error::DbError;
use crate::kind::index::IndexRow;
use crate::kind::table::{self, Fields, Flow};
use crate::limits::{PAGE_ROWS, PAGE_ROWS_FIRST};
use crate::rows::Rows;
use crate::sortable::{self, Form};

/// A row that was found.
#[derive(Debug)]
pub(crate) struct Hit {
    pub(crate) place: Place,
    pub(crate) fields: Fields,
}

/// How much was read to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Looked {
    /// Rows of the table.
    pub rows: u64,
    /// Rows of indexes.
    pub index_rows: u64,
}

type Each<'e> = &'e mut dyn FnMut(Hit) -> Result<Flow, DbError>;

/// Calls `each` with the rows, in order, until it says to stop or the limit is reached.
pub(super) fn run(rows: &dyn Rows, spec: &Spec, plan: &Plan, each: Each<'_>) -> Result<Looked, DbError> {
    let mut looked = Looked::default();
    if spec.limit == 0 {
        return Ok(looked);
    }
    let mut left = spec.limit;
    let mut give = |hit: Hit| {
        left -= 1;
        let flow = each(hit)?;
        Ok(if left == 0 { Flow::Stop } else { flow })
    };
    let mut reader = Reader { rows, spec, plan, looked: &mut looked };
    match plan.sorting {
        Sorting::Done => reader.read(&mut |hit, _| give(hit))?,
        Sorting::Whole => {
            let mut first = First::new(&spec.order, spec.limit);
            reader.read(&mut |hit, _| {
                first.push(hit);
                Ok(Flow::Continue)
            })?;
            first.give(&mut give)?;
        }
        Sorting::Runs { all } => {
            let mut run = First::new(&spec.order, spec.limit);
            let mut value: Vec<u8> = Vec::new();
            let mut stopped = false;
            reader.read(&mut |hit, row| {
                if let Some((bytes, form)) = row {
                    if bytes != value {
                        if run.give(&mut give)? == Flow::Stop {
                            stopped = true;
                            return Ok(Flow::Stop);
                        }
                        value.clear();
                        value.extend_from_slice(bytes);
                    }
                    if !all && form == Form::Whole {
                        let flow = give(hit)?;
                        stopped = flow == Flow::Stop;
                        return Ok(flow);
                    }
                }
                run.push(hit);
                Ok(Flow::Continue)
            })?;
            if !stopped {
                run.give(&mut give)?;
            }
        }
    }
    Ok(looked)
}

/// How many rows there are, up to the limit.
pub(super) fn count(rows: &dyn Rows, spec: &Spec, plan: &Plan) -> Result<(usize, Looked), DbError> {
    let mut looked = Looked::default();
    let mut count = 0;
    match &plan.source {
        Source::Index(found) if plan.is_exact && spec.after.is_none() => {
            for (mut from, to) in found.ranges() {
                while count < spec.limit {
                    let page =
                        rows.scan(&from, &to, Direction::Forward, PAGE_ROWS.min(spec.limit - count))?;
                    count += page.len();
                    looked.index_rows += page.len() as u64;
                    let Some((last, _)) = page.last() else { break };
                    from.clone_from(last);
                    from.push(0);
                }
            }
        }
        _ if spec.limit > 0 => {
            Reader { rows, spec, plan, looked: &mut looked }.read(&mut |_, _| {
                count += 1;
                Ok(if count == spec.limit { Flow::Stop } else { Flow::Continue })
            })?;
        }
        _ => {}
    }
    Ok((count, looked))
}

/// A row and, when an index gave it, the value that it stands under there.
type EachFound<'e> = &'e mut dyn FnMut(Hit, Option<(&[u8], Form)>) -> Result<Flow, DbError>;

struct Reader<'r> {
    rows: &'r dyn Rows,
    spec: &'r Spec,
    plan: &'r Plan,
    looked: &'r mut Looked,
}

impl Reader<'_> {
    /// The rows of the source that the query asks for, in the order of the source.
    fn read(&mut self, each: EachFound<'_>) -> Result<(), DbError> {
        match &self.plan.source {
            Source::Keys => self.read_keys(each),
            Source::Index(found) => self.read_index(found, each),
            Source::Union(finds) => self.read_union(finds, each),
        }
    }

    /// The row, if the query asks for it.
    fn hit(&mut self, key: &str, fields: Fields) -> Option<Hit> {
        self.looked.rows += 1;
        if !self.spec.filter.holds(&fields) {
            return None;
        }
        let order = &self.spec.order;
        let place = order.place(key, &fields);
        let is_after = |after: &Place| order.compare(&place, after) == Ordering::Greater;
        self.spec.after.as_ref().is_none_or(is_after).then_some(Hit { place, fields })
    }

    fn first_page(&self) -> usize {
        match self.plan.sorting {
            Sorting::Whole => PAGE_ROWS,
            _ => self.spec.limit.clamp(PAGE_ROWS_FIRST, PAGE_ROWS),
        }
    }

    fn read_keys(&mut self, each: EachFound<'_>) -> Result<(), DbError> {
        let (mut from, mut to) = self.spec.key_range();
        let direction = self.plan.direction;
        if let Some(after) = self.spec.after.as_ref().filter(|_| self.plan.sorting == Sorting::Done) {
            match direction {
                Direction::Forward => from = later(from, &after.key),
                Direction::Backward => to = earlier(to, &after.key),
            }
        }
        let page = self.first_page();
        table::scan(self.rows, (from, to), direction, page, &mut |key, fields| match self.hit(&key, fields) {
            Some(hit) => each(hit, None),
            None => Ok(Flow::Continue),
        })
    }

    fn read_index(&mut self, found: &Found, each: EachFound<'_>) -> Result<(), DbError> {
        let direction = self.plan.direction;
        let mut ranges = found.ranges();
        if let Some(begin) = self.begin(found) {
            for (from, to) in &mut ranges {
                match direction {
                    Direction::Forward if *from < begin => from.clone_from(&begin),
                    Direction::Backward if *to > begin => to.clone_from(&begin),
                    _ => {}
                }
            }
        }
        if direction == Direction::Backward {
            ranges.reverse();
        }
        let mut page = self.first_page();
        for (mut from, mut to) in ranges {
            loop {
                let found = self.rows.scan(&from, &to, direction, page)?;
                let more = found.len() == page;
                self.looked.index_rows += found.len() as u64;
                if let Some((last, _)) = found.last() {
                    match direction {
                        Direction::Forward => {
                            from.clone_from(last);
                            from.push(0);
                        }
                        Direction::Backward => to.clone_from(last),
                    }
                }
                if self.give_found(&found, each)? == Flow::Stop {
                    return Ok(());
                }
                if !more {
                    break;
                }
                page = PAGE_ROWS;
            }
        }
        Ok(())
    }

    fn give_found(&mut self, found: &[(Key, bytes::Bytes)], each: EachFound<'_>) -> Result<Flow, DbError> {
        let parsed = found.iter().map(|(row, _)| IndexRow::parse(row));
        let mut parsed: Vec<IndexRow<'_>> = parsed.collect::<Result<_, _>>()?;
        parsed.retain(|row| self.spec.has_key(row.key));
        let keys: Vec<&str> = parsed.iter().map(|row| row.key).collect();
        let rows = table::get_many(self.rows, &keys)?;
        for (row, fields) in parsed.iter().zip(rows) {
            let Some(hit) = fields.and_then(|fields| self.hit(row.key, fields)) else { continue };
            if each(hit, Some((row.value, row.form)))? == Flow::Stop {
                return Ok(Flow::Stop);
            }
        }
        Ok(Flow::Continue)
    }

    /// Where a later page begins in the index, when it is read in the order of the query.
    fn begin(&self, found: &Found) -> Option<Key> {
        let after = self.spec.after.as_ref()?;
        let mut begin = found.definition.prefix();
        match (self.plan.sorting, after.by.first(), &found.spans[..]) {
            (Sorting::Whole, _, _) => return None,
            (_, Some(value), _) => {
                let form = sortable::write(&mut begin, value);
                if form == Form::Cut || self.plan.sorting == (Sorting::Runs { all: true }) {
                    // Rows of the same value may come before it or after it.
                    return Some(match self.plan.direction {
                        Direction::Forward => begin,
                        Direction::Backward => prefix_end(&begin),
                    });
                }
            }
            (_, None, [(value, _)]) if found.is_one_value() => begin.extend_from_slice(value),
            _ => return None,
        }
        begin.extend_from_slice(after.key.as_bytes());
        if self.plan.direction == Direction::Forward {
            begin.push(0);
        }
        Some(begin)
    }

    /// The keys are in memory, the rows are not.
    fn read_union(&mut self, finds: &[Found], each: EachFound<'_>) -> Result<(), DbError> {
        let mut keys: BTreeSet<String> = BTreeSet::new();
        for (mut from, to) in finds.iter().flat_map(Found::ranges) {
            loop {
                let page = self.rows.scan(&from, &to, Direction::Forward, PAGE_ROWS)?;
                self.looked.index_rows += page.len() as u64;
                for (row, _) in &page {
                    let row = IndexRow::parse(row)?;
                    if self.spec.has_key(row.key) {
                        keys.insert(row.key.to_owned());
                    }
                }
                let Some((last, _)) = page.last().filter(|_| page.len() == PAGE_ROWS) else { break };
                from.clone_from(last);
                from.push(0);
            }
        }
        if let Some(after) = self.spec.after.as_ref().filter(|_| self.plan.sorting == Sorting::Done) {
            match self.plan.direction {
                Direction::Forward => keys = keys.split_off(&after.key),
                Direction::Backward => drop(keys.split_off(&after.key)),
            }
        }
        let mut keys: Vec<String> = keys.into_iter().collect();
        if self.plan.direction == Direction::Backward {
            keys.reverse();
        }
        let mut left = &keys[..];
        let mut page = self.first_page();
        while !left.is_empty() {
            let (now, rest) = left.split_at(page.min(left.len()));
            let now: Vec<&str> = now.iter().map(String::as_str).collect();
            for (key, fields) in now.iter().zip(table::get_many(self.rows, &now)?) {
                let Some(hit) = fields.and_then(|fields| self.hit(key, fields)) else { continue };
                if each(hit, None)? == Flow::Stop {
                    return Ok(());
                }
            }
            left = rest;
            page = PAGE_ROWS;
        }
        Ok(())
    }
}

fn later<'k>(from: Bound<&'k str>, after: &'k str) -> Bound<&'k str> {
    match from {
        Bound::Included(key) if key > after => from,
        Bound::Excluded(key) if key >= after => from,
        _ => Bound::Excluded(after),
    }
}

fn earlier<'k>(to: Bound<&'k str>, before: &'k str) -> Bound<&'k str> {
    match to {
        Bound::Included(key) if key < before => to,
        Bound::Excluded(key) if key <= before => to,
        _ => Bound::Excluded(before),
    }
}

/// The first rows of an order, and no more.
struct First<'o> {
    order: &'o Order,
    most: usize,
    rows: BinaryHeap<Ranked<'o>>,
}

struct Ranked<'o> {
    order: &'o Order,
    hit: Hit,
}

impl<'o> First<'o> {
    fn new(order: &'o Order, most: usize) -> Self {
        Self { order, most, rows: BinaryHeap::new() }
    }

    fn push(&mut self, hit: Hit) {
        self.rows.push(Ranked { order: self.order, hit });
        if self.rows.len() > self.most {
            self.rows.pop();
        }
    }

    /// Gives them, in order, and has none any more.
    fn give(&mut self, give: Each<'_>) -> Result<Flow, DbError> {
        for ranked in std::mem::take(&mut self.rows).into_sorted_vec() {
            if give(ranked.hit)? == Flow::Stop {
                return Ok(Flow::Stop);
            }
        }
        Ok(Flow::Continue)
    }
}

impl Ord for Ranked<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order.compare(&self.hit.place, &other.hit.place)
    }
}

impl PartialOrd for Ranked<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Ranked<'_> {}
