use super::*;
use crate::sequence::{Name, Span};
use crate::value::Integer;
use proptest::prelude::*;

/// A plain tree that is changed in place: what one device that sees every operation in order would do.
#[derive(Debug, Clone)]
enum Plain {
    Leaf(Value),
    /// The items of the list at this path that came in no earlier than this.
    List {
        since: u64,
    },
    Map {
        explicit: bool,
        items: BTreeMap<String, Self>,
    },
}

/// What hangs in a list, for good: an item that is gone may still have neighbours.
#[derive(Debug, Clone, Default)]
struct Tree {
    before: BTreeMap<Slot, Self>,
    after: BTreeMap<Slot, Self>,
}

/// The operation and the offset.
type Slot = (u64, u32);

#[derive(Debug, Clone, Default)]
struct PlainList {
    start: Tree,
    /// Each slot with the path to it: whether it hangs after, and its name.
    at: BTreeMap<Slot, Vec<(bool, Slot)>>,
    items: BTreeMap<Slot, PlainItem>,
    gone: Vec<Slot>,
    waiting: BTreeMap<u64, ListOp<u64>>,
}

#[derive(Debug, Clone)]
struct PlainItem {
    place: Slot,
    value: (u64, Value),
}

type Lists = BTreeMap<Vec<String>, PlainList>;

fn slot(name: &Name<u64>) -> Slot {
    (name.entry, name.offset)
}

impl PlainList {
    fn add(&mut self, stamp: u64, op: ListOp<u64>) {
        self.waiting.insert(stamp, op);
        while let Some(ready) = self
            .waiting
            .iter()
            .find(|(_, op)| op.names().iter().all(|name| self.at.contains_key(&(*name, 0))))
            .map(|(stamp, _)| *stamp)
        {
            let op = self.waiting.remove(&ready).unwrap();
            self.change(ready, op);
        }
    }

    fn change(&mut self, stamp: u64, op: ListOp<u64>) {
        match op {
            ListOp::Insert { mut at, items } => {
                for (offset, value) in (0..).zip(items) {
                    if self.hang(&at, (stamp, offset)) {
                        let item = PlainItem { place: (stamp, offset), value: (stamp, value) };
                        self.items.insert((stamp, offset), item);
                        at = Anchor::After(Name { entry: stamp, offset });
                    }
                }
            }
            ListOp::Delete { spans } => {
                for span in spans {
                    let slots = (0..span.count).map(|more| (span.first.entry, span.first.offset + more));
                    if slots.clone().all(|slot| self.at.contains_key(&slot)) {
                        self.gone.extend(slots);
                    }
                }
            }
            ListOp::Move { item, at } => {
                if self.items.contains_key(&slot(&item)) && self.hang(&at, (stamp, 0)) {
                    let item = self.items.get_mut(&slot(&item)).unwrap();
                    item.place = item.place.max((stamp, 0));
                }
            }
            ListOp::Set { item, value } => {
                if let Some(item) = self.items.get_mut(&slot(&item)).filter(|item| item.value.0 < stamp) {
                    item.value = (stamp, value);
                }
            }
        }
    }

    fn hang(&mut self, at: &Anchor<u64>, new: Slot) -> bool {
        let way = match at {
            Anchor::Start => Some(vec![(true, new)]),
            Anchor::After(name) => self.at.get(&slot(name)).map(|way| [&way[..], &[(true, new)]].concat()),
            Anchor::Before(name) => self.at.get(&slot(name)).map(|way| [&way[..], &[(false, new)]].concat()),
        };
        let Some(way) = way else { return false };
        let mut tree = &mut self.start;
        for (after, name) in &way {
            let hung = if *after { &mut tree.after } else { &mut tree.before };
            tree = hung.entry(*name).or_default();
        }
        self.at.insert(new, way);
        true
    }

    fn values(&self, since: u64) -> Vec<Value> {
        fn walk(tree: &Tree, each: &mut dyn FnMut(Slot)) {
            let visit = |hung: &BTreeMap<Slot, Tree>, each: &mut dyn FnMut(Slot)| {
                for (slot, tree) in hung {
                    // What hangs before a slot comes before it, and the rest after.
                    walk(&Tree { before: tree.before.clone(), after: BTreeMap::new() }, each);
                    each(*slot);
                    walk(&Tree { before: BTreeMap::new(), after: tree.after.clone() }, each);
                }
            };
            visit(&tree.before, each);
            visit(&tree.after, each);
        }
        let mut values = Vec::new();
        walk(&self.start, &mut |slot| {
            let found = self.items.iter().find(|(_, item)| item.place == slot);
            if let Some((name, item)) = found
                && name.0 >= since
                && !self.gone.contains(name)
                && !self.gone.contains(&slot)
            {
                values.push(item.value.1.clone());
            }
        });
        values
    }
}

