//! Making and dropping indexes, in steps: rows are written and read meanwhile, and a crash loses one step.
//!
//! Which indexes are wanted is kept apart from what is built: on this device by [`Table::create_index`], on every
//! replica by the registry. What is built is lost when a repair rebuilds the table or a database comes anew;
//! [`Database::build_pending_indexes`] brings it in line with what is wanted.

use std::collections::{BTreeMap, BTreeSet};

use eid_core::{ReadError, StoreName, TreeId};
use eid_store::{Direction, Key, Local};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::database::Database;
use crate::error::DbError;
use crate::instance::Instance;
use crate::kind::index::{self, Definition, Indexes};
use crate::kind::table::{self, Flow, KIND};
use crate::limits::{INDEX_STEP_ROWS, INDEXES_MAX, PAGE_ROWS};
use crate::path::Path;
use crate::registry;
use crate::rows::{Rows, Stored};
use crate::table::Table;
use crate::transaction::store_name;

/// An index of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexInfo {
    /// The field, or a path into it.
    pub field: Path,
    /// How far it is.
    pub state: IndexState,
}

/// How far an index is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexState {
    /// Queries use it.
    Ready,
    /// Building was interrupted, or is under way.
    Building,
    /// Dropping was interrupted, or is under way.
    Dropping,
    /// It is wanted and not begun.
    Pending,
}

/// How far the building or dropping of an index is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexProgress {
    /// The table.
    pub table: String,
    /// The field.
    pub field: Path,
    /// Rows of the table that were gone through.
    pub rows: u64,
    /// Whether it is at its end.
    pub done: bool,
}

/// Told after each step; says whether to go on.
type Tell<'t> = &'t mut dyn FnMut(&IndexProgress) -> bool;

/// The fields of tables that are wished for.
type Wishes = BTreeMap<StoreName, BTreeSet<Path>>;

fn wishes(instance: &Instance) -> Local {
    instance.store().local().namespace("indexes")
}

/// Forgets which indexes are wanted in a database.
pub(crate) fn forget_wishes(instance: &Instance, tree: &TreeId) -> Result<(), DbError> {
    let rows = wishes(instance);
    let held = rows.scan(&tree.0)?;
    Ok(rows.write(held.into_iter().map(|(key, _)| (key, None)).collect())?)
}

/// The name is preceded by its length, so that no name runs into a field.
fn wish_key(tree: &TreeId, store: &StoreName, field: &str) -> Key {
    let name = store.as_str().as_bytes();
    let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
    [&tree.0[..], &[length], name, field.as_bytes()].concat()
}

/// Store and field in a key made by [`wish_key`].
fn wish_of_key(key: &[u8]) -> Option<(StoreName, Path)> {
    let (length, rest) = key.get(32..)?.split_first()?;
    let (name, field) = rest.split_at_checked(usize::from(*length))?;
    let name = StoreName::new(std::str::from_utf8(name).ok()?).ok()?;
    Some((name, std::str::from_utf8(field).ok()?.parse().ok()?))
}

impl<T: Serialize + DeserializeOwned> Table<T> {
    /// Makes an index on a field, or a path into it, on this device, and waits until queries use it. Nothing is done
    /// when there is one. It is kept in the batches that change rows; what is there already is gone through in steps,
    /// and others write meanwhile. When this is interrupted, the same call goes on.
    ///
    /// The table need not have rows yet. Texts and bytes are told apart by their first 256 bytes; lists and maps are
    /// found as such, and not by what is in them. That of an encrypted table is sealed with its rows, and is to be made
    /// again when another password opens other rows.
    ///
    /// # Errors
    /// [`DbError::TooManyIndexes`], [`DbError::Path`].
    pub fn create_index(&self, field: impl Into<Path>) -> Result<(), DbError> {
        self.create_index_telling(field, |_| true).map(drop)
    }

    /// As [`Self::create_index`]; `progress` is told after each step, and says whether to go on. Gives whether it got
    /// to the end.
    pub fn create_index_telling(
        &self,
        field: impl Into<Path>,
        mut progress: impl FnMut(&IndexProgress) -> bool,
    ) -> Result<bool, DbError> {
        let (store, field) = (store_name(&self.name)?, field.into());
        if !Path::is_writable(field.keys()) {
            return Err(DbError::Path);
        }
        self.db.check_kind(&store, KIND)?;
        // The name of a field of an encrypted table is known to nobody but who has the password, and so such an index
        // is kept with its rows alone.
        if !self.db.is_encrypted(&store)? {
            wishes(self.db.instance())
                .put(&wish_key(&self.db.id(), &store, &field.to_string()), bytes::Bytes::new())?;
        }
        self.db.build_index(&store, &field, &mut progress)
    }

