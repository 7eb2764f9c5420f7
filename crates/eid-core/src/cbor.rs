//! Strict CBOR (RFC 8949, deterministic encoding of section 4.2.1): one byte form for each value.
//!
//! The subset: unsigned and negative integers, byte and text strings, arrays, maps, `false`, `true`, `null` and
//! 64-bit floats. Integers and lengths are the shortest; lengths are definite; there are no tags. Reading anything
//! else is an error. Counts are checked against the bytes that are left before anything is allocated. Headers use
//! integers, strings, arrays and null only; the rest is for values inside operations.

/// Why bytes do not read as expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CborError {
    /// The bytes end inside a value.
    #[error("the bytes end inside a value")]
    Truncated,
    /// A value of another type stands here.
    #[error("a value of another type stands here")]
    Type,
    /// The same value has a shorter or otherwise preferred form.
    #[error("not in canonical form")]
    NonCanonical,
    /// A count or length is above its limit.
    #[error("a count or length is above its limit")]
    Limit,
    /// Bytes follow the value.
    #[error("bytes follow the value")]
    Trailing,
}

/// The type of the value that comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant names a CBOR type")]
pub enum Kind {
    Uint,
    Negative,
    Bytes,
    Text,
    Array,
    Map,
    Bool,
    Null,
    Float,
}

