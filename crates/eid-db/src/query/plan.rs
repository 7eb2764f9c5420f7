//! How a query is answered: which rows are looked at, and in which order.
//!
//! Conditions on indexed fields become spans of index rows; those of one field that all must hold are intersected,
//! alternatives are united. Of what could be used, the one with the fewest index rows is, counted up to
//! [`PLAN_PROBE_ROWS`]. An index of the first field of the order is used where that saves sorting, and nothing finds
//! fewer rows than could be counted. Whatever is found is checked against the whole filter again, so a plan can be
//! slow and never wrong.

use std::fmt;
use std::ops::Bound;

use eid_crdt::Value;
use eid_store::{Direction, Key, prefix_end};

use super::Spec;
use super::filter::{Comparison, Filter, Shown};
use super::page::Order;
use crate::error::DbError;
use crate::kind::index::{Definition, Indexes};
use crate::kind::table;
use crate::limits::{PLAN_PROBE_ROWS, PLAN_WALK_ROWS};
use crate::path::Path;
use crate::rows::Rows;
use crate::sortable::{self, Form};

/// Index rows from one value to another, `to` exclusive, both as in `sortable`.
pub(super) type Span = (Key, Key);

/// Below all values, and above all.
const LEAST: &[u8] = &[0];
const NULLS_END: &[u8] = &[1];
const END: &[u8] = &[7];

/// Rows that an index finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) definition: Definition,
    /// Sorted and disjoint.
    pub(super) spans: Vec<Span>,
    /// The conditions that the spans come from.
    conditions: Vec<Filter>,
}

/// Where the rows come from that are looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// The table, by key.
    Keys,
    /// An index, in the order of its values.
    Index(Found),
    /// Several indexes; the keys that they find are sorted.
    Union(Vec<Found>),
}

/// What is left to do for the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sorting {
    /// Rows come as they should.
    Done,
    /// Rows that are one value to the index are sorted among themselves: all such, or those of values that were cut.
    Runs { all: bool },
    /// All rows are sorted; with a limit, no more are kept.
    Whole,
}

/// How a query is answered. Shows as a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub(super) source: Source,
    pub(super) direction: Direction,
    pub(super) sorting: Sorting,
    /// Whether what the source finds is the answer, so that counting need not look at rows.
    pub(super) is_exact: bool,
    rows: usize,
    filter: Filter,
    key_range: bool,
    order: Order,
    limit: usize,
}

/// A way to find the rows of a filter.
struct Way {
    finds: Vec<Found>,
    /// Counted up to [`PLAN_PROBE_ROWS`].
    rows: usize,
    /// Whether nothing else is found.
    is_exact: bool,
}

impl Way {
    /// Whether reading and sorting what it finds costs more than looking for the first `limit` rows in another order.
    fn finds_too_many(&self, rows: &dyn Rows, limit: usize) -> Result<bool, DbError> {
        if self.rows < PLAN_PROBE_ROWS || limit > PLAN_PROBE_ROWS {
            return Ok(false);
        }
        let mut count = 0;
        for found in &self.finds {
            count += found.count(rows, PLAN_WALK_ROWS - count)?;
        }
        Ok(count == PLAN_WALK_ROWS)
    }
}

impl Plan {
    pub(super) fn of(rows: &dyn Rows, spec: &Spec) -> Result<Self, DbError> {
        let indexes = Indexes::of(rows)?;
        let filter = normal(&spec.filter, false);
        let way = cheapest(rows, &indexes, &filter)?;
        let key_range = !matches!(spec.keys, (Bound::Unbounded, Bound::Unbounded));
        let by_key = if key_range { Some(count_keys(rows, spec)?) } else { None };
        let mut plan = Self {
            source: Source::Keys,
            direction: spec.order.keys,
            sorting: if spec.order.fields.is_empty() { Sorting::Done } else { Sorting::Whole },
            is_exact: false,
            rows: by_key.unwrap_or(PLAN_PROBE_ROWS),
            filter: spec.filter.clone(),
            key_range,
            order: spec.order.clone(),
            limit: spec.limit,
        };
        let fewest_by_key = by_key.is_some_and(|by_key| {
            by_key < PLAN_PROBE_ROWS && way.as_ref().is_none_or(|way| by_key <= way.rows)
        });
        if fewest_by_key {
            return Ok(plan);
        }
        let sorted = spec.order.fields.first().and_then(|(path, direction)| {
            let definition = indexes.find(path).filter(|definition| definition.is_ready())?;
            Some((definition, *direction))
        });
        match (way, sorted) {
            // Too many to count: an index that needs no sorting can stop at the limit.
            (Some(way), Some((definition, direction)))
                if way.finds.iter().all(|found| found.definition != *definition)
                    && way.finds_too_many(rows, spec.limit)? =>
            {
                plan.walk(Found::whole(definition), direction);
            }
            (Some(way), sorted) => {
                plan.rows = way.rows;
                plan.is_exact = way.is_exact && !key_range;
                let mut finds = way.finds;
                match (finds.len(), sorted) {
                    (1, Some((definition, direction))) if finds[0].definition == *definition => {
                        plan.walk(finds.remove(0), direction);
                    }
                    (1, _) => {
                        let found = finds.remove(0);
                        if spec.order.fields.is_empty() && !found.is_one_value() {
                            plan.sorting = Sorting::Whole;
                        }
                        plan.source = Source::Index(found);
                    }
                    _ => {
                        plan.is_exact = false;
                        plan.source = Source::Union(finds);
                    }
                }
            }
            (None, Some((definition, direction))) if by_key.is_none() => {
                plan.walk(Found::whole(definition), direction);
            }
            (None, _) => {}
        }
        Ok(plan)
    }

