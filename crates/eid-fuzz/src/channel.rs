//! The channel of the HTTP transport: its handshake and its sealed records.

use eid_http::testing::{Sealing, handshake};

use crate::source::Source;

/// Both sides have the same keys when every message came as it was sent, and never otherwise.
pub(crate) fn noise(input: &[u8]) {
    let mut source = Source::new(input);
    let mut changed = false;
    let keys = handshake(|_, message| {
        let sent = message.clone();
        match source.byte() {
            0..128 => {}
            128..200 => {
                let at = usize::from(source.byte()) % message.len().max(1);
                message[at] = message[at].wrapping_add(source.byte());
            }
            200..220 => message.truncate(source.below(256)),
            220..240 => message.extend_from_slice(source.some(300)),
            _ => *message = source.some(300).to_vec(),
        }
        changed |= *message != sent;
    });
    match keys {
        (Some(near), Some(far)) if !changed => assert_eq!(near, far),
        (Some(near), Some(far)) => assert_ne!(near, far, "a changed message is not noticed"),
        _ => assert!(changed, "an honest handshake fails"),
    }
}

pub(crate) fn noise_seeds() -> Vec<Vec<u8>> {
    vec![
        vec![],
        vec![130, 5, 1],
        vec![0, 130, 5, 1],
        vec![0, 130, 40, 1],
        vec![0, 0, 130, 5, 1],
        vec![0, 201, 95],
        vec![0, 0, 220, 1, 0, 7],
    ]
}

/// A body opens to what was sealed, wherever it is cut, and one that was changed in any way to nothing.
pub(crate) fn seal(input: &[u8]) {
    let mut source = Source::new(input);
    // Of the whole input, as one that compares tags would find out how to seal for a secret that stays.
    let sealing = Sealing::of(*blake3::hash(input).as_bytes());
    let number = source.number();
    let plain = source.some(200_000).to_vec();
    let records = source.below(5);
    let body = sealing.seal(number, &plain, records);
    let mut arrives = body.clone();
    for _ in 0..source.below(4) {
        let at = usize::from(u16::from_le_bytes([source.byte(), source.byte()])) % arrives.len().max(1);
        match source.below(5) {
            0 if !arrives.is_empty() => arrives[at] = arrives[at].wrapping_add(source.byte()),
            1 => arrives.truncate(at),
            2 => drop(arrives.splice(at..at, source.some(64).iter().copied())),
            3 => {
                let again = arrives[at..].to_vec();
                arrives.extend(again);
            }
            4 => drop(arrives.drain(at..arrives.len().min(at + source.below(64)))),
            _ => {}
        }
    }
    let at_number = if source.byte() == 200 { number.wrapping_add(1) } else { number };
    let opened = sealing.open(at_number, &arrives, source.below(200) + 1);
    if arrives == body && at_number == number {
        assert_eq!(opened, Some(plain));
    } else {
        assert_eq!(opened, None, "a changed body is opened");
    }
    // What is not sealed at all.
    assert_eq!(sealing.open(number, source.rest(), 7), None);
}

pub(crate) fn seal_seeds() -> Vec<Vec<u8>> {
    let of = |tail: &[u8]| [&[2, 5, 0, b'h', b'e', b'l', b'l', b'o', 2], tail].concat();
    vec![
        of(&[0]),
        of(&[1, 4, 0, 0, 1]),
        of(&[1, 9, 0, 1]),
        of(&[1, 9, 0, 2, 3, 0, 1, 2, 3]),
        of(&[1, 0, 0, 3]),
        of(&[1, 3, 0, 4, 9]),
        of(&[0, 200]),
    ]
}
