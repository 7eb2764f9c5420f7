//! A table row: visible when its greatest insert beats its greatest delete; each field is a register.

use std::collections::BTreeMap;
use std::fmt::Debug;

use crate::crdt::Crdt;
use crate::register::raise;

/// The state of one row. What a delete made dead is dropped at once, so the state is bounded by the fields in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowState<S, V> {
    inserted: Option<S>,
    deleted: Option<S>,
    /// `None`: the field was taken away.
    fields: BTreeMap<String, (S, Option<V>)>,
}

/// What can be done to a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowOp<V> {
    /// Makes the row visible and writes fields.
    Insert(BTreeMap<String, V>),
    /// Writes fields and takes others away (`None`). It never makes a row visible.
    Update(BTreeMap<String, Option<V>>),
    /// Hides the row; what was written before is dead.
    Delete,
}

impl<S, V> Default for RowState<S, V> {
    fn default() -> Self {
        Self { inserted: None, deleted: None, fields: BTreeMap::new() }
    }
}

impl<S: Ord + Clone, V> RowState<S, V> {
    /// Puts a row together from what was stored.
    #[must_use]
    pub fn from_parts(
        inserted: Option<S>,
        deleted: Option<S>,
        fields: BTreeMap<String, (S, Option<V>)>,
    ) -> Self {
        Self { inserted, deleted, fields }
    }

    /// The stamp of the greatest insert that no delete beats.
    #[must_use]
    pub fn inserted(&self) -> Option<&S> {
        self.inserted.as_ref()
    }

    /// The stamp of the greatest delete.
    #[must_use]
    pub fn deleted(&self) -> Option<&S> {
        self.deleted.as_ref()
    }

    /// Every field that is not dead, those taken away included.
    pub fn stamped_fields(&self) -> impl ExactSizeIterator<Item = (&str, &S, Option<&V>)> {
        self.fields.iter().map(|(name, (stamp, value))| (name.as_str(), stamp, value.as_ref()))
    }

    /// All stamps, to be changed in a way that keeps their order.
    pub fn stamps_mut(&mut self) -> impl Iterator<Item = &mut S> {
        let fields = self.fields.values_mut().map(|(stamp, _)| stamp);
        self.inserted.iter_mut().chain(self.deleted.iter_mut()).chain(fields)
    }

    /// Whether the row is there.
    #[must_use]
    pub fn is_visible(&self) -> bool {
        self.inserted.is_some()
    }

    /// The fields of a visible row.
    #[must_use]
    pub fn into_fields(self) -> Option<BTreeMap<String, V>> {
        self.inserted.as_ref()?;
        let fields = self.fields.into_iter();
        Some(fields.filter_map(|(name, (_, value))| Some((name, value?))).collect())
    }

    /// Makes the row visible, unless a delete is newer.
    pub fn insert(&mut self, stamp: &S) {
        if self.deleted.as_ref() < Some(stamp) {
            raise(&mut self.inserted, stamp);
        }
    }

    /// Writes a field, or takes it away, unless it was written or the row deleted later.
    pub fn write(&mut self, stamp: &S, field: &str, value: Option<V>) {
        if self.deleted.as_ref() >= Some(stamp) {
            return;
        }
        match self.fields.get_mut(field) {
            Some((held, _)) if *held >= *stamp => {}
            Some(slot) => *slot = (stamp.clone(), value),
            None => drop(self.fields.insert(field.to_owned(), (stamp.clone(), value))),
        }
    }

    /// Hides the row and drops what is older.
    pub fn delete(&mut self, stamp: &S) {
        raise(&mut self.deleted, stamp);
        if self.inserted < self.deleted {
            self.inserted = None;
        }
        let deleted = self.deleted.as_ref();
        self.fields.retain(|_, (stamp, _)| Some(&*stamp) > deleted);
    }
}

impl<S: Ord + Clone + Debug, V: Clone + PartialEq + Debug> Crdt for RowState<S, V> {
    type Stamp = S;
    type Op = RowOp<V>;
    type View = Option<BTreeMap<String, V>>;

    fn apply(&mut self, stamp: &S, op: &RowOp<V>) {
        match op {
            RowOp::Insert(fields) => {
                self.insert(stamp);
                for (field, value) in fields {
                    self.write(stamp, field, Some(value.clone()));
                }
            }
            RowOp::Update(fields) => {
                for (field, value) in fields {
                    self.write(stamp, field, value.clone());
                }
            }
            RowOp::Delete => self.delete(stamp),
        }
    }

    fn join(&mut self, other: &Self) {
        if let Some(stamp) = &other.deleted {
            self.delete(stamp);
        }
        if let Some(stamp) = &other.inserted {
            self.insert(stamp);
        }
        for (field, (stamp, value)) in &other.fields {
            self.write(stamp, field, value.clone());
        }
    }

    fn view(&self) -> Self::View {
        self.clone().into_fields()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_op() -> impl Strategy<Value = RowOp<u8>> {
        let name = prop_oneof![Just("a".to_owned()), Just("b".to_owned()), Just("c".to_owned())];
        prop_oneof![
            proptest::collection::btree_map(name.clone(), any::<u8>(), 0..3).prop_map(RowOp::Insert),
            proptest::collection::btree_map(name, any::<Option<u8>>(), 0..3).prop_map(RowOp::Update),
            Just(RowOp::Delete),
        ]
    }

    /// One after another, as on a single device: no stamps.
    fn naive(ops: &[RowOp<u8>]) -> Option<BTreeMap<String, u8>> {
        let (mut visible, mut row) = (false, BTreeMap::new());
        for op in ops {
            match op {
                RowOp::Insert(fields) => {
                    visible = true;
                    row.extend(fields.clone());
                }
                RowOp::Update(fields) => {
                    for (field, value) in fields {
                        match value {
                            Some(value) => row.insert(field.clone(), *value),
                            None => row.remove(field),
                        };
                    }
                }
                RowOp::Delete => {
                    visible = false;
                    row.clear();
                }
            }
        }
        visible.then_some(row)
    }

    crate::crdt_laws!(laws, RowState<u64, u8>, ops = any_op(), naive = naive);

    #[test]
    fn an_update_never_revives_a_row() {
        let mut row = RowState::<u64, u8>::default();
        row.apply(&1, &RowOp::Insert(BTreeMap::from([("a".to_owned(), 1)])));
        row.apply(&2, &RowOp::Delete);
        row.apply(&3, &RowOp::Update(BTreeMap::from([("a".to_owned(), Some(2))])));
        assert_eq!(row.view(), None);
        row.apply(&4, &RowOp::Insert(BTreeMap::new()));
        assert_eq!(row.view(), Some(BTreeMap::from([("a".to_owned(), 2)])));
    }
}