    /// Drops an index of this device. One that the registry declares comes back when pending ones are built: take that
    /// wish back first.
    pub fn drop_index(&self, field: impl Into<Path>) -> Result<(), DbError> {
        self.drop_index_telling(field, |_| true).map(drop)
    }

    /// As [`Self::drop_index`]; `progress` is told after each step, and says whether to go on. Gives whether it got to
    /// the end.
    pub fn drop_index_telling(
        &self,
        field: impl Into<Path>,
        mut progress: impl FnMut(&IndexProgress) -> bool,
    ) -> Result<bool, DbError> {
        let (store, field) = (store_name(&self.name)?, field.into());
        // What is not there is not removed: removing leaves the key in the files, and a field of an encrypted table is
        // not to be named there.
        let (wishes, wish) =
            (wishes(self.db.instance()), wish_key(&self.db.id(), &store, &field.to_string()));
        if wishes.get(&wish)?.is_some() {
            wishes.delete(&wish)?;
        }
        self.db.remove_index(&store, &field, OnlyUnwanted::No, &mut progress)
    }

    /// The indexes that this device has or wants, by field.
    pub fn indexes(&self) -> Result<Vec<IndexInfo>, DbError> {
        let store = store_name(&self.name)?;
        let wanted = self.db.wanted_indexes()?.remove(&store).unwrap_or_default();
        let mut found: BTreeMap<Path, IndexState> =
            wanted.into_iter().map(|field| (field, IndexState::Pending)).collect();
        for definition in self.read(Indexes::of)?.0 {
            let state = match (definition.dropping, definition.is_ready()) {
                (true, _) => IndexState::Dropping,
                (false, true) => IndexState::Ready,
                (false, false) => IndexState::Building,
            };
            found.insert(definition.path, state);
        }
        Ok(found.into_iter().map(|(field, state)| IndexInfo { field, state }).collect())
    }

    /// The indexes that do not have exactly the rows that the rows of the table give. Reads everything, page by page.
    /// An index that is named here is damaged: drop and create it.
    ///
    /// # Errors
    /// [`DbError::Corrupt`] when not even what indexes there are can be read: create them.
    pub fn check_indexes(&self) -> Result<Vec<Path>, DbError> {
        self.read(|rows| {
            let indexes = Indexes::checked(rows)?;
            let mut wrong = Vec::new();
            for definition in indexes.0 {
                if !is_right(rows, &definition)? {
                    wrong.push(definition.path);
                }
            }
            Ok(wrong)
        })
    }
}

/// Every row that there should be is there, and there are as many.
fn is_right(rows: &dyn Rows, definition: &Definition) -> Result<bool, DbError> {
    let one = Indexes(vec![definition.clone()]);
    let mut expected = 0;
    let mut page: Vec<Key> = Vec::new();
    let mut all_there = true;
    let mut look = |page: &mut Vec<Key>| -> Result<bool, DbError> {
        expected += page.len();
        Ok(rows.get_many(&std::mem::take(page))?.iter().all(Option::is_some))
    };
    table::scan(rows, table::ALL, Direction::Forward, usize::MAX, &mut |key, fields| {
        page.extend(one.rows_of(&key, |name| Ok::<_, DbError>(fields.get(name).cloned()))?);
        if page.len() >= PAGE_ROWS {
            all_there &= look(&mut page)?;
        }
        Ok(if all_there { Flow::Continue } else { Flow::Stop })
    })?;
    all_there = all_there && look(&mut page)?;
    let (mut from, to) = (definition.prefix(), eid_store::prefix_end(&definition.prefix()));
    while all_there {
        let found = rows.scan(&from, &to, Direction::Forward, PAGE_ROWS)?;
        let Some((last, _)) = found.last() else { break };
        from.clone_from(last);
        from.push(0);
        all_there = expected >= found.len();
        expected = expected.saturating_sub(found.len());
    }
    Ok(all_there && expected == 0)
}

/// Whether an index that this device has come to want meanwhile stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OnlyUnwanted {
    Yes,
    No,
}

/// What came of a step.
enum Step {
    /// So many rows were gone through.
    More(u64),
    Done(u64),
}

