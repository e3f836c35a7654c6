//! The production provider (`skep_transport::env::provider`) with its two sources of randomness taken from [`entropy`]:
//! TLS's random bytes, and the private half of each key exchange. Algorithms and code stay aws-lc's.

use crate::entropy;
use aws_lc_rs::agreement::{PrivateKey, PublicKey, UnparsedPublicKey, X25519, agree};
use rustls::{
    Error, NamedGroup,
    crypto::{ActiveKeyExchange, CryptoProvider, GetRandomFailed, SecureRandom, SharedSecret, SupportedKxGroup},
};
use std::sync::Arc;

/// Bytes of an X25519 private key (RFC 7748).
const PRIVATE_KEY_BYTES: usize = 32;

/// TLS whose every byte follows from the thread's seed.
pub fn provider() -> Arc<CryptoProvider> {
    let real = CryptoProvider::clone(&skep_transport::env::provider());
    Arc::new(CryptoProvider { kx_groups: vec![&Seeded], secure_random: &Seeded, ..real })
}

#[derive(Debug)]
struct Seeded;

impl SecureRandom for Seeded {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        entropy::fill(bytes).then_some(()).ok_or(GetRandomFailed)
    }
}

impl SupportedKxGroup for Seeded {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let mut key = [0; PRIVATE_KEY_BYTES];
        self.fill(&mut key).map_err(|_| Error::FailedToGetRandomBytes)?;
        let own = PrivateKey::from_private_key(&X25519, &key).map_err(|_| failed())?;
        let public = own.compute_public_key().map_err(|_| failed())?;
        Ok(Box::new(Exchange { own, public }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

struct Exchange {
    own: PrivateKey,
    public: PublicKey,
}

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        agree(&self.own, UnparsedPublicKey::new(&X25519, peer), failed(), |secret| Ok(SharedSecret::from(secret)))
    }

    fn pub_key(&self) -> &[u8] {
        self.public.as_ref()
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

fn failed() -> Error {
    Error::General("the key exchange failed".into())
}
