//! Decisions out of an input: whatever the bytes are they decide something, and behind their end all is zero.

/// What is left of an input.
#[derive(Debug)]
pub(crate) struct Source<'a>(&'a [u8]);

impl<'a> Source<'a> {
    pub(crate) fn new(input: &'a [u8]) -> Self {
        Self(input)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or(0)
    }

    pub(crate) fn bool(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Less than `n`, which is at most 256.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n
    }

    /// A number that is mostly small, or near a bound.
    pub(crate) fn number(&mut self) -> u64 {
        let byte = self.byte();
        match byte {
            0..=200 => u64::from(byte),
            201..=230 => 1u64.checked_shl(u32::from(byte - 200) * 2).unwrap_or(0) + u64::from(self.byte()),
            231..=240 => u64::MAX - u64::from(byte - 231),
            _ => u64::from_le_bytes(std::array::from_fn(|_| self.byte())),
        }
    }

    /// Some of the next bytes, as many as the next two say.
    pub(crate) fn some(&mut self, max: usize) -> &'a [u8] {
        let count = usize::from(u16::from_le_bytes([self.byte(), self.byte()])) % (max + 1);
        self.take(count)
    }

    /// As many bytes as there are, up to this many.
    pub(crate) fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        if from.is_empty() { None } else { from.get(self.below(from.len().min(256))).copied() }
    }
}
