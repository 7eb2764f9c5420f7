//! A handshake, and somebody between the two sides who has no key of either.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use eid_core::SecretKey;
use eid_proto::message::Greeting;
use eid_proto::{Established, FEATURES, Handshake, HandshakeOutput, Identity};

use crate::replica::key;
use crate::source::Source;

const CLIENT: u8 = 1;
const SERVER: u8 = 2;
const FURTHER: [u8; 2] = [3, 4];

struct Keys {
    client: Arc<SecretKey>,
    server: Arc<SecretKey>,
    further: Vec<Arc<SecretKey>>,
    /// What was said in another handshake of the same two.
    recorded: Vec<Bytes>,
}

fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| {
        let mut keys = Keys {
            client: Arc::new(key(CLIENT)),
            server: Arc::new(key(SERVER)),
            further: FURTHER.map(|n| Arc::new(key(n))).to_vec(),
            recorded: Vec::new(),
        };
        let (mut client, mut server) = pair(&keys, 77, 78);
        for _ in 0..20 {
            for (from, to) in [(0, 1), (1, 0)] {
                let sides = [&mut client, &mut server];
                if let HandshakeOutput::Send(frame) = sides[from].poll() {
                    keys.recorded.push(frame.clone());
                    [&mut client, &mut server][to].handle_frame(&frame).expect("both are honest");
                }
            }
        }
        keys
    })
}

fn pair(keys: &Keys, nonce: u8, binding: u8) -> (Handshake, Handshake) {
    let identity = |device: &Arc<SecretKey>, name: &str, nonce: u8| Identity {
        device: device.clone(),
        name: name.to_owned(),
        binding: [binding; 32],
        proven: None,
        nonce: [nonce; 32],
        features: FEATURES,
    };
    let expected = Some(keys.server.public());
    let client = Handshake::client(identity(&keys.client, "client", nonce), expected, keys.further.clone());
    (client, Handshake::server(identity(&keys.server, "server", nonce + 1)))
}

/// The frames of a handshake.
pub(crate) fn transcript() -> Vec<Bytes> {
    keys().recorded.clone()
}

/// Nobody is met but who has proven his key over what both sides have said.
pub(crate) fn handshake(input: &[u8]) {
    let mut source = Source::new(input);
    let keys = keys();
    let (mut client, mut server) = pair(keys, 5, 6);
    // What each side has sent, and whether all that the other heard is what was sent.
    let (mut met, mut joined): (Option<Established>, Option<Established>) = (None, None);
    let mut spoilt = [false, false];
    let mut proofs_spoilt = false;
    let mut alone = true;
    for step in 0..40 {
        let at = step % 2;
        let output = if at == 0 { client.poll() } else { server.poll() };
        let sent = match output {
            HandshakeOutput::Send(frame) => frame,
            HandshakeOutput::Established(who) => {
                *(if at == 0 { &mut met } else { &mut joined }) = Some(who);
                continue;
            }
            _ => continue,
        };
        for frame in tampered(&sent, &mut source, &keys.recorded) {
            let changed = frame != sent;
            alone &= !changed;
            let is_proof = |frame: &[u8]| match Greeting::decode(frame) {
                Ok(Greeting::Proofs { key, proof, further, .. }) => Some((key, proof, further)),
                _ => None,
            };
            match is_proof(&sent) {
                Some(proofs) => proofs_spoilt |= is_proof(&frame) != Some(proofs),
                None => spoilt[at] |= changed,
            }
            let to = if at == 0 { &mut server } else { &mut client };
            drop(to.handle_frame(&frame));
        }
    }
    if let Some(met) = &met {
        assert_eq!(met.peer, keys.server.public());
        assert_eq!(met.features & !FEATURES, 0);
        assert!(met.further.is_empty());
    }
    if let Some(joined) = &joined {
        assert_eq!(joined.peer, keys.client.public(), "somebody without a key is met");
        let further: Vec<_> = keys.further.iter().map(|key| key.public()).collect();
        assert_eq!(joined.further, further);
        assert!(!spoilt[0] && !proofs_spoilt, "a changed hello or proof is accepted");
    }
    if alone && source.is_empty() && input.iter().all(|byte| *byte < 128) {
        assert!(met.is_some() && joined.is_some(), "two honest sides do not meet");
    }
}

fn tampered(sent: &Bytes, source: &mut Source<'_>, recorded: &[Bytes]) -> Vec<Bytes> {
    match source.byte() {
        0..128 => vec![sent.clone()],
        128..200 => {
            let mut frame = sent.to_vec();
            for _ in 0..=source.below(3) {
                let at = usize::from(source.byte()) % frame.len();
                frame[at] = frame[at].wrapping_add(source.byte());
            }
            vec![frame.into()]
        }
        200..210 => vec![sent.slice(..source.below(256).min(sent.len()))],
        210..220 => vec![sent.clone(), sent.clone()],
        220..230 => vec![[&sent[..], source.some(40)].concat().into()],
        230..250 => recorded.get(source.below(8)).cloned().into_iter().collect(),
        _ => vec![Bytes::copy_from_slice(source.some(300))],
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![vec![], vec![1, 1, 1, 1], vec![210, 210, 210, 210]];
    for at in 0..4_usize {
        for frame in 0..4 {
            let mut seed = vec![0; at];
            seed.extend([231, frame]);
            seeds.push(seed);
        }
        let mut seed = vec![0; at];
        seed.extend([130, 0, 3, 1]);
        seeds.push(seed);
    }
    seeds
}
