//! Edits that a buffer has made and nobody else has seen: where they differ from what is stored.

use super::rope::{Rope, byte_of};
use super::{Side, TextDelta};

/// The difference between a stored text and a buffer, as replaced parts that do not touch one another.
///
/// Edits of the buffer join it, and edits of the stored text move it, so that it can be staged at any time against the
/// text as it is stored then. What was put in and taken out again in between leaves nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pending {
    hunks: Vec<Hunk>,
    near: Near,
}

/// A part of the stored text that is something else in the buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hunk {
    /// Where it is in the stored text.
    at: usize,
    /// What is there in the stored text.
    removed: String,
    removed_chars: usize,
    /// How many characters of the buffer stand for it.
    inserted: usize,
}

/// A hunk, and what the ones before it do to positions.
#[derive(Debug, Clone, Copy, Default)]
struct Near {
    index: usize,
    inserted: usize,
    removed: usize,
}

/// One replaced part, in the order of the text: what precedes it in the buffer is as stored once the replacements
/// before it are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Replacement {
    pub(crate) at: usize,
    pub(crate) removed: usize,
    pub(crate) inserted: String,
}

impl Near {
    /// Where a position of the stored text, before this hunk and after the one before it, is in the buffer.
    fn in_buffer(self, stored: usize) -> usize {
        stored + self.inserted - self.removed
    }

    fn after(self, hunk: &Hunk) -> Self {
        Self {
            index: self.index + 1,
            inserted: self.inserted + hunk.inserted,
            removed: self.removed + hunk.removed_chars,
        }
    }

    fn before(self, hunk: &Hunk) -> Self {
        Self {
            index: self.index - 1,
            inserted: self.inserted - hunk.inserted,
            removed: self.removed - hunk.removed_chars,
        }
    }
}

impl Hunk {
    fn end(&self) -> usize {
        self.at + self.removed_chars
    }

    fn is_empty(&self) -> bool {
        self.removed_chars == 0 && self.inserted == 0
    }
}

impl Pending {
    pub(crate) fn is_empty(&self) -> bool {
        self.hunks.is_empty()
    }

    /// The replacements that make the stored text the text of the buffer, first to last.
    pub(crate) fn replacements(&self, buffer: &Rope) -> Vec<Replacement> {
        let mut near = Near::default();
        let replacement = |hunk: &Hunk| {
            let at = near.in_buffer(hunk.at);
            near = near.after(hunk);
            let inserted = buffer.slice(at..at + hunk.inserted);
            Replacement { at, removed: hunk.removed_chars, inserted }
        };
        self.hunks.iter().map(replacement).collect()
    }

    /// The stored text.
    pub(crate) fn stored(&self, buffer: &Rope) -> String {
        let mut stored = buffer.clone();
        for hunk in &self.hunks {
            // What is before a hunk is as stored already.
            stored.delete(hunk.at, hunk.inserted);
            stored.insert(hunk.at, &hunk.removed);
        }
        stored.text()
    }

    /// Takes note that a part of the buffer is about to be replaced by so many characters.
    pub(crate) fn note(&mut self, buffer: &Rope, at: usize, count: usize, chars: usize) {
        let mut near = self.seek(|hunk, near| near.in_buffer(hunk.at) + hunk.inserted < at);
        self.near = near;
        let first = near.index;
        let (mut from, mut to, mut stored) = (at, at + count, at + near.removed - near.inserted);
        if count == 0
            && let Some(hunk) = self.hunks.get_mut(first)
            && near.in_buffer(hunk.at) <= at
        {
            // Typing goes on where it was.
            hunk.inserted += chars;
            return;
        }
        let mut removed = String::new();
        let mut kept_from = at;
        while let Some(hunk) = self.hunks.get(near.index) {
            let begin = near.in_buffer(hunk.at);
            if begin > at + count {
                break;
            }
            if near.index == first && begin <= at {
                (from, stored) = (begin, hunk.at);
            } else {
                removed.push_str(&buffer.slice(kept_from..begin));
            }
            removed.push_str(&hunk.removed);
            kept_from = begin + hunk.inserted;
            to = to.max(kept_from);
            near = near.after(hunk);
        }
        if kept_from < at + count {
            removed.push_str(&buffer.slice(kept_from..at + count));
        }
        let hunk = Hunk {
            at: stored,
            removed_chars: removed.chars().count(),
            removed,
            inserted: to - from - count + chars,
        };
        let held = (!hunk.is_empty()).then_some(hunk);
        self.hunks.splice(first..near.index, held);
    }

