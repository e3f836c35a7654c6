//! Mutual TLS 1.3 between raw Ed25519 keys (RFC 7250): a peer is its key, and nothing else is said about it.
//!
//! No certificates, no resumption, no tickets, no 0-RTT: every connection proves both keys. Whether a key may
//! speak is not decided here: any valid key finishes the handshake, and [`crate::mesh`] admits or closes.

use crate::{Env, Identity};
use quinn::{
    Connection,
    crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig},
};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::{
        AlwaysResolvesClientRawPublicKeys, Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{WebPkiSupportedAlgorithms, aws_lc_rs::sign::any_eddsa_type, verify_tls13_signature_with_raw_key},
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime},
    server::{
        AlwaysResolvesServerRawPublicKeys,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
    time_provider::TimeProvider,
};
use skep_runtime::NodeId;
use std::{fmt, sync::Arc, time::Duration};

/// The protocol between members: actor links, bulk, control streams, datagrams.
pub const MEMBERS: &[u8] = b"skep/1";
/// The protocol of those who want to become members: one stream.
pub const JOIN: &[u8] = b"skep-join/1";
/// The server name of a dial that will take any key and look at it afterwards. Never a node's name: those have 52 characters.
pub(crate) const ANYONE: &str = "anyone.skep.invalid";

/// `SubjectPublicKeyInfo { Ed25519, .. }` in DER up to the key (RFC 8410): what stands in place of a certificate.
const SPKI: [u8; 12] = *b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";
/// A PKCS#8 Ed25519 private key in DER up to the seed (RFC 8410).
const PKCS8: [u8; 16] = *b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";

/// Both halves of a node's TLS.
pub(crate) struct Tls {
    /// For those who dial us, by either protocol.
    pub(crate) server: Arc<QuicServerConfig>,
    /// For dialling a member: the server name is its key, and no other key passes.
    pub(crate) member: Arc<QuicClientConfig>,
    /// For joining: the server name is a key, or [`ANYONE`].
    pub(crate) join: Arc<QuicClientConfig>,
}

impl Tls {
    pub(crate) fn new(env: &Env, identity: &Identity) -> Result<Tls, Error> {
        let clock = Arc::new(Clock(env.base.clone()));
        let signer = any_eddsa_type(&PrivatePkcs8KeyDer::from([&PKCS8[..], identity.seed()].concat()))?;
        let own = Arc::new(CertifiedKey::new(vec![spki(&identity.id()).into()], signer));
        let algorithms = env.crypto.signature_verification_algorithms;
        let no_suites = |_| Error::General("the crypto provider has no TLS 1.3 suite that QUIC can start with".into());

        let mut server = rustls::ServerConfig::builder_with_details(env.crypto.clone(), clock.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(Key { algorithms, anyone: false }))
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(own.clone())));
        server.alpn_protocols = vec![MEMBERS.into(), JOIN.into()];
        server.send_tls13_tickets = 0;

        let client = |alpn: &[u8], anyone| -> Result<Arc<QuicClientConfig>, Error> {
            let mut client = rustls::ClientConfig::builder_with_details(env.crypto.clone(), clock.clone())
                .with_protocol_versions(&[&rustls::version::TLS13])?
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Key { algorithms, anyone }))
                .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(own.clone())));
            client.alpn_protocols = vec![alpn.into()];
            // The name is for our verifier, not for the wire.
            client.enable_sni = false;
            client.resumption = Resumption::disabled();
            Ok(Arc::new(QuicClientConfig::try_from(client).map_err(no_suites)?))
        };
        let (member, join) = (client(MEMBERS, false)?, client(JOIN, true)?);
        Ok(Tls { server: Arc::new(QuicServerConfig::try_from(server).map_err(no_suites)?), member, join })
    }
}

/// Whose key completed the handshake. With raw keys the "certificate chain" is one SubjectPublicKeyInfo.
pub(crate) fn peer(connection: &Connection) -> Option<NodeId> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    from_spki(chain.first()?)
}

/// Which protocol both sides agreed on.
pub(crate) fn protocol(connection: &Connection) -> Option<Vec<u8>> {
    connection.handshake_data()?.downcast::<HandshakeData>().ok()?.protocol
}

fn spki(id: &NodeId) -> Vec<u8> {
    [&SPKI[..], id.as_bytes()].concat()
}

fn from_spki(der: &[u8]) -> Option<NodeId> {
    Some(NodeId::from_bytes(der.strip_prefix(&SPKI)?.try_into().ok()?))
}

/// Takes any Ed25519 key from a client, and from a server the key that it was dialled by.
#[derive(Debug)]
struct Key {
    algorithms: WebPkiSupportedAlgorithms,
    /// Whether [`ANYONE`] is a name that may be dialled.
    anyone: bool,
}

impl Key {
    fn of(der: &CertificateDer<'_>) -> Result<NodeId, Error> {
        from_spki(der).ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))
    }

    fn signed(
        &self,
        message: &[u8],
        der: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature_with_raw_key(
            message,
            &SubjectPublicKeyInfoDer::from(der.as_ref()),
            signature,
            &self.algorithms,
        )
    }
}

const TLS13_ONLY: Error = Error::PeerIncompatible(rustls::PeerIncompatible::Tls13RequiredForQuic);

impl ServerCertVerifier for Key {
    fn verify_server_cert(
        &self,
        der: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let key = Key::of(der)?;
        if name.to_str() != key.to_string() && !(self.anyone && name.to_str() == ANYONE) {
            return Err(CertificateError::NotValidForName.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(TLS13_ONLY)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        der: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed(message, der, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Key {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        der: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Key::of(der).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(TLS13_ONLY)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        der: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed(message, der, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// TLS asks for the wall clock: the environment's.
struct Clock(skep_runtime::Env);

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis(self.0.now_ms())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_tls_form_and_anything_else_is_refused() {
        let id = NodeId::from_bytes([7; 32]);
        assert_eq!(from_spki(&spki(&id)), Some(id));
        for der in [&b""[..], &SPKI, &spki(&id)[..43], &[spki(&id), vec![0]].concat(), &[0; 44]] {
            assert_eq!(from_spki(der), None);
        }
    }
}
