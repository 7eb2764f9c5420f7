//! Recorded editing sessions end in the text that they ended in.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::io::Read as _;

use eid_crdt::sequence::{Op, Sequence, Standing};
use serde_json::Value;

fn read(packed: &[u8]) -> Value {
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(packed).read_to_end(&mut plain).unwrap();
    serde_json::from_slice(&plain).unwrap()
}

fn number(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

type Text<S> = Sequence<u32, S, String>;

/// A text, ordered by author first, and the transactions that are in it.
type Replica = (Text<(usize, u32)>, BTreeSet<usize>);

/// Makes the edits of one transaction as one open entry.
fn edit<S: Ord + Clone + std::fmt::Debug>(
    text: &mut Text<S>,
    entry: u32,
    transaction: &Value,
) -> Vec<Op<u32, String>> {
    let (mut ops, mut first) = (Vec::new(), 0);
    for patch in transaction["patches"].as_array().unwrap() {
        let (position, deleted) = (number(&patch[0]), number(&patch[1]));
        for op in text.delete(entry, position, deleted).unwrap() {
            Op::push(&mut ops, entry, first, op);
        }
        let inserted = patch[2].as_str().unwrap();
        if !inserted.is_empty() {
            let op = text.insert(entry, position, inserted.to_owned()).unwrap();
            Op::push(&mut ops, entry, first, op);
            first += u32::try_from(inserted.chars().count()).unwrap();
        }
    }
    ops
}

/// Replays a session with one entry per transaction, here and from the operations elsewhere.
fn replays(packed: &[u8]) {
    let trace = read(packed);
    let (mut here, mut there) = (Text::default(), Text::default());
    for (entry, transaction) in (0u32..).zip(trace["txns"].as_array().unwrap()) {
        here.open(entry, entry, Standing::Stands);
        let ops = edit(&mut here, entry, transaction);
        there.integrate(entry, entry, Standing::Stands, &ops);
    }
    let end = trace["endContent"].as_str().unwrap();
    assert!(here.text() == end, "another text");
    assert!(there.text() == end, "another text from the operations");
}

#[test]
fn automerge_paper_ends_in_its_text() {
    replays(include_bytes!("../../../tests/data/traces/automerge-paper.json.gz"));
}

#[test]
fn rustcode_ends_in_its_text() {
    replays(include_bytes!("../../../tests/data/traces/rustcode.json.gz"));
}

#[test]
fn sveltecomponent_ends_in_its_text() {
    replays(include_bytes!("../../../tests/data/traces/sveltecomponent.json.gz"));
}

/// Two people wrote at once. Each one's edits are made on a replica that holds what their author had seen.
#[test]
fn friendsforever_ends_in_its_text_on_both_replicas() {
    let trace = read(include_bytes!("../../../tests/data/traces/friendsforever-concurrent.json.gz"));
    let transactions = trace["txns"].as_array().unwrap();
    let parents = |entry: usize| {
        transactions[entry]["parents"].as_array().unwrap().iter().map(number).collect::<Vec<_>>()
    };
    let mut replicas: Vec<Replica> = vec![Default::default(); 2];
    let mut made: Vec<Vec<Op<u32, String>>> = Vec::new();
    let stamp = |entry: usize| (number(&transactions[entry]["agent"]), u32::try_from(entry).unwrap());
    for (entry, transaction) in transactions.iter().enumerate() {
        let (text, held) = &mut replicas[number(&transaction["agent"])];
        let (mut missing, mut todo) = (BTreeSet::new(), parents(entry));
        while let Some(entry) = todo.pop() {
            if !held.contains(&entry) && missing.insert(entry) {
                todo.extend(parents(entry));
            }
        }
        for entry in missing {
            text.integrate(stamp(entry).1, stamp(entry), Standing::Stands, &made[entry]);
            held.insert(entry);
        }
        text.open(stamp(entry).1, stamp(entry), Standing::Stands);
        made.push(edit(text, stamp(entry).1, transaction));
        held.insert(entry);
    }
    for (text, held) in &mut replicas {
        for (entry, ops) in made.iter().enumerate().filter(|(entry, _)| !held.contains(entry)) {
            text.integrate(stamp(entry).1, stamp(entry), Standing::Stands, ops);
        }
    }
    let end = trace["endContent"].as_str().unwrap();
    assert!(replicas[0].0.text() == replicas[1].0.text(), "two texts");
    assert!(replicas[0].0.text() == end, "another text");
}
