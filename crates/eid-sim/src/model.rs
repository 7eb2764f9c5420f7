//! What a set of entries means, computed naively: everything at once, in the order of stamps, in plain trees.
//!
//! Nothing here calls the code that it checks. Signatures are verified by [`eid_core::verify`], which no sabotage
//! reaches; heights, tips and state are computed from the entries' bytes; who had the right to what, and what counts,
//! is what [`eid_auth::oracle`] says, the naive definition of the rules.

mod text;

use std::collections::{BTreeMap, BTreeSet};

use eid_auth::oracle::{Dag, Verdicts};
use eid_core::cbor::{CborError, Kind, Reader};
use eid_core::{Domain, Entry, EntryId, Height, Time, TreeId, verify};
use serde_json::{Map, Value as Json};

/// What is wrong with an entry that a replica holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The signature does not hold.
    #[error("entry {0} is not signed by its author")]
    Unsigned(EntryId),
    /// The height is not one above the highest parent.
    #[error("entry {id} says height {said:?} and has {found:?}")]
    Height {
        /// Which.
        id: EntryId,
        /// In its header.
        said: Height,
        /// Recomputed.
        found: Height,
    },
    /// The time is before a parent's.
    #[error("entry {0} is older than a parent")]
    Time(EntryId),
    /// A parent is not there.
    #[error("entry {0} lacks a parent")]
    Hole(EntryId),
    /// It belongs elsewhere.
    #[error("entry {0} belongs to another tree")]
    Foreign(EntryId),
    /// The author had no right to it.
    #[error("entry {0} is by somebody without the right")]
    Right(EntryId),
}

/// The entries of one tree and what follows from them.
#[derive(Debug, Default)]
pub struct Model {
    facts: BTreeMap<EntryId, Facts>,
    entries: BTreeMap<EntryId, Entry>,
    rules: Dag,
}

#[derive(Debug, Clone, Copy)]
struct Facts {
    height: Height,
    time: Time,
}

/// Whether a payload of an entry is not here.
fn lacks(entry: &Entry) -> bool {
    entry.payloads().iter().any(Option::is_none)
}

/// A document, table or text, as people see it.
pub type State = BTreeMap<(String, String), Json>;

impl Model {
    /// Adds entries, parents first in any order of arrival that has them so, and checks each.
    pub fn add(&mut self, tree: &TreeId, entry: &Entry) -> Result<(), Fault> {
        let id = EntryId::of_block(entry.block());
        if self.facts.contains_key(&id) {
            // Who was read first may have lost a payload.
            if let Some(known) = self.entries.get_mut(&id).filter(|known| lacks(known) && !lacks(entry)) {
                known.clone_from(entry);
            }
            return Ok(());
        }
        let header = entry.header();
        if entry.tree() != *tree {
            return Err(Fault::Foreign(id));
        }
        if !verify(Domain::Entry, &header.author, entry.header_bytes(), entry.signature()) {
            return Err(Fault::Unsigned(id));
        }
        if !entry.settings().iter().all(|op| op.is_proven(tree, &header.author)) {
            return Err(Fault::Unsigned(id));
        }
        let mut height = Height(0);
        for parent in &header.parents {
            let parent = self.facts.get(parent).ok_or(Fault::Hole(id))?;
            height = height.max(Height(parent.height.0 + 1));
            if parent.time > header.time {
                return Err(Fault::Time(id));
            }
        }
        if height != header.height {
            return Err(Fault::Height { id, said: header.height, found: height });
        }
        if !judge(&mut self.rules, id, entry) {
            return Err(Fault::Right(id));
        }
        self.facts.insert(id, Facts { height, time: header.time });
        self.entries.insert(id, entry.clone());
        Ok(())
    }

    /// The entries, by id.
    #[must_use]
    pub fn ids(&self) -> BTreeSet<EntryId> {
        self.facts.keys().copied().collect()
    }

