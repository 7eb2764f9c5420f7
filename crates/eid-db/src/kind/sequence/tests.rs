use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use eid_core::cbor::{CborError, Reader, Writer};
use eid_core::{EntryId, Height, Time};
use eid_crdt::sequence::{Anchor, Op, Sequence};
use eid_store::{Direction, Key};
use proptest::prelude::*;

use super::*;

/// A view in memory that counts what is read and written.
#[derive(Debug, Clone, Default)]
pub(in crate::kind) struct View {
    rows: BTreeMap<Key, Bytes>,
    ids: BTreeMap<Seq, EntryId>,
    seqs: BTreeMap<EntryId, Seq>,
    /// The entry that came last, until it is applied: its id finds nothing yet.
    fresh: Option<Seq>,
    read: Cell<usize>,
    written: usize,
    /// Bytes of the values that were read and written.
    bytes: Cell<usize>,
}

impl View {
    pub(in crate::kind) fn arrive(&mut self, id: EntryId, seq: Seq) {
        let is_fresh = self.ids.insert(seq, id).is_none();
        self.fresh = is_fresh.then_some(seq);
        self.seqs.insert(id, seq);
    }

    fn text(&self, prefix: &[u8]) -> String {
        let reader = SequenceReader::<String>::open(self, prefix).unwrap();
        reader.read(0..reader.len()).unwrap()
    }

    pub(in crate::kind) fn cost(&mut self) -> (usize, usize) {
        (self.read.take(), std::mem::take(&mut self.written))
    }

    pub(in crate::kind) fn cost_bytes(&mut self) -> usize {
        self.bytes.take()
    }

    fn count_bytes(&self, value: Option<&Bytes>) {
        self.bytes.set(self.bytes.get() + value.map_or(0, Bytes::len));
    }
}

impl ViewRows for View {
    fn get(&mut self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        self.read.set(self.read.get() + 1);
        self.count_bytes(self.rows.get(key));
        Ok(self.rows.get(key).cloned())
    }
    fn scan(&mut self, from: &[u8], to: &[u8]) -> Result<Vec<(Key, Bytes)>, ReadError> {
        let found: Vec<_> =
            self.rows.range(from.to_vec()..to.to_vec()).map(|(k, v)| (k.clone(), v.clone())).collect();
        self.read.set(self.read.get() + 1 + found.len());
        found.iter().for_each(|(_, value)| self.count_bytes(Some(value)));
        Ok(found)
    }
    fn put(&mut self, key: &[u8], value: Bytes) {
        self.written += 1;
        self.count_bytes(Some(&value));
        self.rows.insert(key.to_vec(), value);
    }
    fn delete(&mut self, key: &[u8]) {
        self.written += 1;
        self.rows.remove(key);
    }
    fn id_of(&mut self, seq: Seq) -> Result<EntryId, ReadError> {
        Ok(self.ids[&seq])
    }
    fn seq_of(&mut self, id: &EntryId) -> Result<Option<Seq>, ReadError> {
        Ok(self.seqs.get(id).copied().filter(|seq| Some(*seq) != self.fresh))
    }
}

impl Rows for View {
    fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, DbError> {
        self.read.set(self.read.get() + keys.len());
        Ok(keys.iter().map(|key| self.rows.get(key).cloned()).collect())
    }
    fn scan(&self, _: &[u8], _: &[u8], _: Direction, _: usize) -> Result<Vec<(Key, Bytes)>, DbError> {
        panic!("reading a sequence needs no ranges")
    }
    fn id_of(&self, seq: Seq) -> Result<EntryId, DbError> {
        Ok(self.ids[&seq])
    }
    fn seq_of(&self, id: &EntryId) -> Result<Option<Seq>, DbError> {
        Ok(self.seqs.get(id).copied())
    }
}

/// An entry, by its place in the history.
#[derive(Debug, Clone)]
struct Entry {
    id: EntryId,
    time: u64,
    ops: Vec<Edits<String>>,
}

