use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::support::{database, exchange, two};
use crate::{Counter, DbError, Text, Value};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Part {
    name: String,
    stock: Counter,
    #[serde(default)]
    sold: Counter,
}

fn part(stock: i64) -> Part {
    Part { name: "bolt".to_owned(), stock: Counter::new(stock), sold: Counter::default() }
}

#[test]
fn concurrent_changes_of_a_counter_add_up() {
    let (a, b) = two();
    let (here, there) = (a.table::<Part>("parts"), b.table::<Part>("parts"));
    here.insert_as("bolt", &part(10)).unwrap();
    exchange(&a, &b);
    here.update("bolt", |part| part.stock.add(-3)).unwrap();
    there.update("bolt", |part| part.stock.add(-4)).unwrap();
    there.update("bolt", |part| part.name = "nut".to_owned()).unwrap();
    there.counter("bolt", "stock").add(100).unwrap();
    exchange(&a, &b);
    let merged = Part { name: "nut".to_owned(), ..part(103) };
    assert_eq!(here.get("bolt").unwrap(), Some(merged.clone()));
    assert_eq!(there.get("bolt").unwrap(), Some(merged));
    assert_eq!(a.state_hash().unwrap(), b.state_hash().unwrap());
    assert_eq!(here.counter("bolt", "stock").get().unwrap().unwrap().get(), 103);
}

#[test]
fn a_counter_looks_like_an_integer_to_everybody_else() {
    let db = database();
    let (parts, raw) = (db.table::<Part>("parts"), db.table::<Json>("parts"));
    parts.insert_as("bolt", &part(10)).unwrap();
    parts.update("bolt", |part| part.sold.add(2)).unwrap();
    assert_eq!(raw.get("bolt").unwrap(), Some(json!({"name": "bolt", "stock": 10, "sold": 2})));
    assert_eq!(raw.query().eq("sold", 2).count().unwrap(), 1);
    // What counts goes on counting whoever writes it.
    raw.update("bolt", |row| row["sold"] = json!(5)).unwrap();
    raw.put("bolt", &json!({"name": "bolt", "stock": 10, "sold": 7})).unwrap();
    assert_eq!(parts.get("bolt").unwrap().unwrap().sold.get(), 7);
    let blamed = db.blame("parts", ["bolt", "sold"]).unwrap();
    assert_eq!(blamed[0].entry, db.tips().unwrap()[0]);
    assert_eq!(blamed[0].value, Some(Value::from(7)));
}

#[test]
fn a_set_of_a_counter_hides_what_was_added_before() {
    let (a, b) = two();
    let (here, there) = (a.table::<Part>("parts"), b.table::<Part>("parts"));
    here.insert_as("bolt", &part(10)).unwrap();
    here.update("bolt", |part| part.stock.add(5)).unwrap();
    exchange(&a, &b);
    // Inserting over a row sets.
    there.insert_as("bolt", &part(1)).unwrap();
    exchange(&a, &b);
    assert_eq!(here.get("bolt").unwrap(), Some(part(1)));
    here.update("bolt", |part| part.stock.add(1)).unwrap();
    assert_eq!(here.get("bolt").unwrap(), Some(part(2)));
    here.delete("bolt").unwrap();
    here.insert_as("bolt", &part(0)).unwrap();
    assert_eq!(here.get("bolt").unwrap(), Some(part(0)), "increments older than the delete are dead");
}

#[test]
fn an_increment_never_revives_a_row() {
    let (a, b) = two();
    let (here, there) = (a.table::<Part>("parts"), b.table::<Part>("parts"));
    here.insert_as("bolt", &part(10)).unwrap();
    exchange(&a, &b);
    here.delete("bolt").unwrap();
    there.insert_as("other", &part(1)).unwrap();
    there.update("bolt", |part| part.stock.add(1)).unwrap();
    exchange(&a, &b);
    assert_eq!((here.get("bolt").unwrap(), there.get("bolt").unwrap()), (None, None));
    assert_eq!((here.count().unwrap(), there.count().unwrap()), (1, 1));
    assert!(matches!(here.counter("bolt", "stock").add(1), Err(DbError::NoSuchRow { .. })));
    assert!(matches!(here.counter("other", "name").add(1), Err(DbError::Type { found: "text", .. })));
}