    /// What only these entries mean: others may have been seen and lost since, such as relaxed commits in a crash.
    #[must_use]
    pub fn only(&self, ids: &BTreeSet<EntryId>) -> Self {
        let held = |id: &EntryId| ids.contains(id);
        let facts: BTreeMap<EntryId, Facts> =
            self.facts.iter().filter(|(id, _)| held(id)).map(|(id, facts)| (*id, *facts)).collect();
        let entries: BTreeMap<EntryId, Entry> =
            self.entries.iter().filter(|(id, _)| held(id)).map(|(id, entry)| (*id, entry.clone())).collect();
        let mut order: Vec<(Height, EntryId)> = facts.iter().map(|(id, facts)| (facts.height, *id)).collect();
        order.sort_unstable();
        let mut rules = Dag::new();
        for (_, id) in order {
            if let Some(entry) = entries.get(&id) {
                judge(&mut rules, id, entry);
            }
        }
        Self { facts, entries, rules }
    }

    /// What counts and what everybody may do when these entries are all that is known.
    #[must_use]
    pub fn verdicts(&self) -> Verdicts {
        self.rules.verdicts()
    }

    /// An entry.
    #[must_use]
    pub fn entry(&self, id: &EntryId) -> Option<&Entry> {
        self.entries.get(id)
    }

    /// The entries themselves.
    pub fn entries(&self) -> impl Iterator<Item = (&EntryId, &Entry)> {
        self.entries.iter()
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.facts.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.facts.is_empty()
    }

    /// Entries that are no other's parent, sorted.
    #[must_use]
    pub fn tips(&self) -> Vec<EntryId> {
        let mut tips = self.ids();
        for entry in self.entries.values() {
            for parent in &entry.header().parents {
                tips.remove(parent);
            }
        }
        tips.into_iter().collect()
    }

    /// The greatest height.
    #[must_use]
    pub fn height(&self) -> Height {
        self.facts.values().map(|facts| facts.height).max().unwrap_or_default()
    }

    /// How many entries have more than one parent, and how many parents have more than one child: merges and forks.
    #[must_use]
    pub fn shape(&self) -> (u64, u64) {
        let mut children: BTreeMap<EntryId, u64> = BTreeMap::new();
        let mut merges = 0;
        for entry in self.entries.values() {
            merges += u64::from(entry.header().parents.len() > 1);
            for parent in &entry.header().parents {
                *children.entry(*parent).or_default() += 1;
            }
        }
        (merges, children.values().filter(|count| **count > 1).count() as u64)
    }

    /// What every store holds, by name and kind: all operations of entries that count, in the order of their stamps.
    #[must_use]
    pub fn state(&self) -> State {
        let void = self.verdicts().void;
        let mut order: Vec<(Time, Height, EntryId)> =
            self.facts.iter().map(|(id, facts)| (facts.time, facts.height, *id)).collect();
        order.sort_unstable();
        let mut stores: BTreeMap<(String, String), Plain> = BTreeMap::new();
        for (time, height, id) in order {
            let Some(entry) = self.entries.get(&id) else { continue };
            for (section, payload) in entry.header().sections.iter().zip(entry.payloads()) {
                let Some(payload) = payload.as_ref().filter(|_| !section.store.is_settings()) else {
                    continue;
                };
                let Ok(payload) = eid_core::Payload::decode(payload) else { continue };
                let key = (section.store.as_str().to_owned(), payload.kind);
                let plain = stores.entry(key.clone()).or_insert_with(|| Plain::empty(&key.1));
                for (index, op) in (0..).zip(&payload.ops) {
                    plain.apply((time, height, id, index), op, void.contains(&id));
                }
            }
        }
        stores.into_iter().map(|(key, plain)| (key, plain.show())).collect()
    }
}

impl Model {
    /// Every operation on a store in the order of stamps, for people: time, height, entry, operation.
    #[must_use]
    pub fn history(&self, store: &str) -> Vec<(EntryId, String)> {
        let mut order: Vec<(Time, Height, EntryId)> =
            self.facts.iter().map(|(id, facts)| (facts.time, facts.height, *id)).collect();
        order.sort_unstable();
        let mut lines = Vec::new();
        for (time, height, id) in order {
            let Some(entry) = self.entries.get(&id) else { continue };
            for (section, payload) in entry.header().sections.iter().zip(entry.payloads()) {
                if section.store.as_str() != store {
                    continue;
                }
                let decoded = payload.as_ref().and_then(|bytes| eid_core::Payload::decode(bytes).ok());
                for op in decoded.into_iter().flat_map(|payload| payload.ops) {
                    let shown = json(&mut Reader::new(&op)).unwrap_or(Json::Null);
                    lines.push((id, format!("{time:?} {} {} {shown}", height.0, id.short())));
                }
            }
        }
        lines
    }
}

