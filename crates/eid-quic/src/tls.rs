//! TLS 1.3 with raw public keys: the key of a device is the key of its end of a connection.
//!
//! What TLS signs begins with 64 spaces (RFC 8446, 4.4.3), and so is never what
//! [`sign_domain`](eid_core::sign_domain) puts before a message: neither can be shown as the other.

use std::sync::{Arc, OnceLock};

use eid_core::{PublicKey, SecretKey};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible,
    ServerConfig, SignatureScheme,
};
use zeroize::Zeroizing;

use crate::ALPN;

/// What stands before the 32 bytes of a public key in its DER form (RFC 8410).
const PUBLIC_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// What stands before the 32 bytes of a seed in its DER form (RFC 8410).
const SECRET_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// The key of this device as TLS uses it.
#[derive(Debug)]
pub(crate) struct Identity {
    key: Arc<CertifiedKey>,
    provider: Arc<CryptoProvider>,
}

/// Whom a client has met in a handshake.
#[derive(Debug)]
pub(crate) struct Meeting(Arc<Keys>);

impl Identity {
    pub(crate) fn new(key: &SecretKey) -> Self {
        let mut secret = Zeroizing::new([0; SECRET_PREFIX.len() + 32]);
        secret[..SECRET_PREFIX.len()].copy_from_slice(&SECRET_PREFIX);
        secret[SECRET_PREFIX.len()..].copy_from_slice(&*key.to_seed());
        let signing = rustls::crypto::ring::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(&secret[..]))
            .expect("a seed in this form is a key");
        let public = CertificateDer::from([&PUBLIC_PREFIX[..], &key.public().0].concat());
        Self {
            key: Arc::new(CertifiedKey::new(vec![public], signing)),
            provider: Arc::new(rustls::crypto::ring::default_provider()),
        }
    }

    /// For one dial: with `expected`, any other server is left before this side shows its key.
    pub(crate) fn client(&self, expected: Option<PublicKey>) -> (QuicClientConfig, Meeting) {
        let keys = self.keys(expected);
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("ring has TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(keys.clone())
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(self.key.clone())));
        config.alpn_protocols = vec![ALPN.into()];
        // A resumed session proves no key.
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        (config.try_into().expect("ring has the initial cipher suite"), Meeting(keys))
    }

    pub(crate) fn server(&self) -> QuicServerConfig {
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("ring has TLS 1.3")
            .with_client_cert_verifier(self.keys(None))
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(self.key.clone())));
        config.alpn_protocols = vec![ALPN.into()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.try_into().expect("ring has the initial cipher suite")
    }

    fn keys(&self, expected: Option<PublicKey>) -> Arc<Keys> {
        let algorithms = self.provider.signature_verification_algorithms;
        Arc::new(Keys { expected, algorithms, found: OnceLock::new() })
    }
}

impl Meeting {
    /// The key of a server that was not the expected one.
    pub(crate) fn stranger(&self) -> Option<PublicKey> {
        self.0.found.get().copied().filter(|found| Some(*found) != self.0.expected)
    }
}

/// The key that the other side of a complete handshake has proven.
pub(crate) fn proven(connection: &quinn::Connection) -> Option<PublicKey> {
    let identity = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    public_key(identity.first()?)
}

fn public_key(der: &CertificateDer<'_>) -> Option<PublicKey> {
    let key = der.strip_prefix(&PUBLIC_PREFIX)?;
    key.try_into().ok().map(PublicKey)
}

/// The key that is shown, with nothing beside it.
fn shown_key(shown: &CertificateDer<'_>, more: &[CertificateDer<'_>]) -> Result<PublicKey, Error> {
    let alone = public_key(shown).filter(|_| more.is_empty());
    alone.ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))
}

/// Looks at the keys that others show: any, or only the expected one.
#[derive(Debug)]
struct Keys {
    expected: Option<PublicKey>,
    algorithms: WebPkiSupportedAlgorithms,
    found: OnceLock<PublicKey>,
}

impl Keys {
    fn check(&self, shown: &CertificateDer<'_>, more: &[CertificateDer<'_>]) -> Result<(), Error> {
        let found = shown_key(shown, more)?;
        self.found.get_or_init(|| found);
        match self.expected {
            Some(expected) if expected != found => {
                Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
            }
            _ => Ok(()),
        }
    }
}

/// What both traits ask of a verifier of raw keys: a signature by the key that is shown, in TLS 1.3.
macro_rules! proves_raw_keys {
    () => {
        fn verify_tls12_signature(
            &self,
            _message: &[u8],
            _shown: &CertificateDer<'_>,
            _signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(PeerIncompatible::Tls12NotOffered.into())
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            shown: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let key = SubjectPublicKeyInfoDer::from(&**shown);
            verify_tls13_signature_with_raw_key(message, &key, signature, &self.algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ED25519]
        }

        fn requires_raw_public_keys(&self) -> bool {
            true
        }
    };
}

impl ServerCertVerifier for Keys {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(shown, more)?;
        Ok(ServerCertVerified::assertion())
    }

    proves_raw_keys!();
}

impl ClientCertVerifier for Keys {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        // One verifier serves every client, and so remembers none.
        shown_key(shown, more)?;
        Ok(ClientCertVerified::assertion())
    }

    proves_raw_keys!();
}