impl Database {
    /// Drops the indexes that nobody wants any more, goes on with those that were interrupted, and builds those that are
    /// wanted here and then those declared in the registry, as far as the table has room. `progress` is told after each
    /// step, and says whether to go on. Gives whether it got to the end.
    pub fn build_pending_indexes(
        &self,
        mut progress: impl FnMut(&IndexProgress) -> bool,
    ) -> Result<bool, DbError> {
        // In this order: whoever makes an index wishes for it first, so none that is seen to be there lacks its wish.
        let snapshot = self.snapshot()?;
        let (own, wanted) = (self.own_wishes()?, self.wanted_indexes()?);
        for info in snapshot.stores()?.into_iter().filter(|info| info.kind == KIND) {
            if self.is_encrypted_in(&snapshot, &info.name)? {
                continue;
            }
            let held = Indexes::of(&Stored::new(snapshot.clone(), &info.name, KIND))?;
            let is_wanted = |path: &Path| wanted.get(&info.name).is_some_and(|wanted| wanted.contains(path));
            for definition in held.0.into_iter().filter(|held| !is_wanted(&held.path)) {
                if !self.remove_index(&info.name, &definition.path, OnlyUnwanted::Yes, &mut progress)? {
                    return Ok(false);
                }
            }
        }
        let is_own = |store, field| own.get(store).is_some_and(|own| own.contains(field));
        for of_own in [true, false] {
            let all =
                wanted.iter().flat_map(|(store, fields)| fields.iter().map(move |field| (store, field)));
            for (store, field) in all.filter(|(store, field)| is_own(store, field) == of_own) {
                match self.build_index(store, field, &mut progress) {
                    // Others may declare more than a table can have, or on what is no table here, or encrypted.
                    Ok(true)
                    | Err(
                        DbError::TooManyIndexes
                        | DbError::WrongKind { .. }
                        | DbError::SeveralKinds { .. }
                        | DbError::Locked { .. },
                    ) => {}
                    other => return other,
                }
            }
        }
        Ok(true)
    }

    /// The fields of each table that this device wants an index on.
    fn own_wishes(&self) -> Result<Wishes, DbError> {
        let mut wanted = Wishes::new();
        for (key, _) in wishes(self.instance()).scan(&self.id().0)? {
            if let Some((store, field)) = wish_of_key(&key) {
                wanted.entry(store).or_default().insert(field);
            }
        }
        Ok(wanted)
    }

    /// The fields of each table that this device or the registry wants an index on.
    fn wanted_indexes(&self) -> Result<Wishes, DbError> {
        let mut wanted = self.own_wishes()?;
        if let Some(snapshot) = self.instance().store().tree(&self.id())? {
            for (store, field) in registry::declared_indexes(&snapshot)? {
                // What others declare may be no path.
                if let (Ok(store), Ok(field)) = (StoreName::new(&store), field.parse::<Path>())
                    && Path::is_writable(field.keys())
                {
                    wanted.entry(store).or_default().insert(field);
                }
            }
        }
        Ok(wanted)
    }

    fn build_index(&self, store: &StoreName, field: &Path, progress: Tell<'_>) -> Result<bool, DbError> {
        self.check_kind(store, KIND)?;
        let above = index::number_above(self.rows_in(&self.snapshot()?, store, KIND)?.rows())?;
        let defined = self.maintain(store, KIND, &mut |view| {
            let mut indexes = Indexes::read(view)?;
            let is_full = indexes.0.len() >= INDEXES_MAX;
            match indexes.0.iter_mut().find(|held| held.path == *field) {
                Some(held) if !held.dropping => return Ok(true),
                Some(held) => held.dropping = false,
                None if is_full => return Ok(false),
                None => {
                    let number = indexes.free_number(above);
                    // No key lies below the empty one.
                    let below = Some(String::new());
                    indexes.0.push(Definition { number, path: field.clone(), dropping: false, below });
                }
            }
            indexes.write(view);
            Ok(true)
        })?;
        if !defined {
            return Err(DbError::TooManyIndexes);
        }
        self.step_to_the_end(store, field, progress, Self::build_step)
    }