/// Adds an entry by the rules; says whether its author had the right to it.
fn judge(rules: &mut Dag, id: EntryId, entry: &Entry) -> bool {
    let header = entry.header();
    rules.add(id, header.author, header.is_settings().then(|| entry.settings()), &header.parents)
}

/// Where an operation stands: time, height, entry, its place in the entry.
type Stamp = (Time, Height, EntryId, u64);

/// A store as one device would hold it that sees every operation in order.
#[derive(Debug, Clone)]
enum Plain {
    Doc(BTreeMap<String, Tree>),
    Table(BTreeMap<String, Row>),
    Text(text::Text),
}

#[derive(Debug, Clone)]
enum Tree {
    Leaf(Json),
    Map { explicit: bool, items: BTreeMap<String, Self> },
}

#[derive(Debug, Clone, Default)]
struct Row {
    visible: bool,
    fields: Map<String, Json>,
}

impl Plain {
    fn empty(kind: &str) -> Self {
        match kind {
            "table" => Self::Table(BTreeMap::new()),
            "text" => Self::Text(text::Text::default()),
            _ => Self::Doc(BTreeMap::new()),
        }
    }

    /// An operation that does not decode has no effect. One that is void has none either, but that others may hang what
    /// counts on its letters.
    fn apply(&mut self, stamp: Stamp, op: &[u8], is_void: bool) {
        // Why an operation does not decode makes no difference.
        match self {
            Self::Doc(items) if !is_void => drop(doc_op(items, op)),
            Self::Table(rows) if !is_void => drop(table_op(rows, op)),
            Self::Text(text) => drop(text.apply(stamp, op, is_void)),
            Self::Doc(_) | Self::Table(_) => {}
        }
    }

    fn show(self) -> Json {
        match self {
            Self::Doc(items) => {
                Json::Object(items.into_iter().filter_map(|(key, tree)| Some((key, show(tree)?))).collect())
            }
            Self::Text(text) => Json::String(text.show()),
            Self::Table(rows) => Json::Object(
                rows.into_iter()
                    .filter(|(_, row)| row.visible)
                    .map(|(key, row)| (key, Json::Object(row.fields)))
                    .collect(),
            ),
        }
    }
}

/// A map that nobody set is there only while something is in it.
fn show(tree: Tree) -> Option<Json> {
    match tree {
        Tree::Leaf(value) => Some(value),
        Tree::Map { explicit, items } => {
            let shown: Map<String, Json> =
                items.into_iter().filter_map(|(key, tree)| Some((key, show(tree)?))).collect();
            (explicit || !shown.is_empty()).then_some(Json::Object(shown))
        }
    }
}

enum Write {
    Set(Json),
    Delete,
    Increment(i128),
}