impl Entry {
    fn stamp(&self, seq: Seq, op: u32) -> Stamp {
        Stamp::new(Time(self.time), Height(1), seq, op)
    }
}

/// Ids go against places in the history, so that an order by arrival is noticed.
pub(in crate::kind) fn id(place: usize) -> EntryId {
    let mut id = [7; 32];
    id[..8].copy_from_slice(&(!place as u64).to_be_bytes());
    EntryId(id)
}

fn seq(place: usize) -> Seq {
    Seq(place as u64)
}

const PREFIX: &[u8] = b"\x05at";

fn apply_entry(view: &mut View, entry: &Entry, seq: Seq) -> Vec<Delta<String>> {
    let mut changes = Vec::new();
    for (op, edits) in (0..).zip(&entry.ops) {
        changes.extend(apply(view, PREFIX, entry.stamp(seq, op), Standing::Stands, edits, None).unwrap());
    }
    view.fresh = None;
    changes
}

/// What an author who is not honest writes: names entries that many places back.
#[derive(Debug, Clone)]
struct Claim {
    kind: u8,
    back: usize,
    op: u32,
    offset: u32,
    count: u32,
}

#[derive(Debug, Clone)]
enum Step {
    Edit { device: usize, time: u8, edits: Vec<(usize, usize, usize)> },
    Claim { device: usize, time: u8, claims: Vec<Vec<Claim>> },
    Pull { to: usize, from: usize },
}

const DEVICES: usize = 3;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let edit = (0..DEVICES, 0u8..4, prop::collection::vec((any::<usize>(), 0..4usize, 0..5usize), 1..4))
        .prop_map(|(device, time, edits)| Step::Edit { device, time, edits });
    let claim = (0u8..4, 0usize..6, 0u32..3, 0u32..5, 0u32..4)
        .prop_map(|(kind, back, op, offset, count)| Claim { kind, back, op, offset, count });
    let claim = (0..DEVICES, 0u8..4, prop::collection::vec(prop::collection::vec(claim, 1..4), 1..3))
        .prop_map(|(device, time, claims)| Step::Claim { device, time, claims });
    let pull = (0..DEVICES, 0..DEVICES).prop_map(|(to, from)| Step::Pull { to, from });
    prop::collection::vec(prop_oneof![4 => edit, 2 => claim, 2 => pull], 0..24)
}

/// Edits as a hostile author writes them: any names, in the one form that decodes.
fn claimed(place: usize, own_op: u32, claims: &[Claim]) -> Option<Edits<String>> {
    let own = OpId { seq: seq(place), op: own_op };
    let mut put_in = 0;
    let ops = claims.iter().filter_map(|claim| {
        let entry = OpId { seq: seq(place.saturating_sub(claim.back)), op: claim.op };
        let first = Name { entry, offset: claim.offset };
        if entry == own && claim.offset >= put_in {
            return None;
        }
        let run = ["", "0", "01", "012"][claim.count as usize].to_owned();
        let at = match claim.kind {
            0 => Anchor::Start,
            1 => Anchor::After(first),
            2 => Anchor::Before(first),
            _ => return (claim.count > 0).then_some(Op::Delete(Span { first, count: claim.count })),
        };
        put_in += claim.count;
        (claim.count > 0).then_some(Op::Insert { at, run })
    });
    let ops: Vec<_> = ops.collect();
    Edits::of(own, ops, |seq| Ok::<_, ()>(id(usize::try_from(seq.0).unwrap()))).unwrap()
}

