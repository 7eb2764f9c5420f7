//! Handshakes between honest sides, and with somebody between or beside them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use bytes::Bytes;
use eid_core::{PublicKey, SecretKey};
use eid_proto::message::{Greeting, Versions};
use eid_proto::{
    Established, FEATURE_LIVE, FEATURES, Handshake, HandshakeError, HandshakeOutput, Identity, List,
    RefusalCode, VERSIONS,
};
use proptest::prelude::*;

fn key(n: u8) -> Arc<SecretKey> {
    Arc::new(SecretKey::from_seed([n; 32]))
}

fn identity(n: u8, binding: u8, nonce: u8) -> Identity {
    Identity {
        device: key(n),
        name: format!("device {n}"),
        binding: [binding; 32],
        proven: None,
        nonce: [nonce; 32],
        features: FEATURES,
    }
}

fn client() -> Handshake {
    Handshake::client(identity(1, 9, 11), Some(key(2).public()), vec![key(3), key(4)])
}

fn server() -> Handshake {
    Handshake::server(identity(2, 9, 12))
}

type Ends = (Result<Established, HandshakeError>, Result<Established, HandshakeError>);

/// Runs a handshake; `between` sees and may change every frame. Gives both ends and the bytes.
fn run(
    mut client: Handshake,
    mut server: Handshake,
    mut between: impl FnMut(bool, Greeting) -> Greeting,
) -> (Ends, usize) {
    let (mut bytes, mut errors) = (0, (None, None));
    loop {
        let mut quiet = true;
        for from_client in [true, false] {
            let (from, to, error) = if from_client {
                (&mut client, &mut server, &mut errors.1)
            } else {
                (&mut server, &mut client, &mut errors.0)
            };
            while let HandshakeOutput::Send(frame) = from.poll() {
                quiet = false;
                bytes += frame.len();
                let frame = between(from_client, Greeting::decode(&frame).unwrap()).encode();
                if error.is_none() {
                    *error = to.handle_frame(&frame).err();
                }
                assert_eq!(from.poll(), HandshakeOutput::EndTurn);
            }
        }
        if quiet {
            break;
        }
    }
    let end = |mut side: Handshake, error: Option<HandshakeError>| match (side.poll(), error) {
        (HandshakeOutput::Established(established), None) => Ok(established),
        (_, Some(error)) => Err(error),
        (output, None) => panic!("neither end: {output:?}"),
    };
    let ended_early = errors.0.is_some() || errors.1.is_some();
    let quiet = || Err(HandshakeError::Misplaced);
    let client = if ended_early && errors.0.is_none() { quiet() } else { end(client, errors.0) };
    let server = if ended_early && errors.1.is_none() { quiet() } else { end(server, errors.1) };
    ((client, server), bytes)
}

#[test]
fn both_sides_learn_who_the_other_is_in_two_round_trips_and_under_a_kilobyte() {
    let ((met, joined), bytes) = run(client(), server(), |_, greeting| greeting);
    let (met, joined) = (met.unwrap(), joined.unwrap());
    assert_eq!((met.peer, met.name.as_str()), (key(2).public(), "device 2"));
    assert_eq!((joined.peer, joined.name.as_str()), (key(1).public(), "device 1"));
    assert_eq!(joined.further, [key(3).public(), key(4).public()]);
    assert!(bytes < 1024, "{bytes}");
}

#[test]
fn a_client_that_meets_the_wrong_server_says_nothing_about_itself() {
    let client = Handshake::client(identity(1, 9, 11), Some(key(5).public()), vec![]);
    let mut proofs = 0;
    let ((met, _), _) = run(client, server(), |_, greeting| {
        proofs += usize::from(matches!(greeting, Greeting::Proofs { .. }));
        greeting
    });
    assert!(matches!(met, Err(HandshakeError::WrongServer { found, .. }) if found == key(2).public()));
    assert_eq!(proofs, 0);
}

#[test]
fn a_key_that_the_transport_has_not_proven_is_refused() {
    let with = |mut identity: Identity, proven: PublicKey| {
        identity.proven = Some(proven);
        identity
    };
    let client_side = Handshake::client(with(identity(1, 9, 11), key(5).public()), None, vec![]);
    let ((met, _), _) = run(client_side, server(), |_, greeting| greeting);
    assert!(matches!(met, Err(HandshakeError::Transport { .. })));
    let server_side = Handshake::server(with(identity(2, 9, 12), key(5).public()));
    let ((_, joined), _) = run(client(), server_side, |_, greeting| greeting);
    assert!(matches!(joined, Err(HandshakeError::Transport { .. })));
    let server_side = Handshake::server(with(identity(2, 9, 12), key(1).public()));
    let ((_, joined), _) = run(client(), server_side, |_, greeting| greeting);
    assert!(joined.is_ok());
}

/// What an eavesdropper keeps of a handshake.
fn recorded() -> Vec<(bool, Greeting)> {
    let mut record = Vec::new();
    let (ends, _) = run(client(), server(), |from_client, greeting| {
        record.push((from_client, greeting.clone()));
        greeting
    });
    assert!(ends.0.is_ok() && ends.1.is_ok());
    record
}