    /// Cuts off what is to be sent first, of at most about so many characters; what is left differs from the text that
    /// is stored then.
    pub(crate) fn cut(&mut self, chars_max: usize) -> Self {
        self.near = Near::default();
        let (mut rest, mut near) = (chars_max, Near::default());
        while let Some(hunk) = self.hunks.get(near.index)
            && let Some(left) = rest.checked_sub(hunk.inserted + hunk.removed_chars)
        {
            rest = left;
            near = near.after(hunk);
        }
        let mut first = Self { hunks: self.hunks.drain(..near.index).collect(), near: Near::default() };
        if let Some(hunk) = self.hunks.first_mut().filter(|_| rest > 0) {
            let removed_chars = hunk.removed_chars.min(rest);
            let inserted = hunk.inserted.min(rest - removed_chars);
            let kept = hunk.removed.split_off(byte_of(&hunk.removed, hunk.removed_chars, removed_chars));
            let part = Hunk {
                at: hunk.at,
                removed: std::mem::replace(&mut hunk.removed, kept),
                removed_chars,
                inserted,
            };
            hunk.at += removed_chars;
            hunk.removed_chars -= removed_chars;
            hunk.inserted -= inserted;
            near = near.after(&part);
            first.hunks.push(part);
        }
        self.hunks.iter_mut().for_each(|hunk| hunk.at = near.in_buffer(hunk.at));
        first
    }

    /// How many characters are put in and taken out.
    pub(crate) fn weight(&self) -> usize {
        self.hunks.iter().map(|hunk| hunk.inserted + hunk.removed_chars).sum()
    }

    /// Makes a change of the stored text in the buffer too, and gives what that changes there.
    ///
    /// Where both insert at one place, what is stored goes after what is not: a word that goes on from what was stored
    /// earlier stays whole.
    pub(crate) fn integrate(&mut self, buffer: &mut Rope, delta: &TextDelta, out: &mut Vec<TextDelta>) {
        match delta {
            TextDelta::Insert { at, text } => {
                let count = text.chars().count();
                let at = self.make_room(*at, count);
                buffer.insert(at, text);
                out.push(TextDelta::Insert { at, text: text.clone() });
            }
            TextDelta::Delete { at, count } => {
                let mut rest = *count;
                while rest > 0 {
                    let (at, kept, gone) = self.close_gap(*at, rest);
                    rest -= kept + gone;
                    if kept > 0 {
                        buffer.delete(at, kept);
                        out.push(TextDelta::Delete { at, count: kept });
                    }
                }
            }
        }
    }

    /// Moves what is behind a position of the stored text, and gives the position in the buffer.
    fn make_room(&mut self, at: usize, count: usize) -> usize {
        let near = self.seek(|hunk, _| hunk.end() < at);
        self.near = near;
        let touched = self.hunks.get(near.index).filter(|hunk| hunk.at <= at).cloned();
        let (place, behind) = match touched {
            None => (near.in_buffer(at), near.index),
            Some(hunk) if hunk.at == at && hunk.removed_chars > 0 => (near.in_buffer(at), near.index),
            Some(mut hunk) => {
                let place = near.in_buffer(hunk.at) + hunk.inserted;
                if at < hunk.end() {
                    let within = at - hunk.at;
                    let removed = hunk.removed.split_off(byte_of(&hunk.removed, hunk.removed_chars, within));
                    let rest = Hunk { at, removed, removed_chars: hunk.removed_chars - within, inserted: 0 };
                    hunk.removed_chars = within;
                    self.hunks.splice(near.index..=near.index, [hunk, rest]);
                }
                (place, near.index + 1)
            }
        };
        self.hunks[behind..].iter_mut().for_each(|hunk| hunk.at += count);
        place
    }