fn change(items: &mut BTreeMap<String, Tree>, path: &[String], write: Write) {
    let Some((key, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        match write {
            Write::Set(value) => drop(items.insert(key.clone(), plant(value))),
            Write::Delete => drop(items.remove(key)),
            Write::Increment(by) => {
                let base = match items.get(key) {
                    Some(Tree::Leaf(Json::Number(base))) => match base.as_i128() {
                        Some(base) => base,
                        None => return,
                    },
                    Some(Tree::Leaf(_)) => return,
                    None | Some(Tree::Map { .. }) => 0,
                };
                let sum = (base + by).clamp(i128::from(i64::MIN), i128::from(u64::MAX));
                let sum = serde_json::Number::from_i128(sum).map_or(Json::Null, Json::Number);
                items.insert(key.clone(), Tree::Leaf(sum));
            }
        }
        return;
    }
    let below = match (&write, items.get_mut(key)) {
        (Write::Delete, None | Some(Tree::Leaf(_))) => return,
        (_, Some(Tree::Map { .. })) => items.get_mut(key),
        (_, None | Some(Tree::Leaf(_))) => {
            items.insert(key.clone(), Tree::Map { explicit: false, items: BTreeMap::new() });
            items.get_mut(key)
        }
    };
    if let Some(Tree::Map { items, .. }) = below {
        change(items, rest, write);
    }
}

fn plant(value: Json) -> Tree {
    match value {
        Json::Object(items) => Tree::Map {
            explicit: true,
            items: items.into_iter().map(|(key, value)| (key, plant(value))).collect(),
        },
        leaf => Tree::Leaf(leaf),
    }
}

/// `[0, [key ...], value]`, `[1, [key ...]]`, `[2, [key ...], by]`: set, delete, increment.
fn doc_op(items: &mut BTreeMap<String, Tree>, op: &[u8]) -> Result<(), CborError> {
    let mut r = Reader::new(op);
    r.array(3)?;
    let code = r.uint()?;
    let keys = r.array(usize::MAX)?;
    let mut path = Vec::new();
    for _ in 0..keys {
        path.push(r.text(usize::MAX)?.to_owned());
    }
    let write = match code {
        0 => Write::Set(json(&mut r)?),
        1 => Write::Delete,
        2 => Write::Increment(r.int()?),
        _ => return Err(CborError::Type),
    };
    r.finish()?;
    change(items, &path, write);
    Ok(())
}

/// `[0, key, {field: value}]`, `[1, key, {field: value}, [field ...]]`, `[2, key]`: insert, update, delete.
fn table_op(rows: &mut BTreeMap<String, Row>, op: &[u8]) -> Result<(), CborError> {
    let mut r = Reader::new(op);
    r.array(4)?;
    let code = r.uint()?;
    let key = r.text(usize::MAX)?.to_owned();
    let row = rows.entry(key).or_default();
    match code {
        0 => {
            row.visible = true;
            row.fields.extend(fields(&mut r)?);
        }
        1 => {
            row.fields.extend(fields(&mut r)?);
            for _ in 0..r.array(usize::MAX)? {
                row.fields.remove(r.text(usize::MAX)?);
            }
        }
        2 => *row = Row::default(),
        _ => return Err(CborError::Type),
    }
    r.finish()
}

fn fields(r: &mut Reader<'_>) -> Result<Map<String, Json>, CborError> {
    let mut fields = Map::new();
    for _ in 0..r.map(usize::MAX)? {
        let name = r.text(usize::MAX)?.to_owned();
        fields.insert(name, json(r)?);
    }
    Ok(fields)
}

fn json(r: &mut Reader<'_>) -> Result<Json, CborError> {
    Ok(match r.peek()? {
        Kind::Null => r.null().map(|()| Json::Null)?,
        Kind::Bool => Json::Bool(r.bool()?),
        Kind::Uint | Kind::Negative => {
            serde_json::Number::from_i128(r.int()?).map(Json::Number).ok_or(CborError::Limit)?
        }
        Kind::Float => serde_json::Number::from_f64(r.float()?).map(Json::Number).ok_or(CborError::Limit)?,
        Kind::Text => Json::String(r.text(usize::MAX)?.to_owned()),
        Kind::Bytes => Json::Array(r.bytes(usize::MAX)?.iter().map(|byte| Json::from(*byte)).collect()),
        Kind::Array => {
            let count = r.array(usize::MAX)?;
            Json::Array((0..count).map(|_| json(r)).collect::<Result<_, _>>()?)
        }
        Kind::Map => Json::Object(fields(r)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use eid_core::cbor::Writer;
    use eid_core::{
        Draft, KeyMode, Nonce, Payload, Permission, SecretKey, SectionDraft, SettingsOp, Slot, StoreName,
    };

    fn root(recovery: &SecretKey) -> Entry {
        let slot = Slot::Key(recovery.public());
        let ops = [SettingsOp::Rules(1), SettingsOp::Set { slot, permission: Permission::Admin(0) }];
        Draft::root(Nonce([1; 16]), Time::from_ms(5), &ops).seal(recovery).unwrap()
    }

    fn set(key: &str, value: u64) -> Vec<u8> {
        let mut w = Writer::new();
        w.array(3).uint(0).array(1).text(key).uint(value);
        w.into_bytes()
    }

    fn child(parents: &[&Entry], time: u64, height: u64, op: &[u8], by: &SecretKey) -> Entry {
        let payload = Payload::encode("doc", &[], &[op]);
        let section = SectionDraft { store: StoreName::new("d").unwrap(), enc: None, payload };
        let draft = Draft {
            tree: Some(parents[0].tree()),
            parents: parents.iter().map(|parent| parent.id()).collect(),
            height: Height(height),
            time: Time(time),
            sections: vec![section],
            nonce: None,
        };
        draft.seal(by).unwrap()
    }

    #[test]
    fn what_must_not_be_held_is_named() {
        let (recovery, other) = (SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32]));
        let root = root(&recovery);
        let tree = root.tree();
        let late = Time::from_ms(9).0;
        let mut model = Model::default();
        let orphan = child(&[&root], late, 1, &set("a", 1), &recovery);
        assert_eq!(model.add(&tree, &orphan), Err(Fault::Hole(orphan.id())));
        assert_eq!(model.add(&tree, &root), Ok(()));
        let stranger = child(&[&root], late, 1, &set("a", 1), &other);
        assert_eq!(model.add(&tree, &stranger), Err(Fault::Right(stranger.id())));
        let high = child(&[&root], late, 2, &set("a", 1), &recovery);
        assert!(matches!(model.add(&tree, &high), Err(Fault::Height { .. })));
        let early = child(&[&root], 1, 1, &set("a", 1), &recovery);
        assert_eq!(model.add(&tree, &early), Err(Fault::Time(early.id())));
        let mut block = orphan.block().to_vec();
        let last = block.len() - 1;
        block[last] ^= 1;
        let unsigned = Entry::parse(block.into(), orphan.payloads().to_vec()).unwrap();
        assert_eq!(model.add(&tree, &unsigned), Err(Fault::Unsigned(unsigned.id())));
        assert_eq!(model.len(), 1);
    }

    #[test]
    fn what_is_void_has_no_part_in_the_state() {
        let (recovery, writer) = (SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32]));
        let slot = Slot::Key(writer.public());
        let root = root(&recovery);
        let settings = |parent: &Entry, height, op| {
            let draft = Draft {
                tree: Some(root.tree()),
                parents: vec![parent.id()],
                height: Height(height),
                time: Time::from_ms(9),
                sections: vec![SectionDraft::settings(&[op], &[])],
                nonce: None,
            };
            draft.seal(&recovery).unwrap()
        };
        let grant = settings(&root, 1, SettingsOp::Set { slot, permission: Permission::Write });
        let late = child(&[&grant], Time::from_ms(10).0, 2, &set("a", 1), &writer);
        let gone = settings(&grant, 2, SettingsOp::Revoke { slot, mode: KeyMode::Remove { fence: None } });
        let mut model = Model::default();
        for entry in [&root, &grant, &late] {
            model.add(&root.tree(), entry).unwrap();
        }
        assert_eq!(model.state()[&("d".to_owned(), "doc".to_owned())], serde_json::json!({"a": 1}));
        model.add(&root.tree(), &gone).unwrap();
        assert_eq!(model.verdicts().void, BTreeSet::from([late.id()]));
        assert_eq!(model.state()[&("d".to_owned(), "doc".to_owned())], serde_json::json!({}));
        assert_eq!(model.only(&BTreeSet::from([root.id(), grant.id(), late.id()])).verdicts().void.len(), 0);
    }

    #[test]
    fn the_latest_stamp_wins_and_merges_take_tips_away() {
        let key = SecretKey::from_seed([1; 32]);
        let root = root(&key);
        let tree = root.tree();
        let late = child(&[&root], Time::from_ms(9).0, 1, &set("a", 1), &key);
        let early = child(&[&root], Time::from_ms(8).0, 1, &set("a", 2), &key);
        let mut model = Model::default();
        for entry in [&root, &late, &early] {
            model.add(&tree, entry).unwrap();
        }
        assert_eq!(model.tips().len(), 2);
        let merge = child(&[&late, &early], Time::from_ms(10).0, 2, &set("b", 3), &key);
        model.add(&tree, &merge).unwrap();
        assert_eq!(model.tips(), [merge.id()]);
        assert_eq!(model.shape(), (1, 1));
        let state = model.state();
        assert_eq!(state[&("d".to_owned(), "doc".to_owned())], serde_json::json!({"a": 1, "b": 3}));
    }
}
