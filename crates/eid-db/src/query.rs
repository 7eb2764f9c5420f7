//! Finding rows by their fields.

mod filter;
mod page;
mod plan;
mod run;
mod text;

use std::error::Error;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Bound;

use eid_crdt::Value;
use eid_store::Direction;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use filter::{Comparison, Filter};
pub(crate) use page::{Order, Place};
pub use page::{PageCursor, ParsePageCursorError};
pub use plan::Plan;
pub(crate) use run::Hit;
pub use run::Looked;
pub use text::{FilterProblem, ParseFilterError};

use crate::error::DbError;
use crate::kind::table::{Fields, Flow, KeyRange};
use crate::limits::ORDER_FIELDS_MAX;
use crate::path::Path;
use crate::rows::Rows;
use crate::table::{Table, TxTable};
use crate::typed::from_row;

/// A question to a table: a filter, an order, a limit.
///
/// Fields that have an index ([`Table::create_index`]) are looked up in it, others make it read the whole table, row by
/// row; [`Query::explain`] says which. Results are the same. With a limit, no more rows are kept in memory than that.
///
/// It fails with errors of type `E`, into which those of this crate are turned ([`Query::failing_as`]).
#[must_use = "a query reads nothing before its rows are asked for"]
pub struct Query<T, E = DbError> {
    table: Table<T>,
    spec: Spec,
    error: PhantomData<fn() -> E>,
}

impl<T, E> Clone for Query<T, E> {
    fn clone(&self) -> Self {
        Self { table: self.table.clone(), spec: self.spec.clone(), error: PhantomData }
    }
}

impl<T, E> fmt::Debug for Query<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Query").field("table", &self.table).field("spec", &self.spec).finish()
    }
}

/// What is asked, whatever the type of the rows.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) filter: Filter,
    pub(crate) keys: (Bound<String>, Bound<String>),
    pub(crate) order: Order,
    pub(crate) limit: usize,
    pub(crate) after: Option<Place>,
    /// Whether the cursor belongs to another order.
    pub(crate) foreign: bool,
}

/// Rows of a query, and where to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The rows with their keys.
    pub rows: Vec<(String, T)>,
    /// Where the next page begins; nothing when this one ends before the limit.
    pub next: Option<PageCursor>,
    /// How much was read for it.
    pub looked: Looked,
}

impl Spec {
    fn everything() -> Self {
        Self {
            filter: Filter::everything(),
            keys: (Bound::Unbounded, Bound::Unbounded),
            order: Order::default(),
            limit: usize::MAX,
            after: None,
            foreign: false,
        }
    }

    pub(crate) fn key_range(&self) -> KeyRange<'_> {
        (as_str(&self.keys.0), as_str(&self.keys.1))
    }

    /// Whether a key is in the range of keys.
    pub(crate) fn has_key(&self, key: &str) -> bool {
        let (from, to) = self.key_range();
        let is_above = match from {
            Bound::Included(from) => key >= from,
            Bound::Excluded(from) => key > from,
            Bound::Unbounded => true,
        };
        is_above
            && match to {
                Bound::Included(to) => key <= to,
                Bound::Excluded(to) => key < to,
                Bound::Unbounded => true,
            }
    }

    /// Whether a row is among those that are found, but for the limit.
    pub(crate) fn finds(&self, key: &str, fields: &Fields) -> bool {
        let is_after = |after: &Place| self.order.compare(&self.order.place(key, fields), after).is_gt();
        self.has_key(key) && self.filter.holds(fields) && self.after.as_ref().is_none_or(is_after)
    }

    /// Calls `each` with the rows, in order.
    pub(crate) fn run(
        &self,
        rows: &dyn Rows,
        each: &mut dyn FnMut(Hit) -> Result<Flow, DbError>,
    ) -> Result<Looked, DbError> {
        run::run(rows, self, &self.plan(rows)?, each)
    }

    fn plan(&self, rows: &dyn Rows) -> Result<Plan, DbError> {
        if self.foreign {
            return Err(DbError::ForeignPage);
        }
        if self.order.fields.len() > ORDER_FIELDS_MAX {
            return Err(DbError::OrderFields);
        }
        Plan::of(rows, self)
    }

    fn count(&self, rows: &dyn Rows) -> Result<(usize, Looked), DbError> {
        run::count(rows, self, &self.plan(rows)?)
    }

    fn page<T: DeserializeOwned>(&self, rows: &dyn Rows) -> Result<Page<T>, DbError> {
        let (mut found, mut last) = (Vec::new(), None);
        let looked = self.run(rows, &mut |hit| {
            let row = from_row(&hit.place.key, hit.fields)?;
            found.push((hit.place.key.clone(), row));
            last = Some(hit.place);
            Ok(Flow::Continue)
        })?;
        let full = found.len() == self.limit && self.limit > 0;
        let next = last.filter(|_| full).map(|place| PageCursor::new(&self.order, place));
        Ok(Page { rows: found, next, looked })
    }
}

