//! The handshake: two round trips in which both sides prove their keys, the server first.
//!
//! A proof signs a transcript: BLAKE3 over the channel binding, both hellos and both identities. A proof that was
//! made for another connection, another peer or other hellos is therefore none, which rules out replay, unknown key
//! shares and downgrades of the version.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use eid_core::{Domain, PublicKey, SecretKey, Signature, sign, verify};

use crate::bounded::{List, Text};
use crate::limits::{KEYS_MAX, STATES_MAX};
use crate::message::{DecodeError, Greeting, Hello, PROTOCOL_VERSION, Proof, RefusalCode, Versions};

/// The versions that this crate speaks.
pub const VERSIONS: Versions = Versions { oldest: PROTOCOL_VERSION, newest: PROTOCOL_VERSION };
/// The feature of keeping databases in step after their sessions ([`crate::Live`]).
pub const FEATURE_LIVE: u64 = 1;
/// The feature of reading compressed batches ([`crate::message::CompressedBatch`]).
pub const FEATURE_ZSTD: u64 = 2;
/// The optional features that this crate has.
pub const FEATURES: u64 = FEATURE_LIVE | if cfg!(feature = "zstd") { FEATURE_ZSTD } else { 0 };

/// What either side brings to a handshake.
#[derive(Clone)]
pub struct Identity {
    /// Proves who this device is.
    pub device: Arc<SecretKey>,
    /// What people call it.
    pub name: String,
    /// Of the connection: the same on both sides, different for each connection.
    pub binding: [u8; 32],
    /// The key that the transport itself has proven, if it has.
    pub proven: Option<PublicKey>,
    /// Fresh and random.
    pub nonce: [u8; 32],
    /// What it offers of [`FEATURES`].
    pub features: u64,
}

impl Identity {
    fn hello(&self) -> Hello {
        Hello { versions: VERSIONS, features: self.features & FEATURES, nonce: self.nonce }
    }
}

/// Who the other side has proven to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Established {
    /// Its device key.
    pub peer: PublicKey,
    /// Further keys that it has proven: of databases and invites.
    pub further: Vec<PublicKey>,
    /// What it calls itself. Comes from the network: escape it before a terminal sees it.
    pub name: String,
    /// The states of databases that it holds, see [`crate::state_of`]. A hint; a client tells none.
    pub states: Vec<[u8; 8]>,
    /// The features that both sides have.
    pub features: u64,
}

impl Established {
    /// All keys that the other side has proven, its device key first.
    #[must_use]
    pub fn keys(&self) -> Vec<PublicKey> {
        [self.peer].iter().chain(&self.further).copied().collect()
    }
}

/// Says why a handshake ended.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The other side sent something that is not a greeting.
    #[error("the other side sent what is no greeting")]
    Malformed(#[from] DecodeError),
    /// The other side sent a greeting out of turn.
    #[error("the other side sent a greeting out of turn")]
    Misplaced,
    /// No version in common.
    #[error("no protocol version in common: this side speaks {} to {}, the other {} to {}",
        .ours.oldest, .ours.newest, .theirs.oldest, .theirs.newest)]
    Version {
        /// This side's.
        ours: Versions,
        /// The other side's.
        theirs: Versions,
    },
    /// A proof does not hold: the other side does not have the key, or somebody sits between.
    #[error("the other side did not prove its key")]
    Proof,
    /// The key that was proven is not the one that the transport has proven.
    #[error("the other side proved {found} and its transport {proven}")]
    Transport {
        /// By the transport.
        proven: PublicKey,
        /// By the handshake.
        found: PublicKey,
    },
    /// Somebody else answered at this address.
    #[error("expected {expected} and met {found}")]
    WrongServer {
        /// Who was to be met.
        expected: PublicKey,
        /// Who was met.
        found: PublicKey,
    },
    /// The other side refused.
    #[error("refused: {0}")]
    Refused(RefusalCode),
}

impl HandshakeError {
    /// Whether the same handshake can succeed later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Refused(RefusalCode::Busy | RefusalCode::Failed))
    }
}

/// What a handshake wants done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandshakeOutput {
    /// Send this frame.
    Send(Bytes),
    /// Let the other side speak.
    EndTurn,
    /// Wait for a frame.
    NeedFrame,
    /// Tell a client that has proven these keys the states of what they may read, with [`Handshake::tell`].
    Tell(Vec<PublicKey>),
    /// It is complete; the turn is the client's.
    Established(Established),
    /// It has failed; nothing more is sent.
    Failed,
}

/// One side of a handshake, as a value.
pub struct Handshake {
    identity: Identity,
    stage: Stage,
    outbox: Vec<HandshakeOutput>,
    /// A server has states to tell.
    tells: bool,
}

