//! Finding rows by their fields.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::Bound;

use eid_crdt::Value;
use eid_store::Direction;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::DbError;
use crate::kind::table::{self, Fields, Flow};
use crate::path::Path;
use crate::rows::Rows;
use crate::table::Table;
use crate::typed::from_row;

/// How a field is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant names a comparison")]
pub enum Comparison {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

impl Comparison {
    fn holds(self, field: Option<&Value>, value: &Value) -> bool {
        // What is absent or of another type is different, and neither smaller nor greater.
        let order = field.and_then(|field| field.compare(value));
        match self {
            Self::Eq => order == Some(Ordering::Equal),
            Self::Ne => order != Some(Ordering::Equal),
            Self::Lt => order == Some(Ordering::Less),
            Self::Le => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            Self::Gt => order == Some(Ordering::Greater),
            Self::Ge => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        }
    }
}

/// A question to a table: filters that all must hold, an order, a limit.
///
/// Reads the whole table, row by row; with an order and a limit it keeps no more rows than the limit.
#[derive(Debug, Clone)]
#[must_use = "a query reads nothing before its rows are asked for"]
pub struct Query<T> {
    table: Table<T>,
    filters: Vec<(Path, Comparison, Value)>,
    order: Option<(Path, Direction)>,
    limit: usize,
}

fn field<'f>(fields: &'f Fields, path: &Path) -> Option<&'f Value> {
    let (first, rest) = path.keys().split_first()?;
    rest.iter().try_fold(fields.get(first)?, |at, key| match at {
        Value::Map(items) => items.get(key),
        _ => None,
    })
}

/// A row on its way through an order: by the field, then by the key.
#[derive(Debug)]
struct Ranked {
    by: Value,
    key: String,
    fields: Fields,
    direction: Direction,
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        let by = self.by.sort_order(&other.by);
        let by = if self.direction == Direction::Backward { by.reverse() } else { by };
        by.then_with(|| self.key.cmp(&other.key))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Ranked {}

impl<T: Serialize + DeserializeOwned> Query<T> {
    pub(crate) fn new(table: Table<T>) -> Self {
        Self { table, filters: Vec::new(), order: None, limit: usize::MAX }
    }

    /// Keeps rows whose field, a name or a path into it, compares like this.
    pub fn filter(mut self, field: impl Into<Path>, comparison: Comparison, value: impl Into<Value>) -> Self {
        self.filters.push((field.into(), comparison, value.into()));
        self
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

    /// Sorts by a field, smallest first. Without an order, rows come in the order of their keys.
    pub fn order(mut self, field: impl Into<Path>) -> Self {
        self.order = Some((field.into(), Direction::Forward));
        self
    }

    /// Sorts by a field, greatest first.
    pub fn order_desc(mut self, field: impl Into<Path>) -> Self {
        self.order = Some((field.into(), Direction::Backward));
        self
    }

    /// Ends after so many rows.
    pub fn limit(mut self, rows: usize) -> Self {
        self.limit = rows;
        self
    }

    /// The rows.
    pub fn rows(&self) -> Result<Vec<T>, DbError> {
        Ok(self.entries()?.into_iter().map(|(_, row)| row).collect())
    }

    /// The rows with their keys.
    pub fn entries(&self) -> Result<Vec<(String, T)>, DbError> {
        let found = self.table.read(|rows| match &self.order {
            Some((by, direction)) => self.ranked(rows, by, *direction),
            None => {
                let mut found = Vec::new();
                self.matching(rows, |key, fields| {
                    found.push((key, fields));
                    if found.len() >= self.limit { Flow::Stop } else { Flow::Continue }
                })?;
                Ok(found)
            }
        })?;
        found
            .into_iter()
            .map(|(key, fields)| {
                let row = from_row(&key, fields)?;
                Ok((key, row))
            })
            .collect()
    }

    /// How many rows there are.
    pub fn count(&self) -> Result<usize, DbError> {
        self.table.read(|rows| {
            let mut count = 0;
            self.matching(rows, |_, _| {
                count += 1;
                if count >= self.limit { Flow::Stop } else { Flow::Continue }
            })?;
            Ok(count)
        })
    }

    fn matching(&self, rows: &dyn Rows, mut each: impl FnMut(String, Fields) -> Flow) -> Result<(), DbError> {
        if self.limit == 0 {
            return Ok(());
        }
        let all = (Bound::Unbounded, Bound::Unbounded);
        table::scan(rows, all, Direction::Forward, usize::MAX, &mut |key, fields| {
            let holds = self.filters.iter().all(|(path, how, value)| how.holds(field(&fields, path), value));
            Ok(if holds { each(key, fields) } else { Flow::Continue })
        })
    }

    fn ranked(
        &self,
        rows: &dyn Rows,
        by: &Path,
        direction: Direction,
    ) -> Result<Vec<(String, Fields)>, DbError> {
        let mut best: BinaryHeap<Ranked> = BinaryHeap::new();
        self.matching(rows, |key, fields| {
            let value = field(&fields, by).cloned().unwrap_or_default();
            best.push(Ranked { by: value, key, fields, direction });
            if best.len() > self.limit {
                best.pop();
            }
            Flow::Continue
        })?;
        let sorted = best.into_sorted_vec().into_iter();
        Ok(sorted.map(|row| (row.key, row.fields)).collect())
    }
}