fn as_str(bound: &Bound<String>) -> Bound<&str> {
    bound.as_ref().map(String::as_str)
}

impl<T: Serialize + DeserializeOwned> Query<T> {
    pub(crate) fn new(table: Table<T>) -> Self {
        Self { table, spec: Spec::everything(), error: PhantomData }
    }

    /// The same question, which fails with errors of another type.
    pub fn failing_as<E: From<DbError>>(self) -> Query<T, E> {
        Query { table: self.table, spec: self.spec, error: PhantomData }
    }
}

impl<T: Serialize + DeserializeOwned, E: From<DbError>> Query<T, E> {
    pub(crate) fn parts(&self) -> (&Table<T>, &Spec) {
        (&self.table, &self.spec)
    }

    /// Keeps rows for which this holds, too.
    pub fn matching(mut self, filter: Filter) -> Self {
        self.spec.filter = self.spec.filter & filter;
        self
    }

    /// Keeps rows whose field, a name or a path into it, compares like this.
    pub fn filter(self, field: impl Into<Path>, comparison: Comparison, value: impl Into<Value>) -> Self {
        self.matching(Filter::Compare(field.into(), comparison, value.into()))
    }

    /// Keeps rows whose field is equal. Numbers are compared by size whatever their type.
    pub fn eq(self, field: impl Into<Path>, value: impl Into<Value>) -> Self {
        self.filter(field, Comparison::Eq, value)
    }

    /// Keeps rows whose field is absent or different.
    pub fn ne(self, field: impl Into<Path>, value: impl Into<Value>) -> Self {
        self.filter(field, Comparison::Ne, value)
    }

    /// Keeps rows whose field is smaller.
    pub fn lt(self, field: impl Into<Path>, value: impl Into<Value>) -> Self {
        self.filter(field, Comparison::Lt, value)
    }

    /// Keeps rows whose field is smaller or equal.
    pub fn le(self, field: impl Into<Path>, value: impl Into<Value>) -> Self {
        self.filter(field, Comparison::Le, value)
    }

    /// Keeps rows whose field is greater.
    pub fn gt(self, field: impl Into<Path>, value: impl Into<Value>) -> Self {
        self.filter(field, Comparison::Gt, value)
    }

    /// Keeps rows whose field is greater or equal.
    pub fn ge(self, field: impl Into<Path>, value: impl Into<Value>) -> Self {
        self.filter(field, Comparison::Ge, value)
    }

    /// Keeps rows whose field lies between two values, both included.
    pub fn between(
        self,
        field: impl Into<Path>,
        least: impl Into<Value>,
        greatest: impl Into<Value>,
    ) -> Self {
        self.matching(Filter::between(field, least, greatest))
    }

    /// Keeps rows whose field equals one of these.
    pub fn any_of<V: Into<Value>>(self, field: impl Into<Path>, values: impl IntoIterator<Item = V>) -> Self {
        self.matching(Filter::any_of(field, values))
    }

    /// Keeps rows whose field is a text that begins like this.
    pub fn prefix(self, field: impl Into<Path>, prefix: impl Into<String>) -> Self {
        self.matching(Filter::prefix(field, prefix))
    }

    /// Keeps rows whose field is absent or null.
    pub fn is_null(self, field: impl Into<Path>) -> Self {
        self.matching(Filter::is_null(field))
    }

    /// Keeps rows whose field is there and not null.
    pub fn exists(self, field: impl Into<Path>) -> Self {
        self.matching(Filter::exists(field))
    }

    /// Keeps rows whose key lies in a range.
    pub fn key_range(mut self, range: (Bound<&str>, Bound<&str>)) -> Self {
        self.spec.keys = (range.0.map(str::to_owned), range.1.map(str::to_owned));
        self
    }

    /// Keeps rows whose key begins like this.
    pub fn key_prefix(mut self, prefix: &str) -> Self {
        self.spec.keys = (Bound::Included(prefix.to_owned()), text_after(prefix));
        self
    }

    /// Sorts by a field, smallest first: after the fields that were named before. What is absent is as null, below all
    /// else. Rows that are equal in all come by their keys; without an order, all do.
    pub fn order(self, field: impl Into<Path>) -> Self {
        self.sorted(field.into(), Direction::Forward)
    }

