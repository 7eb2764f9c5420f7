//! The handshake of a channel: Noise XX, whose first message and answer are one POST and whose third message opens the
//! next one.
//!
//! The static keys are drawn for each process and prove nothing about who a peer is; that is proven above, over the
//! binding. What the pattern gives here is a secret that only the two ends of this very handshake know, and a hash
//! that differs between any two handshakes.

use snow::params::NoiseParams;
use snow::{Builder, HandshakeState, Keypair};
use zeroize::Zeroizing;

use crate::seal::Secret;

const PATTERN: &str = "Noise_XX_25519_ChaChaPoly_BLAKE2s";
/// Both sides mix this in, so that a handshake of another protocol or version fails.
const PROLOGUE: &[u8] = b"eid http channel 1";
const TAG_BYTES: usize = 16;
const KEY_BYTES: usize = 32;
/// Room for any message or payload of this handshake.
const SCRATCH_BYTES: usize = 256;

/// Length of the name of a channel in bytes.
pub(crate) const CHANNEL_ID_BYTES: usize = 16;
/// Length of message 1 in bytes: an ephemeral key.
pub(crate) const FIRST_BYTES: usize = KEY_BYTES;
/// Length of message 2 in bytes: an ephemeral key, a sealed static key, the sealed name of the channel.
pub(crate) const SECOND_BYTES: usize = KEY_BYTES + KEY_BYTES + TAG_BYTES + CHANNEL_ID_BYTES + TAG_BYTES;
/// Length of message 3 in bytes: a sealed static key and an empty sealed payload.
pub(crate) const THIRD_BYTES: usize = KEY_BYTES + TAG_BYTES + TAG_BYTES;

/// The name of a channel, as it stands in the path of its POSTs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ChannelId(pub(crate) [u8; CHANNEL_ID_BYTES]);

/// The handshake failed: the other side is another protocol, or what it sent was changed.
#[derive(Debug, thiserror::Error)]
#[error("the handshake failed")]
pub(crate) struct HandshakeError(#[from] snow::Error);

/// The static key of this process.
pub(crate) struct Identity(Keypair);

/// What a finished handshake leaves.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) secret: Secret,
    pub(crate) binding: [u8; 32],
}

/// A client's handshake that waits for message 2.
pub(crate) struct Initiator(HandshakeState);

/// A server's handshake that waits for message 3.
pub(crate) struct Responder(HandshakeState);

impl Identity {
    pub(crate) fn draw() -> Result<Self, HandshakeError> {
        Ok(Self(Builder::new(pattern()).generate_keypair()?))
    }

    fn builder(&self) -> Result<Builder<'_>, HandshakeError> {
        Ok(Builder::new(pattern()).prologue(PROLOGUE)?.local_private_key(&self.0.private)?)
    }

    /// Begins a handshake: what waits for the answer, and message 1.
    pub(crate) fn initiate(&self) -> Result<(Initiator, [u8; FIRST_BYTES]), HandshakeError> {
        let mut state = self.builder()?.build_initiator()?;
        let first = write(&mut state, &[])?;
        Ok((Initiator(state), first))
    }

    /// Answers message 1: what waits for message 3, and message 2, which carries the name of the channel.
    pub(crate) fn respond(
        &self,
        first: &[u8],
        channel: ChannelId,
    ) -> Result<(Responder, [u8; SECOND_BYTES]), HandshakeError> {
        let mut state = self.builder()?.build_responder()?;
        let [] = read(&mut state, first)?;
        let second = write(&mut state, &channel.0)?;
        Ok((Responder(state), second))
    }
}

impl Initiator {
    /// Reads message 2: the name of the channel, message 3, and the keys.
    pub(crate) fn finish(
        mut self,
        second: &[u8],
    ) -> Result<(ChannelId, [u8; THIRD_BYTES], Keys), HandshakeError> {
        let channel = ChannelId(read(&mut self.0, second)?);
        let third = write(&mut self.0, &[])?;
        Ok((channel, third, keys(self.0)))
    }
}

impl Responder {
    /// Reads message 3: the keys.
    pub(crate) fn finish(mut self, third: &[u8]) -> Result<Keys, HandshakeError> {
        let [] = read(&mut self.0, third)?;
        Ok(keys(self.0))
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity")
    }
}

