//! Documents: values become what they were, counts are counted back, items of lists go and come one by one.

use std::collections::{BTreeMap, BTreeSet};

use eid_core::Payload;
use eid_crdt::{DocOp, ListOp, Value};

use super::{Plan, Undoing, chunks, same};
use crate::error::DbError;
use crate::history::leaves::{Leaves, affected, leaves};
use crate::kind;
use crate::kind::doc::{self, Found};
use crate::kind::sequence::Ref;
use crate::rows::Rows;
use crate::stamp::Stamp;
use crate::transaction::Transaction;

/// What an entry did to a document.
#[derive(Debug, Default)]
struct Done {
    /// Paths below which everything is looked at as a whole.
    roots: BTreeSet<Vec<String>>,
    counted: BTreeMap<Vec<String>, Vec<(u32, i64)>>,
    lists: BTreeMap<Vec<String>, Vec<(u32, ListOp<Ref>)>>,
}

/// How what was done to a count or a list is taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ComesAs {
    Parts,
    Whole,
    /// It had no effect: increments of a list, edits of a number.
    Nothing,
}

/// A value that the entry changed.
struct Changed {
    path: Vec<String>,
    before: Option<Value>,
    after: Option<Value>,
}

fn last(rows: &dyn Rows, path: &[String]) -> Result<Option<Stamp>, DbError> {
    Ok(doc::decided(rows, path, None)?.pop().and_then(|decided| decided.last))
}