    /// Takes rows in the order of an index.
    fn walk(&mut self, found: Found, direction: Direction) {
        self.source = Source::Index(found);
        self.direction = direction;
        let all = self.order.fields.len() > 1 || self.order.keys != direction;
        self.sorting = Sorting::Runs { all };
    }

    /// The fields whose indexes are used.
    pub fn indexes(&self) -> impl Iterator<Item = &Path> {
        let finds = match &self.source {
            Source::Keys => &[],
            Source::Index(found) => std::slice::from_ref(found),
            Source::Union(finds) => finds,
        };
        finds.iter().map(|found| &found.definition.path)
    }

    /// Whether every row of the table is looked at, up to the limit.
    #[must_use]
    pub fn scans_table(&self) -> bool {
        self.source == Source::Keys && !self.key_range
    }

    /// Whether rows are sorted after they are found.
    #[must_use]
    pub fn sorts(&self) -> bool {
        self.sorting == Sorting::Whole
    }
}

/// One sentence: where rows come from, what is filtered and sorted.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Keys if self.key_range => f.write_str("a range of keys")?,
            Source::Keys => f.write_str("the whole table")?,
            Source::Index(found) => write!(f, "{found}")?,
            Source::Union(finds) if finds.is_empty() => f.write_str("nothing")?,
            Source::Union(finds) => {
                for (n, found) in finds.iter().enumerate() {
                    write!(f, "{}{found}", if n == 0 { "" } else { " united with " })?;
                }
            }
        }
        if !self.scans_table() {
            let many = if self.rows == PLAN_PROBE_ROWS { " or more" } else { "" };
            write!(f, " ({} row{}{many})", self.rows, if self.rows == 1 { "" } else { "s" })?;
        }
        if !self.is_exact && !self.filter.is_everything() {
            write!(f, ", filtered by {}", self.filter)?;
        }
        match self.sorting {
            Sorting::Whole => write!(f, ", sorted by {}", self.order)?,
            Sorting::Done | Sorting::Runs { .. } => {}
        }
        if self.limit < usize::MAX {
            write!(f, ", first {}", self.limit)?;
        }
        Ok(())
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "index of {}", Shown(&self.definition.path))?;
        for (n, condition) in self.conditions.iter().enumerate() {
            write!(f, "{}{condition}", if n == 0 { ": " } else { " and " })?;
        }
        Ok(())
    }
}

impl Found {
    fn whole(definition: &Definition) -> Self {
        let spans = vec![(LEAST.to_vec(), END.to_vec())];
        Self { definition: definition.clone(), spans, conditions: Vec::new() }
    }

    /// Whether its rows are in the order of their keys.
    pub(super) fn is_one_value(&self) -> bool {
        match &self.spans[..] {
            [] => true,
            [(from, to)] => {
                let value = sortable::split(from);
                value == Some((from.len(), Form::Whole)) && *to == prefix_end(from)
            }
            _ => false,
        }
    }

    /// The spans as keys of the view.
    pub(super) fn ranges(&self) -> Vec<(Key, Key)> {
        let prefix = self.definition.prefix();
        let whole = |bytes: &Key| [&prefix[..], bytes].concat();
        self.spans.iter().map(|(from, to)| (whole(from), whole(to))).collect()
    }

    /// How many index rows there are, counted up to a number.
    fn count(&self, rows: &dyn Rows, up_to: usize) -> Result<usize, DbError> {
        let mut count = 0;
        for (from, to) in self.ranges() {
            if count >= up_to {
                break;
            }
            count += rows.scan(&from, &to, Direction::Forward, up_to - count)?.len();
        }
        Ok(count)
    }
}

