//! A table row: visible when its greatest insert beats its greatest delete; each field is a register, a counter or a
//! text.
//!
//! What a field is follows from what was set last: on an integer, increments count; on nothing, or on an empty text,
//! also edits do; on anything else neither has an effect. What a set or a delete beats is dead.

use std::collections::BTreeMap;
use std::fmt::Debug;

use crate::crdt::Crdt;
use crate::register::{Register, raise};

/// Most fields of a row: it is read and written as a whole.
pub const ROW_FIELDS_MAX: usize = 1024;

/// The state of one row. What a delete made dead is dropped at once, so the state is bounded by the fields in use.
///
/// A row that would have more than `FIELDS` fields keeps those written last, and of those written at once the ones whose
/// names come last. What is as old as the newest of the others is dead, as if it had been deleted: so a full row is the
/// same on every replica, whatever came first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowState<S, V, const FIELDS: usize = ROW_FIELDS_MAX> {
    inserted: Option<S>,
    deleted: Option<S>,
    /// The newest field that fell out because there were too many, unless a delete beats it.
    cut: Option<(S, String)>,
    fields: BTreeMap<String, FieldState<S, V>>,
}

/// The stamps of one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldState<S, V> {
    /// The value that was set last; `None` where the field was taken away.
    pub set: Register<S, Option<V>>,
    /// The greatest increment, if it beats the set.
    pub counted: Option<S>,
    /// The greatest edit of a text, if it beats the set.
    pub edited: Option<S>,
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
    /// Takes note of an increment of a field.
    Count(String),
    /// Takes note of an edit of a field that is a text.
    Edit(String),
}

/// What can be seen of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldView<V> {
    /// What was set.
    pub value: Option<V>,
    /// Whether there are increments that the set does not hide.
    pub counted: bool,
    /// Whether there are edits that the set does not hide.
    pub edited: bool,
}

impl<S, V> Default for FieldState<S, V> {
    fn default() -> Self {
        Self { set: Register::default(), counted: None, edited: None }
    }
}

impl<S: Ord + Clone, V> FieldState<S, V> {
    /// The stamp of whatever was done to it last.
    #[must_use]
    pub fn last(&self) -> Option<&S> {
        self.set.stamp().max(self.counted.as_ref()).max(self.edited.as_ref())
    }

    /// The value that is set.
    #[must_use]
    pub fn value(&self) -> Option<&V> {
        self.set.get().and_then(|(_, value)| value.as_ref())
    }

    /// Whether there is something to be seen.
    #[must_use]
    pub fn is_shown(&self) -> bool {
        self.value().is_some() || self.counted.is_some() || self.edited.is_some()
    }

    fn stamps_mut(&mut self) -> impl Iterator<Item = &mut S> {
        self.set.stamp_mut().into_iter().chain(self.counted.iter_mut()).chain(self.edited.iter_mut())
    }

    fn forget_hidden(&mut self, floor: Option<&S>) {
        let floor = floor.max(self.set.stamp());
        if self.counted.as_ref() <= floor {
            self.counted = None;
        }
        if self.edited.as_ref() <= floor {
            self.edited = None;
        }
    }
}

/// Whether a write of a field comes to nothing. Increments and edits write one field each, so none of them has the stamp
/// of the cut and another name.
fn is_dead<S: Ord>(deleted: Option<&S>, cut: Option<&(S, String)>, stamp: &S, field: &str) -> bool {
    let is_cut = cut.is_some_and(|(cut, name)| (stamp, field) <= (cut, name.as_str()));
    deleted >= Some(stamp) || is_cut
}

impl<S, V, const FIELDS: usize> Default for RowState<S, V, FIELDS> {
    fn default() -> Self {
        Self { inserted: None, deleted: None, cut: None, fields: BTreeMap::new() }
    }
}

impl<S: Ord + Clone, V, const FIELDS: usize> RowState<S, V, FIELDS> {
    /// Puts a row together from what was stored.
    #[must_use]
    pub fn from_parts(
        inserted: Option<S>,
        deleted: Option<S>,
        cut: Option<(S, String)>,
        fields: BTreeMap<String, FieldState<S, V>>,
    ) -> Self {
        Self { inserted, deleted, cut, fields }
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

    /// Up to where fields fell out for want of room, unless a delete beats it.
    #[must_use]
    pub fn cut(&self) -> Option<&(S, String)> {
        self.cut.as_ref()
    }

    /// A field that is not dead; one that was taken away included.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&FieldState<S, V>> {
        self.fields.get(name)
    }