/// Lets the devices take their steps.
fn history(steps: &[Step]) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut devices = vec![(View::default(), BTreeSet::new()); DEVICES];
    for step in steps {
        let place = entries.len();
        match step {
            Step::Pull { to, from } => {
                let missing: Vec<usize> = devices[*from].1.difference(&devices[*to].1).copied().collect();
                for place in missing {
                    devices[*to].0.arrive(id(place), seq(place));
                    apply_entry(&mut devices[*to].0, &entries[place], seq(place));
                    devices[*to].1.insert(place);
                }
                continue;
            }
            Step::Edit { device, time, edits } => {
                // As a transaction does: each operation is made on what those before it have staged.
                let mut staged = devices[*device].0.clone();
                let mut ops = Vec::new();
                for (position, deleted, inserted) in edits {
                    let len = SequenceReader::<String>::open(&staged, PREFIX).unwrap().len();
                    let position = position % (len + 1);
                    let deleted = (*deleted).min(len - position);
                    let letters: String = (0..*inserted)
                        .map(|i| ['ä', 'b', 'c', 'd', '𝄞', 'f', 'g'][(place + i) % 7])
                        .collect();
                    if deleted + inserted == 0 {
                        continue;
                    }
                    let edits = splice_edits(&staged, PREFIX, position, deleted, letters).unwrap();
                    let stamp = Stamp::staged(u32::try_from(ops.len()).unwrap());
                    apply(&mut staged, PREFIX, stamp, Standing::Stands, &edits, None).unwrap();
                    ops.push(edits);
                }
                entries.push(Entry { id: id(place), time: u64::from(*time), ops });
                devices[*device].0.arrive(id(place), seq(place));
                apply_entry(&mut devices[*device].0, &entries[place], seq(place));
                assert_eq!(devices[*device].0.text(PREFIX), staged.text(PREFIX), "staged and applied differ");
                devices[*device].1.insert(place);
            }
            Step::Claim { device, time, claims } => {
                let ops = (0..).zip(claims).filter_map(|(op, claims)| claimed(place, op, claims)).collect();
                entries.push(Entry { id: id(place), time: u64::from(*time), ops });
                devices[*device].0.arrive(id(place), seq(place));
                apply_entry(&mut devices[*device].0, &entries[place], seq(place));
                devices[*device].1.insert(place);
            }
        }
    }
    entries
}

type Reference = Sequence<OpId, (u64, EntryId, u32), String>;

/// What a history adds up to, in memory and in the order of the history: an operation counts once all that it names do.
fn reference(entries: &[Entry], void: &BTreeSet<usize>) -> (Reference, BTreeSet<OpId>) {
    let mut text = Reference::default();
    let mut applied = BTreeSet::new();
    for (place, entry) in entries.iter().enumerate() {
        for (op, edits) in (0..).zip(&entry.ops) {
            let own = OpId { seq: seq(place), op };
            let refs: Vec<Option<OpId>> = edits
                .refs()
                .iter()
                .map(|held| {
                    match held.entry {
                        Some(id) => Some((0..place).find(|place| self::id(*place) == id).map(seq)),
                        None if held.op >= op => None,
                        None => Some(Some(seq(place))),
                    }
                    .map(|seq| OpId { seq: seq.unwrap_or(Seq(u64::MAX)), op: held.op })
                })
                .collect();
            if refs.iter().flatten().any(|held| !applied.contains(held)) {
                continue;
            }
            let numbers: Vec<_> = std::iter::once(Some(own)).chain(refs).collect();
            let standing = if void.contains(&place) { Standing::Void } else { Standing::Stands };
            let ops: Vec<_> = edits.ops(&numbers).collect();
            text.integrate(own, (entry.time, entry.id, op), standing, &ops);
            applied.insert(own);
        }
    }
    (text, applied)
}

fn follow(shown: &mut Vec<char>, changes: &[Delta<String>]) {
    for change in changes {
        match change {
            Delta::Inserted { position, run } => drop(shown.splice(position..position, run.chars())),
            Delta::Deleted { position, count } => drop(shown.drain(*position..position + count)),
        }
    }
}

