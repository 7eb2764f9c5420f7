use super::*;
use crate::value::Integer;
use proptest::prelude::*;

/// A plain tree that is changed in place: what one device that sees every operation in order would do.
#[derive(Debug, Clone)]
enum Plain {
    Leaf(Value),
    Map { explicit: bool, items: BTreeMap<String, Self> },
}

fn plain(value: &Value) -> Plain {
    match value {
        Value::Map(items) => {
            Plain::Map { explicit: true, items: items.iter().map(|(k, v)| (k.clone(), plain(v))).collect() }
        }
        leaf => Plain::Leaf(leaf.clone()),
    }
}

fn change(items: &mut BTreeMap<String, Plain>, path: &[String], op: &DocOp) {
    let (key, rest) = path.split_first().unwrap();
    if !rest.is_empty() {
        if matches!(op, DocOp::Delete { .. }) {
            if let Some(Plain::Map { items, .. }) = items.get_mut(key) {
                change(items, rest, op);
            }
            return;
        }
        let slot = items.entry(key.clone()).or_insert(Plain::Map { explicit: false, items: BTreeMap::new() });
        if matches!(slot, Plain::Leaf(_)) {
            *slot = Plain::Map { explicit: false, items: BTreeMap::new() };
        }
        let Plain::Map { items, .. } = slot else { unreachable!() };
        return change(items, rest, op);
    }
    match op {
        DocOp::Set { value, .. } => drop(items.insert(key.clone(), plain(value))),
        DocOp::Delete { .. } => drop(items.remove(key)),
        DocOp::Increment { by, .. } => {
            let base = match items.get(key) {
                Some(Plain::Leaf(Value::Int(base))) => base.get(),
                Some(Plain::Leaf(_)) => return,
                None | Some(Plain::Map { .. }) => 0,
            };
            items.insert(key.clone(), Plain::Leaf(Value::Int(Integer::saturating(base + i128::from(*by)))));
        }
    }
}

/// A map that nobody set is there only while something is in it.
fn show(at: &Plain) -> Option<Value> {
    match at {
        Plain::Leaf(value) => Some(value.clone()),
        Plain::Map { explicit, items } => {
            let shown: BTreeMap<String, Value> =
                items.iter().filter_map(|(k, v)| Some((k.clone(), show(v)?))).collect();
            (*explicit || !shown.is_empty()).then_some(Value::Map(shown))
        }
    }
}

fn naive(ops: &[DocOp]) -> Value {
    let mut root = BTreeMap::new();
    for op in ops {
        let (DocOp::Set { path, .. } | DocOp::Delete { path } | DocOp::Increment { path, .. }) = op;
        change(&mut root, path, op);
    }
    show(&Plain::Map { explicit: true, items: root }).unwrap()
}

fn any_path() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec(prop_oneof![Just("a".to_owned()), Just("b".to_owned())], 1..4)
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        3 => any::<u8>().prop_map(Value::from),
        1 => Just(Value::from("text")),
        1 => Just(Value::Null),
        1 => Just(Value::Map(BTreeMap::new())),
    ];
    leaf.prop_recursive(2, 6, 2, |inner| {
        let key = prop_oneof![Just("a".to_owned()), Just("b".to_owned())];
        proptest::collection::btree_map(key, inner, 0..3).prop_map(Value::Map)
    })
}

fn any_op() -> impl Strategy<Value = DocOp> {
    prop_oneof![
        4 => (any_path(), any_value()).prop_map(|(path, value)| DocOp::Set { path, value }),
        2 => any_path().prop_map(|path| DocOp::Delete { path }),
        3 => (any_path(), -9i64..9).prop_map(|(path, by)| DocOp::Increment { path, by }),
    ]
}

crate::crdt_laws!(laws, Doc<u64>, ops = any_op(), naive = naive);

fn path(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

proptest! {
    #[test]
    fn every_path_reads_as_a_part_of_the_whole(ops in proptest::collection::vec(any_op(), 0..20), at in any_path()) {
        let mut doc = Doc::default();
        for (stamp, op) in ops.iter().enumerate() {
            doc.apply(&stamp, op);
        }
        let whole = doc.view();
        let mut part = Some(&whole);
        for key in &at {
            part = match part {
                Some(Value::Map(items)) => items.get(key),
                _ => None,
            };
        }
        prop_assert_eq!(doc.get(&at), part.cloned());
    }
}

#[test]
fn a_siblings_set_does_not_resurrect_a_deleted_child() {
    let mut doc = Doc::default();
    doc.apply(&1, &DocOp::Set { path: path(&["m", "gone"]), value: Value::from(1) });
    doc.apply(&2, &DocOp::Delete { path: path(&["m"]) });
    doc.apply(&3, &DocOp::Set { path: path(&["m", "kept"]), value: Value::from(2) });
    assert_eq!(doc.get(&path(&["m", "gone"])), None);
    assert_eq!(doc.get(&path(&["m", "kept"])), Some(Value::from(2)));
}

#[test]
fn a_scalar_that_a_child_replaced_does_not_come_back_when_the_child_goes() {
    let mut doc = Doc::default();
    doc.apply(&1, &DocOp::Set { path: path(&["a"]), value: Value::from(5) });
    doc.apply(&2, &DocOp::Set { path: path(&["a", "b"]), value: Value::from(1) });
    doc.apply(&3, &DocOp::Delete { path: path(&["a", "b"]) });
    assert_eq!(doc.get(&path(&["a"])), None);
}
