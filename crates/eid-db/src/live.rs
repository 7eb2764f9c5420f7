//! Queries that go on: what was found, and then what is added, changed and removed.
//!
//! A live query has a place in the log, and of its rows only the keys, the values they are sorted by when there is a
//! limit, and a hash each. When entries came, it looks at the rows that they touch, as they are now, and at no others:
//! the work does not depend on how many rows there are. It reads the log, so nothing waits for it and nothing is lost;
//! who comes seldom is given what is different, whatever happened in between.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eid_core::cbor::Writer;
use eid_core::dag::{Replica as _, Seq};
use eid_core::{Entry, StoreName};
use eid_store::TreeSnapshot;
use event_listener::Listener as _;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::changes::changed_keys;
use crate::codec::write_value;
use crate::database::Database;
use crate::error::DbError;
use crate::kind::table::{self, Fields, Flow, KIND};
use crate::limits::{LIVE_KEYS_MAX, LOG_PAGE_BYTES};
use crate::query::{Order, Place, Query, Spec};
use crate::rows::{Base, Rows};
use crate::sealed::Opened;
use crate::transaction::store_name;
use crate::typed::from_row;

/// What happened to a row of a live query.
#[derive(Debug)]
pub enum RowChange<T> {
    /// It is found and was not: it came, began to match, or moved up below the limit.
    Added {
        /// Its key.
        key: String,
        /// The row.
        row: T,
    },
    /// It is found as before, and other than before.
    Changed {
        /// Its key.
        key: String,
        /// The row as it is now.
        row: T,
    },
    /// It is no longer found: it was deleted, ceased to match, or moved beyond the limit.
    Removed {
        /// Its key.
        key: String,
    },
    /// It is found, and is not of the type of the rows: somebody has written something else.
    Unreadable {
        /// Its key.
        key: String,
        /// Why.
        error: DbError,
    },
}

impl<T> RowChange<T> {
    /// The key of the row.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Added { key, .. }
            | Self::Changed { key, .. }
            | Self::Removed { key }
            | Self::Unreadable { key, .. } => key,
        }
    }
}

/// What is different since the last time.
#[derive(Debug)]
pub struct RowChanges<T> {
    /// The rows, each once: those removed first, then by key.
    pub changes: Vec<RowChange<T>>,
    /// How many entries that write to the table this covers: more than one when they came faster than they were asked
    /// for. Nothing when the rows were compared one by one, because the database came anew or too much had happened.
    pub entries: Option<u64>,
    /// How many entries of the database are not looked at yet.
    pub behind: u64,
}

/// A query that goes on. It is given by [`Query::watch`].
pub struct LiveQuery<T, E = DbError> {
    db: Database,
    store: StoreName,
    spec: Spec,
    initial: Vec<(String, T)>,
    /// The life of the tree that `next` belongs to; nothing when no tree was here.
    life: Option<u32>,
    next: Seq,
    /// How many payloads had come later than their entries: what they do comes without an entry.
    filled: u64,
    /// How often other entries had come to count.
    settled: u64,
    /// By which keys the rows were open: others show other rows.
    opened: Option<Opened>,
    shown: Shown,
    error: PhantomData<fn() -> E>,
}

impl<T, E> fmt::Debug for LiveQuery<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveQuery")
            .field("store", &self.store)
            .field("rows", &self.shown.rows.len())
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

/// Tells two states of a row apart.
type Mark = [u8; 16];

fn mark(fields: &Fields) -> Mark {
    let mut w = Writer::new();
    w.map(fields.len());
    for (name, value) in fields {
        w.text(name);
        write_value(&mut w, value);
    }
    let hash = blake3::hash(&w.into_bytes());
    let mut mark = Mark::default();
    mark.copy_from_slice(&hash.as_bytes()[..16]);
    mark
}

/// The rows that the consumer knows of.
#[derive(Debug)]
struct Shown {
    rows: HashMap<String, Known>,
    /// With a limit: the order, and the rows in it.
    order: Option<Arc<Order>>,
    sorted: BTreeSet<Ranked>,
    /// Whether no row lies beyond the last one.
    is_all: bool,
}

/// What is known of a row that is shown.
#[derive(Debug)]
struct Known {
    mark: Mark,
    /// With a limit: where it stands.
    place: Option<Place>,
}