#[test]
fn a_replayed_handshake_is_refused_by_both_sides() {
    let record = recorded();
    let replay = |from_client: bool| record.iter().filter(move |(by, _)| *by == from_client);
    // A server with a fresh nonce meets the recorded client.
    let mut fresh = Handshake::server(identity(2, 9, 99));
    let mut last = Ok(());
    for (_, greeting) in replay(true) {
        last = fresh.handle_frame(&greeting.encode());
    }
    assert!(matches!(last, Err(HandshakeError::Proof)), "{last:?}");
    let said: Vec<HandshakeOutput> = (0..4).map(|_| fresh.poll()).collect();
    assert_eq!(said[2], HandshakeOutput::Send(Greeting::Refused(RefusalCode::Proof).encode()));
    // A client with a fresh nonce meets the recorded server.
    let mut fresh = Handshake::client(identity(1, 9, 98), None, vec![]);
    let (_, greeting) = replay(false).next().unwrap();
    assert!(matches!(fresh.handle_frame(&greeting.encode()), Err(HandshakeError::Proof)));
    // The same nonces on another connection: its binding differs.
    let mut other = Handshake::client(identity(1, 8, 11), None, vec![]);
    assert!(matches!(other.handle_frame(&greeting.encode()), Err(HandshakeError::Proof)));
}

#[test]
fn a_proof_for_one_server_is_none_for_another() {
    // The client dials 6, which passes everything on to 2 and hopes to be taken for the client there.
    let client_side = Handshake::client(identity(1, 9, 11), None, vec![]);
    let evil = key(6);
    let ((met, joined), _) = run(client_side, server(), move |_, greeting| match greeting {
        Greeting::ServerHello { hello, proof, .. } => {
            Greeting::ServerHello { hello, key: evil.public().0, proof }
        }
        other => other,
    });
    assert!(matches!(met, Err(HandshakeError::Proof)));
    assert!(joined.is_err());
    // Somebody puts his own key beside the client's proof.
    let ((_, joined), _) = run(client(), server(), |_, greeting| match greeting {
        Greeting::Proofs { proof, further, name, .. } => {
            Greeting::Proofs { key: key(6).public().0, proof, further, name }
        }
        other => other,
    });
    assert!(matches!(joined, Err(HandshakeError::Proof)));
    // A further key's proof is no device key's proof.
    let ((_, joined), _) = run(client(), server(), |_, greeting| match greeting {
        Greeting::Proofs { further, name, .. } => {
            let (key, proof) = further[0];
            Greeting::Proofs { key, proof, further: List::new(vec![]), name }
        }
        other => other,
    });
    assert!(matches!(joined, Err(HandshakeError::Proof)));
}

#[test]
fn changed_versions_or_features_break_the_proofs() {
    type Change = fn(&mut Greeting);
    let changes: [Change; 3] = [
        |greeting| {
            if let Greeting::Hello(hello) = greeting {
                hello.versions.oldest = 0;
            }
        },
        |greeting| {
            if let Greeting::Hello(hello) = greeting {
                hello.features ^= 1;
            }
        },
        |greeting| {
            if let Greeting::ServerHello { hello, .. } = greeting {
                hello.versions.newest = 9;
            }
        },
    ];
    for change in changes {
        let ((met, joined), _) = run(client(), server(), move |_, mut greeting| {
            change(&mut greeting);
            greeting
        });
        assert!(matches!(met, Err(HandshakeError::Proof)), "{met:?}");
        assert!(joined.is_err());
    }
}

#[test]
fn no_version_in_common_is_an_error_that_names_both() {
    let newer = Versions { oldest: 7, newest: 8 };
    let ((met, joined), _) = run(client(), server(), move |_, greeting| match greeting {
        Greeting::Hello(mut hello) => {
            hello.versions = newer;
            Greeting::Hello(hello)
        }
        other => other,
    });
    assert!(matches!(met, Err(HandshakeError::Version { theirs, .. }) if theirs == VERSIONS));
    let Err(error) = joined else { panic!("the server accepted version 7") };
    assert_eq!(error.to_string(), "no protocol version in common: this side speaks 1 to 1, the other 7 to 8");
}

proptest! {
    #[test]
    fn random_frames_never_panic(frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..6)) {
        for mut side in [client(), server()] {
            for frame in &frames {
                let mut framed = vec![0];
                framed.extend(frame);
                drop(side.handle_frame(frame));
                drop(side.handle_frame(&Bytes::from(framed)));
            }
        }
    }
}

#[test]
fn a_feature_is_used_when_both_sides_offer_it() {
    let features = |mine: u64, theirs: u64| {
        let offering = |n, nonce, features| Identity { features, ..identity(n, 9, nonce) };
        let client = Handshake::client(offering(1, 11, mine), None, vec![]);
        let server = Handshake::server(offering(2, 12, theirs));
        let ((met, joined), _) = run(client, server, |_, greeting| greeting);
        let (met, joined) = (met.unwrap().features, joined.unwrap().features);
        assert_eq!(met, joined);
        met
    };
    assert_eq!(features(FEATURES, FEATURES), FEATURES);
    assert_eq!(features(FEATURES, 0), 0);
    assert_eq!(features(0, FEATURES), 0);
    assert_eq!(features(FEATURE_LIVE, FEATURES), FEATURE_LIVE);
    assert_eq!(features(u64::MAX, u64::MAX), FEATURES, "what nobody knows is not offered");
}