    /// Takes characters of the stored text out from a position on: as many as lie on one side of the edge of a hunk.
    /// Gives where that is in the buffer, how many are to be taken out there, and how many were not there any more.
    fn close_gap(&mut self, at: usize, count: usize) -> (usize, usize, usize) {
        let near = self.seek(|hunk, _| hunk.end() <= at);
        self.near = near;
        let (place, kept, gone) = match self.hunks.get_mut(near.index) {
            Some(hunk) if hunk.at <= at => {
                let (from, gone) = (at - hunk.at, count.min(hunk.end() - at));
                let byte = |at| byte_of(&hunk.removed, hunk.removed_chars, at);
                let bytes = byte(from)..byte(from + gone);
                hunk.removed.replace_range(bytes, "");
                hunk.removed_chars -= gone;
                (at, 0, gone)
            }
            Some(hunk) => (near.in_buffer(at), count.min(hunk.at - at), 0),
            None => (near.in_buffer(at), count, 0),
        };
        let behind = near.index + usize::from(gone > 0);
        self.hunks[behind..].iter_mut().for_each(|hunk| hunk.at -= kept + gone);
        self.join_around(near.index);
        (place, kept, gone)
    }

    /// Joins a hunk with its neighbours if they touch now, and forgets it if nothing is left of it.
    fn join_around(&mut self, index: usize) {
        self.near = Near::default();
        if self.hunks.get(index).is_some_and(Hunk::is_empty) {
            self.hunks.remove(index);
        }
        for left in [index, index.wrapping_sub(1)] {
            let Some(right) = left.checked_add(1).and_then(|right| self.hunks.get(right)) else { continue };
            if self.hunks[left].end() == right.at {
                let right = self.hunks.remove(left + 1);
                let left = &mut self.hunks[left];
                left.removed.push_str(&right.removed);
                left.removed_chars += right.removed_chars;
                left.inserted += right.inserted;
            }
        }
    }

    /// The first hunk that is not `before`.
    fn seek(&self, before: impl Fn(&Hunk, Near) -> bool) -> Near {
        let mut near = self.near;
        while let Some(index) = near.index.checked_sub(1) {
            let back = near.before(&self.hunks[index]);
            if before(&self.hunks[index], back) {
                break;
            }
            near = back;
        }
        while let Some(hunk) = self.hunks.get(near.index)
            && before(hunk, near)
        {
            near = near.after(hunk);
        }
        near
    }