fn count_keys(rows: &dyn Rows, spec: &Spec) -> Result<usize, DbError> {
    let mut count = 0;
    table::scan(rows, spec.key_range(), Direction::Forward, PLAN_PROBE_ROWS, &mut |_, _| {
        count += 1;
        Ok(if count == PLAN_PROBE_ROWS { table::Flow::Stop } else { table::Flow::Continue })
    })?;
    Ok(count)
}

/// Pushes negation down to single conditions and joins what is nested for no reason.
fn normal(filter: &Filter, negated: bool) -> Filter {
    let joined = |parts: &[Filter], all: bool| {
        let mut out = Vec::new();
        for part in parts {
            match (normal(part, negated), all) {
                (Filter::All(inner), true) | (Filter::Any(inner), false) => out.extend(inner),
                (other, _) => out.push(other),
            }
        }
        if all { Filter::All(out) } else { Filter::Any(out) }
    };
    match filter {
        Filter::All(parts) => joined(parts, !negated),
        Filter::Any(parts) => joined(parts, negated),
        Filter::Not(filter) => normal(filter, !negated),
        Filter::Compare(path, Comparison::Eq, value) if negated => {
            Filter::Compare(path.clone(), Comparison::Ne, value.clone())
        }
        Filter::Compare(path, Comparison::Ne, value) if negated => {
            Filter::Compare(path.clone(), Comparison::Eq, value.clone())
        }
        single if negated => Filter::Not(Box::new(single.clone())),
        single => single.clone(),
    }
}

/// The way that finds the fewest rows, if an index helps at all.
fn cheapest(rows: &dyn Rows, indexes: &Indexes, filter: &Filter) -> Result<Option<Way>, DbError> {
    match filter {
        Filter::All(parts) => cheapest_of_all(rows, indexes, parts),
        Filter::Any(parts) => united(rows, indexes, parts),
        single => cheapest_of_all(rows, indexes, std::slice::from_ref(single)),
    }
}

/// What the conditions on one field come to.
struct Joint {
    found: Found,
    parts: usize,
    is_exact: bool,
}

fn cheapest_of_all(rows: &dyn Rows, indexes: &Indexes, parts: &[Filter]) -> Result<Option<Way>, DbError> {
    let mut joints: Vec<Joint> = Vec::new();
    let mut ways: Vec<Way> = Vec::new();
    for part in parts {
        let one = match part {
            Filter::Any(alternatives) => match united(rows, indexes, alternatives)? {
                Some(mut way) if way.finds.len() == 1 => {
                    let found = Found { conditions: vec![part.clone()], ..way.finds.remove(0) };
                    Joint { found, parts: 1, is_exact: way.is_exact }
                }
                Some(way) => {
                    ways.push(Way { is_exact: false, ..way });
                    continue;
                }
                None => continue,
            },
            single => match find(indexes, single) {
                Some((found, is_exact)) => Joint { found, parts: 1, is_exact },
                None => continue,
            },
        };
        match joints.iter_mut().find(|joint| joint.found.definition == one.found.definition) {
            Some(joint) => {
                joint.found.spans = intersection(&joint.found.spans, &one.found.spans);
                joint.found.conditions.extend(one.found.conditions);
                joint.parts += 1;
                joint.is_exact &= one.is_exact;
            }
            None => joints.push(one),
        }
    }
    for joint in joints {
        let is_exact = joint.is_exact && joint.parts == parts.len();
        ways.push(Way {
            rows: joint.found.count(rows, PLAN_PROBE_ROWS)?,
            finds: vec![joint.found],
            is_exact,
        });
    }
    // Where none can be counted, equality before a range with two ends before one with one.
    let openness = |way: &Way| match &way.finds[..] {
        [found] if found.is_one_value() => 0,
        [found] => 1 + found.spans.iter().map(open_ends).max().unwrap_or(0),
        _ => 4,
    };
    Ok(ways.into_iter().min_by_key(|way| (way.rows, openness(way))))
}

/// How many ends of a span are those of all values of a type.
fn open_ends((from, to): &Span) -> usize {
    usize::from(from.len() == 1) + usize::from(to.len() == 1)
}