/// The places of a history in the order of keys.
fn order(count: usize, keys: &[u16]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..count).collect();
    let key = |place: usize| {
        keys[place % keys.len()].wrapping_mul(31).wrapping_add(u16::try_from(place).unwrap() ^ 0x5a5a)
    };
    places.sort_by_key(|place| key(*place));
    places
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Headers and payloads come in any order, and each replica numbers entries as they come there.
    #[test]
    fn any_order_of_arrival_gives_the_same_sequence(
        steps in steps(),
        keys in prop::collection::vec(prop::collection::vec(any::<u16>(), 16), 3),
        early in any::<u32>(),
        void in prop::collection::btree_set(0usize..20, 0..4),
    ) {
        let entries = history(&steps);
        let void: BTreeSet<usize> = void.into_iter().filter(|place| *place < entries.len()).collect();
        let (expected, applied) = reference(&entries, &void);
        for keys in &keys {
            let mut view = View::default();
            let mut shown = Vec::new();
            let places = order(entries.len(), keys);
            // Some headers come long before their payloads.
            let numbers: BTreeMap<usize, Seq> =
                places.iter().rev().enumerate().map(|(number, place)| (*place, seq(number))).collect();
            for place in places.iter().filter(|place| early >> (**place % 32) & 1 == 1) {
                view.arrive(entries[*place].id, numbers[place]);
            }
            for place in &places {
                view.arrive(entries[*place].id, numbers[place]);
                follow(&mut shown, &apply_entry(&mut view, &entries[*place], numbers[place]));
                if keys[0] % 3 == 0 {
                    let before = view.rows.clone();
                    prop_assert_eq!(apply_entry(&mut view, &entries[*place], numbers[place]), []);
                    prop_assert_eq!(&view.rows, &before);
                }
            }
            for place in &void {
                for op in 0..u32::try_from(entries[*place].ops.len()).unwrap() {
                    let op = OpId { seq: numbers[place], op };
                    follow(&mut shown, &set_standing::<String>(&mut view, PREFIX, op, Standing::Void).unwrap());
                }
            }
            prop_assert_eq!(view.text(PREFIX), expected.text());
            prop_assert_eq!(shown.into_iter().collect::<String>(), expected.text());

            let reader = SequenceReader::<String>::open(&view, PREFIX).unwrap();
            let here = |name: Name| Name { entry: OpId { seq: numbers[&usize::try_from(name.entry.seq.0).unwrap()], ..name.entry }, ..name };
            for position in 0..expected.len() {
                let name = here(expected.name_at(position).unwrap());
                let spans = reader.names(position..position + 1).unwrap();
                prop_assert_eq!(spans.first().map(|span| span.first), Some(name));
                prop_assert_eq!(reader.position(&Cursor::After(name)).unwrap(), Some(position + 1));
            }
            let blame = reader.blame(0..reader.len()).unwrap();
            prop_assert_eq!(blame.iter().map(|(count, _)| count).sum::<usize>(), expected.len());
            for place in 0..entries.len() {
                for op in 0..u32::try_from(entries[place].ops.len()).unwrap() {
                    let (there, here) = (OpId { seq: seq(place), op }, OpId { seq: numbers[&place], op });
                    prop_assert_eq!(reader.stamp_of(here).unwrap().is_some(), applied.contains(&there));
                }
            }
            for (key, row) in &view.rows {
                prop_assert!(key.starts_with(PREFIX), "{key:?} {row:?}");
            }
        }
    }

    #[test]
    fn edits_have_one_form(steps in steps(), flip in any::<prop::sample::Index>(), bit in 0u32..8) {
        for edits in history(&steps).iter().flat_map(|entry| &entry.ops) {
            let mut w = Writer::new();
            edits.write(&mut w);
            let bytes = w.into_bytes();
            prop_assert_eq!(&decode(&bytes).unwrap(), edits);
            let mut other = bytes.clone();
            other[flip.index(bytes.len())] ^= 1 << bit;
            if let Ok(edits) = decode(&other) {
                let mut w = Writer::new();
                edits.write(&mut w);
                prop_assert_eq!(w.into_bytes(), other);
            }
        }
    }
}

fn decode(bytes: &[u8]) -> Result<Edits<String>, CborError> {
    let mut r = Reader::new(bytes);
    let edits = Edits::read(&mut r)?;
    r.finish()?;
    Ok(edits)
}

