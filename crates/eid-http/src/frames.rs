//! What is inside the seals: the head of a part, and frames with their lengths.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use eid_transport::limits::FRAME_BYTES_MAX;

const HEAD_BYTES: usize = 9;
/// What a frame adds to its own length, in bytes.
pub(crate) const LENGTH_BYTES: usize = 4;

/// Says which link a request body belongs to, and what it is to that link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// The link, numbered by the client.
    pub(crate) link: u32,
    /// How many parts this link has had before: step 0 opens it.
    pub(crate) step: u32,
    pub(crate) kind: Kind,
}

/// What a request body is to its link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The last part of a turn: the answer to it is the other side's turn.
    Turn,
    /// A part of a turn that is not the last.
    More,
    /// The client has dropped the link between turns.
    Close,
    /// The client has dropped the link in the middle of its turn.
    Tear,
    /// The client has closed the whole connection.
    CloseConnection,
}

/// What is inside the seals is not in its form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the content of a sealed body is malformed")]
pub(crate) struct Malformed;

/// Puts frames together again.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    received: BytesMut,
}

impl Head {
    pub(crate) fn put(&self, out: &mut BytesMut) {
        out.put_u8(match self.kind {
            Kind::Turn => 0,
            Kind::More => 1,
            Kind::Close => 2,
            Kind::Tear => 3,
            Kind::CloseConnection => 4,
        });
        out.put_u32(self.link);
        out.put_u32(self.step);
    }

    /// Takes the head off the front of a part.
    pub(crate) fn take(part: &mut BytesMut) -> Result<Self, Malformed> {
        if part.len() < HEAD_BYTES {
            return Err(Malformed);
        }
        let kind = match part.get_u8() {
            0 => Kind::Turn,
            1 => Kind::More,
            2 => Kind::Close,
            3 => Kind::Tear,
            4 => Kind::CloseConnection,
            _ => return Err(Malformed),
        };
        Ok(Self { kind, link: part.get_u32(), step: part.get_u32() })
    }
}

impl Frames {
    /// Takes in more of a turn.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
    }

    /// The next frame that has arrived whole.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, Malformed> {
        let Some(field) = self.received.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = u32::from_be_bytes(*field) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(Malformed);
        }
        if self.received.len() < LENGTH_BYTES + length {
            return Ok(None);
        }
        self.received.advance(LENGTH_BYTES);
        Ok(Some(self.received.split_to(length).freeze()))
    }

    /// Whether nothing of a frame is left over.
    pub(crate) fn is_empty(&self) -> bool {
        self.received.is_empty()
    }
}

/// The length that stands before a frame.
pub(crate) fn length_field(frame: &Bytes) -> [u8; LENGTH_BYTES] {
    u32::try_from(frame.len()).expect("frames are bounded before they are sent").to_be_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_frame_beyond_the_bound_is_refused_at_its_length() {
        let mut frames = Frames::default();
        frames.feed(&(FRAME_BYTES_MAX as u32 + 1).to_be_bytes());
        assert_eq!(frames.next(), Err(Malformed));
    }

    #[test]
    fn heads_round_trip_and_short_or_unknown_ones_are_refused() {
        for kind in [Kind::Turn, Kind::More, Kind::Close, Kind::Tear, Kind::CloseConnection] {
            let head = Head { link: 7, step: 1 << 30, kind };
            let mut part = BytesMut::new();
            head.put(&mut part);
            part.put_u8(9);
            assert_eq!(Head::take(&mut part), Ok(head));
            assert_eq!(part[..], [9]);
        }
        assert_eq!(Head::take(&mut BytesMut::from(&[0; 8][..])), Err(Malformed));
        assert_eq!(Head::take(&mut BytesMut::from(&[5; 9][..])), Err(Malformed));
    }

    proptest! {
        #[test]
        fn frames_arrive_as_sent_however_the_stream_is_cut(
            sent in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20),
            cut in 1..50_usize,
        ) {
            let mut stream = Vec::new();
            for frame in &sent {
                let frame = Bytes::copy_from_slice(frame);
                stream.extend_from_slice(&length_field(&frame));
                stream.extend_from_slice(&frame);
            }
            let mut frames = Frames::default();
            let mut received = Vec::new();
            for chunk in stream.chunks(cut) {
                frames.feed(chunk);
                while let Some(frame) = frames.next().expect("well formed") {
                    received.push(frame.to_vec());
                }
            }
            prop_assert!(frames.is_empty());
            prop_assert_eq!(received, sent);
        }
    }
}
