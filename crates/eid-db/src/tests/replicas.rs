use std::collections::HashMap;

use eid_core::{Entry, EntryId, Payload, Permission, SettingsOp, Slot};
use eid_crdt::sequence::{Anchor, Name, Span};
use eid_crdt::{Crdt as _, Doc, Integer, ListOp, RowOp, Value};
use eid_store::{Applied, Change as Written, ViewRows, Wanted};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::support::{admit, causal_order, copy, entries, node};
use crate::kind::doc;
use crate::kind::sequence::Ref;
use crate::kind::table::{self, Detail};
use crate::{Database, Instance};

#[derive(Debug, Clone)]
pub(super) enum Step {
    Set(Vec<String>, Value),
    Delete(Vec<String>),
    Increment(Vec<String>, i64),
    /// What a person does to a list, at positions that are taken modulo its length.
    List(Vec<String>, ListStep),
    /// An edit whose names come from anywhere: the entries of another replica, or nowhere.
    Hostile(Vec<String>, usize, ListOp<(u8, u32)>),
    Row(u8, u8, u8),
    Field(u8, u8, u8),
    Count(u8, u8, i64),
    Unset(u8, u8),
    DeleteRow(u8),
    /// Takes over everything that another replica has.
    Pull(usize),
}

#[derive(Debug, Clone)]
pub(super) enum ListStep {
    Insert(usize, Vec<u8>),
    Push(u8),
    Set(usize, u8),
    Delete(usize, usize),
    Move(usize, usize),
}

fn any_list_step() -> impl Strategy<Value = ListStep> {
    let at = || 0usize..8;
    prop_oneof![
        3 => (at(), proptest::collection::vec(any::<u8>(), 1..4)).prop_map(|(at, v)| ListStep::Insert(at, v)),
        2 => any::<u8>().prop_map(ListStep::Push),
        2 => (at(), any::<u8>()).prop_map(|(at, value)| ListStep::Set(at, value)),
        2 => (at(), 1usize..3).prop_map(|(at, count)| ListStep::Delete(at, count)),
        4 => (at(), at()).prop_map(|(from, to)| ListStep::Move(from, to)),
    ]
}

/// An edit that names operations by a pick among entries and their place there.
fn any_hostile() -> impl Strategy<Value = ListOp<(u8, u32)>> {
    let name = || {
        (any::<u8>(), 0u32..2, 0u32..3).prop_map(|(entry, op, offset)| Name { entry: (entry, op), offset })
    };
    let at =
        || prop_oneof![Just(Anchor::Start), name().prop_map(Anchor::After), name().prop_map(Anchor::Before)];
    let items = proptest::collection::vec(any::<u8>().prop_map(Value::from), 1..3);
    prop_oneof![
        3 => (at(), items).prop_map(|(at, items)| ListOp::Insert { at, items }),
        1 => (name(), 1u32..3).prop_map(|(first, count)| ListOp::Delete { spans: vec![Span { first, count }] }),
        2 => (name(), at()).prop_map(|(item, at)| ListOp::Move { item, at }),
        1 => (name(), any::<u8>()).prop_map(|(item, v)| ListOp::Set { item, value: Value::from(v) }),
    ]
}

pub(super) fn any_step() -> impl Strategy<Value = (usize, Step)> {
    let path = || proptest::collection::vec(prop_oneof![Just("a".to_owned()), Just("b".to_owned())], 1..4);
    let value = prop_oneof![
        3 => any::<u8>().prop_map(Value::from),
        1 => Just(Value::from("text")),
        1 => Just(Value::from(json!({"a": {"b": 1}, "b": 2}))),
        1 => Just(Value::from(json!({}))),
        1 => Just(Value::from(json!([1, 2, 3]))),
        1 => Just(Value::from(json!({"a": [4], "b": []}))),
    ];
    // Short paths, so that a list is met again.
    let list_path = || prop_oneof![3 => Just(vec!["a".to_owned()]), 1 => path()];
    let step = prop_oneof![
        4 => (path(), value).prop_map(|(path, value)| Step::Set(path, value)),
        2 => path().prop_map(Step::Delete),
        4 => (path(), -5i64..5).prop_map(|(path, by)| Step::Increment(path, by)),
        9 => (list_path(), any_list_step()).prop_map(|(path, step)| Step::List(path, step)),
        2 => (list_path(), 0usize..3, any_hostile()).prop_map(|(path, of, op)| Step::Hostile(path, of, op)),
        2 => (0u8..3, 0u8..3, any::<u8>()).prop_map(|(row, field, value)| Step::Row(row, field, value)),
        2 => (0u8..3, 0u8..3, any::<u8>()).prop_map(|(row, field, value)| Step::Field(row, field, value)),
        3 => (0u8..3, 0u8..3, -5i64..5).prop_map(|(row, field, by)| Step::Count(row, field, by)),
        1 => (0u8..3, 0u8..3).prop_map(|(row, field)| Step::Unset(row, field)),
        1 => (0u8..3).prop_map(Step::DeleteRow),
        3 => (0usize..3).prop_map(Step::Pull),
    ];
    (0usize..3, step)
}