    /// Where a position of the buffer is in the stored text, and whether both its neighbours there are stored; within
    /// what is not stored it is the nearest place on the side.
    pub(crate) fn in_stored(&self, at: usize, side: Side) -> usize {
        let near = self.seek(|hunk, near| near.in_buffer(hunk.at) + hunk.inserted < at);
        match self.hunks.get(near.index) {
            Some(hunk) if near.in_buffer(hunk.at) <= at => match side {
                Side::Left => hunk.at,
                Side::Right => hunk.end(),
            },
            _ => at + near.removed - near.inserted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::apply;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Step {
        Local(u8, u8, String),
        Insert(u8, String),
        Delete(u8, u8),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (any::<u8>(), 0u8..5, "[a-zß]{0,4}").prop_map(|(at, count, text)| Step::Local(at, count, text)),
            2 => (any::<u8>(), "[A-ZÄ]{1,4}").prop_map(|(at, text)| Step::Insert(at, text)),
            2 => (any::<u8>(), 1u8..6).prop_map(|(at, count)| Step::Delete(at, count)),
        ]
    }

    fn replace(pending: &mut Pending, buffer: &mut Rope, at: usize, count: usize, text: &str) {
        pending.note(buffer, at, count, text.chars().count());
        buffer.delete(at, count);
        buffer.insert(at, text);
    }

    fn made(stored: &Rope, pending: &Pending, buffer: &Rope) -> Rope {
        let mut made = stored.clone();
        for replacement in pending.replacements(buffer) {
            made.delete(replacement.at, replacement.removed);
            made.insert(replacement.at, &replacement.inserted);
        }
        made
    }

    proptest! {
        #[test]
        fn what_is_pending_always_makes_the_stored_text_the_text_of_the_buffer(
            start in "[0-9é]{0,20}",
            steps in proptest::collection::vec(any_step(), 0..40),
            cut in 0usize..12,
        ) {
            let (mut stored, mut buffer) = (Rope::from(start.as_str()), Rope::from(start.as_str()));
            let mut pending = Pending::default();
            for step in steps {
                let (at, max) = match &step {
                    Step::Local(at, ..) => (*at, buffer.len()),
                    Step::Insert(at, _) | Step::Delete(at, _) => (*at, stored.len()),
                };
                let at = usize::from(at) % (max + 1);
                let delta = match step {
                    Step::Local(_, count, text) => {
                        let count = usize::from(count).min(max - at);
                        replace(&mut pending, &mut buffer, at, count, &text);
                        None
                    }
                    Step::Insert(_, text) => Some(TextDelta::Insert { at, text }),
                    Step::Delete(_, count) => {
                        Some(TextDelta::Delete { at, count: usize::from(count).min(max - at) })
                    }
                };
                if let Some(delta) = delta {
                    apply(&mut stored, &delta);
                    let (mut seen, mut out) = (buffer.clone(), Vec::new());
                    pending.integrate(&mut buffer, &delta, &mut out);
                    out.iter().for_each(|delta| apply(&mut seen, delta));
                    prop_assert_eq!(seen.text(), buffer.text());
                }
                prop_assert_eq!(pending.stored(&buffer), stored.text());
                prop_assert_eq!(made(&stored, &pending, &buffer).text(), buffer.text());
                let mut rest = pending.clone();
                let first = rest.cut(cut);
                prop_assert!(first.weight() <= cut && first.weight() + rest.weight() == pending.weight());
                let middle = rest.stored(&buffer);
                prop_assert_eq!(made(&stored, &first, &Rope::from(middle.as_str())).text(), middle);
                for (hunk, next) in pending.hunks.iter().zip(pending.hunks.iter().skip(1)) {
                    prop_assert!(hunk.end() < next.at, "{:?}", pending.hunks);
                }
                for at in 0..=buffer.len() {
                    let (left, right) = (pending.in_stored(at, Side::Left), pending.in_stored(at, Side::Right));
                    prop_assert!(left <= right && right <= stored.len());
                }
            }
        }
    }

    #[test]
    fn a_word_that_goes_on_stays_whole_when_another_comes_to_its_place() {
        let mut buffer = Rope::from("hel");
        let mut pending = Pending::default();
        replace(&mut pending, &mut buffer, 3, 0, "lo");
        pending.integrate(
            &mut buffer,
            &TextDelta::Insert { at: 3, text: " world".to_owned() },
            &mut Vec::new(),
        );
        assert_eq!(buffer.text(), "hello world");
    }

    #[test]
    fn what_is_typed_and_taken_back_leaves_nothing() {
        let mut buffer = Rope::from("ab");
        let mut pending = Pending::default();
        replace(&mut pending, &mut buffer, 1, 0, "xyz");
        replace(&mut pending, &mut buffer, 2, 1, "");
        replace(&mut pending, &mut buffer, 1, 2, "");
        assert!(pending.is_empty());
    }
}
