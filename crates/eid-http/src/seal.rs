//! What stands in a POST body and in its answer: records, each sealed, the last one marked.
//!
//! Every body has a key of its own, derived from the secret of its channel, its direction and the number of its POST,
//! so no nonce is ever used twice under one key: the nonce is the place of the record in its body. A record is
//! `length (2 bytes) || sealed( kind (1 byte) || data )`. A body whose last record is not an end, or that goes on
//! after its end, is damaged.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit, Nonce, Tag};
use zeroize::Zeroizing;

use crate::limits::RECORD_BYTES_MAX;

const LENGTH_BYTES: usize = 2;
const KIND_BYTES: usize = 1;
const TAG_BYTES: usize = 16;
/// What a record adds to its data, in bytes.
pub(crate) const RECORD_OVERHEAD: usize = LENGTH_BYTES + KIND_BYTES + TAG_BYTES;
/// Greatest length of the data of one record, in bytes: the length field has to hold what follows it.
pub(crate) const RECORD_DATA_MAX: usize = RECORD_BYTES_MAX - 1 - RECORD_OVERHEAD;

/// The secret that the two sides of a channel share. Wiped when dropped.
pub(crate) struct Secret(Zeroizing<[u8; 32]>);

/// Which way a body travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Request,
    Answer,
}

/// What one record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    /// More of the body.
    Data(Bytes),
    /// Nothing, but the other side is alive.
    KeepAlive,
    /// The last bytes of the body.
    End(Bytes),
    /// The end of the body, and of the link that it belongs to.
    Closed,
}

/// What was received is not what was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a sealed record is damaged")]
pub(crate) struct Damaged;

/// Seals the records of one body.
pub(crate) struct Sealer {
    cipher: ChaCha20Poly1305,
    records: u64,
}

/// Opens the records of one body.
pub(crate) struct Opener {
    cipher: ChaCha20Poly1305,
    records: u64,
    received: BytesMut,
    ended: bool,
}

impl Secret {
    pub(crate) fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    fn cipher(&self, direction: Direction, number: u64) -> ChaCha20Poly1305 {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(b"eid http body 1");
        hasher.update(&[match direction {
            Direction::Request => 0,
            Direction::Answer => 1,
        }]);
        hasher.update(&number.to_be_bytes());
        let mut key = Zeroizing::new([0; 32]);
        hasher.finalize_xof().fill(&mut *key);
        ChaCha20Poly1305::new((&*key).into())
    }

    pub(crate) fn sealer(&self, direction: Direction, number: u64) -> Sealer {
        Sealer { cipher: self.cipher(direction, number), records: 0 }
    }

    pub(crate) fn opener(&self, direction: Direction, number: u64) -> Opener {
        Opener { cipher: self.cipher(direction, number), records: 0, received: BytesMut::new(), ended: false }
    }

    /// Seals a whole request body.
    pub(crate) fn seal_request(&self, number: u64, plain: &[u8], body: &mut BytesMut) {
        let mut sealer = self.sealer(Direction::Request, number);
        let mut rest = plain;
        while rest.len() > RECORD_DATA_MAX {
            let (data, after) = rest.split_at(RECORD_DATA_MAX);
            sealer.seal(&Record::Data(Bytes::copy_from_slice(data)), body);
            rest = after;
        }
        sealer.seal(&Record::End(Bytes::copy_from_slice(rest)), body);
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opener").field("records", &self.records).finish_non_exhaustive()
    }
}

impl Sealer {
    /// Appends one record to what is sent. Its data has at most [`RECORD_DATA_MAX`] bytes.
    pub(crate) fn seal(&mut self, record: &Record, out: &mut BytesMut) {
        let (kind, data): (u8, &[u8]) = match record {
            Record::Data(data) => (0, data),
            Record::KeepAlive => (1, &[]),
            Record::End(data) => (2, data),
            Record::Closed => (3, &[]),
        };
        assert!(data.len() <= RECORD_DATA_MAX, "the data of a record is bounded by its callers");
        let length = (KIND_BYTES + data.len() + TAG_BYTES) as u16;
        out.reserve(RECORD_OVERHEAD + data.len());
        out.put_u16(length);
        let start = out.len();
        out.put_u8(kind);
        out.put_slice(data);
        let tag = self
            .cipher
            .encrypt_inout_detached(&nonce(self.records), &length.to_be_bytes(), (&mut out[start..]).into())
            .expect("a record is shorter than what the cipher can seal");
        out.put_slice(&tag);
        self.records += 1;
    }
}

