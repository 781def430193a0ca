//! One connection's identity, looked at again when what it rests on changes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls_pki_types::{CertificateDer, UnixTime};

use super::{ClientCertificate, Directory, IdentityError, Peer, Principal};
use crate::tls::Tls;

/// Turns verified certificates into principals, under the files and grants in force.
#[derive(Debug)]
pub struct Authenticator {
    tls: Arc<Tls>,
    directory: ArcSwap<Directory>,
    directory_generation: AtomicU64,
}

impl Authenticator {
    /// Under `tls` and the configured principals.
    pub fn new(tls: Arc<Tls>, directory: Directory) -> Self {
        Self { tls, directory: ArcSwap::from_pointee(directory), directory_generation: AtomicU64::new(0) }
    }

    /// The TLS files in force.
    pub const fn tls(&self) -> &Arc<Tls> {
        &self.tls
    }

    /// Swaps the configured principals; open connections notice at their next request.
    pub fn replace_directory(&self, directory: Directory) {
        self.directory.store(Arc::new(directory));
        self.directory_generation.fetch_add(1, Ordering::Release);
    }

    /// For whom a bearer token stands now.
    pub fn resolve_token(&self, token: &str) -> Result<Principal, IdentityError> {
        self.directory.load().resolve_token(token)
    }

    /// Changes whenever an identity might.
    fn generation(&self) -> (u64, u64) {
        (self.tls.generation(), self.directory_generation.load(Ordering::Acquire))
    }
}

type Identity = Result<Arc<Principal>, IdentityError>;

/// The identity of one connection.
#[derive(Debug)]
pub struct Session {
    authenticator: Arc<Authenticator>,
    remote: SocketAddr,
    certificate: Option<ClientCertificate>,
    chain: Vec<CertificateDer<'static>>,
    known: Mutex<Option<((u64, u64), Identity)>>,
}

impl Session {
    /// `chain` is what the finished handshake verified; empty if the client showed nothing.
    pub fn new(
        authenticator: Arc<Authenticator>,
        remote: SocketAddr,
        chain: Vec<CertificateDer<'static>>,
    ) -> Self {
        let certificate = chain.first().map(ClientCertificate::read);
        Self { authenticator, remote, certificate, chain, known: Mutex::new(None) }
    }

    /// Who is there, as of `now`. Two integers are compared unless files or grants changed since the
    /// last call; then the whole chain is verified again.
    pub fn peer(&self, now: UnixTime) -> Peer {
        Peer::new(self.remote, self.identity(now))
    }

    fn identity(&self, now: UnixTime) -> Identity {
        let Some(certificate) = &self.certificate else { return Err(IdentityError::NoCertificate) };
        if certificate.expired_at(i64::try_from(now.as_secs()).unwrap_or(i64::MAX)) {
            return Err(IdentityError::Expired);
        }
        // Read before looking, so that a change during the look is noticed by the next request.
        let generation = self.authenticator.generation();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((seen, identity)) = &*known
            && *seen == generation
        {
            return identity.clone();
        }
        let identity = self.look(certificate, now);
        *known = Some((generation, identity.clone()));
        identity
    }

    fn look(&self, certificate: &ClientCertificate, now: UnixTime) -> Identity {
        if !self.authenticator.tls.still_accepts(&self.chain, now) {
            return Err(IdentityError::Withdrawn);
        }
        self.authenticator.directory.load().resolve(certificate).map(Arc::new)
    }
}