enum Stage {
    /// The client waits for the server's proof.
    ServerHello {
        hello: Hello,
        expected: Option<PublicKey>,
        further: Vec<Arc<SecretKey>>,
    },
    /// The client waits to be let in.
    Welcome {
        peer: PublicKey,
        features: u64,
    },
    /// The server waits for a client.
    Hello {
        hello: Hello,
    },
    /// The server waits for the client's proofs.
    Proofs {
        transcript: Transcript,
        features: u64,
    },
    /// The client is known, and to be let in.
    Telling(Established),
    Established(Established),
    Failed,
}

impl Handshake {
    /// The dialling side. With `expected`, any other server ends the handshake before this side says who it is.
    #[must_use]
    pub fn client(identity: Identity, expected: Option<PublicKey>, mut further: Vec<Arc<SecretKey>>) -> Self {
        further.truncate(KEYS_MAX);
        let hello = identity.hello();
        let outbox = vec![HandshakeOutput::Send(Greeting::Hello(hello).encode()), HandshakeOutput::EndTurn];
        Self { identity, stage: Stage::ServerHello { hello, expected, further }, outbox, tells: false }
    }

    /// The listening side.
    #[must_use]
    pub fn server(identity: Identity) -> Self {
        let hello = identity.hello();
        Self { identity, stage: Stage::Hello { hello }, outbox: Vec::new(), tells: false }
    }

    /// As a server, asks with [`HandshakeOutput::Tell`] before it lets a client in.
    #[must_use]
    pub fn telling(mut self) -> Self {
        self.tells = true;
        self
    }

    /// Lets the client in, and tells it the states of databases that it may read.
    pub fn tell(&mut self, mut states: Vec<[u8; 8]>) {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Failed) {
            Stage::Telling(established) => {
                states.truncate(STATES_MAX);
                let name = Text::new(&self.identity.name);
                self.say(&Greeting::Welcome { name, states: List::new(states) });
                Stage::Established(established)
            }
            stage => stage,
        };
    }

    /// What to do next.
    pub fn poll(&mut self) -> HandshakeOutput {
        if !self.outbox.is_empty() {
            return self.outbox.remove(0);
        }
        match &self.stage {
            Stage::Established(established) => HandshakeOutput::Established(established.clone()),
            Stage::Telling(established) => HandshakeOutput::Tell(established.keys()),
            Stage::Failed => HandshakeOutput::Failed,
            _ => HandshakeOutput::NeedFrame,
        }
    }

    /// Takes a frame. After an error, [`Self::poll`] may still have a refusal to send.
    pub fn handle_frame(&mut self, frame: &[u8]) -> Result<(), HandshakeError> {
        let stage = std::mem::replace(&mut self.stage, Stage::Failed);
        let greeting = Greeting::decode(frame)?;
        self.stage = match (stage, greeting) {
            (Stage::ServerHello { .. } | Stage::Welcome { .. }, Greeting::Refused(code)) => {
                return Err(match code {
                    RefusalCode::Version(theirs) => HandshakeError::Version { ours: VERSIONS, theirs },
                    code => HandshakeError::Refused(code),
                });
            }
            (
                Stage::ServerHello { hello, expected, further },
                Greeting::ServerHello { hello: theirs, key, proof },
            ) => {
                if common_version(theirs.versions).is_none() {
                    return Err(HandshakeError::Version { ours: VERSIONS, theirs: theirs.versions });
                }
                let peer = PublicKey(key);
                let transcript =
                    Transcript { binding: self.identity.binding, client: hello, server: theirs, key: peer };
                self.check(Domain::ServerProof, &peer, &transcript.of_server(), proof)?;
                self.check_transport(peer)?;
                if let Some(expected) = expected.filter(|expected| *expected != peer) {
                    return Err(HandshakeError::WrongServer { expected, found: peer });
                }
                self.prove(&transcript, &further);
                Stage::Welcome { peer, features: theirs.features & hello.features }
            }
            (Stage::Welcome { peer, features }, Greeting::Welcome { name, states }) => {
                Stage::Established(Established {
                    peer,
                    further: Vec::new(),
                    name: name.into_string(),
                    states: states.into_vec(),
                    features,
                })
            }
            (Stage::Hello { hello }, Greeting::Hello(theirs)) => {
                if common_version(theirs.versions).is_none() {
                    self.refuse(RefusalCode::Version(VERSIONS));
                    return Err(HandshakeError::Version { ours: VERSIONS, theirs: theirs.versions });
                }
                let key = self.identity.device.public();
                let transcript =
                    Transcript { binding: self.identity.binding, client: theirs, server: hello, key };
                let proof = proof(Domain::ServerProof, &self.identity.device, &transcript.of_server());
                self.say(&Greeting::ServerHello { hello, key: key.0, proof });
                Stage::Proofs { transcript, features: theirs.features & hello.features }
            }
            (Stage::Proofs { transcript, features }, Greeting::Proofs { key, proof, further, name }) => {
                let peer = PublicKey(key);
                let signed = transcript.of_client(peer);
                self.check(Domain::ClientProof, &peer, &signed, proof)?;
                self.check_transport(peer)?;
                for (key, proof) in further.iter() {
                    self.check(Domain::KeyProof, &PublicKey(*key), &signed, *proof)?;
                }
                let further = further.iter().map(|(key, _)| PublicKey(*key)).collect();
                let (name, states) = (name.into_string(), Vec::new());
                let established = Established { peer, further, name, states, features };
                if self.tells {
                    Stage::Telling(established)
                } else {
                    let name = Text::new(&self.identity.name);
                    self.say(&Greeting::Welcome { name, states: List::new(Vec::new()) });
                    Stage::Established(established)
                }
            }
            (Stage::Hello { .. } | Stage::Proofs { .. }, _) => {
                self.refuse(RefusalCode::Misplaced);
                return Err(HandshakeError::Misplaced);
            }
            _ => return Err(HandshakeError::Misplaced),
        };
        Ok(())
    }

    /// The client says who it is, and proves what keys it has.
    fn prove(&mut self, transcript: &Transcript, further: &[Arc<SecretKey>]) {
        let device = &self.identity.device;
        let signed = transcript.of_client(device.public());
        let further =
            further.iter().map(|key| (key.public().0, proof(Domain::KeyProof, key, &signed))).collect();
        let greeting = Greeting::Proofs {
            key: device.public().0,
            proof: proof(Domain::ClientProof, device, &signed),
            further: List::new(further),
            name: Text::new(&self.identity.name),
        };
        self.say(&greeting);
    }

    fn check(
        &mut self,
        domain: Domain,
        key: &PublicKey,
        signed: &[u8; 32],
        proof: Proof,
    ) -> Result<(), HandshakeError> {
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&proof.0);
        signature[32..].copy_from_slice(&proof.1);
        if verify(domain, key, signed, &Signature(signature)) {
            return Ok(());
        }
        if domain != Domain::ServerProof {
            self.refuse(RefusalCode::Proof);
        }
        Err(HandshakeError::Proof)
    }

    fn check_transport(&self, found: PublicKey) -> Result<(), HandshakeError> {
        match self.identity.proven.filter(|proven| *proven != found) {
            Some(proven) => Err(HandshakeError::Transport { proven, found }),
            None => Ok(()),
        }
    }

    fn say(&mut self, greeting: &Greeting) {
        self.outbox.push(HandshakeOutput::Send(greeting.encode()));
        self.outbox.push(HandshakeOutput::EndTurn);
    }

    fn refuse(&mut self, code: RefusalCode) {
        self.say(&Greeting::Refused(code));
    }
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match &self.stage {
            Stage::ServerHello { .. } => "server hello",
            Stage::Welcome { .. } => "welcome",
            Stage::Hello { .. } => "hello",
            Stage::Proofs { .. } => "proofs",
            Stage::Telling(_) => "telling",
            Stage::Established(_) => "established",
            Stage::Failed => "failed",
        };
        write!(f, "Handshake({stage})")
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("device", &self.device.public())
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// What proofs are made over.
struct Transcript {
    binding: [u8; 32],
    client: Hello,
    server: Hello,
    key: PublicKey,
}