impl Opener {
    /// Takes in more of the body.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<(), Damaged> {
        if self.ended && !bytes.is_empty() {
            return Err(Damaged);
        }
        self.received.extend_from_slice(bytes);
        Ok(())
    }

    /// The next record that has arrived whole.
    pub(crate) fn next(&mut self) -> Result<Option<Record>, Damaged> {
        let Some(field) = self.received.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let field = *field;
        let length = usize::from(u16::from_be_bytes(field));
        if self.ended || !(KIND_BYTES + TAG_BYTES..=RECORD_BYTES_MAX - LENGTH_BYTES).contains(&length) {
            return Err(Damaged);
        }
        if self.received.len() < LENGTH_BYTES + length {
            return Ok(None);
        }
        self.received.advance(LENGTH_BYTES);
        let mut sealed = self.received.split_to(length);
        let tag = sealed.split_off(length - TAG_BYTES);
        let tag: Tag = <[u8; TAG_BYTES]>::try_from(&tag[..]).expect("split off with this length").into();
        self.cipher
            .decrypt_inout_detached(&nonce(self.records), &field, (&mut sealed[..]).into(), &tag)
            .map_err(|_| Damaged)?;
        self.records += 1;
        let kind = sealed.get_u8();
        let data = sealed.freeze();
        let record = match kind {
            0 => Record::Data(data),
            1 if data.is_empty() => Record::KeepAlive,
            2 => Record::End(data),
            3 if data.is_empty() => Record::Closed,
            _ => return Err(Damaged),
        };
        self.ended = matches!(record, Record::End(_) | Record::Closed);
        if self.ended && !self.received.is_empty() {
            return Err(Damaged);
        }
        Ok(Some(record))
    }

    /// Whether the end mark has been seen.
    pub(crate) fn ended(&self) -> bool {
        self.ended
    }
}