fn plain(stamp: u64, value: &Value) -> Plain {
    match value {
        Value::Map(items) => Plain::Map {
            explicit: true,
            items: items.iter().map(|(k, v)| (k.clone(), plain(stamp, v))).collect(),
        },
        Value::List(_) => Plain::List { since: stamp },
        leaf => Plain::Leaf(leaf.clone()),
    }
}

fn change(items: &mut BTreeMap<String, Plain>, path: &[String], stamp: u64, op: &DocOp<u64>) {
    let makes = |op: &DocOp<u64>| match op {
        DocOp::Set { .. } | DocOp::Increment { .. } => true,
        DocOp::List { op, .. } => matches!(op, ListOp::Insert { .. }),
        DocOp::Delete { .. } => false,
    };
    let (key, rest) = path.split_first().unwrap();
    if !rest.is_empty() {
        if !makes(op) {
            if let Some(Plain::Map { items, .. }) = items.get_mut(key) {
                change(items, rest, stamp, op);
            }
            return;
        }
        let slot = items.entry(key.clone()).or_insert(Plain::Map { explicit: false, items: BTreeMap::new() });
        if !matches!(slot, Plain::Map { .. }) {
            *slot = Plain::Map { explicit: false, items: BTreeMap::new() };
        }
        let Plain::Map { items, .. } = slot else { unreachable!() };
        return change(items, rest, stamp, op);
    }
    match op {
        DocOp::Set { value, .. } => drop(items.insert(key.clone(), plain(stamp, value))),
        DocOp::Delete { .. } => drop(items.remove(key)),
        DocOp::Increment { by, .. } => {
            let base = match items.get(key) {
                Some(Plain::Leaf(Value::Int(base))) => base.get(),
                Some(Plain::Leaf(_) | Plain::List { .. }) => return,
                None | Some(Plain::Map { .. }) => 0,
            };
            items.insert(key.clone(), Plain::Leaf(Value::Int(Integer::saturating(base + i128::from(*by)))));
        }
        DocOp::List { .. } => {
            if makes(op) && !matches!(items.get(key), Some(Plain::List { .. })) {
                items.insert(key.clone(), Plain::List { since: stamp });
            }
        }
    }
}

/// A map that nobody set is there only while something is in it.
fn show(at: &Plain, path: &[String], lists: &Lists) -> Option<Value> {
    match at {
        Plain::Leaf(value) => Some(value.clone()),
        Plain::List { since } => {
            Some(Value::List(lists.get(path).map_or(Vec::new(), |list| list.values(*since))))
        }
        Plain::Map { explicit, items } => {
            let shown: BTreeMap<String, Value> = items
                .iter()
                .filter_map(|(k, v)| {
                    Some((k.clone(), show(v, &[path, std::slice::from_ref(k)].concat(), lists)?))
                })
                .collect();
            (*explicit || !shown.is_empty()).then_some(Value::Map(shown))
        }
    }
}

fn naive(ops: &[DocOp<u64>]) -> Value {
    let mut root = BTreeMap::new();
    let mut lists = Lists::new();
    for (stamp, op) in (0..).zip(ops) {
        let (DocOp::Set { path, .. }
        | DocOp::Delete { path }
        | DocOp::Increment { path, .. }
        | DocOp::List { path, .. }) = op;
        change(&mut root, path, stamp, op);
        match op {
            DocOp::Set { value, .. } => {
                let Ok(()) = leaves(path, value, |at, value| {
                    if let Value::List(items) = value
                        && !items.is_empty()
                    {
                        let op = ListOp::Insert { at: Anchor::Start, items: items.clone() };
                        lists.entry(at.to_vec()).or_default().add(stamp, op);
                    }
                    Ok::<(), Infallible>(())
                });
            }
            DocOp::List { op, .. } => lists.entry(path.clone()).or_default().add(stamp, op.clone()),
            DocOp::Delete { .. } | DocOp::Increment { .. } => {}
        }
    }
    show(&Plain::Map { explicit: true, items: root }, &[], &lists).unwrap()
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
        2 => proptest::collection::vec(any::<u8>().prop_map(Value::from), 0..3).prop_map(Value::List),
    ];
    leaf.prop_recursive(2, 6, 2, |inner| {
        let key = prop_oneof![Just("a".to_owned()), Just("b".to_owned())];
        proptest::collection::btree_map(key, inner, 0..3).prop_map(Value::Map)
    })
}

fn any_list_op() -> impl Strategy<Value = ListOp<u64>> {
    let name = || (0u64..16, 0u32..3).prop_map(|(entry, offset)| Name { entry, offset });
    let at = || {
        prop_oneof![
            2 => Just(Anchor::Start),
            2 => name().prop_map(Anchor::After),
            2 => name().prop_map(Anchor::Before),
        ]
    };
    let items = proptest::collection::vec(any::<u8>().prop_map(Value::from), 1..4);
    let span = (name(), 1u32..3).prop_map(|(first, count)| Span { first, count });
    prop_oneof![
        4 => (at(), items).prop_map(|(at, items)| ListOp::Insert { at, items }),
        1 => proptest::collection::vec(span, 1..3).prop_map(|spans| ListOp::Delete { spans }),
        2 => (name(), at()).prop_map(|(item, at)| ListOp::Move { item, at }),
        1 => (name(), any::<u8>()).prop_map(|(item, value)| ListOp::Set { item, value: Value::from(value) }),
    ]
}