#[test]
fn counters_that_begin_on_two_devices_at_once_add_up() {
    let (a, b) = two();
    a.table::<Json>("t").insert_as("k", &json!({"name": "x", "stock": 0})).unwrap();
    exchange(&a, &b);
    a.table::<Part>("t").update("k", |part| part.sold.add(1)).unwrap();
    b.table::<Part>("t").update("k", |part| part.sold.add(2)).unwrap();
    exchange(&a, &b);
    assert_eq!(a.table::<Part>("t").get("k").unwrap().unwrap().sold.get(), 3);
    assert_eq!(b.table::<Part>("t").get("k").unwrap().unwrap().sold.get(), 3);
}

#[test]
fn field_types_within_something_else_are_refused() {
    #[derive(Serialize, Deserialize)]
    struct Nested {
        counts: BTreeMap<String, Counter>,
    }
    let row = Nested { counts: [("a".to_owned(), Counter::new(1))].into() };
    let Err(DbError::Encode(cause)) = database().table("t").insert(&row) else { panic!() };
    assert_eq!(cause.to_string(), "counts.a: a counter must be a field of a row itself");
}

#[test]
fn a_transaction_sees_what_it_has_added() {
    let db = database();
    db.table::<Part>("parts").insert_as("bolt", &part(10)).unwrap();
    let seen = db.write(|tx| {
        let parts = tx.table::<Part>("parts");
        parts.update("bolt", |part| part.stock.add(1))?;
        parts.add("bolt", "stock", 1)?;
        parts.update("bolt", |part| part.stock.add(1))?;
        Ok(parts.get("bolt")?.unwrap().stock.get())
    });
    assert_eq!(seen.unwrap(), 13);
    assert_eq!(db.table::<Part>("parts").get("bolt").unwrap(), Some(part(13)));
}

#[test]
fn an_option_of_a_counter_is_one() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Row {
        votes: Option<Counter>,
    }
    let (a, b) = two();
    let table = a.table::<Row>("t");
    table.insert_as("k", &Row { votes: None }).unwrap();
    table.update("k", |row| row.votes = Some(Counter::new(5))).unwrap();
    exchange(&a, &b);
    for db in [&a, &b] {
        db.table::<Row>("t").update("k", |row| row.votes.as_mut().unwrap().add(1)).unwrap();
    }
    exchange(&a, &b);
    assert_eq!(table.get("k").unwrap().unwrap().votes, Some(Counter::new(7)));
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Note {
    title: String,
    body: Text,
}

fn note(body: &str) -> Note {
    Note { title: "t".to_owned(), body: Text::new(body) }
}

#[test]
fn concurrent_edits_of_a_text_field_merge() {
    let (a, b) = two();
    let (here, there) = (a.table::<Note>("notes"), b.table::<Note>("notes"));
    here.insert_as("k", &note("the quick fox")).unwrap();
    assert_eq!(here.get("k").unwrap(), Some(note("the quick fox")));
    exchange(&a, &b);
    here.update("k", |note| note.body.insert(10, "brown ")).unwrap();
    there.update("k", |note| note.body.push_str(" jumps")).unwrap();
    there.update("k", |note| note.body.delete(0, 4)).unwrap();
    there.update("k", |note| note.title = "fox".to_owned()).unwrap();
    exchange(&a, &b);
    let merged = Note { title: "fox".to_owned(), body: Text::new("quick brown fox jumps") };
    assert_eq!(here.get("k").unwrap(), Some(merged.clone()));
    assert_eq!(there.get("k").unwrap(), Some(merged));
    assert_eq!(a.state_hash().unwrap(), b.state_hash().unwrap());
    let raw = a.table::<Json>("notes").get("k").unwrap();
    assert_eq!(raw, Some(json!({"title": "fox", "body": "quick brown fox jumps"})));
}