/// One entry with one operation, made on what a view shows.
fn entry(view: &mut View, place: usize, position: usize, deleted: usize, inserted: &str) -> Entry {
    let edits = splice_edits(&*view, PREFIX, position, deleted, inserted.to_owned()).unwrap();
    let entry = Entry { id: id(place), time: place as u64, ops: vec![edits] };
    view.arrive(entry.id, seq(place));
    apply_entry(view, &entry, seq(place));
    entry
}

#[test]
fn an_edit_in_a_text_of_a_million_reads_and_writes_a_few_rows() {
    let mut view = View::default();
    for place in 0..20 {
        let pasted: String =
            (0..50_000u32).map(|n| char::from(b'a' + u8::try_from(n % 26).unwrap())).collect();
        entry(&mut view, place, place * 20_000, 0, &pasted);
    }
    assert_eq!(SequenceReader::<String>::open(&view, PREFIX).unwrap().len(), 1_000_000);
    let largest = view.rows.values().map(Bytes::len).max().unwrap();
    assert!(largest <= 2_600, "a row of {largest} bytes");
    view.cost();
    let (mut most_read, mut most_written, mut written) = (0, 0, 0);
    for place in 20..600 {
        let position = (place * 611_953) % 1_000_000;
        let edits = splice_edits(&view, PREFIX, position, place % 3, "word".to_owned()).unwrap();
        let made = Entry { id: id(place), time: place as u64, ops: vec![edits] };
        view.arrive(made.id, seq(place));
        view.cost();
        apply_entry(&mut view, &made, seq(place));
        let cost = view.cost();
        most_read = most_read.max(cost.0);
        most_written = most_written.max(cost.1);
        written += cost.1;
    }
    // A leaf that splits tells each operation of which it moves elements, and an inner page each of its children.
    assert!(most_read <= 60 && most_written <= 60, "{most_read} {most_written}");
    assert!(written / 580 <= 9, "{}", written / 580);
    let reader = SequenceReader::<String>::open(&view, PREFIX).unwrap();
    view.read.take();
    assert_eq!(reader.read(700_000..700_100).unwrap().len(), 100);
    assert!(view.read.take() <= 8);
}

#[test]
fn a_long_chain_that_comes_backwards_waits_and_is_applied() {
    let mut view = View::default();
    let entries: Vec<Entry> = (0..3_000).map(|place| entry(&mut view, place, place, 0, "x")).collect();
    let mut late = View::default();
    for (place, entry) in entries.iter().enumerate().rev() {
        assert_eq!(late.text(PREFIX), "");
        late.arrive(entry.id, seq(place));
        apply_entry(&mut late, entry, seq(place));
    }
    assert_eq!(late.text(PREFIX).len(), 3_000);
    let tags: BTreeSet<u8> = late.rows.keys().map(|key| key[PREFIX.len()]).collect();
    assert_eq!(tags, [0, 1, 2, 3].into(), "nothing waits any more");
}

#[test]
fn a_void_entry_hides_what_it_put_in_and_gives_back_what_it_deleted() {
    let mut view = View::default();
    entry(&mut view, 0, 0, 0, "one two three");
    let mut before = view.clone();
    let spam = entry(&mut view, 1, 4, 4, "spam ");
    entry(&mut view, 2, 6, 0, "ok");
    assert_eq!(view.text(PREFIX), "one spokam three");
    let op = OpId { seq: seq(1), op: 0 };
    for _ in 0..2 {
        set_standing::<String>(&mut view, PREFIX, op, Standing::Void).unwrap();
        assert_eq!(view.text(PREFIX), "one oktwo three");
        set_standing::<String>(&mut view, PREFIX, op, Standing::Stands).unwrap();
        assert_eq!(view.text(PREFIX), "one spokam three");
    }
    // Edits of others that name void elements keep working.
    set_standing::<String>(&mut view, PREFIX, op, Standing::Void).unwrap();
    before.arrive(spam.id, seq(1));
    apply_entry(&mut before, &spam, seq(1));
    let edits = splice_edits(&before, PREFIX, 9, 0, "!".to_owned()).unwrap();
    let late = Entry { id: id(3), time: 3, ops: vec![edits] };
    view.arrive(late.id, seq(3));
    apply_entry(&mut view, &late, seq(3));
    assert_eq!(view.text(PREFIX), "one ok!two three");
}

