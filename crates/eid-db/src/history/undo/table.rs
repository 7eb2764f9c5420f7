//! Tables: a field becomes what it was, unless what was done to it can be taken out of what others have done.

use std::collections::{BTreeMap, BTreeSet};

use eid_core::Payload;
use eid_crdt::sequence::Anchor;
use eid_crdt::{RowOp, Value};

use super::{Kept, Plan, Undoing, chunks, same};
use crate::error::DbError;
use crate::field::FieldKind;
use crate::kind;
use crate::kind::sequence::undo::undo_edits;
use crate::kind::sequence::{Edits, Op, OpId};
use crate::kind::table::{self, Detail, Held, Written};
use crate::rows::{Base, Rows};
use crate::stamp::{STAGED, Stamp};
use crate::transaction::Transaction;

/// What an entry did to a row.
#[derive(Debug, Default)]
struct Done {
    deleted: bool,
    set: BTreeSet<String>,
    counted: BTreeMap<String, Vec<(u32, i64)>>,
    edited: BTreeMap<String, Vec<(OpId, Edits<String>)>>,
}

/// A field in one version.
type Field<'h> = Option<(&'h Value, Option<FieldKind>)>;

fn field<'h>(held: &'h Held, name: &str) -> Field<'h> {
    held.fields.get(name).map(|value| (value, held.kinds.get(name).copied()))
}

/// Puts a text that several edit into a field that is an empty one.
fn encode_text(key: &str, name: &str, text: &str) -> Result<bytes::Bytes, DbError> {
    if text.is_empty() {
        return Ok(table::encode_begin_text(key, name));
    }
    let run = vec![Op::Insert { at: Anchor::Start, run: text.to_owned() }];
    let own = OpId { seq: STAGED, op: u32::MAX };
    let edits = Edits::of(own, run, |_| Err(DbError::Corrupt { what: "an edit without references" }))?;
    Ok(table::encode_edit(key, name, &edits.unwrap_or_default()))
}

/// The fields as they are set, and the texts among them, which are set empty and then edited.
fn apart(held: &Held) -> (table::Fields, Vec<(&String, &str)>) {
    let mut texts = Vec::new();
    let set = held.fields.iter().map(|(name, value)| match (value, held.kinds.get(name)) {
        (Value::Text(text), Some(FieldKind::Text)) => {
            texts.push((name, text.as_str()));
            (name.clone(), Value::from(""))
        }
        _ => (name.clone(), value.clone()),
    });
    (set.collect(), texts)
}