fn nonce(record: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&record.to_be_bytes());
    nonce.into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn secret(byte: u8) -> Secret {
        Secret::new(Zeroizing::new([byte; 32]))
    }

    /// Opens a whole body, as a receiver does: every record genuine, and the last one an end.
    fn open(secret: &Secret, direction: Direction, number: u64, body: &[u8]) -> Result<Vec<u8>, Damaged> {
        let mut opener = secret.opener(direction, number);
        let mut plain = Vec::new();
        for chunk in body.chunks(1000) {
            opener.feed(chunk)?;
            while let Some(record) = opener.next()? {
                if let Record::Data(data) | Record::End(data) = record {
                    plain.extend_from_slice(&data);
                }
            }
        }
        if opener.ended() { Ok(plain) } else { Err(Damaged) }
    }

    fn sealed(number: u64, records: &[&'static [u8]]) -> Vec<BytesMut> {
        let secret = secret(1);
        let mut sealer = secret.sealer(Direction::Request, number);
        records
            .iter()
            .enumerate()
            .map(|(n, data)| {
                let data = Bytes::from_static(data);
                let mut out = BytesMut::new();
                let record = if n + 1 == records.len() { Record::End(data) } else { Record::Data(data) };
                sealer.seal(&record, &mut out);
                out
            })
            .collect()
    }

    #[test]
    fn bodies_of_every_size_around_a_record_round_trip() {
        for length in [0, 1, RECORD_DATA_MAX - 1, RECORD_DATA_MAX, RECORD_DATA_MAX + 1, 3 * RECORD_DATA_MAX] {
            let plain: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let mut body = BytesMut::new();
            secret(1).seal_request(7, &plain, &mut body);
            assert!(open(&secret(1), Direction::Request, 7, &body).expect("genuine") == plain);
        }
    }

    #[test]
    fn the_greatest_record_is_within_its_bound() {
        let mut out = BytesMut::new();
        let data = Bytes::from(vec![0; RECORD_DATA_MAX]);
        secret(1).sealer(Direction::Answer, 0).seal(&Record::Data(data), &mut out);
        assert!(out.len() <= RECORD_BYTES_MAX);
    }

    #[test]
    fn a_body_opens_only_under_its_own_secret_direction_and_number() {
        let mut body = BytesMut::new();
        secret(1).seal_request(7, b"body", &mut body);
        assert!(open(&secret(1), Direction::Request, 7, &body).is_ok());
        assert_eq!(open(&secret(2), Direction::Request, 7, &body), Err(Damaged));
        assert_eq!(open(&secret(1), Direction::Answer, 7, &body), Err(Damaged));
        assert_eq!(open(&secret(1), Direction::Request, 8, &body), Err(Damaged));
    }

    #[test]
    fn records_cannot_be_dropped_repeated_swapped_or_spliced() {
        let records = sealed(1, &[b"one", b"two", b"three", b"four"]);
        let other = sealed(2, &[b"one", b"two", b"three", b"four"]);
        let join = |parts: &[&BytesMut]| -> Vec<u8> { parts.iter().flat_map(|part| part.to_vec()).collect() };
        let [a, b, c, d] = &records[..] else { panic!("four records") };
        assert!(open(&secret(1), Direction::Request, 1, &join(&[a, b, c, d])).is_ok());
        for wrong in [
            join(&[b, c, d]),
            join(&[a, c, d]),
            join(&[a, b, c]),
            join(&[a, b, d]),
            join(&[a, a, b, c, d]),
            join(&[b, a, c, d]),
            join(&[a, b, c, d, d]),
            join(&[a, b, &other[2], d]),
            join(&[&other[0], b, c, d]),
            join(&[d]),
            Vec::new(),
        ] {
            assert_eq!(open(&secret(1), Direction::Request, 1, &wrong), Err(Damaged));
        }
    }

    #[test]
    fn a_length_beyond_the_bound_is_refused_before_its_bytes_arrive() {
        let mut opener = secret(1).opener(Direction::Request, 1);
        opener.feed(&[0xff, 0xff]).expect("not ended");
        assert_eq!(opener.next(), Err(Damaged));
        let mut opener = secret(1).opener(Direction::Request, 1);
        opener.feed(&[0, 16]).expect("not ended");
        assert_eq!(opener.next(), Err(Damaged));
    }

    #[test]
    fn equal_records_are_sealed_differently_at_every_place() {
        let secret = secret(1);
        let mut seen = BTreeSet::new();
        for direction in [Direction::Request, Direction::Answer] {
            for number in 0..50 {
                let mut sealer = secret.sealer(direction, number);
                for _ in 0..50 {
                    let mut out = BytesMut::new();
                    sealer.seal(&Record::Data(Bytes::from_static(&[0; 32])), &mut out);
                    assert!(seen.insert(out.to_vec()), "a key stream was used twice");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_changed_byte_is_refused(
            plain in prop::collection::vec(any::<u8>(), 0..300),
            at in any::<prop::sample::Index>(),
            change in 1..=255_u8,
        ) {
            let mut body = BytesMut::new();
            secret(1).seal_request(3, &plain, &mut body);
            let at = at.index(body.len());
            body[at] ^= change;
            prop_assert_eq!(open(&secret(1), Direction::Request, 3, &body), Err(Damaged));
        }

        #[test]
        fn any_truncation_or_addition_is_refused(
            plain in prop::collection::vec(any::<u8>(), 0..300),
            keep in any::<prop::sample::Index>(),
            more in prop::collection::vec(any::<u8>(), 1..40),
        ) {
            let mut body = BytesMut::new();
            secret(1).seal_request(3, &plain, &mut body);
            let kept = &body[..keep.index(body.len())];
            prop_assert_eq!(open(&secret(1), Direction::Request, 3, kept), Err(Damaged));
            body.extend_from_slice(&more);
            prop_assert_eq!(open(&secret(1), Direction::Request, 3, &body), Err(Damaged));
        }

        #[test]
        fn an_opener_survives_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            prop_assert_eq!(open(&secret(1), Direction::Answer, 3, &bytes), Err(Damaged));
        }
    }
}