pub(super) fn run(replicas: &[Database], at: usize, step: &Step) {
    let db = &replicas[at];
    // What a person would be told is a mistake here is not one when others have written meanwhile, so it is staged.
    let stage = |ops: &[doc::DocOp]| {
        db.prepare_blind(|tx| ops.iter().try_for_each(|op| tx.stage("doc", doc::KIND, doc::encode(op))))
            .unwrap()
            .1
            .commit()
            .unwrap();
    };
    let stage_row = |ops: &[bytes::Bytes]| {
        let stage = |tx: &crate::Transaction| {
            ops.iter().try_for_each(|op| tx.stage("table", table::KIND, op.clone()))
        };
        db.prepare_blind(stage).unwrap().1.commit().unwrap();
    };
    let table = db.table::<Json>("table");
    match step.clone() {
        Step::Set(path, value) => stage(&[doc::DocOp::Set { path, value }]),
        Step::Delete(path) => stage(&[doc::DocOp::Delete { path }]),
        // Two of them, so that the index within the entry matters.
        Step::Increment(path, by) => {
            stage(&[
                doc::DocOp::Increment { path: path.clone(), by },
                doc::DocOp::Increment { path, by: 10 },
            ]);
        }
        Step::List(path, step) => match change_list(&db.doc("doc").list(path), &step) {
            Ok(()) | Err(crate::DbError::Type { .. }) => {}
            Err(error) => panic!("{error}"),
        },
        Step::Hostile(path, of, op) => {
            let known = entries(&replicas[of]);
            let op = op.rename(|(pick, op)| {
                let entry = known.get(usize::from(*pick) % (known.len() + 2)).map(Entry::id);
                Some(Ref { entry: entry.filter(|_| *pick != 0), op: *op })
            });
            // What comes later in the same entry is nothing that an edit can name.
            let insert = ListOp::Insert {
                at: Anchor::Start,
                items: vec![Value::from(7), Value::from("x".repeat(600))],
            };
            stage(&[
                doc::DocOp::List { path: path.clone(), op: op.unwrap() },
                doc::DocOp::List { path, op: insert },
            ]);
        }
        Step::Row(row, field, value) => {
            table.insert_as(&format!("row {row}"), &json!({ format!("field {field}"): value })).unwrap();
        }
        Step::Field(row, field, value) => {
            let name = format!("field {field}");
            let change = |row: &mut Json| row[name.as_str()] = json!(value);
            match table.update(&format!("row {row}"), change) {
                Ok(()) | Err(crate::DbError::NoSuchRow { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        Step::Count(row, field, by) => {
            let (key, field) = (format!("row {row}"), format!("field {field}"));
            stage_row(&[
                table::encode_increment(&key, &field, by),
                table::encode_increment(&key, &field, 10),
            ]);
        }
        Step::Unset(row, field) => {
            let gone = [format!("field {field}")].into();
            stage_row(&[table::encode_update(&format!("row {row}"), &table::Fields::new(), &gone)]);
        }
        Step::DeleteRow(row) => table.delete(&format!("row {row}")).unwrap(),
        Step::Pull(other) if other != at => drop(copy(&replicas[other], db.instance())),
        Step::Pull(_) => {}
    }
}

/// A row as one device would have it that was told of everything in order.
#[derive(Debug, Default)]
struct NaiveRow {
    visible: bool,
    fields: std::collections::BTreeMap<String, NaiveField>,
}

#[derive(Debug, Default)]
struct NaiveField {
    base: Option<Value>,
    count: Option<i128>,
}

impl NaiveRow {
    fn apply(&mut self, op: table::TableOp) {
        let decode = |value: bytes::Bytes| crate::codec::decode_value(&value).unwrap();
        let set = |base| NaiveField { base, ..NaiveField::default() };
        match (op.op, op.detail) {
            (RowOp::Insert(fields), _) => {
                self.visible = true;
                self.fields.extend(fields.into_iter().map(|(k, v)| (k, set(Some(decode(v))))));
            }
            (RowOp::Update(fields), _) => {
                self.fields.extend(fields.into_iter().map(|(k, v)| (k, set(v.map(decode)))));
            }
            (RowOp::Delete, _) => *self = Self::default(),
            (RowOp::Count(field), Detail::By(by)) => {
                *self.fields.entry(field).or_default().count.get_or_insert(0) += i128::from(by);
            }
            other => panic!("{other:?}"),
        }
    }

    fn view(&self) -> Option<Json> {
        let shown = self.fields.iter().filter_map(|(name, field)| {
            let value = match (&field.base, field.count) {
                (Some(Value::Int(base)), Some(count)) => Value::Int(Integer::saturating(base.get() + count)),
                (None, Some(count)) => Value::Int(Integer::saturating(count)),
                (base, _) => base.clone()?,
            };
            Some((name.clone(), Json::from(value)))
        });
        self.visible.then(|| Json::Object(shown.collect()))
    }
}

fn change_list(list: &crate::DocList, step: &ListStep) -> Result<(), crate::DbError> {
    let len = list.len()?;
    let at = |position: usize| position % len.max(1);
    match step {
        // Several entries, each before the last.
        ListStep::Insert(position, values) => {
            values.iter().try_for_each(|value| list.insert(position % (len + 1), *value))
        }
        ListStep::Push(value) => list.push(*value),
        _ if len == 0 => Ok(()),
        ListStep::Set(position, value) => list.set(at(*position), *value),
        ListStep::Delete(position, count) => {
            list.delete_range(at(*position)..(at(*position) + count).min(len))
        }
        ListStep::Move(from, to) => list.move_to(at(*from), at(*to)),
    }
}

/// Every operation of every entry on the document and the table, sorted by stamps that hold ids, folded into values that hold everything.
pub(super) fn naive_replay(all: &[Entry]) -> (Value, Vec<(String, Option<Json>)>) {
    let mut sorted: Vec<&Entry> = all.iter().collect();
    sorted.sort_by_key(|entry| (entry.header().time, entry.header().height, entry.id()));
    let mut ops = Vec::new();
    for entry in sorted {
        for (section, payload) in entry.header().sections.iter().zip(entry.payloads()) {
            if !["doc", "table"].contains(&section.store.as_str()) {
                continue;
            }
            for (index, op) in (0..).zip(Payload::decode(payload.as_ref().unwrap()).unwrap().ops) {
                ops.push((entry.id(), section.store.as_str(), index, op));
            }
        }
    }
    let numbers: HashMap<(EntryId, u32), usize> = ops
        .iter()
        .enumerate()
        .filter(|(_, (_, store, _, _))| *store == "doc")
        .map(|(stamp, (id, _, index, _))| ((*id, *index), stamp))
        .collect();
    let mut document = Doc::<usize>::default();
    let mut rows: [NaiveRow; 3] = Default::default();
    for (stamp, (id, store, index, op)) in ops.iter().enumerate() {
        if *store == "doc" {
            // What nobody has written is named by a number that nothing has.
            let is_before = |name: &Ref| name.entry.is_some() || name.op < *index;
            let number = |name: &Ref| numbers.get(&(name.entry.unwrap_or(*id), name.op)).copied();
            let number = |name: &Ref| number(name).filter(|_| is_before(name));
            let op = doc::decode(op).unwrap().rename(|name| Some(number(name).unwrap_or(usize::MAX)));
            document.apply(&stamp, &op.unwrap());
        } else {
            let op = table::decode(op).unwrap();
            let row = op.key.strip_prefix("row ").unwrap().parse::<usize>().unwrap();
            rows[row].apply(op);
        }
    }
    let shown = rows.iter().enumerate().map(|(n, row)| (format!("row {n}"), row.view()));
    (document.view(), shown.collect())
}

pub(super) fn three() -> (Vec<Database>, Vec<Instance>) {
    let nodes: Vec<Instance> = (0..3).map(|n| node(10 + n)).collect();
    let db = nodes[0].create_database("shared").unwrap().database;
    let ops: Vec<SettingsOp> = nodes[1..]
        .iter()
        .map(|node| SettingsOp::Set { slot: Slot::Key(node.device()), permission: Permission::Write })
        .collect();
    db.write_settings(&ops).unwrap();
    let replicas = nodes.iter().map(|node| copy(&db, node)).collect();
    (replicas, nodes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// The clocks stand still, so concurrent entries often have the same time and height, and ids decide.
    #[test]
    fn any_causal_order_of_arrival_gives_the_same_state_as_a_naive_replay(
        steps in proptest::collection::vec(any_step(), 1..30),
        picks in proptest::collection::vec(any::<u16>(), 1..40),
        batch in 1usize..9,
    ) {
        let (replicas, _nodes) = three();
        for (at, step) in &steps {
            run(&replicas, *at, step);
        }
        for other in &replicas[1..] {
            copy(other, replicas[0].instance());
        }
        let all = entries(&replicas[0]);
        let fresh = node(99);
        for run in causal_order(&all, &picks).chunks(batch) {
            admit(&fresh, replicas[0].id(), run);
        }
        let arrived = fresh.database_by_id(replicas[0].id());
        prop_assert_eq!(arrived.tips().unwrap(), replicas[0].tips().unwrap());
        prop_assert_eq!(arrived.state_hash().unwrap(), replicas[0].state_hash().unwrap());

        // Everything derived, recomputed from the log, is what is stored.
        let report = fresh.store().fsck(false, &mut |_, _| {}).unwrap();
        prop_assert_eq!(report.problems, []);

        let (document, rows) = naive_replay(&all);
        let held = arrived.doc("doc");
        let has_doc = arrived.kind_of("doc").unwrap().is_some();
        if has_doc {
            prop_assert_eq!(held.get(crate::Path::root()).unwrap(), Some(document));
        }
        let visible = rows.iter().filter(|(_, row)| row.is_some()).count();
        prop_assert_eq!(arrived.table::<Json>("table").count().unwrap(), visible as u64);
        for (key, row) in rows {
            prop_assert_eq!(arrived.table::<Json>("table").get(&key).unwrap(), row);
        }
    }
}

/// A delete of more than there is has no effect, also on items that stand elsewhere while others of it were deleted.
#[test]
fn a_delete_beyond_what_was_put_in_deletes_nothing_in_any_order() {
    let (replicas, _nodes) = three();
    let list = |at: usize| replicas[at].doc("doc").list("a");
    list(0).extend([0, 1]).unwrap();
    let named = replicas[0].tips().unwrap()[0];
    replicas[1..].iter().for_each(|other| drop(copy(&replicas[0], other.instance())));
    let base = entries(&replicas[0]).len();
    list(0).move_to(1, 0).unwrap();
    list(1).delete(0).unwrap();
    let first = Name { entry: Ref { entry: Some(named), op: 0 }, offset: 0 };
    let op = ListOp::Delete { spans: vec![Span { first, count: 3 }] };
    let op = doc::encode(&doc::DocOp::List { path: vec!["a".to_owned()], op });
    replicas[2].prepare_blind(|tx| tx.stage("doc", doc::KIND, op)).unwrap().1.commit().unwrap();
    replicas[1..].iter().for_each(|other| drop(copy(other, replicas[0].instance())));
    let all = entries(&replicas[0]);
    let expected = naive_replay(&all).0;
    assert_eq!(expected, Value::from(json!({"a": [1]})));
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let fresh = node(99);
        admit(&fresh, replicas[0].id(), &all[..base].iter().collect::<Vec<_>>());
        order.iter().for_each(|at| drop(admit(&fresh, replicas[0].id(), &[&all[base + at]])));
        let seen = fresh.database_by_id(replicas[0].id()).doc("doc").get(crate::Path::root()).unwrap();
        assert_eq!(seen.as_ref(), Some(&expected), "{order:?}");
    }
}

/// A view in memory, to see what an apply does to rows.
#[derive(Debug, Default)]
struct Rows(std::collections::BTreeMap<Vec<u8>, bytes::Bytes>);

impl ViewRows for Rows {
    fn get(&mut self, key: &[u8]) -> Result<Option<bytes::Bytes>, eid_core::ReadError> {
        Ok(self.0.get(key).cloned())
    }
    fn scan(&mut self, from: &[u8], to: &[u8]) -> Result<Vec<(Vec<u8>, bytes::Bytes)>, eid_core::ReadError> {
        Ok(self.0.range(from.to_vec()..to.to_vec()).map(|(k, v)| (k.clone(), v.clone())).collect())
    }
    fn put(&mut self, key: &[u8], value: bytes::Bytes) {
        self.0.insert(key.to_vec(), value);
    }
    fn delete(&mut self, key: &[u8]) {
        self.0.remove(key);
    }
    fn id_of(&mut self, _: eid_core::dag::Seq) -> Result<EntryId, eid_core::ReadError> {
        panic!("no tie here")
    }
    fn seq_of(&mut self, _: &EntryId) -> Result<Option<eid_core::dag::Seq>, eid_core::ReadError> {
        Ok(None)
    }
}

fn apply(rows: &mut Rows, kind: &str, seq: u64, ops: &[bytes::Bytes]) -> Applied {
    use eid_store::Apply as _;
    let store = eid_core::StoreName::new("s").unwrap();
    let change = Written {
        store: &store,
        kind,
        author: eid_core::PublicKey([0; 32]),
        time: eid_core::Time(seq),
        height: eid_core::Height(seq),
        seq: eid_core::dag::Seq(seq),
        id: EntryId([0; 32]),
        ops,
    };
    crate::Kinds.reads(&change, &mut Wanted::default());
    crate::Kinds.apply(&change, rows).unwrap()
}

#[test]
fn operations_that_do_not_decode_have_no_effect_and_are_counted() {
    let good = doc::encode(&doc::DocOp::Set { path: vec!["a".to_owned()], value: Value::from(1) });
    let row = table::encode_delete("k");
    let unknown_code = bytes::Bytes::from_static(&[0x82, 9, 0x81]);
    let not_minimal = bytes::Bytes::from_static(&[0x83, 0x18, 0, 0x81, 0x61, b'a', 1]);
    let mut trailing = good.to_vec();
    trailing.push(0);
    let bad = [unknown_code, not_minimal, trailing.into(), row.clone(), bytes::Bytes::new()];
    let mut rows = Rows::default();
    assert_eq!(apply(&mut rows, doc::KIND, 1, &bad).undecodable, 5);
    assert!(rows.0.is_empty());
    assert_eq!(
        apply(&mut rows, doc::KIND, 2, &[bad.as_slice(), std::slice::from_ref(&good)].concat()).undecodable,
        5
    );
    assert_eq!(rows.0.len(), 1);
    assert_eq!(apply(&mut rows, table::KIND, 3, &[good.clone(), row]).undecodable, 1);
    assert_eq!(apply(&mut rows, "unheard of", 4, &[good]).undecodable, 1);
}

#[test]
fn rows_do_not_grow_with_history() {
    let mut rows = Rows::default();
    let set =
        doc::encode(&doc::DocOp::Set { path: vec!["a".to_owned(), "b".to_owned()], value: Value::from(1) });
    let delete = doc::encode(&doc::DocOp::Delete { path: vec!["a".to_owned()] });
    let insert = table::encode_insert("k", &[("f".to_owned(), Value::from(1))].into());
    let mut sizes = Vec::new();
    for seq in 1..200 {
        apply(&mut rows, doc::KIND, seq * 3, &[set.clone(), delete.clone()]);
        apply(
            &mut rows,
            table::KIND,
            seq * 3 + 1,
            &[insert.clone(), table::encode_delete("k"), insert.clone()],
        );
        sizes.push(rows.0.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>());
    }
    // Numbers become a few bytes longer as they grow; nothing else does.
    assert!(sizes[198] <= sizes[0] + 40, "{sizes:?}");
    assert_eq!(rows.0.len(), 4);
}

#[test]
fn applying_an_entry_again_changes_nothing() {
    let mut rows = Rows::default();
    let path = vec!["n".to_owned()];
    let ops = [
        doc::encode(&doc::DocOp::Set { path: path.clone(), value: Value::from(1) }),
        doc::encode(&doc::DocOp::Increment { path, by: 5 }),
    ];
    apply(&mut rows, doc::KIND, 1, &ops);
    let once = rows.0.clone();
    apply(&mut rows, doc::KIND, 1, &ops);
    assert_eq!(rows.0, once);
}