/// Reads canonical values from the front of a byte slice.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes are read.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// Ends the reading. Fails when bytes are left.
    pub fn finish(self) -> Result<(), CborError> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(CborError::Trailing) }
    }

    /// The type of the next value, without reading it.
    pub fn peek(&self) -> Result<Kind, CborError> {
        let first = *self.bytes.get(self.at).ok_or(CborError::Truncated)?;
        Ok(match (first >> 5, first & 31) {
            (0, _) => Kind::Uint,
            (1, _) => Kind::Negative,
            (2, _) => Kind::Bytes,
            (3, _) => Kind::Text,
            (4, _) => Kind::Array,
            (5, _) => Kind::Map,
            (7, 20 | 21) => Kind::Bool,
            (7, 22) => Kind::Null,
            (7, 27) => Kind::Float,
            _ => return Err(CborError::Type),
        })
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], CborError> {
        let end = self.at.checked_add(n).ok_or(CborError::Truncated)?;
        let slice = self.bytes.get(self.at..end).ok_or(CborError::Truncated)?;
        self.at = end;
        Ok(slice)
    }

    fn head(&mut self, major: u8) -> Result<u64, CborError> {
        let start = self.at;
        let result = self.head_from_here(major);
        if result.is_err() {
            self.at = start;
        }
        result
    }

    fn head_from_here(&mut self, major: u8) -> Result<u64, CborError> {
        let first = self.take(1)?[0];
        if first >> 5 != major {
            return Err(CborError::Type);
        }
        let (value, least) = match first & 31 {
            small @ 0..=23 => return Ok(u64::from(small)),
            24 => (u64::from(self.take(1)?[0]), 24),
            25 => (u64::from(u16::from_be_bytes(self.array_of(2)?)), 1 << 8),
            26 => (u64::from(u32::from_be_bytes(self.array_of(4)?)), 1 << 16),
            27 => (u64::from_be_bytes(self.array_of(8)?), 1 << 32),
            31 => return Err(CborError::NonCanonical),
            _ => return Err(CborError::Type),
        };
        if value < least { Err(CborError::NonCanonical) } else { Ok(value) }
    }

    fn array_of<const N: usize>(&mut self, n: usize) -> Result<[u8; N], CborError> {
        self.take(n)?.try_into().map_err(|_| CborError::Truncated)
    }

    /// An unsigned integer.
    pub fn uint(&mut self) -> Result<u64, CborError> {
        self.head(0)
    }

    /// An integer from -2^64 to 2^64 - 1.
    pub fn int(&mut self) -> Result<i128, CborError> {
        match self.peek()? {
            Kind::Negative => Ok(-1 - i128::from(self.head(1)?)),
            _ => self.head(0).map(i128::from),
        }
    }

    /// A byte string of at most `max` bytes.
    pub fn bytes(&mut self, max: usize) -> Result<&'a [u8], CborError> {
        let length = self.length(2, max)?;
        self.take(length)
    }

    /// A byte string of exactly `N` bytes.
    pub fn fixed<const N: usize>(&mut self) -> Result<[u8; N], CborError> {
        let start = self.at;
        let bytes = self.bytes(usize::MAX)?;
        bytes.try_into().map_err(|_| {
            self.at = start;
            CborError::Type
        })
    }

    /// A text string of at most `max` bytes of UTF-8.
    pub fn text(&mut self, max: usize) -> Result<&'a str, CborError> {
        let length = self.length(3, max)?;
        std::str::from_utf8(self.take(length)?).map_err(|_| CborError::Type)
    }

    fn length(&mut self, major: u8, max: usize) -> Result<usize, CborError> {
        let length = usize::try_from(self.head(major)?).map_err(|_| CborError::Limit)?;
        if length > self.bytes.len() - self.at {
            return Err(CborError::Truncated);
        }
        if length > max { Err(CborError::Limit) } else { Ok(length) }
    }

    /// The head of an array of at most `max` items.
    pub fn array(&mut self, max: usize) -> Result<usize, CborError> {
        self.length(4, max)
    }

    /// The head of an array of exactly `n` items.
    pub fn array_exact(&mut self, n: usize) -> Result<(), CborError> {
        if self.array(usize::MAX)? == n { Ok(()) } else { Err(CborError::Type) }
    }

    /// The head of a map of at most `max` pairs. The caller checks that keys ascend.
    pub fn map(&mut self, max: usize) -> Result<usize, CborError> {
        self.length(5, max)
    }

    /// `true` or `false`.
    pub fn bool(&mut self) -> Result<bool, CborError> {
        match (self.peek()?, self.bytes[self.at]) {
            (Kind::Bool, byte) => {
                self.at += 1;
                Ok(byte == 0xf5)
            }
            _ => Err(CborError::Type),
        }
    }

    /// A 64-bit float other than NaN.
    pub fn float(&mut self) -> Result<f64, CborError> {
        if self.peek()? != Kind::Float {
            return Err(CborError::Type);
        }
        self.take(1)?;
        let value = f64::from_be_bytes(self.array_of(8)?);
        if value.is_nan() { Err(CborError::NonCanonical) } else { Ok(value) }
    }

    /// `null`.
    pub fn null(&mut self) -> Result<(), CborError> {
        if self.peek()? != Kind::Null {
            return Err(CborError::Type);
        }
        self.at += 1;
        Ok(())
    }

    /// `null`, or what `read` reads.
    pub fn nullable<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, CborError>,
    ) -> Result<Option<T>, CborError> {
        if self.peek()? == Kind::Null { self.null().map(|()| None) } else { read(self).map(Some) }
    }

    /// Skips one value, nested at most `depth_max` deep, and gives its bytes. Checks its form without recursion.
    pub fn skip(&mut self, depth_max: usize) -> Result<&'a [u8], CborError> {
        let start = self.at;
        let mut open: Vec<usize> = Vec::new();
        loop {
            match self.peek()? {
                Kind::Uint => drop(self.head(0)?),
                Kind::Negative => drop(self.head(1)?),
                Kind::Bytes => drop(self.bytes(usize::MAX)?),
                Kind::Text => drop(self.text(usize::MAX)?),
                Kind::Bool => drop(self.bool()?),
                Kind::Null => self.null()?,
                Kind::Float => drop(self.float()?),
                Kind::Array => open.push(self.array(usize::MAX)?),
                Kind::Map => open.push(self.map(usize::MAX)?.checked_mul(2).ok_or(CborError::Limit)?),
            }
            if open.len() > depth_max {
                return Err(CborError::Limit);
            }
            while open.last() == Some(&0) {
                open.pop();
            }
            match open.last_mut() {
                Some(left) => *left -= 1,
                None => return Ok(&self.bytes[start..self.at]),
            }
        }
    }
}

