//! A text as a tree of single characters, walked from the root whenever it is shown.

use std::collections::{BTreeMap, BTreeSet};

use eid_core::EntryId;
use eid_core::cbor::{CborError, Reader};

use super::Stamp;

/// The operation that put a character in, and which of its characters it is.
type Name = (EntryId, u64, u64);

/// Where a character hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Anchor {
    Start,
    After(Name),
    Before(Name),
}

/// All characters that were ever put in.
#[derive(Debug, Clone, Default)]
pub(super) struct Text {
    letters: BTreeMap<Name, char>,
    /// What hangs at each place, in the order in which it stands there.
    hanging: BTreeMap<Anchor, BTreeSet<(Stamp, u64, Name)>>,
    deleted: BTreeSet<Name>,
}

impl Text {
    /// `[0, [[ref ...], [insert ...], [element ref, offset, count ...]]]`. Operations come in the order of their stamps,
    /// so whatever one names is there, unless it names what its author cannot have seen.
    ///
    /// The letters of a void one are hidden, and it deletes nothing.
    pub(super) fn apply(&mut self, stamp: Stamp, op: &[u8], is_void: bool) -> Result<(), CborError> {
        let mut r = Reader::new(op);
        r.array_exact(2)?;
        if r.uint()? != 0 {
            return Err(CborError::Type);
        }
        r.array_exact(3)?;
        let own = (stamp.2, stamp.3);
        let mut operations = vec![own];
        for _ in 0..r.array(usize::MAX)? {
            r.array_exact(2)?;
            let entry = r.nullable(|r| Ok(EntryId(r.fixed()?)))?;
            operations.push((entry.unwrap_or(own.0), r.uint()?));
        }
        let name = |r: &mut Reader<'_>| {
            let index = usize::try_from(r.uint()?).map_err(|_| CborError::Limit)?;
            let (entry, op) = operations.get(index).ok_or(CborError::Limit)?;
            Ok::<Name, CborError>((*entry, *op, r.uint()?))
        };
        let mut next = 0;
        for _ in 0..r.array(usize::MAX)? {
            r.array(4)?;
            let mut at = match r.uint()? {
                0 => Anchor::Start,
                1 => Anchor::After(name(&mut r)?),
                2 => Anchor::Before(name(&mut r)?),
                _ => return Err(CborError::Type),
            };
            for letter in r.text(usize::MAX)?.chars() {
                let put = (own.0, own.1, next);
                self.letters.insert(put, letter);
                if is_void {
                    self.deleted.insert(put);
                }
                self.hanging.entry(at).or_default().insert((stamp, next, put));
                at = Anchor::After(put);
                next += 1;
            }
        }
        for _ in 0..r.array(usize::MAX)? / 3 {
            let (entry, op, first) = name(&mut r)?;
            let count = if is_void { r.uint().map(|_| 0)? } else { r.uint()? };
            self.deleted.extend((first..first + count).map(|offset| (entry, op, offset)));
        }
        r.finish()
    }

    /// What is shown.
    pub(super) fn show(&self) -> String {
        enum Step {
            Hanging(Anchor),
            Letter(Name),
        }
        let mut shown = String::new();
        let mut steps = vec![Step::Hanging(Anchor::Start)];
        while let Some(step) = steps.pop() {
            match step {
                Step::Hanging(at) => {
                    for (_, _, name) in self.hanging.get(&at).into_iter().flatten().rev() {
                        steps.push(Step::Hanging(Anchor::After(*name)));
                        steps.push(Step::Letter(*name));
                        steps.push(Step::Hanging(Anchor::Before(*name)));
                    }
                }
                Step::Letter(name) if self.deleted.contains(&name) => {}
                Step::Letter(name) => shown.extend(self.letters.get(&name)),
            }
        }
        shown
    }
}