#[test]
fn a_void_entry_that_waits_is_void_when_it_is_applied() {
    let mut view = View::default();
    let base = entry(&mut view, 0, 0, 0, "()");
    let spam = entry(&mut view, 1, 1, 1, "spam");
    let mut late = View::default();
    late.arrive(spam.id, seq(1));
    apply_entry(&mut late, &spam, seq(1));
    let op = OpId { seq: seq(1), op: 0 };
    assert_eq!(set_standing::<String>(&mut late, PREFIX, op, Standing::Void).unwrap(), []);
    late.arrive(base.id, seq(0));
    apply_entry(&mut late, &base, seq(0));
    assert_eq!(late.text(PREFIX), "()");
    set_standing::<String>(&mut late, PREFIX, op, Standing::Stands).unwrap();
    assert_eq!(late.text(PREFIX), "(spam");
}

#[test]
fn voiding_costs_what_the_entry_did() {
    let mut view = View::default();
    entry(&mut view, 0, 0, 0, &"a".repeat(300_000));
    entry(&mut view, 1, 150_000, 3, "word");
    view.cost();
    let op = OpId { seq: seq(1), op: 0 };
    let changes = set_standing::<String>(&mut view, PREFIX, op, Standing::Void).unwrap();
    assert_eq!(changes.len(), 2);
    let (read, written) = view.cost();
    assert!(read <= 16 && written <= 12, "{read} {written}");
}

#[test]
fn what_is_claimed_without_ground_has_no_effect_and_harms_nobody() {
    let mut view = View::default();
    entry(&mut view, 0, 0, 0, "()");
    let insert = |at, run: &str| Op::Insert { at, run: run.to_owned() };
    let made = |place: usize, op: u32, ops: Vec<Op<OpId, String>>| {
        Edits::of(OpId { seq: seq(place), op }, ops, |seq| Ok::<_, ()>(id(usize::try_from(seq.0).unwrap())))
            .unwrap()
            .unwrap()
    };
    let name = |place: usize, op: u32, offset: u32| Name { entry: OpId { seq: seq(place), op }, offset };
    let delete = |first, count| Op::Delete(Span { first, count });
    let ops = vec![
        // Elements that the first entry does not have.
        made(1, 0, vec![insert(Anchor::After(name(0, 0, 2)), "x"), delete(name(0, 0, 1), u32::MAX - 1)]),
        // Operations of its own entry that come later, and itself.
        made(1, 1, vec![insert(Anchor::After(name(1, 2, 0)), "y"), delete(name(1, 2, 0), 1)]),
        made(1, 2, vec![insert(Anchor::Start, "fine"), insert(Anchor::Before(name(1, 2, 3)), "e")]),
        // An entry that never comes: this one waits for it.
        made(1, 3, vec![insert(Anchor::After(name(9, 0, 0)), "z")]),
    ];
    let hostile = Entry { id: id(1), time: 1, ops };
    view.arrive(hostile.id, seq(1));
    apply_entry(&mut view, &hostile, seq(1));
    assert_eq!(view.text(PREFIX), "()finee");
    assert_eq!(view.rows.keys().filter(|key| key[PREFIX.len()] == 6).count(), 1);
    entry(&mut view, 2, 1, 0, "honest");
    assert_eq!(view.text(PREFIX), "(honest)finee");
}