#[derive(Debug, Clone)]
struct Ranked {
    order: Arc<Order>,
    place: Place,
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order.compare(&self.place, &other.place)
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

/// What became of rows, by key: their fields when they are found, nothing when not.
type Found = HashMap<String, Option<Fields>>;

impl<T: Serialize + DeserializeOwned, E: From<DbError>> Query<T, E> {
    /// Finds the rows, and then what is added, changed and removed.
    ///
    /// With a limit, a row that leaves makes room for the next one: that is looked up, by an index where the order has
    /// one.
    ///
    /// # Errors
    /// [`DbError::ReadOnly`] for a database as it was: it does not change.
    pub fn watch(&self) -> Result<LiveQuery<T, E>, E> {
        Ok(self.watch_rows()?)
    }

    fn watch_rows(&self) -> Result<LiveQuery<T, E>, DbError> {
        let (table, spec) = self.parts();
        table.db.check_writable()?;
        let mut live = LiveQuery {
            db: table.db.clone(),
            store: store_name(&table.name)?,
            spec: spec.clone(),
            initial: Vec::new(),
            life: None,
            next: Seq(0),
            filled: 0,
            settled: 0,
            opened: None,
            shown: Shown::new(spec),
            error: PhantomData,
        };
        if let Some(snapshot) = live.snapshot()? {
            let rows = live.db.rows_in(&snapshot, &live.store, KIND)?;
            live.begin_at(&snapshot, rows.opened_by());
            let (shown, initial) = (&mut live.shown, &mut live.initial);
            spec.run(rows.rows(), &mut |hit| {
                let mark = mark(&hit.fields);
                initial.push((hit.place.key.clone(), from_row(&hit.place.key, hit.fields)?));
                shown.show(hit.place, mark);
                Ok(Flow::Continue)
            })?;
            shown.is_all = initial.len() < spec.limit;
        }
        Ok(live)
    }
}

impl Shown {
    fn new(spec: &Spec) -> Self {
        let order = (spec.limit < usize::MAX).then(|| Arc::new(spec.order.clone()));
        Self { rows: HashMap::new(), order, sorted: BTreeSet::new(), is_all: true }
    }

    fn show(&mut self, place: Place, mark: Mark) {
        let key = place.key.clone();
        let place = self.order.is_some().then_some(place);
        self.insert(key, Known { mark, place });
    }

    fn insert(&mut self, key: String, known: Known) {
        self.take(&key);
        if let (Some(order), Some(place)) = (&self.order, &known.place) {
            self.sorted.insert(Ranked { order: Arc::clone(order), place: place.clone() });
        }
        self.rows.insert(key, known);
    }

    fn take(&mut self, key: &str) -> Option<Known> {
        let known = self.rows.remove(key)?;
        if let (Some(order), Some(place)) = (&self.order, &known.place) {
            self.sorted.remove(&Ranked { order: Arc::clone(order), place: place.clone() });
        }
        Some(known)
    }

    /// The last place up to which everything is known, when there is more beyond it.
    fn last(&self) -> Option<Place> {
        if self.is_all { None } else { self.sorted.last().map(|ranked| ranked.place.clone()) }
    }
}

impl<T: Serialize + DeserializeOwned, E: From<DbError>> LiveQuery<T, E> {
    /// The rows that were there at the beginning, in order. Gives them once.
    pub fn initial(&mut self) -> Vec<(String, T)> {
        std::mem::take(&mut self.initial)
    }

    /// How many rows are found.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shown.rows.len()
    }