/// Every alternative needs an index, or none helps.
fn united(rows: &dyn Rows, indexes: &Indexes, parts: &[Filter]) -> Result<Option<Way>, DbError> {
    let mut finds: Vec<Found> = Vec::new();
    let (mut count, mut is_exact) = (0, true);
    for part in parts {
        let Some(way) = cheapest(rows, indexes, part)? else { return Ok(None) };
        is_exact &= way.is_exact;
        count += way.rows;
        for found in way.finds {
            match finds.iter_mut().find(|other| other.definition == found.definition) {
                Some(other) => {
                    other.spans = union(std::mem::take(&mut other.spans), found.spans);
                    // Shown as one alternative.
                    let both = [&mut other.conditions, &mut found.conditions.clone()].map(std::mem::take);
                    let [a, b] = both.map(|conditions| conditions.into_iter().reduce(|a, b| a & b));
                    other.conditions = a.zip(b).map(|(a, b)| a | b).into_iter().collect();
                }
                None => finds.push(found),
            }
        }
    }
    is_exact &= finds.len() == 1;
    Ok(Some(Way { finds, rows: count.min(PLAN_PROBE_ROWS), is_exact }))
}

/// What an index finds for one condition, and whether it finds nothing else.
fn find(indexes: &Indexes, filter: &Filter) -> Option<(Found, bool)> {
    let (path, spans, is_exact) = spans(filter)?;
    let definition = indexes.find(path).filter(|definition| definition.is_ready())?.clone();
    let spans = union(spans, Vec::new());
    Some((Found { definition, spans, conditions: vec![filter.clone()] }, is_exact))
}

fn spans(filter: &Filter) -> Option<(&Path, Vec<Span>, bool)> {
    Some(match filter {
        Filter::Compare(path, how, value) => {
            let (span, is_exact) = compared(*how, value)?;
            (path, vec![span], is_exact)
        }
        Filter::In(path, values) => {
            let found = values.iter().filter_map(|value| compared(Comparison::Eq, value));
            let (spans, exact): (Vec<Span>, Vec<bool>) = found.unzip();
            (path, spans, exact.into_iter().all(|exact| exact))
        }
        Filter::Prefix(path, prefix) => {
            let (span, is_exact) = begun(prefix);
            (path, vec![span], is_exact)
        }
        Filter::Like(path, pattern) => {
            let literal = pattern.find(['*', '?']).map_or(pattern.as_str(), |at| &pattern[..at]);
            if literal.len() == pattern.len() {
                let (span, is_exact) = compared(Comparison::Eq, &Value::from(literal))?;
                return Some((path, vec![span], is_exact));
            }
            let (span, is_exact) = begun(literal);
            (path, vec![span], is_exact && &pattern[literal.len()..] == "*")
        }
        Filter::IsNull(path) => (path, vec![(LEAST.to_vec(), NULLS_END.to_vec())], true),
        Filter::Not(filter) => match &**filter {
            Filter::IsNull(path) => (path, vec![(NULLS_END.to_vec(), END.to_vec())], true),
            _ => return None,
        },
        Filter::All(_) | Filter::Any(_) => return None,
    })
}

fn compared(how: Comparison, value: &Value) -> Option<(Span, bool)> {
    let mut from = Vec::new();
    let form = sortable::write(&mut from, value);
    let to = prefix_end(&from);
    // Null is what is absent too; lists and maps are all one.
    let is_scalar = !matches!(value, Value::Null | Value::List(_) | Value::Map(_));
    let is_exact = is_scalar && form == Form::Whole;
    let rank = sortable::rank(value);
    let span = match how {
        Comparison::Eq => (from, to),
        Comparison::Ne => return None,
        Comparison::Lt if is_exact => (vec![rank], from),
        Comparison::Gt if is_exact => (to, vec![rank + 1]),
        Comparison::Lt | Comparison::Le => (vec![rank], to),
        Comparison::Gt | Comparison::Ge => (from, vec![rank + 1]),
    };
    Some((span, is_exact))
}

fn begun(prefix: &str) -> (Span, bool) {
    let (from, form) = sortable::text_prefix(prefix);
    let to = prefix_end(&from);
    ((from, to), form == Form::Whole)
}

fn union(a: Vec<Span>, b: Vec<Span>) -> Vec<Span> {
    let mut all: Vec<Span> = a.into_iter().chain(b).filter(|(from, to)| from < to).collect();
    all.sort_unstable();
    let mut joined: Vec<Span> = Vec::with_capacity(all.len());
    for (from, to) in all {
        match joined.last_mut() {
            Some((_, end)) if from <= *end => {
                if to > *end {
                    *end = to;
                }
            }
            _ => joined.push((from, to)),
        }
    }
    joined
}

fn intersection(a: &[Span], b: &[Span]) -> Vec<Span> {
    let (mut i, mut j) = (0, 0);
    let mut common = Vec::new();
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        let (from, to) = ((&x.0).max(&y.0), (&x.1).min(&y.1));
        if from < to {
            common.push((from.clone(), to.clone()));
        }
        if x.1 <= y.1 { i += 1 } else { j += 1 }
    }
    common
}
