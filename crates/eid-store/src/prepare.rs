//! What can be said of offers without looking into the store: sizes, form, hash, signature.

use std::collections::{BTreeSet, HashMap};
use std::thread;

use bytes::Bytes;
use eid_core::{
    Entry, EntryId, Invalid, Judge, Payload, PublicKey, Refusal, SettingsOp, Signed, Slot, StoreName, TreeId,
};

use crate::limits::VERIFY_SPLIT_MIN;
use crate::offer::{Offer, Prepared};

/// One offer, looked at alone.
#[derive(Debug)]
pub(crate) enum Item {
    /// Not an entry.
    Refused { id: EntryId, refusal: Refusal },
    /// The same as an earlier one of the batch.
    Repeat(usize),
    /// An entry.
    Sound(Box<Sound>),
}

/// An entry whose structure is sound.
#[derive(Debug)]
pub(crate) struct Sound {
    pub entry: Checked,
    pub writes: Vec<Write>,
}

/// What is known of a signature.
#[derive(Debug, Clone)]
pub(crate) enum Checked {
    Verified(Signed),
    Bad(Entry),
    /// The author is not known: looked at when the author turns out to have the right.
    Later(Entry),
}

impl Checked {
    pub(crate) fn entry(&self) -> &Entry {
        match self {
            Self::Verified(signed) => signed.entry(),
            Self::Bad(entry) | Self::Later(entry) => entry,
        }
    }
}

/// What an entry does to one store other than the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Write {
    pub store: StoreName,
    /// Empty when it cannot be known here: sealed, or not decodable.
    pub kind: String,
    pub ops: Vec<Bytes>,
    pub undecodable: u32,
}

/// The writes of an entry whose payloads are here.
pub(crate) fn writes_of(entry: &Entry) -> Vec<Write> {
    let sections = entry.header().sections.iter().zip(entry.payloads());
    sections
        .filter(|(section, _)| !section.store.is_settings())
        .filter_map(|(section, payload)| {
            payload.as_ref().map(|payload| write_of(&section.store, section.enc.is_some(), payload))
        })
        .collect()
}

/// What a payload does to its store.
pub(crate) fn write_of(store: &StoreName, sealed: bool, payload: &Bytes) -> Write {
    let store = store.clone();
    if sealed {
        return Write { store, kind: String::new(), ops: Vec::new(), undecodable: 0 };
    }
    match Payload::decode(payload) {
        Ok(payload) => Write { store, kind: payload.kind, ops: payload.ops, undecodable: 0 },
        Err(_) => Write { store, kind: String::new(), ops: Vec::new(), undecodable: 1 },
    }
}

/// Decodes, hashes and verifies a batch.
pub(crate) fn prepare(judge: &dyn Judge, tree: TreeId, offers: Vec<Offer>) -> Prepared {
    let mut seen = HashMap::with_capacity(offers.len());
    let mut bytes = 0;
    let mut items = Vec::with_capacity(offers.len());
    let mut entries = Vec::with_capacity(offers.len());
    for (index, offer) in offers.iter().enumerate() {
        bytes += offer.block.len() + offer.payloads.iter().flatten().map(Bytes::len).sum::<usize>();
        match Entry::parse(offer.block.clone(), offer.payloads.clone()) {
            Err(refusal) => items.push(Item::Refused { id: EntryId::of_block(&offer.block), refusal }),
            Ok(entry) => {
                let first = *seen.entry(entry.id()).or_insert(index);
                items.push(Item::Repeat(first));
                if first == index {
                    entries.push((index, entry));
                }
            }
        }
    }
    let known = known_authors(judge, &tree, entries.iter().map(|(_, entry)| entry));
    let (early, later): (Vec<_>, Vec<_>) =
        entries.into_iter().partition(|(_, entry)| known.contains(&entry.header().author));
    for (index, entry) in later {
        let writes = writes_of(&entry);
        items[index] = Item::Sound(Box::new(Sound { entry: Checked::Later(entry), writes }));
    }
    for (index, writes, verified) in check_signatures(early) {
        let entry = match verified {
            Ok(signed) => Checked::Verified(signed),
            // Rare, so the entry is made again from its bytes.
            Err(Invalid::Signature) => {
                match Entry::parse(offers[index].block.clone(), offers[index].payloads.clone()) {
                    Ok(entry) => Checked::Bad(entry),
                    Err(refusal) => {
                        items[index] = Item::Refused { id: EntryId::of_block(&offers[index].block), refusal };
                        continue;
                    }
                }
            }
            Err(invalid) => {
                let id = EntryId::of_block(&offers[index].block);
                items[index] = Item::Refused { id, refusal: invalid.into() };
                continue;
            }
        };
        items[index] = Item::Sound(Box::new(Sound { entry, writes }));
    }
    Prepared { tree, items, bytes }
}

/// Authors whose signatures are worth verifying before anything else is known: those that the judge knows, and those
/// that settings in the same batch speak of.
fn known_authors<'a>(
    judge: &dyn Judge,
    tree: &TreeId,
    entries: impl Iterator<Item = &'a Entry>,
) -> BTreeSet<PublicKey> {
    let (mut authors, mut named) = (BTreeSet::new(), BTreeSet::new());
    for entry in entries {
        let author = entry.header().author;
        authors.insert(author);
        for op in entry.settings() {
            // A join names its author and nobody has spoken of him, so it waits like the work of any stranger.
            if let (false, Some(Slot::Key(key))) = (matches!(op, SettingsOp::Join { .. }), op.slot(&author)) {
                named.insert(key);
            }
        }
    }
    authors.retain(|author| named.contains(author) || judge.knows(tree, author));
    authors
}

type Verified = (usize, Vec<Write>, Result<Signed, Invalid>);

/// Verifies in bulk, on two threads when there is enough to do.
fn check_signatures(mut entries: Vec<(usize, Entry)>) -> Vec<Verified> {
    if entries.len() < VERIFY_SPLIT_MIN || thread::available_parallelism().map_or(1, usize::from) < 2 {
        return check_on_this_thread(entries);
    }
    let second = entries.split_off(entries.len() / 2);
    thread::scope(|scope| {
        let second = scope.spawn(|| check_on_this_thread(second));
        let mut verified = check_on_this_thread(entries);
        match second.join() {
            Ok(second) => verified.extend(second),
            Err(panic) => std::panic::resume_unwind(panic),
        }
        verified
    })
}

fn check_on_this_thread(entries: Vec<(usize, Entry)>) -> Vec<Verified> {
    let (mut heads, mut alone) = (Vec::with_capacity(entries.len()), Vec::with_capacity(entries.len()));
    for (index, entry) in entries {
        heads.push((index, writes_of(&entry)));
        alone.push(entry);
    }
    let verified = Signed::check_many(alone);
    heads.into_iter().zip(verified).map(|((index, writes), verified)| (index, writes, verified)).collect()
}

impl Item {
    pub(crate) fn sound(&self) -> Option<&Sound> {
        match self {
            Self::Sound(sound) => Some(sound),
            Self::Refused { .. } | Self::Repeat(_) => None,
        }
    }
}
