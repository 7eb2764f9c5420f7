//! What differs between two versions: looks only at what entries touch that one of them has and the other has not.

use std::collections::{BTreeSet, VecDeque};

use eid_core::dag::{Replica as _, Seq, SeqSet, difference};
use eid_core::{Entry, EntryId, Permission, Slot, StoreName};
use eid_crdt::Value;
use eid_store::TreeSnapshot;

use super::leaves::{affected, comparable, leaves, payload, rows};
use super::positions;
use super::undo::marks;
use crate::changes::changed_keys;
use crate::database::Database;
use crate::error::DbError;
use crate::kind::{doc, registry, table, text};
use crate::limits::{DIFF_KEYS, LOG_PAGE_BYTES};
use crate::path::Path;
use crate::text::differences;

/// One value that two versions do not have in common.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The store; `_settings` for rights and title.
    pub store: String,
    /// Its kind; `settings` for rights and title.
    pub kind: String,
    /// The path in a document, or the key of a row as a path of one key. Empty for a text.
    pub path: Path,
    /// The field, when a row is in both versions. A row that is in one of them is told of as a whole.
    pub field: Option<String>,
    /// Where in a text, in Unicode scalar values.
    pub at: Option<u64>,
    /// The value in the first version.
    pub before: Option<Value>,
    /// The value in the second version.
    pub after: Option<Value>,
}

/// A row or a path that some entry wrote, in the order in which differences are given.
type Touched = (String, String, Vec<String>);

/// The differences between two versions, by store, kind and path, found while they are read: memory grows with what one
/// write can touch, never with the history.
#[derive(Debug)]
pub struct Differences {
    db: Database,
    /// Has the entries of both versions.
    held: TreeSnapshot,
    versions: [TreeSnapshot; 2],
    between: [SeqSet; 2],
    touched: VecDeque<Touched>,
    /// The last one that was ever in `touched`; nothing before the first pass.
    reached: Option<Touched>,
    complete: bool,
    /// What was compared last in a document covers what lies below it.
    compared: Option<Touched>,
    found: VecDeque<Difference>,
    unread: u64,
}

impl Database {
    /// What differs between two versions, each named by entries as in [`Self::at`].
    ///
    /// # Errors
    /// As [`Self::at`].
    pub fn diff(&self, from: &[EntryId], to: &[EntryId]) -> Result<Differences, DbError> {
        let held = self.snapshot()?;
        let (want, have) = (positions(&held, to)?, positions(&held, from)?);
        let between = [difference(&held, &want, &have)?, difference(&held, &have, &want)?];
        let versions = [self.version(from)?, self.version(to)?];
        let mut found = VecDeque::new();
        self.settings_between(&versions, &mut found)?;
        Ok(Differences {
            db: self.clone(),
            held,
            versions,
            between,
            touched: VecDeque::new(),
            reached: None,
            complete: false,
            compared: None,
            found,
            unread: 0,
        })
    }

    fn settings_between(
        &self,
        versions: &[TreeSnapshot; 2],
        found: &mut VecDeque<Difference>,
    ) -> Result<(), DbError> {
        let [before, after] =
            [&versions[0], &versions[1]].map(|version| self.showing(version.clone()).settings());
        let (before, after) = (before?, after?);
        let mut differ = |name: &str, before: Option<Value>, after: Option<Value>| {
            if before != after {
                found.push_back(Difference {
                    store: StoreName::settings().as_str().to_owned(),
                    kind: "settings".to_owned(),
                    path: Path::from([name]),
                    field: None,
                    at: None,
                    before,
                    after,
                });
            }
        };
        differ("title", before.title().map(Value::from), after.title().map(Value::from));
        let slots: BTreeSet<Slot> = before.slots().chain(after.slots()).map(|(slot, _)| slot).collect();
        let right = |permission: Option<Permission>| permission.map(|right| Value::from(right.to_string()));
        for slot in slots {
            let of = |settings: &crate::Settings| {
                settings
                    .slots()
                    .find(|(other, _)| *other == slot)
                    .and_then(|(_, permission)| right(permission))
            };
            let name = match slot {
                Slot::Key(key) => key.to_string(),
                Slot::Everyone => "*".to_owned(),
                Slot::Invite(key) => format!("invite:{key}"),
            };
            differ(&name, of(&before), of(&after));
        }
        Ok(())
    }
}

impl Differences {
    /// How many sections of entries could not be looked into, because their payloads are not here, are sealed, or are
    /// of a kind that is unknown here. What they touch is left out. Counted as the differences are read.
    #[must_use]
    pub fn unread(&self) -> u64 {
        self.unread
    }

    fn read(&mut self) -> Result<Option<Difference>, DbError> {
        loop {
            if let Some(found) = self.found.pop_front() {
                return Ok(Some(found));
            }
            match self.touched.pop_front() {
                Some(touched) => self.compare(touched)?,
                None if self.complete => return Ok(None),
                None => self.read_touched()?,
            }
        }
    }