impl ChannelId {
    /// Draws the name of a channel. It is no secret; that it is random keeps names apart without counting.
    pub(crate) fn draw() -> Result<Self, getrandom::Error> {
        let mut id = [0; CHANNEL_ID_BYTES];
        getrandom::fill(&mut id)?;
        Ok(Self(id))
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.as_bytes();
        if text.len() != 2 * CHANNEL_ID_BYTES {
            return None;
        }
        let mut id = [0; CHANNEL_ID_BYTES];
        for (byte, pair) in id.iter_mut().zip(text.chunks_exact(2)) {
            *byte = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
        }
        Some(Self(id))
    }
}

impl std::fmt::Display for ChannelId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

fn pattern() -> NoiseParams {
    PATTERN.parse().expect("the pattern is a constant that snow knows")
}

/// Writes the next message, whose length the pattern fixes. snow asks for more room than it uses.
fn write<const N: usize>(state: &mut HandshakeState, payload: &[u8]) -> Result<[u8; N], HandshakeError> {
    let mut room = [0; SCRATCH_BYTES];
    let length = state.write_message(payload, &mut room)?;
    Ok(room[..length].try_into().map_err(|_| snow::Error::Input)?)
}

/// Reads the next message, whose payload has a length of its own.
fn read<const N: usize>(state: &mut HandshakeState, message: &[u8]) -> Result<[u8; N], HandshakeError> {
    let mut room = [0; SCRATCH_BYTES];
    if message.len() > room.len() {
        return Err(snow::Error::Input.into());
    }
    let length = state.read_message(message, &mut room)?;
    Ok(room[..length].try_into().map_err(|_| snow::Error::Input)?)
}

/// The two keys that Noise would use for its own transport messages become one secret, from which each body has its
/// own keys; the handshake hash is the binding.
fn keys(mut state: HandshakeState) -> Keys {
    let binding: [u8; 32] = state.get_handshake_hash().try_into().expect("BLAKE2s has 32 bytes");
    let (one, other) = state.dangerously_get_raw_split();
    let split = Zeroizing::new([one, other]);
    let mut hasher = blake3::Hasher::new_derive_key("eid http channel secret 1");
    hasher.update(split.as_flattened());
    hasher.update(&binding);
    let mut secret = Zeroizing::new([0; 32]);
    hasher.finalize_xof().fill(&mut *secret);
    Keys { secret: Secret::new(secret), binding }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::seal::Direction;

    fn identity() -> Identity {
        Identity::draw().expect("randomness")
    }

    #[test]
    fn both_sides_have_the_same_keys_and_no_other_handshake_has_them() {
        let (client, server) = (identity(), identity());
        let mut bindings = Vec::new();
        for n in 0..3 {
            let (initiator, first) = client.initiate().expect("randomness");
            let (responder, second) = server.respond(&first, ChannelId([n; 16])).expect("genuine");
            let (channel, third, near) = initiator.finish(&second).expect("genuine");
            let far = responder.finish(&third).expect("genuine");
            assert_eq!(channel, ChannelId([n; 16]));
            assert_eq!(near.binding, far.binding);
            assert!(!bindings.contains(&near.binding));
            bindings.push(near.binding);

            let mut body = BytesMut::new();
            near.secret.seal_request(1, b"secret", &mut body);
            let mut opener = far.secret.opener(Direction::Request, 1);
            opener.feed(&body).expect("not ended");
            assert!(opener.next().is_ok());
        }
    }

    #[test]
    fn any_changed_byte_of_message_2_or_3_fails_the_handshake() {
        let (client, server) = (identity(), identity());
        for at in 0..SECOND_BYTES {
            let (initiator, first) = client.initiate().expect("randomness");
            let (_, mut second) = server.respond(&first, ChannelId([1; 16])).expect("genuine");
            second[at] ^= 1;
            assert!(initiator.finish(&second).is_err(), "byte {at} of message 2");
        }
        for at in 0..THIRD_BYTES {
            let (initiator, first) = client.initiate().expect("randomness");
            let (responder, second) = server.respond(&first, ChannelId([1; 16])).expect("genuine");
            let (_, mut third, _) = initiator.finish(&second).expect("genuine");
            third[at] ^= 1;
            assert!(responder.finish(&third).is_err(), "byte {at} of message 3");
        }
    }

    #[test]
    fn names_of_channels_round_trip_and_parse_strictly() {
        let id = ChannelId([0xa5; 16]);
        assert_eq!(ChannelId::parse(&id.to_string()), Some(id));
        assert_eq!(ChannelId::parse(&id.to_string().to_uppercase()), None);
        assert_eq!(ChannelId::parse("a5"), None);
    }
}