    /// Whether no row is found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shown.rows.is_empty()
    }

    /// What is different since the last time, if anything is.
    pub fn next_ready(&mut self) -> Result<Option<RowChanges<T>>, E> {
        Ok(self.look_further()?)
    }

    fn look_further(&mut self) -> Result<Option<RowChanges<T>>, DbError> {
        let Some(snapshot) = self.snapshot()? else { return self.empty() };
        let is_foreign = self.life != Some(snapshot.life()) || self.next > snapshot.end();
        let is_filled = self.filled != snapshot.filled_payloads();
        let is_settled = self.settled != snapshot.standing_changes();
        if is_foreign || is_filled || is_settled {
            return self.compare_all(&snapshot);
        }
        while self.next < snapshot.end() {
            let rows = self.rows(&snapshot)?;
            if rows.opened_by() != self.opened {
                return self.compare_all(&snapshot);
            }
            let Some(touched) = self.read_log(&snapshot)? else { return self.compare_all(&snapshot) };
            let found = self.look(rows.rows(), &touched.keys)?;
            let changes = self.take_in(rows.rows(), found)?;
            self.next = touched.next;
            if !changes.is_empty() {
                let behind = snapshot.end().0 - self.next.0;
                return Ok(Some(RowChanges { changes, entries: Some(touched.entries), behind }));
            }
        }
        Ok(None)
    }

    /// What is different since the last time; waits for it at most this long, blocking the thread.
    pub fn wait(&mut self, at_most: Duration) -> Result<Option<RowChanges<T>>, E> {
        // Beyond what the clock can say is for ever.
        let deadline = Instant::now().checked_add(at_most);
        loop {
            // Listening begins before looking, so that nothing slips in between.
            let listener = self.db.state().admitted.listen();
            if let Some(changes) = self.next_ready()? {
                return Ok(Some(changes));
            }
            let rang = match deadline {
                Some(deadline) => listener.wait_deadline(deadline).is_some(),
                None => {
                    listener.wait();
                    true
                }
            };
            if !rang {
                return self.next_ready();
            }
        }
    }

    /// What is different since the last time; waits for it without blocking the thread.
    pub async fn next(&mut self) -> Result<RowChanges<T>, E> {
        loop {
            let listener = self.db.state().admitted.listen();
            if let Some(changes) = self.next_ready()? {
                return Ok(changes);
            }
            listener.await;
        }
    }

    fn snapshot(&self) -> Result<Option<TreeSnapshot>, DbError> {
        Ok(self.db.instance().store().tree(&self.db.id())?)
    }

    fn rows(&self, snapshot: &TreeSnapshot) -> Result<Base, DbError> {
        self.db.rows_in(snapshot, &self.store, KIND)
    }

    fn begin_at(&mut self, snapshot: &TreeSnapshot, opened: Option<Opened>) {
        self.opened = opened;
        self.life = Some(snapshot.life());
        self.next = snapshot.end();
        self.filled = snapshot.filled_payloads();
        self.settled = snapshot.standing_changes();
    }

    /// The database is not here (any more).
    fn empty(&mut self) -> Result<Option<RowChanges<T>>, DbError> {
        self.life = None;
        self.next = Seq(0);
        (self.filled, self.settled) = (0, 0);
        let shown = std::mem::replace(&mut self.shown, Shown::new(&self.spec));
        if shown.rows.is_empty() {
            return Ok(None);
        }
        let mut keys: Vec<String> = shown.rows.into_keys().collect();
        keys.sort_unstable();
        let changes = keys.into_iter().map(|key| RowChange::Removed { key }).collect();
        Ok(Some(RowChanges { changes, entries: None, behind: 0 }))
    }

    /// Compares every row, because the log does not tell what is different.
    fn compare_all(&mut self, snapshot: &TreeSnapshot) -> Result<Option<RowChanges<T>>, DbError> {
        let (spec, before) = (&self.spec, &self.shown);
        let mut after = Shown::new(spec);
        let mut changes = Vec::new();
        let rows = self.rows(snapshot)?;
        spec.run(rows.rows(), &mut |hit| {
            let mark = mark(&hit.fields);
            let was = before.rows.get(&hit.place.key);
            if was.is_none_or(|was| was.mark != mark) {
                changes.push(shown_row(hit.place.key.clone(), hit.fields, was.is_some()));
            }
            after.show(hit.place, mark);
            Ok(Flow::Continue)
        })?;
        after.is_all = after.rows.len() < spec.limit;
        let gone = before.rows.keys().filter(|key| !after.rows.contains_key(*key));
        changes.extend(gone.map(|key| RowChange::Removed { key: key.clone() }));
        self.shown = after;
        self.begin_at(snapshot, rows.opened_by());
        sort(&mut changes);
        let changes = RowChanges { changes, entries: None, behind: 0 };
        Ok(Some(changes).filter(|changes| !changes.changes.is_empty()))
    }

    /// The keys that the next entries touch; nothing when there are too many to look them up. With a limit all entries
    /// are taken together: which row comes next is known only of the newest state.
    fn read_log(&self, snapshot: &TreeSnapshot) -> Result<Option<Touched>, DbError> {
        let mut touched = Touched { keys: BTreeSet::new(), entries: 0, next: self.next };
        let in_one = self.spec.limit < usize::MAX;
        while touched.next < snapshot.end() {
            for logged in snapshot.log(touched.next..snapshot.end(), LOG_PAGE_BYTES)? {
                let entry = Entry::parse(logged.block, logged.payloads)
                    .map_err(|_| DbError::Corrupt { what: "an entry" })?;
                touched.next = Seq(logged.seq.0 + 1);
                // What is missing comes later, and what does not open changes no row.
                let payload = self.db.payload_of(&entry, &self.store, self.opened).ok().flatten();
                if let Some(payload) = payload.filter(|payload| payload.kind == KIND) {
                    touched.entries += 1;
                    for path in changed_keys(&payload) {
                        touched.keys.extend(path.keys().first().cloned());
                    }
                }
            }
            if touched.keys.len() > LIVE_KEYS_MAX && in_one {
                return Ok(None);
            }
            if !in_one {
                break;
            }
        }
        Ok(Some(touched))
    }

    /// The rows with these keys that the query finds, whatever its limit.
    fn look(&self, rows: &dyn Rows, keys: &BTreeSet<String>) -> Result<Found, DbError> {
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let fields = table::get_many(rows, &keys)?;
        let found = keys.iter().zip(fields).map(|(key, fields)| {
            let is_found = |fields: &Fields| self.spec.finds(key, fields);
            ((*key).to_owned(), fields.filter(is_found))
        });
        Ok(found.collect())
    }

    /// Brings what is shown up to rows that were looked at, and says what is different.
    fn take_in(&mut self, rows: &dyn Rows, mut found: Found) -> Result<Vec<RowChange<T>>, DbError> {
        let spec = &self.spec;
        // Beyond the last place nothing is known. It is the last one before anything changes: every row up to there is
        // shown or was looked at.
        let (last, was_all) = (self.shown.last(), self.shown.is_all);
        let mut before: HashMap<String, Known> = HashMap::new();
        for (key, fields) in &found {
            if let Some(known) = self.shown.take(key) {
                before.insert(key.clone(), known);
            }
            let Some(fields) = fields else { continue };
            let place = spec.order.place(key, fields);
            let is_beyond = |last: &Place| spec.order.compare(&place, last) == Ordering::Greater;
            if !last.as_ref().is_some_and(is_beyond) {
                self.shown.show(place, mark(fields));
            }
        }
        if spec.limit < usize::MAX {
            let kept = self.shown.keep_to_the_limit(spec, rows, last.as_ref(), &mut before, &mut found);
            if let Err(error) = kept {
                // As the consumer knows it, so that trying again gives what is different from that.
                found.keys().for_each(|key| drop(self.shown.take(key)));
                before.into_iter().for_each(|(key, known)| self.shown.insert(key, known));
                self.shown.is_all = was_all;
                return Err(error);
            }
        }
        let mut changes = Vec::new();
        for (key, fields) in found {
            match (before.get(&key), self.shown.rows.get(&key), fields) {
                (Some(was), Some(is), _) if was.mark == is.mark => {}
                (was, Some(_), Some(fields)) => changes.push(shown_row(key, fields, was.is_some())),
                (Some(_), _, _) => changes.push(RowChange::Removed { key }),
                (None, _, _) => {}
            }
        }
        sort(&mut changes);
        Ok(changes)
    }
}