    /// One pass over the entries between the versions, which keeps the next least of what they touch.
    fn read_touched(&mut self) -> Result<(), DbError> {
        let mut least: BTreeSet<Touched> = BTreeSet::new();
        let is_first = self.reached.is_none();
        self.complete = true;
        for between in &self.between {
            let mut from = Seq(0);
            while let Some(run) = between.next_run(from) {
                let page = self.held.log(run, LOG_PAGE_BYTES)?;
                let Some(last) = page.last() else { return Err(DbError::Corrupt { what: "the log" }) };
                from = Seq(last.seq.0 + 1);
                for logged in page {
                    let entry = Entry::parse(logged.block, logged.payloads)
                        .map_err(|_| DbError::Corrupt { what: "an entry" })?;
                    let unread = touched(&self.db, &entry, &mut |touched| {
                        if self.reached.as_ref().is_none_or(|reached| *reached < touched) {
                            least.insert(touched);
                        }
                        if least.len() > DIFF_KEYS {
                            self.complete = false;
                            least.pop_last();
                        }
                    });
                    self.unread += if is_first { unread } else { 0 };
                }
            }
        }
        self.reached = least.last().cloned().or_else(|| self.reached.take());
        self.touched = least.into_iter().collect();
        Ok(())
    }

    fn compare(&mut self, (store, kind, path): Touched) -> Result<(), DbError> {
        let name = StoreName::new(&store).map_err(|_| DbError::StoreName { name: store.clone() })?;
        let Some(known) = comparable(&kind) else { return Ok(()) };
        let of = |version: &TreeSnapshot| rows(&self.db, version, &name, known);
        let (before, after) = (of(&self.versions[0])?, of(&self.versions[1])?);
        let (before, after) = (before.rows(), after.rows());
        let difference = |path: &[String], field, before, after| Difference {
            store: store.clone(),
            kind: kind.clone(),
            path: Path::from(path.to_vec()),
            field,
            at: None,
            before,
            after,
        };
        match kind.as_str() {
            table::KIND => {
                let Some(key) = path.first() else { return Ok(()) };
                match (table::get(before, key)?, table::get(after, key)?) {
                    (Some(mut before), Some(after)) => {
                        for (name, value) in after {
                            let held = before.remove(&name);
                            if held.as_ref() != Some(&value) {
                                self.found.push_back(difference(&path, Some(name), held, Some(value)));
                            }
                        }
                        let left = before.into_iter();
                        let left = left.map(|(name, value)| difference(&path, Some(name), Some(value), None));
                        self.found.extend(left);
                    }
                    (None, None) => {}
                    (before, after) => {
                        let [before, after] = [before, after].map(|fields| fields.map(Value::Map));
                        self.found.push_back(difference(&path, None, before, after));
                    }
                }
            }
            doc::KIND => {
                let root = affected([before, after], &path)?.to_vec();
                let covers =
                    |held: &Touched| (&held.0, &held.1) == (&store, &kind) && root.starts_with(&held.2);
                if self.compared.as_ref().is_some_and(covers) {
                    return Ok(());
                }
                let mut held = leaves(before, &root)?;
                for (path, value) in leaves(after, &root)? {
                    let before = held.remove(&path);
                    if before.as_ref() != Some(&value) {
                        self.found.push_back(difference(&path, None, before, Some(value)));
                    }
                }
                let left = held.into_iter().map(|(path, value)| difference(&path, None, Some(value), None));
                self.found.extend(left);
                self.found.make_contiguous().sort_by(|a, b| a.path.cmp(&b.path));
                self.compared = Some((store, kind, root));
            }
            text::KIND => {
                let (mut old, mut new) = (String::new(), String::new());
                text::pages(before, &mut |page| old.push_str(page))?;
                text::pages(after, &mut |page| new.push_str(page))?;
                let left: Vec<char> = old.chars().collect();
                // Positions are those of the text once the edits before it are made.
                let mut shift = 0i64;
                for edit in differences(&old, &new) {
                    let start = usize::try_from(edit.at as i64 - shift).unwrap_or(0);
                    let removed: String = left.iter().skip(start).take(edit.removed).collect();
                    shift += edit.inserted.chars().count() as i64 - edit.removed as i64;
                    let part = |text: String| (!text.is_empty()).then(|| Value::from(text));
                    let found = difference(&[], None, part(removed), part(edit.inserted));
                    self.found.push_back(Difference { at: Some(edit.at as u64), ..found });
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Iterator for Differences {
    type Item = Result<Difference, DbError>;

    fn next(&mut self) -> Option<Self::Item> {
        let read = self.read();
        if read.is_err() {
            (self.complete, self.touched) = (true, VecDeque::new());
        }
        read.transpose()
    }
}

/// What an entry writes. Gives how many of its sections could not be looked into.
fn touched(db: &Database, entry: &Entry, each: &mut impl FnMut(Touched)) -> u64 {
    let mut unread = 0;
    for (index, section) in entry.header().sections.iter().enumerate() {
        if section.store.is_settings() || section.store.as_str() == marks::STORE {
            continue;
        }
        let payload = payload(db, entry, index);
        if payload.as_ref().is_some_and(|payload| payload.kind == registry::KIND) {
            // What is said about stores is no content.
            continue;
        }
        match payload.and_then(|payload| Some((comparable(&payload.kind)?, payload))) {
            Some((kind, payload)) => {
                let name = section.store.as_str();
                if kind == text::KIND {
                    each((name.to_owned(), kind.to_owned(), Vec::new()));
                }
                for path in changed_keys(&payload) {
                    each((name.to_owned(), kind.to_owned(), path.keys().to_vec()));
                }
            }
            None => unread += 1,
        }
    }
    unread
}