#[test]
fn texts_are_edited_through_a_handle_too() {
    let (a, b) = two();
    let notes = a.table::<Note>("notes");
    notes.insert_as("k", &note("one")).unwrap();
    exchange(&a, &b);
    let body = notes.text_field("k", "body").unwrap();
    body.insert(3, " two").unwrap();
    b.table::<Json>("notes").update("k", |row| row["body"] = json!("zero one")).unwrap();
    exchange(&a, &b);
    assert_eq!(body.read().unwrap(), "zero one two");
    assert_eq!(notes.get("k").unwrap().unwrap().body, "zero one two");
    assert!(matches!(notes.text_field("none", "body"), Err(DbError::NoSuchRow { .. })));
    assert!(matches!(notes.text_field("k", "title"), Err(DbError::Type { found: "text", .. })));
}

#[test]
fn a_set_or_delete_hides_a_text_and_its_edits() {
    let (a, b) = two();
    let (here, there) = (a.table::<Note>("notes"), b.table::<Note>("notes"));
    here.insert_as("k", &note("one")).unwrap();
    exchange(&a, &b);
    there.update("k", |note| note.body.push_str("!")).unwrap();
    here.insert_as("k", &note("other")).unwrap();
    exchange(&a, &b);
    assert_eq!(here.get("k").unwrap(), there.get("k").unwrap());
    here.delete("k").unwrap();
    here.insert_as("k", &note("again")).unwrap();
    exchange(&a, &b);
    assert_eq!(there.get("k").unwrap(), Some(note("again")));
    // An empty text is one too.
    here.insert_as("k", &note("")).unwrap();
    assert_eq!(here.get("k").unwrap(), Some(note("")));
    here.update("k", |note| note.body.push_str("x")).unwrap();
    assert_eq!(here.get("k").unwrap(), Some(note("x")));
}

#[test]
fn a_text_that_was_one_value_becomes_one_that_is_edited() {
    let (a, b) = two();
    a.table::<Json>("notes").insert_as("k", &json!({"title": "t", "body": "one two"})).unwrap();
    exchange(&a, &b);
    a.table::<Note>("notes").update("k", |note| note.body.push_str(" three")).unwrap();
    assert_eq!(a.table::<Note>("notes").get("k").unwrap(), Some(note("one two three")));
    exchange(&a, &b);
    a.table::<Note>("notes").update("k", |note| note.body.push_str(" four")).unwrap();
    b.table::<Note>("notes").update("k", |note| note.body.insert(0, "zero ")).unwrap();
    exchange(&a, &b);
    assert_eq!(b.table::<Note>("notes").get("k").unwrap(), Some(note("zero one two three four")));
}

#[test]
fn texts_that_begin_on_two_devices_at_once_are_both_there() {
    #[derive(Debug, Serialize, Deserialize)]
    struct Row {
        #[serde(default)]
        body: Text,
    }
    let (a, b) = two();
    a.table::<Json>("t").insert_as("k", &json!({})).unwrap();
    exchange(&a, &b);
    a.table::<Row>("t").update("k", |row| row.body.push_str("here")).unwrap();
    b.table::<Row>("t").update("k", |row| row.body.push_str("there")).unwrap();
    exchange(&a, &b);
    let text = a.table::<Row>("t").get("k").unwrap().unwrap().body.into_string();
    assert!(text == "herethere" || text == "therehere", "{text}");
    assert_eq!(b.table::<Row>("t").get("k").unwrap().unwrap().body, text.as_str());
}

mod any_order {
    use std::collections::BTreeSet;