impl Shown {
    /// Takes away the rows beyond the limit, or looks for those that move up behind `last`.
    fn keep_to_the_limit(
        &mut self,
        spec: &Spec,
        rows: &dyn Rows,
        last: Option<&Place>,
        before: &mut HashMap<String, Known>,
        found: &mut Found,
    ) -> Result<(), DbError> {
        while self.sorted.len() > spec.limit {
            let Some(key) = self.sorted.last().map(|ranked| ranked.place.key.clone()) else { break };
            self.is_all = false;
            // One that was not touched was shown until now.
            if let Some(known) = self.take(&key)
                && !found.contains_key(&key)
            {
                before.insert(key.clone(), known);
                found.insert(key, None);
            }
        }
        let room = spec.limit - self.sorted.len();
        let Some(last) = last.filter(|_| room > 0) else { return Ok(()) };
        let rest = Spec { after: Some(last.clone()), limit: room, ..spec.clone() };
        let mut count = 0;
        rest.run(rows, &mut |hit| {
            self.show(hit.place.clone(), mark(&hit.fields));
            found.insert(hit.place.key, Some(hit.fields));
            count += 1;
            Ok(Flow::Continue)
        })?;
        self.is_all = count < room;
        Ok(())
    }
}

/// What entries touch.
struct Touched {
    keys: BTreeSet<String>,
    entries: u64,
    next: Seq,
}

fn shown_row<T: DeserializeOwned>(key: String, fields: Fields, was_shown: bool) -> RowChange<T> {
    match from_row(&key, fields) {
        Ok(row) if was_shown => RowChange::Changed { key, row },
        Ok(row) => RowChange::Added { key, row },
        Err(error) => RowChange::Unreadable { key, error },
    }
}

fn sort<T>(changes: &mut [RowChange<T>]) {
    let is_there = |change: &RowChange<T>| !matches!(change, RowChange::Removed { .. });
    changes.sort_unstable_by(|a, b| (is_there(a), a.key()).cmp(&(is_there(b), b.key())));
}
