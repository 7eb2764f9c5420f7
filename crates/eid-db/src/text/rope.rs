//! A text in memory that is edited anywhere at the cost of a short copy.

use std::ops::Range;

use crate::limits::ROPE_CHUNK_BYTES_MAX;

/// A text cut in chunks. Positions are Unicode scalar values, and never beyond the end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rope {
    chunks: Vec<Chunk>,
    chars: usize,
    /// A chunk and how many characters are before it: edits are near one another.
    near: Near,
}

#[derive(Debug, Clone)]
struct Chunk {
    text: String,
    chars: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Near {
    index: usize,
    before: usize,
}

impl Chunk {
    fn new(text: &str) -> Self {
        Self { chars: text.chars().count(), text: text.to_owned() }
    }

    fn byte(&self, at: usize) -> usize {
        byte_of(&self.text, self.chars, at)
    }
}

/// Where a character begins in a text of so many characters.
pub(crate) fn byte_of(text: &str, chars: usize, at: usize) -> usize {
    if text.len() == chars { at } else { text.char_indices().nth(at).map_or(text.len(), |(byte, _)| byte) }
}

/// Cuts a text in parts of at most so many bytes.
pub(crate) fn parts(mut text: &str, bytes_max: usize) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        if text.is_empty() {
            return None;
        }
        let (part, rest) = text.split_at(text.floor_char_boundary(bytes_max));
        text = rest;
        Some(part)
    })
}

impl From<&str> for Rope {
    fn from(text: &str) -> Self {
        let chunks: Vec<Chunk> = parts(text, ROPE_CHUNK_BYTES_MAX).map(Chunk::new).collect();
        let chars = chunks.iter().map(|chunk| chunk.chars).sum();
        Self { chunks, chars, near: Near::default() }
    }
}

impl Rope {
    pub(crate) fn len(&self) -> usize {
        self.chars
    }

    pub(crate) fn text(&self) -> String {
        self.chunks.iter().map(|chunk| chunk.text.as_str()).collect()
    }

    pub(crate) fn slice(&self, range: Range<usize>) -> String {
        let mut found = String::new();
        let mut near = self.seek(range.start);
        let mut rest = range.len();
        while let Some(chunk) = self.chunks.get(near.index).filter(|_| rest > 0) {
            let from = range.start.saturating_sub(near.before);
            let take = rest.min(chunk.chars - from);
            found.push_str(&chunk.text[chunk.byte(from)..chunk.byte(from + take)]);
            rest -= take;
            near = Near { index: near.index + 1, before: near.before + chunk.chars };
        }
        found
    }

    pub(crate) fn insert(&mut self, at: usize, text: &str) {
        let chars = text.chars().count();
        self.chars += chars;
        self.near = self.seek(at);
        let index = self.near.index;
        let Some(chunk) = self.chunks.get_mut(index) else {
            self.chunks.extend(parts(text, ROPE_CHUNK_BYTES_MAX).map(Chunk::new));
            return;
        };
        let byte = chunk.byte(at - self.near.before);
        if chunk.text.len() + text.len() <= ROPE_CHUNK_BYTES_MAX {
            chunk.text.insert_str(byte, text);
            chunk.chars += chars;
            return;
        }
        let right = chunk.text.split_off(byte);
        let whole = std::mem::take(&mut chunk.text) + text + &right;
        // Half full, so that the next characters find room.
        let cut = parts(&whole, ROPE_CHUNK_BYTES_MAX / 2).map(Chunk::new);
        self.chunks.splice(index..=index, cut);
    }

    /// Takes characters out and gives them.
    pub(crate) fn delete(&mut self, at: usize, count: usize) -> String {
        self.near = self.seek(at);
        let index = self.near.index;
        let mut removed = String::new();
        let (mut rest, mut empty) = (count, index);
        while let Some(chunk) = self.chunks.get_mut(empty).filter(|_| rest > 0) {
            let from = if empty == index { at - self.near.before } else { 0 };
            let take = rest.min(chunk.chars - from);
            removed.push_str(&chunk.text[chunk.byte(from)..chunk.byte(from + take)]);
            chunk.text.replace_range(chunk.byte(from)..chunk.byte(from + take), "");
            chunk.chars -= take;
            rest -= take;
            empty += 1;
        }
        self.chars -= count - rest;
        if self.chunks[index..empty].iter().any(|chunk| chunk.chars == 0) {
            let kept: Vec<Chunk> = self.chunks.drain(index..empty).filter(|chunk| chunk.chars > 0).collect();
            self.chunks.splice(index..index, kept);
        }
        removed
    }

    /// The first chunk that a position is in or at the end of.
    fn seek(&self, at: usize) -> Near {
        let mut near = if self.near.index < self.chunks.len() { self.near } else { Near::default() };
        while near.index > 0 && near.before >= at {
            near.index -= 1;
            near.before -= self.chunks[near.index].chars;
        }
        while let Some(chunk) = self.chunks.get(near.index)
            && near.before + chunk.chars < at
        {
            near = Near { index: near.index + 1, before: near.before + chunk.chars };
        }
        near
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_rope_is_the_string_that_is_edited_the_same_way(
            start in ".{0,40}",
            edits in proptest::collection::vec((any::<u16>(), any::<u16>(), "\\PC{0,12}", 1usize..400), 0..40),
        ) {
            let mut rope = Rope::from(start.as_str());
            let mut plain: Vec<char> = start.chars().collect();
            for (at, count, text, times) in edits {
                let at = usize::from(at) % (plain.len() + 1);
                let count = usize::from(count) % (plain.len() - at + 1);
                let text = text.repeat(times);
                let removed: String = plain.splice(at..at + count, text.chars()).collect();
                prop_assert_eq!(rope.delete(at, count), removed);
                rope.insert(at, &text);
                prop_assert_eq!(rope.len(), plain.len());
                let from = count.min(plain.len());
                prop_assert_eq!(rope.slice(from..plain.len()), plain[from..].iter().collect::<String>());
                prop_assert!(rope.chunks.iter().all(|chunk| chunk.text.len() <= ROPE_CHUNK_BYTES_MAX));
                prop_assert!(rope.chunks.iter().all(|chunk| chunk.chars == chunk.text.chars().count()));
            }
            prop_assert_eq!(rope.text(), plain.iter().collect::<String>());
        }
    }
}