    fn remove_index(
        &self,
        store: &StoreName,
        field: &Path,
        only_unwanted: OnlyUnwanted,
        progress: Tell<'_>,
    ) -> Result<bool, DbError> {
        let (wishes, wish) = (wishes(self.instance()), wish_key(&self.id(), store, &field.to_string()));
        self.maintain(store, KIND, &mut |view| {
            // Somebody may make it at this moment: the wish comes before what is done within the door.
            if only_unwanted == OnlyUnwanted::Yes && wishes.get(&wish).map_err(ReadError::new)?.is_some() {
                return Ok(());
            }
            let mut indexes = Indexes::read(view)?;
            if let Some(held) = indexes.0.iter_mut().find(|held| held.path == *field && !held.dropping) {
                held.dropping = true;
                indexes.write(view);
            }
            Ok(())
        })?;
        self.step_to_the_end(store, field, progress, Self::drop_step)
    }

    fn step_to_the_end(
        &self,
        store: &StoreName,
        field: &Path,
        progress: Tell<'_>,
        step: fn(&Self, &StoreName, &Path) -> Result<Step, DbError>,
    ) -> Result<bool, DbError> {
        let mut rows = 0;
        loop {
            let (more, done) = match step(self, store, field)? {
                Step::More(more) => (more, false),
                Step::Done(more) => (more, true),
            };
            rows += more;
            let table = store.as_str().to_owned();
            let go_on = progress(&IndexProgress { table, field: field.clone(), rows, done });
            if done || !go_on {
                return Ok(done);
            }
        }
    }

    /// Covers the next rows. The rows are counted before, the step itself reads them within the door.
    fn build_step(&self, store: &StoreName, field: &Path) -> Result<Step, DbError> {
        let base = self.rows_in(&self.snapshot()?, store, KIND)?;
        let rows = base.rows();
        let Some(seen) = Indexes::of(rows)?.find(field).cloned() else { return Ok(Step::Done(0)) };
        // Somebody drops it meanwhile, or all is covered.
        let Some(from) = seen.below.clone().filter(|_| !seen.dropping) else { return Ok(Step::Done(0)) };
        let to = table::step_up(rows, &from)?;
        self.maintain(store, KIND, &mut |view| {
            let mut indexes = Indexes::read(view)?;
            let Some(held) = indexes.0.iter_mut().find(|held| **held == seen) else {
                return Ok(Step::More(0));
            };
            held.below.clone_from(&to);
            let whole = Indexes(vec![Definition { below: None, ..seen.clone() }]);
            indexes.write(view);
            let rows = table::index_range(view, &whole, &from, to.as_deref(), table::Covered::In)?;
            Ok(if to.is_none() { Step::Done(rows) } else { Step::More(rows) })
        })
    }

    /// Uncovers the last rows that are covered. When none are, what is still there are rows that follow from no row of
    /// the table: they go, and then the definition.
    fn drop_step(&self, store: &StoreName, field: &Path) -> Result<Step, DbError> {
        let base = self.rows_in(&self.snapshot()?, store, KIND)?;
        let rows = base.rows();
        let seen = Indexes::of(rows)?.find(field).filter(|seen| seen.dropping).cloned();
        let Some(seen) = seen else { return Ok(Step::Done(0)) };
        if seen.below.as_deref() == Some("") {
            let (prefix, end) = (seen.prefix(), eid_store::prefix_end(&seen.prefix()));
            let stray = rows.scan(&prefix, &end, Direction::Forward, INDEX_STEP_ROWS)?;
            let is_last = stray.len() < INDEX_STEP_ROWS;
            return self.maintain(store, KIND, &mut |view| {
                let mut indexes = Indexes::read(view)?;
                let Some(at) = indexes.0.iter().position(|held| *held == seen) else {
                    return Ok(Step::More(0));
                };
                stray.iter().for_each(|(key, _)| view.delete(key));
                if is_last {
                    indexes.0.remove(at);
                    indexes.write(view);
                }
                Ok(if is_last { Step::Done(0) } else { Step::More(0) })
            });
        }
        let from = table::step_down(rows, seen.below.as_deref())?.unwrap_or_default();
        self.maintain(store, KIND, &mut |view| {
            let mut indexes = Indexes::read(view)?;
            let Some(held) = indexes.0.iter_mut().find(|held| **held == seen) else {
                return Ok(Step::More(0));
            };
            held.below = Some(from.clone());
            let whole = Indexes(vec![Definition { below: None, ..seen.clone() }]);
            indexes.write(view);
            let to = seen.below.as_deref();
            Ok(Step::More(table::index_range(view, &whole, &from, to, table::Covered::Out)?))
        })
    }
}