    /// Every field that is not dead, those taken away included.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = (&str, &FieldState<S, V>)> {
        self.fields.iter().map(|(name, field)| (name.as_str(), field))
    }

    /// All stamps, to be changed in a way that keeps their order.
    pub fn stamps_mut(&mut self) -> impl Iterator<Item = &mut S> {
        let fields = self.fields.values_mut().flat_map(FieldState::stamps_mut);
        let cut = self.cut.iter_mut().map(|(stamp, _)| stamp);
        self.inserted.iter_mut().chain(self.deleted.iter_mut()).chain(cut).chain(fields)
    }

    /// Whether the row is there.
    #[must_use]
    pub fn is_visible(&self) -> bool {
        self.inserted.is_some()
    }

    /// What an increment or edit of a field has to beat.
    #[must_use]
    pub fn field_floor(&self, name: &str) -> Option<&S> {
        let set = self.fields.get(name).and_then(|field| field.set.stamp());
        let cut = self.cut.as_ref().map(|(stamp, _)| stamp);
        self.deleted.as_ref().max(cut).max(set)
    }

    /// Makes the row visible, unless a delete is newer.
    pub fn insert(&mut self, stamp: &S) {
        if self.deleted.as_ref() < Some(stamp) {
            raise(&mut self.inserted, stamp);
        }
    }

    /// Writes a field, or takes it away, unless it was written or the row deleted later.
    pub fn write(&mut self, stamp: &S, field: &str, value: Option<V>) {
        self.change(stamp, field, |field| {
            field.set.write(stamp.clone(), value);
            field.forget_hidden(None);
        });
    }

    /// Takes note of an increment.
    pub fn count(&mut self, stamp: &S, field: &str) {
        self.change(stamp, field, |field| {
            raise(&mut field.counted, stamp);
            field.forget_hidden(None);
        });
    }

    /// Takes note of an edit.
    pub fn edit(&mut self, stamp: &S, field: &str) {
        self.change(stamp, field, |field| {
            raise(&mut field.edited, stamp);
            field.forget_hidden(None);
        });
    }

    fn change(&mut self, stamp: &S, field: &str, change: impl FnOnce(&mut FieldState<S, V>)) {
        if is_dead(self.deleted.as_ref(), self.cut.as_ref(), stamp, field) {
            return;
        }
        match self.fields.get_mut(field) {
            Some(field) => change(field),
            None => change(self.fields.entry(field.to_owned()).or_default()),
        }
    }

    /// Hides the row and drops what is older.
    pub fn delete(&mut self, stamp: &S) {
        raise(&mut self.deleted, stamp);
        if self.inserted < self.deleted {
            self.inserted = None;
        }
        self.drop_dead();
    }

    fn drop_dead(&mut self) {
        self.cut.take_if(|(stamp, _)| Some(&*stamp) <= self.deleted.as_ref());
        let (deleted, cut) = (self.deleted.as_ref(), self.cut.as_ref());
        self.fields.retain(|name, field| {
            if field.set.stamp().is_some_and(|stamp| is_dead(deleted, cut, stamp, name)) {
                field.set = Register::default();
            }
            field.forget_hidden(deleted.max(cut.map(|(stamp, _)| stamp)));
            field.last().is_some()
        });
    }

    /// Lets fall out what there is no room for.
    fn bound(&mut self) {
        if self.fields.len() <= FIELDS {
            return;
        }
        let lasts = self.fields.iter().filter_map(|(name, field)| Some((field.last()?, name)));
        let mut lasts: Vec<(&S, &String)> = lasts.collect();
        lasts.sort_unstable_by(|a, b| b.cmp(a));
        let cut = lasts.get(FIELDS).map(|(stamp, name)| ((*stamp).clone(), (*name).clone()));
        if let Some(cut) = cut {
            raise(&mut self.cut, &cut);
            self.drop_dead();
        }
    }
}