    use eid_core::dag::Seq;
    use eid_core::{Entry, EntryId, Payload};
    use eid_crdt::sequence::Op;
    use eid_crdt::{Integer, RowOp};
    use proptest::prelude::*;

    use super::*;
    use crate::Database;
    use crate::kind::sequence::{self, Edits, OpId, SequenceReader};
    use crate::kind::table::{self, Detail, KIND, TableOp};
    use crate::tests::replicas::three;
    use crate::tests::support::{admit, causal_order, copy, entries, node};

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u8, u8, Value),
        Set(u8, u8, Value),
        Unset(u8, u8),
        Delete(u8),
        Count(u8, u8, i64),
        /// Deletes up to so many characters somewhere and inserts so many.
        Type(u8, u8, u16, u8, u8),
        Pull(usize),
    }

    fn any_step() -> impl Strategy<Value = (usize, Step)> {
        let (row, field) = (|| 0u8..2, || 0u8..2);
        let value =
            || prop_oneof![any::<u8>().prop_map(Value::from), Just(Value::from("")), Just(Value::from("x"))];
        let step = prop_oneof![
            3 => (row(), field(), value()).prop_map(|(r, f, v)| Step::Insert(r, f, v)),
            1 => (row(), field(), value()).prop_map(|(r, f, v)| Step::Set(r, f, v)),
            1 => (row(), field()).prop_map(|(r, f)| Step::Unset(r, f)),
            1 => row().prop_map(Step::Delete),
            3 => (row(), field(), -5i64..5).prop_map(|(r, f, by)| Step::Count(r, f, by)),
            6 => (row(), field(), any::<u16>(), 0u8..4, 0u8..4).prop_map(|(r, f, at, d, i)| Step::Type(r, f, at, d, i)),
            4 => (0usize..3).prop_map(Step::Pull),
        ];
        (0usize..3, step)
    }

    fn run(replicas: &[Database], number: usize, at: usize, step: &Step) {
        let db = &replicas[at];
        let (key, name) = (|row: u8| format!("row {row}"), |field: u8| format!("field {field}"));
        let op = match step.clone() {
            Step::Insert(row, field, value) => {
                table::encode_insert(&key(row), &[(name(field), value)].into())
            }
            Step::Set(row, field, value) => {
                table::encode_update(&key(row), &[(name(field), value)].into(), &BTreeSet::new())
            }
            Step::Unset(row, field) => {
                table::encode_update(&key(row), &table::Fields::new(), &[name(field)].into())
            }
            Step::Delete(row) => table::encode_delete(&key(row)),
            Step::Count(row, field, by) => table::encode_increment(&key(row), &name(field), by),
            Step::Type(row, field, at, delete, insert) => {
                let prefix = table::text_prefix(&key(row), &name(field));
                // No character is put in twice, so that each tells which operation it is of.
                let first = 0x1_0000 + u32::try_from(number).unwrap() * 8;
                let text: String =
                    (0..u32::from(insert)).map(|n| char::from_u32(first + n).unwrap()).collect();
                let edits = db.read_store("table", KIND, |rows| {
                    let len = SequenceReader::<String>::open(rows, &prefix)?.len();
                    let at = usize::from(at) % (len + 1);
                    let delete = usize::from(delete).min(len - at);
                    let something = delete > 0 || !text.is_empty();
                    let edits = || sequence::splice_edits(rows, &prefix, at, delete, text);
                    something.then(edits).transpose()
                });
                let Some(edits) = edits.unwrap() else { return };
                table::encode_edit(&key(row), &name(field), &edits)
            }
            Step::Pull(other) => {
                if other != at {
                    copy(&replicas[other], db.instance());
                }
                return;
            }
        };
        db.prepare_blind(|tx| tx.stage("table", KIND, op)).unwrap().1.commit().unwrap();
    }

    #[derive(Debug, Default)]
    struct NaiveField {
        floor: usize,
        base: Option<Value>,
        counted: Option<(usize, i128)>,
        edited: Option<usize>,
        characters: BTreeMap<(OpId, u32), (usize, char)>,
    }

    impl NaiveField {
        fn set(&mut self, now: usize, base: Option<Value>) {
            (self.floor, self.base, self.counted, self.edited) = (now, base, None, None);
        }

        fn edit(&mut self, now: usize, edits: &Edits<String>, own: OpId, seq_of: impl Fn(&EntryId) -> Seq) {
            let refs = edits
                .refs()
                .iter()
                .map(|named| Some(OpId { seq: named.entry.as_ref().map_or(own.seq, &seq_of), op: named.op }));
            let numbers: Vec<Option<OpId>> = std::iter::once(Some(own)).chain(refs).collect();
            let mut offset = 0;
            for op in edits.ops(&numbers) {
                match op {
                    Op::Insert { run, .. } => {
                        for char in run.chars() {
                            self.characters.insert((own, offset), (now, char));
                            offset += 1;
                        }
                    }
                    Op::Delete(span) => {
                        for n in 0..span.count {
                            self.characters.remove(&(span.first.entry, span.first.offset + n));
                        }
                    }
                }
            }
            self.edited = Some(now);
        }

        /// A text with its characters sorted: their order is the business of sequences.
        fn view(&self) -> Option<Value> {
            let count = |base: i128| self.counted.map(|(_, by)| Value::Int(Integer::saturating(base + by)));
            let text = || {
                let shown = self.characters.values().filter(|(at, _)| *at > self.floor);
                sorted(&shown.map(|(_, char)| char).collect::<String>())
            };
            match &self.base {
                Some(Value::Int(base)) => count(base.get()).or_else(|| self.base.clone()),
                Some(Value::Text(base)) if base.is_empty() => Some(Value::Text(text())),
                Some(other) => Some(other.clone()),
                None if self.edited > self.counted.map(|(at, _)| at) => Some(Value::Text(text())),
                None => count(0),
            }
        }
    }

    fn sorted(text: &str) -> String {
        let mut chars: Vec<char> = text.chars().collect();
        chars.sort_unstable();
        chars.into_iter().collect()
    }

    #[derive(Debug, Default)]
    struct NaiveRow {
        visible: bool,
        fields: BTreeMap<String, NaiveField>,
    }

    impl NaiveRow {
        fn apply(&mut self, now: usize, op: TableOp, own: OpId, seq_of: impl Fn(&EntryId) -> Seq) {
            let decode = |value: bytes::Bytes| crate::codec::decode_value(&value).unwrap();
            match (op.op, op.detail) {
                (RowOp::Insert(fields), _) => {
                    self.visible = true;
                    for (name, value) in fields {
                        self.fields.entry(name).or_default().set(now, Some(decode(value)));
                    }
                }
                (RowOp::Update(fields), _) => {
                    for (name, value) in fields {
                        self.fields.entry(name).or_default().set(now, value.map(decode));
                    }
                }
                (RowOp::Delete, _) => {
                    self.visible = false;
                    self.fields.values_mut().for_each(|field| field.set(now, None));
                }
                (RowOp::Count(name), Detail::By(by)) => {
                    let counted = &mut self.fields.entry(name).or_default().counted;
                    *counted = Some((now, counted.map_or(0, |(_, sum)| sum) + i128::from(by)));
                }
                (RowOp::Edit(name), Detail::Edits(edits)) => {
                    self.fields.entry(name).or_default().edit(now, &edits, own, seq_of);
                }
                other => panic!("{other:?}"),
            }
        }

        fn view(&self) -> Option<table::Fields> {
            let fields = self.fields.iter().filter_map(|(name, field)| Some((name.clone(), field.view()?)));
            self.visible.then(|| fields.collect())
        }
    }

    /// Every operation in the order of stamps that hold ids, one after another.
    fn naive_replay(all: &[Entry]) -> BTreeMap<String, NaiveRow> {
        let mut order: Vec<(usize, &Entry)> = all.iter().enumerate().collect();
        order.sort_by_key(|(_, entry)| (entry.header().time, entry.header().height, entry.id()));
        let seq_of = |id: &EntryId| Seq(all.iter().position(|entry| entry.id() == *id).unwrap() as u64);
        let mut rows: BTreeMap<String, NaiveRow> = BTreeMap::new();
        let mut now = 0;
        for (at, entry) in order {
            for (section, payload) in entry.header().sections.iter().zip(entry.payloads()) {
                if section.store.is_settings() {
                    continue;
                }
                for (op, bytes) in (0..).zip(Payload::decode(payload.as_ref().unwrap()).unwrap().ops) {
                    now += 1;
                    let own = OpId { seq: Seq(at as u64), op };
                    let decoded = table::decode(&bytes).unwrap();
                    rows.entry(decoded.key.clone()).or_default().apply(now, decoded, own, seq_of);
                }
            }
        }
        rows
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        /// The clocks stand still, so concurrent entries often have the same time and height, and ids decide.
        #[test]
        fn rows_that_count_and_are_edited_are_equal_to_the_naive_fold(
            steps in proptest::collection::vec(any_step(), 1..40),
            picks in proptest::collection::vec(any::<u16>(), 1..40),
            batch in 1usize..9,
        ) {
            let (replicas, _nodes) = three();
            for (number, (at, step)) in steps.iter().enumerate() {
                run(&replicas, number, *at, step);
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
            prop_assert_eq!(arrived.state_hash().unwrap(), replicas[0].state_hash().unwrap());
            let report = fresh.store().fsck(false, &mut |_, _| {}).unwrap();
            prop_assert_eq!(report.problems, []);

            let rows = naive_replay(&all);
            let table = arrived.table::<Json>("table");
            if arrived.kind_of("table").unwrap().is_some() {
                let visible = rows.values().filter(|row| row.visible).count();
                prop_assert_eq!(table.count().unwrap(), visible as u64);
            }
            for (key, row) in &rows {
                let found = arrived.read_store("table", KIND, |rows| table::get(rows, key)).unwrap();
                let found = found.map(|mut fields| {
                    for value in fields.values_mut() {
                        if let Value::Text(text) = value {
                            *text = sorted(text);
                        }
                    }
                    fields
                });
                prop_assert_eq!(found, row.view());
            }
        }
    }
}