impl Transcript {
    /// Before the client has said who it is.
    fn of_server(&self) -> [u8; 32] {
        *self.hasher("eid 2026 handshake transcript, server").finalize().as_bytes()
    }

    /// Over both identities.
    fn of_client(&self, client: PublicKey) -> [u8; 32] {
        *self.hasher("eid 2026 handshake transcript, client").update(&client.0).finalize().as_bytes()
    }

    /// Every part has a fixed length, so no two transcripts have the same bytes.
    fn hasher(&self, context: &str) -> blake3::Hasher {
        let mut hasher = blake3::Hasher::new_derive_key(context);
        hasher.update(&self.binding);
        for hello in [&self.client, &self.server] {
            hasher
                .update(&[hello.versions.oldest, hello.versions.newest])
                .update(&hello.features.to_le_bytes())
                .update(&hello.nonce);
        }
        hasher.update(&self.key.0);
        hasher
    }
}

fn proof(domain: Domain, key: &SecretKey, signed: &[u8; 32]) -> Proof {
    let Signature(bytes) = sign(domain, key, signed);
    let (mut first, mut second) = ([0; 32], [0; 32]);
    first.copy_from_slice(&bytes[..32]);
    second.copy_from_slice(&bytes[32..]);
    Proof(first, second)
}

/// The newest version that both sides speak.
fn common_version(theirs: Versions) -> Option<u8> {
    let newest = theirs.newest.min(VERSIONS.newest);
    (newest >= theirs.oldest.max(VERSIONS.oldest)).then_some(newest)
}
