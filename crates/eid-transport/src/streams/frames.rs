//! Frames and ends of turns as bytes of a stream.

use bytes::{Buf, Bytes, BytesMut};

use crate::limits::{ASIDE_BYTES_MAX, FRAME_BYTES_MAX};

/// What stands before a frame: its length.
const LENGTH_BYTES: usize = 4;
/// The length that says that a turn ends.
const END_OF_TURN: u32 = u32::MAX;
/// The bit of a length that says that the frame is said aside.
const ASIDE: u32 = 1 << 31;

/// What a stream says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    Frame(Bytes),
    Aside(Bytes),
    EndOfTurn,
}

/// The stream says what no stream says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Puts items together again.
#[derive(Debug, Default)]
pub(super) struct Items {
    received: BytesMut,
}

impl Items {
    /// Takes in more of the stream.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
    }

    /// The next item that has arrived whole.
    pub(super) fn next(&mut self) -> Result<Option<Item>, Malformed> {
        let Some(field) = self.received.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = u32::from_be_bytes(*field);
        if length == END_OF_TURN {
            self.received.advance(LENGTH_BYTES);
            return Ok(Some(Item::EndOfTurn));
        }
        let is_aside = length & ASIDE != 0;
        let length = (length & !ASIDE) as usize;
        if length > if is_aside { ASIDE_BYTES_MAX } else { FRAME_BYTES_MAX } {
            return Err(Malformed);
        }
        if self.received.len() < LENGTH_BYTES + length {
            return Ok(None);
        }
        self.received.advance(LENGTH_BYTES);
        let frame = self.received.split_to(length).freeze();
        Ok(Some(if is_aside { Item::Aside(frame) } else { Item::Frame(frame) }))
    }

    /// Whether nothing of an item is left over.
    pub(super) fn is_empty(&self) -> bool {
        self.received.is_empty()
    }
}

/// The length that stands before a frame.
pub(super) fn length_field(frame: &Bytes) -> Bytes {
    let length = u32::try_from(frame.len()).expect("frames are bounded before they are sent");
    Bytes::copy_from_slice(&length.to_be_bytes())
}

/// The same before a frame that is said aside.
pub(super) fn aside_field(frame: &Bytes) -> Bytes {
    let length = u32::try_from(frame.len()).expect("frames are bounded before they are sent");
    Bytes::copy_from_slice(&(length | ASIDE).to_be_bytes())
}

/// The bytes that end a turn.
pub(super) fn end_of_turn() -> Bytes {
    const BYTES: [u8; LENGTH_BYTES] = END_OF_TURN.to_be_bytes();
    Bytes::from_static(&BYTES)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_frame_beyond_the_bound_is_refused_at_its_length() {
        let mut items = Items::default();
        items.feed(&(FRAME_BYTES_MAX as u32 + 1).to_be_bytes());
        assert_eq!(items.next(), Err(Malformed));
        let mut items = Items::default();
        items.feed(&(FRAME_BYTES_MAX as u32).to_be_bytes());
        assert_eq!(items.next(), Ok(None));
        let mut items = Items::default();
        items.feed(&(ASIDE | (ASIDE_BYTES_MAX as u32 + 1)).to_be_bytes());
        assert_eq!(items.next(), Err(Malformed));
    }

    proptest! {
        #[test]
        fn items_arrive_as_sent_however_the_stream_is_cut(
            sent in prop::collection::vec((0..3_u8, prop::collection::vec(any::<u8>(), 0..40)), 0..20),
            cut in 1..50_usize,
        ) {
            let sent: Vec<Item> = sent
                .into_iter()
                .map(|(kind, frame)| match kind {
                    0 => Item::EndOfTurn,
                    1 => Item::Aside(frame.into()),
                    _ => Item::Frame(frame.into()),
                })
                .collect();
            let mut stream = Vec::new();
            for item in &sent {
                match item {
                    Item::Frame(frame) => {
                        stream.extend_from_slice(&length_field(frame));
                        stream.extend_from_slice(frame);
                    }
                    Item::Aside(frame) => {
                        stream.extend_from_slice(&aside_field(frame));
                        stream.extend_from_slice(frame);
                    }
                    Item::EndOfTurn => stream.extend_from_slice(&end_of_turn()),
                }
            }
            let mut items = Items::default();
            let mut received = Vec::new();
            for chunk in stream.chunks(cut) {
                items.feed(chunk);
                while let Some(item) = items.next().expect("well formed") {
                    received.push(item);
                }
            }
            prop_assert!(items.is_empty());
            prop_assert_eq!(received, sent);
        }

        #[test]
        fn any_bytes_are_items_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut items = Items::default();
            items.feed(&bytes);
            while let Ok(Some(_)) = items.next() {}
        }
    }
}
