//! Answers of one bit per question, lowest bit first.

use bytes::Bytes;

/// Packs answers.
#[must_use]
pub fn pack(bits: impl IntoIterator<Item = bool>) -> Bytes {
    let mut bytes = Vec::new();
    for (index, bit) in bits.into_iter().enumerate() {
        if index % 8 == 0 {
            bytes.push(0);
        }
        if let (true, Some(last)) = (bit, bytes.last_mut()) {
            *last |= 1 << (index % 8);
        }
    }
    Bytes::from(bytes)
}

/// Unpacks `count` answers; nothing when the length does not fit or a bit past the end is set.
#[must_use]
pub fn unpack(bytes: &[u8], count: usize) -> Option<Vec<bool>> {
    let bits: Vec<bool> = (0..count).map_while(|i| Some(bytes.get(i / 8)? >> (i % 8) & 1 == 1)).collect();
    (pack(bits.iter().copied()) == bytes && bits.len() == count).then_some(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_have_one_form() {
        let bits = [true, false, false, true, true, false, false, false, true];
        let packed = pack(bits);
        assert_eq!(&packed[..], [0b0001_1001, 1]);
        assert_eq!(unpack(&packed, 9).unwrap(), bits);
        assert_eq!(unpack(&packed, 8), None);
        assert_eq!(unpack(&packed, 17), None);
        assert_eq!(unpack(&[0b11], 1), None);
        assert_eq!(unpack(&[], 0), Some(vec![]));
    }
}