impl Undoing<'_> {
    fn now<R>(
        &self,
        tx: &Transaction,
        read: impl FnOnce(&dyn Rows) -> Result<R, DbError>,
    ) -> Result<R, DbError> {
        tx.read(self.store.as_str(), doc::KIND, read)
    }

    pub(super) fn doc(&self, tx: &Transaction, payload: &Payload) -> Result<Plan, DbError> {
        let [before, after] = self.rows(doc::KIND)?;
        let versions = [before.rows(), after.rows()];
        let done = self.done(tx, payload, versions)?;
        let mut plan = Plan::default();
        let mut covering: Option<&Vec<String>> = None;
        let (mut gone, mut back) = (BTreeSet::new(), Vec::new());
        for root in &done.roots {
            if covering.is_some_and(|above| root.starts_with(above)) {
                continue;
            }
            covering = Some(root);
            self.root(tx, root, versions, &mut gone, &mut back, &mut plan)?;
        }
        // What is taken away first cannot take with it what is put back.
        for path in gone {
            plan.ops.push(doc::encode_checked(&DocOp::Delete { path })?);
        }
        for (path, value) in back {
            plan.ops.push(doc::encode_checked(&DocOp::Set { path, value })?);
        }
        for (path, amounts) in done.counted {
            self.count_back(tx, path, &amounts, &mut plan)?;
        }
        for (path, edits) in done.lists {
            self.list_back(tx, path, versions[0], &edits, &mut plan)?;
        }
        Ok(plan)
    }

    fn done(&self, tx: &Transaction, payload: &Payload, versions: [&dyn Rows; 2]) -> Result<Done, DbError> {
        let mut done = Done::default();
        for (index, op) in (0u32..).zip(&payload.ops) {
            match doc::decode(op) {
                Ok(DocOp::Increment { path, by }) => done.counted.entry(path).or_default().push((index, by)),
                Ok(DocOp::List { path, op }) => done.lists.entry(path).or_default().push((index, op)),
                Ok(op) => drop(done.roots.insert(affected(versions, doc::path(&op))?.to_vec())),
                Err(_) => {}
            }
        }
        let (counted, lists) = (std::mem::take(&mut done.counted), std::mem::take(&mut done.lists));
        for (path, amounts) in counted {
            match self.comes_as(tx, &path, "integer", versions)? {
                ComesAs::Parts => drop(done.counted.insert(path, amounts)),
                ComesAs::Whole => drop(done.roots.insert(affected(versions, &path)?.to_vec())),
                ComesAs::Nothing => {}
            }
        }
        for (path, edits) in lists {
            match self.comes_as(tx, &path, "list", versions)? {
                ComesAs::Parts => drop(done.lists.insert(path, edits)),
                ComesAs::Whole => drop(done.roots.insert(affected(versions, &path)?.to_vec())),
                ComesAs::Nothing => {}
            }
        }
        let roots = &done.roots;
        let is_covered =
            |path: &[String]| (0..=path.len()).any(|depth| roots.contains(&path[..depth].to_vec()));
        done.counted.retain(|path, _| !is_covered(path));
        done.lists.retain(|path, _| !is_covered(path));
        Ok(done)
    }

    /// Whether what was done to a count or a list can be taken out of it: it was one before, or somebody else has made
    /// use of it since.
    fn comes_as(
        &self,
        tx: &Transaction,
        path: &[String],
        wanted: &str,
        versions: [&dyn Rows; 2],
    ) -> Result<ComesAs, DbError> {
        let alone = |found: &Leaves| match found.first_key_value() {
            Some((at, value @ (Value::Int(_) | Value::List(_)))) if at == path => Some(value.type_name()),
            _ => None,
        };
        let [before, after] = [leaves(versions[0], path)?, leaves(versions[1], path)?];
        let Some(kind) = alone(&after).filter(|_| affected(versions, path).is_ok_and(|at| at == path)) else {
            return Ok(ComesAs::Whole);
        };
        if before.is_empty() {
            let own = last(versions[1], path)?;
            let (now, last) = self.now(tx, |rows| Ok((leaves(rows, path)?, last(rows, path)?)))?;
            let used = kind == wanted && (now != after || !same(own, last));
            return Ok(if used { ComesAs::Parts } else { ComesAs::Whole });
        }
        Ok(match alone(&before) == Some(kind) {
            true if kind == wanted => ComesAs::Parts,
            true => ComesAs::Nothing,
            false => ComesAs::Whole,
        })
    }

    /// What has become of everything at a path and below.
    fn root(
        &self,
        tx: &Transaction,
        root: &[String],
        [before, after]: [&dyn Rows; 2],
        gone: &mut BTreeSet<Vec<String>>,
        back: &mut Vec<(Vec<String>, Value)>,
        plan: &mut Plan,
    ) -> Result<(), DbError> {
        let old = leaves(before, root)?;
        let mut left = old.clone();
        let mut changed: Vec<Changed> = Vec::new();
        for (path, value) in leaves(after, root)? {
            let held = left.remove(&path);
            if held.as_ref() != Some(&value) {
                changed.push(Changed { path, before: held, after: Some(value) });
            }
        }
        changed.extend(left.into_iter().map(|(path, value)| Changed {
            path,
            before: Some(value),
            after: None,
        }));
        let now = self.now(tx, |rows| leaves(rows, root))?;
        let mut taken: Vec<Vec<String>> = Vec::new();
        for Changed { path, before: held, after: own } in changed {
            let by = self.now(tx, |rows| last(rows, &path))?;
            // That an item was taken out of a list, or moved, shows in the list alone.
            let is_list = matches!(own, Some(Value::List(_)));
            let changed_since = is_list && now.get(&path) != own.as_ref();
            match held {
                _ if changed_since || !same(last(after, &path)?, by) => {
                    plan.kept.push(self.kept(tx, &path, None, by)?);
                }
                Some(value) => {
                    let from = last(before, &path)?;
                    if self.counts(tx, from)? {
                        plan.restored += 1;
                        back.push((path, value));
                    } else {
                        plan.kept.push(self.kept(tx, &path, None, from)?);
                    }
                }
                None => {
                    plan.restored += 1;
                    taken.push(path);
                }
            }
        }
        for path in &taken {
            gone.insert(self.emptied(tx, root, path, [&old, &now], &taken)?);
        }
        Ok(())
    }

    /// The path to be deleted for a value to be gone: that of a map that was set with it and would be left empty, which
    /// was not there before.
    fn emptied(
        &self,
        tx: &Transaction,
        root: &[String],
        path: &[String],
        [old, now]: [&Leaves; 2],
        taken: &[Vec<String>],
    ) -> Result<Vec<String>, DbError> {
        let chain = self.now(tx, |rows| doc::decided(rows, path, None))?;
        for (depth, decided) in (1..path.len()).zip(chain).skip(root.len().saturating_sub(1)) {
            let at = &path[..depth];
            let held_before = old.keys().any(|path| path.starts_with(at));
            let goes = |path: &Vec<String>| !path.starts_with(at) || taken.contains(path);
            if decided.is_set_map && !held_before && now.keys().all(goes) {
                return Ok(at.to_vec());
            }
        }
        Ok(path.to_vec())
    }

    /// Counts back those increments of the entry that still count.
    fn count_back(
        &self,
        tx: &Transaction,
        path: Vec<String>,
        amounts: &[(u32, i64)],
        plan: &mut Plan,
    ) -> Result<(), DbError> {
        let header = self.entry.header();
        let own = kind::Entry::new(header.time, header.height, self.seq);
        let (mut by, mut dropped) = (0i128, false);
        for (op, amount) in amounts.iter().filter(|(_, amount)| *amount != 0) {
            let mut stamp = own.stamp(*op);
            let decided = self.now(tx, |rows| Ok(doc::decided(rows, &path, Some(&mut stamp))?.pop()))?;
            let counts = decided.and_then(|decided| decided.counts_after);
            match counts.is_some_and(|after| Some(stamp) > after) {
                true => by -= i128::from(*amount),
                false => dropped = true,
            }
        }
        if dropped {
            let by = self.now(tx, |rows| last(rows, &path))?;
            plan.kept.push(self.kept(tx, &path, None, by)?);
        }
        plan.restored += u64::from(by != 0);
        for by in chunks(by) {
            plan.ops.push(doc::encode_checked(&DocOp::Increment { path: path.clone(), by })?);
        }
        Ok(())
    }

    /// Takes the edits of a list back.
    fn list_back(
        &self,
        tx: &Transaction,
        path: Vec<String>,
        before: &dyn Rows,
        edits: &[(u32, ListOp<Ref>)],
        plan: &mut Plan,
    ) -> Result<(), DbError> {
        let first = u32::try_from(plan.ops.len()).map_err(|_| DbError::TooLarge)?;
        let back = self.now(tx, |rows| match doc::find(rows, &path)? {
            Found::List { depth, .. } if depth == path.len() => doc::with_list(rows, &path, |now| {
                doc::with_list(before, &path, |before| now.undo(before, self.seq, edits, first)).map(Some)
            }),
            _ => Ok(None),
        })?;
        let Some(back) = back else {
            let by = self.now(tx, |rows| last(rows, &path))?;
            plan.kept.push(self.kept(tx, &path, None, by)?);
            return Ok(());
        };
        plan.restored += back.restored;
        for by in back.kept {
            plan.kept.push(self.kept(tx, &path, None, by)?);
        }
        for op in back.ops {
            plan.ops.push(doc::encode_checked(&DocOp::List { path: path.clone(), op })?);
        }
        Ok(())
    }
}