fn any_op() -> impl Strategy<Value = DocOp<u64>> {
    // Short paths, so that lists are met again.
    let list_path = prop_oneof![
        3 => Just(vec!["a".to_owned()]),
        1 => any_path(),
    ];
    prop_oneof![
        4 => (any_path(), any_value()).prop_map(|(path, value)| DocOp::Set { path, value }),
        2 => any_path().prop_map(|path| DocOp::Delete { path }),
        3 => (any_path(), -9i64..9).prop_map(|(path, by)| DocOp::Increment { path, by }),
        7 => (list_path, any_list_op()).prop_map(|(path, op)| DocOp::List { path, op }),
    ]
}

crate::crdt_laws!(laws, Doc<u64>, ops = any_op(), naive = naive);

/// Edits of one list whose names mostly exist, and now and then something that hides a part of it.
fn any_op_on_one_list() -> impl Strategy<Value = DocOp<u64>> {
    let name = || (0u64..6, 0u32..2).prop_map(|(entry, offset)| Name { entry, offset });
    let at = || {
        prop_oneof![
            1 => Just(Anchor::Start),
            2 => name().prop_map(Anchor::After),
            2 => name().prop_map(Anchor::Before),
        ]
    };
    let items = proptest::collection::vec(any::<u8>().prop_map(Value::from), 1..4);
    let list = prop_oneof![
        5 => (at(), items).prop_map(|(at, items)| ListOp::Insert { at, items }),
        1 => (name(), 1u32..3).prop_map(|(first, count)| ListOp::Delete { spans: vec![Span { first, count }] }),
        4 => (name(), at()).prop_map(|(item, at)| ListOp::Move { item, at }),
        1 => (name(), any::<u8>()).prop_map(|(item, value)| ListOp::Set { item, value: Value::from(value) }),
    ];
    let at = || path(&["m", "l"]);
    prop_oneof![
        12 => list.prop_map(move |op| DocOp::List { path: at(), op }),
        1 => Just(DocOp::Set { path: at(), value: Value::List(vec![Value::from(0), Value::from(1)]) }),
        1 => (1usize..3).prop_map(move |depth| DocOp::Delete { path: at()[..depth].to_vec() }),
    ]
}

crate::crdt_laws!(list_laws, Doc<u64>, ops = any_op_on_one_list(), naive = naive);

#[test]
fn a_map_that_a_list_replaced_is_no_longer_one_that_was_set() {
    let mut doc = Doc::<u64>::default();
    let insert = ListOp::Insert { at: Anchor::Start, items: vec![Value::from(1)] };
    doc.apply(&1, &DocOp::Set { path: path(&["a"]), value: Value::Map(BTreeMap::new()) });
    doc.apply(&2, &DocOp::List { path: path(&["a"]), op: insert });
    doc.apply(&3, &DocOp::Set { path: path(&["a", "b"]), value: Value::from(2) });
    doc.apply(&4, &DocOp::Delete { path: path(&["a", "b"]) });
    assert_eq!(doc.get(&path(&["a"])), None);
}

fn path(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

proptest! {
    #[test]
    fn every_path_reads_as_a_part_of_the_whole(ops in proptest::collection::vec(any_op(), 0..20), at in any_path()) {
        let mut doc = Doc::default();
        for (stamp, op) in (0u64..).zip(&ops) {
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
    let mut doc = Doc::<u64>::default();
    doc.apply(&1, &DocOp::Set { path: path(&["m", "gone"]), value: Value::from(1) });
    doc.apply(&2, &DocOp::Delete { path: path(&["m"]) });
    doc.apply(&3, &DocOp::Set { path: path(&["m", "kept"]), value: Value::from(2) });
    assert_eq!(doc.get(&path(&["m", "gone"])), None);
    assert_eq!(doc.get(&path(&["m", "kept"])), Some(Value::from(2)));
}

#[test]
fn a_scalar_that_a_child_replaced_does_not_come_back_when_the_child_goes() {
    let mut doc = Doc::<u64>::default();
    doc.apply(&1, &DocOp::Set { path: path(&["a"]), value: Value::from(5) });
    doc.apply(&2, &DocOp::Set { path: path(&["a", "b"]), value: Value::from(1) });
    doc.apply(&3, &DocOp::Delete { path: path(&["a", "b"]) });
    assert_eq!(doc.get(&path(&["a"])), None);
}