    /// Sorts by a field, greatest first. Rows that are equal come by their keys, greatest first.
    pub fn order_desc(self, field: impl Into<Path>) -> Self {
        self.sorted(field.into(), Direction::Backward)
    }

    /// Greatest key first, within what [`Self::order`] has named: with made keys, the latest row.
    pub fn order_key_desc(mut self) -> Self {
        self.spec.order.keys = Direction::Backward;
        self
    }

    fn sorted(mut self, field: Path, direction: Direction) -> Self {
        self.spec.order.fields.push((field, direction));
        self.spec.order.keys = direction;
        self
    }

    /// Ends after so many rows.
    pub fn limit(mut self, rows: usize) -> Self {
        self.spec.limit = rows;
        self
    }

    /// Begins after the place where a page ended. Comes after the order has been named.
    pub fn page_after(mut self, cursor: &PageCursor) -> Self {
        let place = cursor.place(&self.spec.order).cloned();
        self.spec.foreign = place.is_none();
        self.spec.after = place;
        self
    }

    fn read<R>(&self, read: impl FnOnce(&dyn Rows, &Spec) -> Result<R, DbError>) -> Result<R, DbError> {
        self.table.read(|rows| read(rows, &self.spec))
    }

    /// The rows.
    ///
    /// # Errors
    /// [`DbError::ForeignPage`] when it begins after a page of another order.
    pub fn rows(&self) -> Result<Vec<T>, E> {
        Ok(self.entries()?.into_iter().map(|(_, row)| row).collect())
    }

    /// The rows with their keys.
    pub fn entries(&self) -> Result<Vec<(String, T)>, E> {
        Ok(self.page()?.rows)
    }

    /// The rows with their keys, up to the limit, and where the next ones begin.
    pub fn page(&self) -> Result<Page<T>, E> {
        Ok(self.read(|rows, spec| spec.page(rows))?)
    }

    /// Calls `each` with the rows, one after another; it ends them by returning `false`.
    pub fn each(&self, mut each: impl FnMut(String, T) -> Result<bool, E>) -> Result<Looked, E>
    where
        E: Error + Send + Sync + 'static,
    {
        Ok(self.read(|rows, spec| {
            spec.run(rows, &mut |hit| {
                let row = from_row(&hit.place.key, hit.fields)?;
                let more = each(hit.place.key, row).map_err(DbError::abort)?;
                Ok(if more { Flow::Continue } else { Flow::Stop })
            })
        })?)
    }

    /// The keys of the rows.
    pub fn keys(&self) -> Result<Vec<String>, E> {
        Ok(self.read(|rows, spec| {
            let mut keys = Vec::new();
            spec.run(rows, &mut |hit| {
                keys.push(hit.place.key);
                Ok(Flow::Continue)
            })?;
            Ok(keys)
        })?)
    }

    /// The first row, with its key.
    pub fn first(&self) -> Result<Option<(String, T)>, E> {
        Ok(self.read(|rows, spec| {
            let spec = Spec { limit: spec.limit.min(1), ..spec.clone() };
            Ok(spec.page(rows)?.rows.pop())
        })?)
    }

    /// How many rows there are. Where an index finds exactly them, its rows alone are read.
    pub fn count(&self) -> Result<usize, E> {
        Ok(self.count_looked()?.0)
    }

    /// As [`Self::count`], with how much was read for it.
    pub fn count_looked(&self) -> Result<(usize, Looked), E> {
        Ok(self.read(|rows, spec| spec.count(rows))?)
    }

    /// How it will be answered.
    pub fn explain(&self) -> Result<Plan, E> {
        Ok(self.read(|rows, spec| spec.plan(rows))?)
    }
}

/// The least text above all that begin like this.
fn text_after(prefix: &str) -> Bound<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        // Between the two lie no characters.
        let next = if last == '\u{d7ff}' { Some('\u{e000}') } else { char::from_u32(u32::from(last) + 1) };
        if let Some(next) = next {
            chars.push(next);
            return Bound::Excluded(chars.into_iter().collect());
        }
    }
    Bound::Unbounded
}

impl<T: Serialize + DeserializeOwned> TxTable<'_, T> {
    /// The rows that a query of the table finds, as the transaction has left it.
    pub fn find(&self, query: &Query<T>) -> Result<Vec<(String, T)>, DbError> {
        self.read(|rows| Ok(query.spec.page(rows)?.rows))
    }
}