impl Undoing<'_> {
    pub(super) fn table(&self, tx: &Transaction, payload: &Payload) -> Result<Plan, DbError> {
        let mut rows: BTreeMap<String, Done> = BTreeMap::new();
        for (index, op) in (0u32..).zip(&payload.ops) {
            let Ok(op) = table::decode(op) else { continue };
            let done = rows.entry(op.key).or_default();
            match (op.op, op.detail) {
                (RowOp::Insert(fields), _) => done.set.extend(fields.into_keys()),
                (RowOp::Update(fields), _) => done.set.extend(fields.into_keys()),
                (RowOp::Delete, _) => done.deleted = true,
                (RowOp::Count(field), Detail::By(by)) => {
                    done.counted.entry(field).or_default().push((index, by));
                }
                (RowOp::Edit(field), Detail::Edits(edits)) => {
                    let own = OpId { seq: self.seq, op: index };
                    done.edited.entry(field).or_default().push((own, edits));
                }
                (RowOp::Edit(field), _) => drop(done.edited.entry(field).or_default()),
                (RowOp::Count(_), _) => {}
            }
        }
        let versions = self.rows(table::KIND)?;
        let mut plan = Plan::default();
        for (key, done) in rows {
            self.row(tx, &key, &done, &versions, &mut plan)?;
        }
        Ok(plan)
    }

    fn row(
        &self,
        tx: &Transaction,
        key: &str,
        done: &Done,
        [before, after]: &[Base; 2],
        plan: &mut Plan,
    ) -> Result<(), DbError> {
        let own = table::written(after.rows(), key)?.unwrap_or_default();
        let was = table::written(before.rows(), key)?.unwrap_or_default();
        let (before, after) = (table::held(before.rows(), key)?, table::held(after.rows(), key)?);
        let now = self.now_in_table(tx, |rows| table::written(rows, key))?.unwrap_or_default();
        let path = [key.to_owned()];
        match (before, after) {
            (None, None) => {}
            (None, Some(_)) => {
                let mut changed = now.fields.iter().filter_map(|(name, ..)| since(&own, &now, name));
                let inserted = now.inserted.or(now.deleted);
                match (!same(own.inserted, now.inserted)).then_some(inserted).or_else(|| changed.next()) {
                    Some(by) => plan.kept.push(self.kept(tx, &path, None, by)?),
                    None => {
                        plan.restored += 1;
                        plan.ops.push(table::encode_delete(key));
                    }
                }
            }
            (Some(held), None) => {
                if now.inserted.is_none() && same(own.deleted, now.deleted) {
                    let (held, void) = self.counting(tx, key, &was, held)?;
                    if held.fields.is_empty() && !self.counts(tx, was.inserted)? {
                        plan.kept.push(self.kept(tx, &path, None, was.inserted)?);
                        return Ok(());
                    }
                    plan.kept.extend(void);
                    plan.restored += 1;
                    let (set, texts) = apart(&held);
                    // What the entry wrote to the row that it had deleted would show again.
                    let wrote = |by: &Stamp, name: &String| by.seq == self.seq && !set.contains_key(name);
                    let hidden = now.fields.iter().filter(|(name, by, _)| wrote(by, name));
                    let unset: BTreeSet<String> = hidden.map(|(name, ..)| name.clone()).collect();
                    if !unset.is_empty() {
                        plan.ops.push(table::encode_update(key, &table::Fields::new(), &unset));
                    }
                    plan.ops.push(table::encode_insert(key, &set));
                    for (name, text) in texts {
                        plan.ops.push(encode_text(key, name, text)?);
                    }
                } else {
                    let by = now.inserted.or(now.deleted);
                    plan.kept.push(self.kept(tx, &path, None, by)?);
                }
            }
            (Some(before), Some(after)) => {
                self.fields(tx, key, done, [&before, &after], [&was, &own, &now], plan)?;
            }
        }
        Ok(())
    }

    /// Of a row that is to be inserted anew the fields that count, and those that do not.
    fn counting(
        &self,
        tx: &Transaction,
        key: &str,
        was: &Written,
        mut held: Held,
    ) -> Result<(Held, Vec<Kept>), DbError> {
        let mut void = Vec::new();
        for (name, by, _) in &was.fields {
            if held.fields.contains_key(name) && !self.counts(tx, Some(*by))? {
                held.fields.remove(name);
                void.push(self.kept(tx, &[key.to_owned()], Some(name), Some(*by))?);
            }
        }
        Ok((held, void))
    }

    fn now_in_table<R>(
        &self,
        tx: &Transaction,
        read: impl FnOnce(&dyn Rows) -> Result<R, DbError>,
    ) -> Result<R, DbError> {
        tx.read(self.store.as_str(), table::KIND, read)
    }

    /// The fields of a row that was there before and after.
    fn fields(
        &self,
        tx: &Transaction,
        key: &str,
        done: &Done,
        [before, after]: [&Held; 2],
        [was, own, now]: [&Written; 3],
        plan: &mut Plan,
    ) -> Result<(), DbError> {
        let (mut set, mut unset) = (table::Fields::new(), BTreeSet::new());
        let mut later = Vec::new();
        let names: BTreeSet<&String> = before.fields.keys().chain(after.fields.keys()).collect();
        for name in names {
            let (held, left) = (field(before, name), field(after, name));
            if held == left {
                continue;
            }
            let by = match now.inserted {
                Some(_) => since(own, now, name),
                None => Some(now.deleted),
            };
            let merged = !done.deleted && !done.set.contains(name) && now.inserted.is_some();
            match (held, left) {
                // What others have added is no reason to keep what this entry added.
                (Some((Value::Int(_), _)) | None, Some((_, Some(FieldKind::Counter))))
                    if merged && done.counted.contains_key(name) && (held.is_some() || by.is_some()) =>
                {
                    self.field_count(tx, key, name, &done.counted[name], now, plan)?;
                }
                (Some((_, Some(FieldKind::Text))) | None, Some((_, Some(FieldKind::Text))))
                    if merged && done.edited.contains_key(name) && (held.is_some() || by.is_some()) =>
                {
                    self.field_text(tx, key, name, &done.edited[name], [own, now], plan)?;
                }
                (held, _) => match (by, held) {
                    (Some(by), _) => {
                        plan.kept.push(self.kept(tx, &[key.to_owned()], Some(name), by)?);
                    }
                    (None, Some(_)) if !self.counts(tx, last(was, name))? => {
                        plan.kept.push(self.kept(tx, &[key.to_owned()], Some(name), last(was, name))?);
                    }
                    (None, None) => drop(unset.insert(name.clone())),
                    (None, Some((Value::Text(text), Some(FieldKind::Text)))) => {
                        set.insert(name.clone(), Value::from(""));
                        later.push(encode_text(key, name, text)?);
                    }
                    (None, Some((value, _))) => drop(set.insert(name.clone(), value.clone())),
                },
            }
        }
        if !(set.is_empty() && unset.is_empty()) {
            plan.restored += (set.len() + unset.len()) as u64;
            plan.ops.push(table::encode_update(key, &set, &unset));
            plan.ops.extend(later);
        }
        Ok(())
    }

    /// Counts back those increments of the entry that still count.
    fn field_count(
        &self,
        tx: &Transaction,
        key: &str,
        name: &str,
        amounts: &[(u32, i64)],
        now: &Written,
        plan: &mut Plan,
    ) -> Result<(), DbError> {
        let header = self.entry.header();
        let entry = kind::Entry::new(header.time, header.height, self.seq);
        let (mut by, mut dropped) = (0i128, false);
        for (op, amount) in amounts {
            let stamp = entry.stamp(*op);
            match self.now_in_table(tx, |rows| table::counts(rows, key, name, stamp))? {
                true => by -= i128::from(*amount),
                false => dropped = true,
            }
        }
        if dropped {
            plan.kept.push(self.kept(tx, &[key.to_owned()], Some(name), set_by(now, name))?);
        }
        plan.restored += u64::from(by != 0);
        plan.ops.extend(chunks(by).map(|by| table::encode_increment(key, name, by)));
        Ok(())
    }

    /// Takes edits of a text back, unless it was set since.
    fn field_text(
        &self,
        tx: &Transaction,
        key: &str,
        name: &str,
        edits: &[(OpId, Edits<String>)],
        [own, now]: [&Written; 2],
        plan: &mut Plan,
    ) -> Result<(), DbError> {
        let prefix = table::text_prefix(key, name);
        let (back, changed) = self.now_in_table(tx, |rows| undo_edits(rows, &prefix, edits))?;
        let is_text = self
            .now_in_table(tx, |rows| table::held(rows, key))?
            .is_some_and(|held| held.kinds.get(name) == Some(&FieldKind::Text));
        match back.filter(|_| is_text) {
            Some(back) => {
                plan.restored += changed;
                plan.ops.push(table::encode_edit(key, name, &back));
            }
            None if !is_text || !same(set_by(own, name), set_by(now, name)) => {
                plan.kept.push(self.kept(tx, &[key.to_owned()], Some(name), set_by(now, name))?);
            }
            None => {}
        }
        Ok(())
    }
}

/// Who has written a field since, if anybody has.
fn since(own: &Written, now: &Written, name: &str) -> Option<Option<Stamp>> {
    let [own, held] = [own, now].map(|row| last(row, name));
    (!same(own, held)).then(|| held.or(now.deleted))
}

/// Who has written a field last.
fn last(row: &Written, name: &str) -> Option<Stamp> {
    row.fields.iter().find(|(field, ..)| field == name).map(|(_, by, _)| *by)
}

/// Who has set a field last, or deleted the row.
fn set_by(row: &Written, name: &str) -> Option<Stamp> {
    row.sets.iter().find(|(field, _)| field == name).map(|(_, by)| *by).or(row.deleted)
}