impl<S: Ord + Clone + Debug, V: Clone + PartialEq + Debug, const FIELDS: usize> Crdt
    for RowState<S, V, FIELDS>
{
    type Stamp = S;
    type Op = RowOp<V>;
    type View = Option<BTreeMap<String, FieldView<V>>>;

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
            RowOp::Count(field) => self.count(stamp, field),
            RowOp::Edit(field) => self.edit(stamp, field),
        }
        self.bound();
    }

    fn join(&mut self, other: &Self) {
        if let Some(stamp) = &other.deleted {
            self.delete(stamp);
        }
        if let Some(stamp) = &other.cut {
            raise(&mut self.cut, stamp);
            self.drop_dead();
        }
        if let Some(stamp) = &other.inserted {
            self.insert(stamp);
        }
        for (name, field) in &other.fields {
            if let Some((stamp, value)) = field.set.get() {
                self.write(stamp, name, value.clone());
            }
            if let Some(stamp) = &field.counted {
                self.count(stamp, name);
            }
            if let Some(stamp) = &field.edited {
                self.edit(stamp, name);
            }
        }
        self.bound();
    }

    fn view(&self) -> Self::View {
        self.inserted.as_ref()?;
        let shown = self.fields.iter().filter(|(_, field)| field.is_shown());
        let shown = shown.map(|(name, field)| {
            let view = FieldView {
                value: field.value().cloned(),
                counted: field.counted.is_some(),
                edited: field.edited.is_some(),
            };
            (name.clone(), view)
        });
        Some(shown.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_op() -> impl Strategy<Value = RowOp<u8>> {
        let name = || prop_oneof![Just("a"), Just("b"), Just("c"), Just("d")].prop_map(str::to_owned);
        prop_oneof![
            proptest::collection::btree_map(name(), any::<u8>(), 0..3).prop_map(RowOp::Insert),
            proptest::collection::btree_map(name(), any::<Option<u8>>(), 0..3).prop_map(RowOp::Update),
            name().prop_map(RowOp::Count),
            name().prop_map(RowOp::Edit),
            Just(RowOp::Delete),
        ]
    }

    type View = Option<BTreeMap<String, FieldView<u8>>>;

    /// One after another, as on a single device: no stamps, only which came before which.
    fn naive<const FIELDS: usize>(ops: &[RowOp<u8>]) -> View {
        #[derive(Default)]
        struct Field {
            set: Option<(usize, Option<u8>)>,
            counted: Option<usize>,
            edited: Option<usize>,
        }
        let (mut visible, mut row) = (false, BTreeMap::<String, Field>::new());
        for (now, op) in ops.iter().enumerate() {
            let mut set = |field: &String, value| {
                row.insert(field.clone(), Field { set: Some((now, value)), ..Field::default() });
            };
            match op {
                RowOp::Insert(fields) => {
                    visible = true;
                    fields.iter().for_each(|(field, value)| set(field, Some(*value)));
                }
                RowOp::Update(fields) => fields.iter().for_each(|(field, value)| set(field, *value)),
                RowOp::Delete => {
                    visible = false;
                    row.clear();
                }
                RowOp::Count(field) => row.entry(field.clone()).or_default().counted = Some(now),
                RowOp::Edit(field) => row.entry(field.clone()).or_default().edited = Some(now),
            }
            let last = |field: &Field| field.set.map(|(at, _)| at).max(field.counted).max(field.edited);
            let mut lasts: Vec<_> = row.iter().map(|(name, field)| (last(field), name.clone())).collect();
            lasts.sort_unstable();
            if let Some(excess) = lasts.len().checked_sub(FIELDS + 1) {
                let cut = &lasts[excess];
                for (name, field) in &mut row {
                    let lives = |at: usize| (Some(at), name.clone()) > *cut;
                    field.set = field.set.filter(|(at, _)| lives(*at));
                    field.counted = field.counted.filter(|at| lives(*at));
                    field.edited = field.edited.filter(|at| lives(*at));
                }
                row.retain(|_, field| last(field).is_some());
            }
        }
        let shown = row.into_iter().map(|(name, field)| {
            let value = field.set.and_then(|(_, value)| value);
            (name, FieldView { value, counted: field.counted.is_some(), edited: field.edited.is_some() })
        });
        visible.then(|| shown.filter(|(_, f)| f.value.is_some() || f.counted || f.edited).collect())
    }

    crate::crdt_laws!(laws, RowState<u64, u8>, ops = any_op(), naive = naive::<ROW_FIELDS_MAX>);
    crate::crdt_laws!(laws_of_a_full_row, RowState<u64, u8, 2>, ops = any_op(), naive = naive::<2>);

    fn set(value: u8) -> FieldView<u8> {
        FieldView { value: Some(value), counted: false, edited: false }
    }

    #[test]
    fn an_update_never_revives_a_row() {
        let mut row = RowState::<u64, u8>::default();
        row.apply(&1, &RowOp::Insert(BTreeMap::from([("a".to_owned(), 1)])));
        row.apply(&2, &RowOp::Delete);
        row.apply(&3, &RowOp::Update(BTreeMap::from([("a".to_owned(), Some(2))])));
        row.apply(&4, &RowOp::Count("n".to_owned()));
        assert_eq!(row.view(), None);
        row.apply(&5, &RowOp::Insert(BTreeMap::new()));
        let counted = FieldView { value: None, counted: true, edited: false };
        assert_eq!(row.view(), Some([("a".to_owned(), set(2)), ("n".to_owned(), counted)].into()));
    }

    #[test]
    fn a_full_row_keeps_the_fields_written_last() {
        let mut row = RowState::<u64, u8, 2>::default();
        row.apply(&1, &RowOp::Insert([("a".to_owned(), 1), ("b".to_owned(), 1)].into()));
        row.apply(&2, &RowOp::Update([("c".to_owned(), Some(2))].into()));
        assert_eq!(row.view(), Some([("b".to_owned(), set(1)), ("c".to_owned(), set(2))].into()));
        row.apply(&3, &RowOp::Update([("d".to_owned(), Some(3))].into()));
        assert_eq!(row.view(), Some([("c".to_owned(), set(2)), ("d".to_owned(), set(3))].into()));
    }
}