#[test]
fn an_empty_text_and_a_zero_that_are_put_hide_nothing_that_begins_at_once() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Bare {
        name: String,
    }
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Full {
        name: String,
        body: Text,
        seen: Counter,
    }
    let full = |body: &str, seen| Full { name: "x".into(), body: body.into(), seen: Counter::new(seen) };
    let (a, b) = two();
    a.table::<Bare>("t").insert_as("k", &Bare { name: "x".into() }).unwrap();
    exchange(&a, &b);
    let (here, there) = (a.table::<Full>("t"), b.table::<Full>("t"));
    there.put("k", &full("begun", 5)).unwrap();
    // Later by its place in the history.
    a.doc("other").set("x", 1).unwrap();
    here.put("k", &full("", 0)).unwrap();
    assert_eq!(here.get("k").unwrap(), Some(full("", 0)));
    let tips = a.tips().unwrap();
    here.put("k", &full("", 0)).unwrap();
    assert_eq!(a.tips().unwrap(), tips, "it is there already");
    exchange(&a, &b);
    assert_eq!(here.get("k").unwrap(), Some(full("begun", 5)));
    assert_eq!(there.get("k").unwrap(), Some(full("begun", 5)));
    assert_eq!(a.state_hash().unwrap(), b.state_hash().unwrap());
    here.update("k", |row| row.body.push_str(" here")).unwrap();
    assert_eq!(here.get("k").unwrap(), Some(full("begun here", 5)));
}