/// Appends canonical values to a byte vector.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Starts empty.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts empty, with room for so many bytes.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes) }
    }

    /// The bytes so far.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn head(&mut self, major: u8, value: u64) -> &mut Self {
        let major = major << 5;
        let big = value.to_be_bytes();
        match value {
            0..=23 => self.bytes.push(major | big[7]),
            24..=0xff => self.bytes.extend_from_slice(&[major | 24, big[7]]),
            0x100..=0xffff => {
                self.bytes.push(major | 25);
                self.bytes.extend_from_slice(&big[6..]);
            }
            0x1_0000..=0xffff_ffff => {
                self.bytes.push(major | 26);
                self.bytes.extend_from_slice(&big[4..]);
            }
            _ => {
                self.bytes.push(major | 27);
                self.bytes.extend_from_slice(&big);
            }
        }
        self
    }

    /// An unsigned integer.
    pub fn uint(&mut self, value: u64) -> &mut Self {
        self.head(0, value)
    }

    /// An integer from -2^64 to 2^64 - 1; others are clamped, which callers rule out.
    pub fn int(&mut self, value: i128) -> &mut Self {
        let magnitude = |v: i128| u64::try_from(v).unwrap_or(u64::MAX);
        if value < 0 { self.head(1, magnitude(-1 - value)) } else { self.head(0, magnitude(value)) }
    }

    /// A byte string.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.head(2, value.len() as u64);
        self.bytes.extend_from_slice(value);
        self
    }

    /// A text string.
    pub fn text(&mut self, value: &str) -> &mut Self {
        self.head(3, value.len() as u64);
        self.bytes.extend_from_slice(value.as_bytes());
        self
    }

    /// The head of an array; its items follow.
    pub fn array(&mut self, items: usize) -> &mut Self {
        self.head(4, items as u64)
    }

    /// The head of a map; its pairs follow, keys ascending by their encoded bytes.
    pub fn map(&mut self, pairs: usize) -> &mut Self {
        self.head(5, pairs as u64)
    }

    /// `true` or `false`.
    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.bytes.push(if value { 0xf5 } else { 0xf4 });
        self
    }

    /// `null`.
    pub fn null(&mut self) -> &mut Self {
        self.bytes.push(0xf6);
        self
    }

    /// A 64-bit float. NaN has no form here; callers rule it out.
    pub fn float(&mut self, value: f64) -> &mut Self {
        self.bytes.push(0xfb);
        self.bytes.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// A value that is encoded already.
    pub fn raw(&mut self, encoded: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(encoded);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn longer_forms_of_the_same_number_are_refused() {
        for bytes in [
            &[0x18, 23][..],
            &[0x19, 0, 255],
            &[0x1a, 0, 0, 255, 255],
            &[0x1b, 0, 0, 0, 0, 255, 255, 255, 255],
        ] {
            assert_eq!(Reader::new(bytes).uint(), Err(CborError::NonCanonical));
        }
        assert_eq!(Reader::new(&[0x9f, 0xff]).array(9), Err(CborError::NonCanonical));
    }

    #[test]
    fn a_count_beyond_the_bytes_is_refused_before_anything_is_allocated() {
        let huge = [0x9b, 0x7f, 255, 255, 255, 255, 255, 255, 255];
        assert_eq!(Reader::new(&huge).array(usize::MAX), Err(CborError::Truncated));
        assert_eq!(Reader::new(&huge).skip(8), Err(CborError::Truncated));
        assert_eq!(Reader::new(&[0x5a, 255, 255, 255, 255]).bytes(10), Err(CborError::Truncated));
    }

    #[test]
    fn deep_nesting_is_refused_without_a_deep_stack() {
        let deep = vec![0x81; 1_000_000];
        assert_eq!(Reader::new(&deep).skip(64), Err(CborError::Limit));
    }

    proptest! {
        #[test]
        fn integers_round_trip(value in -(1i128 << 64)..(1i128 << 64)) {
            let mut writer = Writer::new();
            writer.int(value);
            let bytes = writer.into_bytes();
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.int(), Ok(value));
            prop_assert_eq!(reader.finish(), Ok(()));
        }

        #[test]
        fn skipping_arbitrary_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = Reader::new(&bytes);
            if let Ok(value) = reader.skip(16) {
                prop_assert_eq!(value, &bytes[..value.len()]);
            }
        }
    }
}