#[test]
fn edits_in_another_form_do_not_decode() {
    let good = |edits: &[u8]| decode(edits).is_ok();
    // [[], [[0, "a"]], []]
    assert!(good(&[0x83, 0x80, 0x81, 0x82, 0, 0x61, b'a', 0x80]));
    for (what, bytes) in [
        ("nothing is done", vec![0x83, 0x80, 0x80, 0x80]),
        ("an empty run", vec![0x83, 0x80, 0x81, 0x82, 0, 0x60, 0x80]),
        ("an unknown place", vec![0x83, 0x80, 0x81, 0x82, 3, 0x61, b'a', 0x80]),
        ("an own element that is not there yet", vec![0x83, 0x80, 0x81, 0x84, 1, 0, 0, 0x61, b'a', 0x80]),
        ("a ref that is not used", vec![0x83, 0x81, 0x82, 0xf6, 0, 0x81, 0x82, 0, 0x61, b'a', 0x80]),
        ("no such ref", vec![0x83, 0x80, 0x80, 0x83, 1, 0, 1]),
        ("deletes nothing", vec![0x83, 0x81, 0x82, 0xf6, 0, 0x80, 0x83, 1, 0, 0]),
        ("deletes that touch", vec![0x83, 0x81, 0x82, 0xf6, 0, 0x80, 0x86, 1, 0, 1, 1, 1, 1]),
        ("deletes that descend", vec![0x83, 0x81, 0x82, 0xf6, 0, 0x80, 0x86, 1, 5, 1, 1, 1, 1]),
        ("half a delete", vec![0x83, 0x81, 0x82, 0xf6, 0, 0x80, 0x84, 1, 0, 1, 1]),
        ("the same ref twice", {
            vec![0x83, 0x82, 0x82, 0xf6, 0, 0x82, 0xf6, 0, 0x80, 0x86, 1, 0, 1, 2, 0, 1]
        }),
        ("refs not in the order of use", {
            vec![0x83, 0x82, 0x82, 0xf6, 0, 0x82, 0xf6, 1, 0x81, 0x84, 1, 2, 0, 0x61, b'a', 0x83, 1, 0, 1]
        }),
        ("more elements than bytes", vec![0x83, 0x80, 0x9a, 0xff, 0xff, 0xff, 0xff]),
    ] {
        assert!(!good(&bytes), "{what}");
    }
    assert!(good(&[0x83, 0x81, 0x82, 0xf6, 0, 0x80, 0x86, 1, 0, 1, 1, 2, 1]));
}

#[test]
fn a_floor_hides_what_is_below_it_whenever_it_comes() {
    let mut view = View::default();
    let old = entry(&mut view, 0, 0, 0, "old");
    let mut early = View::default();
    let floor = Stamp::new(Time(1), Height(0), seq(7), 0);
    early.arrive(old.id, seq(0));
    assert_eq!(
        apply(&mut early, PREFIX, old.stamp(seq(0), 0), Standing::Stands, &old.ops[0], Some(floor)).unwrap(),
        []
    );
    let newer = entry(&mut view, 2, 3, 0, "new");
    let changes = raise_floor::<String>(&mut view, PREFIX, floor).unwrap();
    assert_eq!(changes, [Delta::Deleted { position: 0, count: 3 }]);
    early.arrive(newer.id, seq(2));
    apply_entry(&mut early, &newer, seq(2));
    assert_eq!((view.text(PREFIX), early.text(PREFIX)), ("new".to_owned(), "new".to_owned()));
    let name = |offset| Name { entry: OpId { seq: seq(0), op: 0 }, offset };
    assert_eq!(presence::<String>(&mut view, PREFIX, name(0)).unwrap(), Presence::Gone);
    assert_eq!(presence::<String>(&mut view, PREFIX, name(3)).unwrap(), Presence::Absent);
}

#[test]
fn a_floor_that_hides_nothing_costs_nothing_however_long_the_text_is() {
    let mut view = View::default();
    for place in 0..300 {
        entry(&mut view, place, 0, 0, "some words ");
    }
    let mut raised = |time, height| {
        view.cost();
        let floor = Stamp::new(Time(time), Height(height), seq(1_000), 0);
        let changes = raise_floor::<String>(&mut view, PREFIX, floor).unwrap();
        (changes.len(), view.cost())
    };
    // Only the head is read and written.
    assert_eq!(raised(0, 0), (0, (1, 1)));
    let (changes, (read, _)) = raised(99, 5);
    assert!(changes == 1 && read > 50, "{changes} {read}");
    assert_eq!(raised(100, 0), (0, (1, 1)));
}
