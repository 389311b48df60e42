//! The server's certificate: read from its files, and changed for new connections while it runs.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::num::NonZero;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use x509_cert::der::Decode as _;

use crate::authorities::{self, MAX_CERTIFICATES};
use crate::config::TlsFiles;
use ironloom_storage::small_files;
use ironloom_types::clock::{SECOND, Timestamp};

/// The application protocol that the server speaks.
const ALPN: &[u8] = b"http/1.1";
/// The time before the end of a certificate from which on it is told.
const SOON: u64 = 30 * DAY;
const DAY: u64 = 24 * 3_600 * SECOND;
/// Certificates of a chain: each is sent with each handshake.
const MAX_CHAIN: usize = 16;
/// Of as many cores one at most works on handshakes.
const CORES_PER_TURN: usize = 4;

/// The certificate that new connections get.
#[derive(Debug)]
pub(crate) struct Tls {
    current: Arc<Current>,
    config: Arc<ServerConfig>,
    /// Those of handshakes, whose signatures take a millisecond each: however many come, most threads do something else.
    turns: Semaphore,
}

#[derive(Debug)]
struct Current(ArcSwap<Certificate>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.load().key))
    }
}

/// A certificate with its chain and its key.
pub(crate) struct Certificate {
    key: Arc<CertifiedKey>,
    /// The earliest end in the chain.
    until: Timestamp,
    /// The latest begin in it.
    from: Timestamp,
}

/// Without the key.
impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate(until {})", self.until)
    }
}

impl Certificate {
    /// Reads one. May wait for a disk.
    ///
    /// # Errors
    /// In words, with the key of the configuration.
    pub(crate) fn read(files: &TlsFiles) -> Result<Self, String> {
        let chain =
            chain(&files.certificate).map_err(|error| format!("[server.tls] certificate: {error}"))?;
        let key = secret_key(&files.key).map_err(|error| format!("[server.tls] key: {error}"))?;
        let wrong =
            |error: String| format!("[server.tls] certificate: {}: {error}", files.certificate.display());
        let (mut from, mut until) = (Timestamp(0), Timestamp(u64::MAX));
        for one in &chain {
            let one = x509_cert::Certificate::from_der(one).map_err(|error| wrong(error.to_string()))?;
            let validity = one.tbs_certificate().validity();
            from = from.max(timestamp(validity.not_before));
            until = until.min(timestamp(validity.not_after));
        }
        let key =
            CertifiedKey::from_der(chain, key, &authorities::provider()).map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => format!(
                    "[server.tls] key: {} isn't the key of the first certificate in {}",
                    files.key.display(),
                    files.certificate.display()
                ),
                // The key is of a kind that nobody speaks, such as DSA; the error has nothing of it.
                error => format!("[server.tls] key: {}: {error}", files.key.display()),
            })?;
        Ok(Self { key: Arc::new(key), until, from })
    }

    /// Its end, or the earliest one in its chain.
    pub(crate) fn until(&self) -> Timestamp {
        self.until
    }

    /// Says if it has expired at this time.
    pub(crate) fn is_over(&self, now: Timestamp) -> bool {
        now >= self.until
    }

    /// The need to do something about it, in words.
    pub(crate) fn note(&self, now: Timestamp) -> Option<String> {
        let until = self.until;
        let renew = "put another one in its place, then `ironloom reload`";
        if self.is_over(now) {
            return Some(format!("the server's certificate expired on {until}: {renew}"));
        }
        if now < self.from {
            return Some(format!("the server's certificate isn't valid before {}", self.from));
        }
        let left = until.0 - now.0;
        (left <= SOON)
            .then(|| format!("the server's certificate ends on {until}, in {} days: {renew}", left / DAY))
    }

    /// The names and addresses of these that it isn't for, in words.
    pub(crate) fn not_for(&self, hosts: &[String]) -> Option<String> {
        let own = self.key.end_entity_cert().ok()?;
        let own = ParsedCertificate::try_from(own).ok()?;
        let is_for =
            |host: &str| ServerName::try_from(host).is_ok_and(|host| verify_server_name(&own, &host).is_ok());
        let others: Vec<&str> = hosts.iter().map(String::as_str).filter(|host| !is_for(host)).collect();
        (!others.is_empty()).then(|| {
            format!(
                "the server's certificate isn't for {}, which [server] hosts has: whoever calls the server so \
                 doesn't trust it",
                others.join(", ")
            )
        })
    }
}

/// The chain of the server, its own certificate first.
fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain = authorities::of_file(path)?;
    if chain.len() > MAX_CHAIN {
        return Err(format!(
            "{} has {} certificates; at most {MAX_CHAIN} are taken",
            path.display(),
            chain.len()
        ));
    }
    Ok(chain)
}

fn secret_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let pem = small_files::read_secret(path, MAX_CERTIFICATES).map_err(|error| error.to_string())?;
    let pem = zeroize::Zeroizing::new(pem);
    // The library's error could have a part of the key in it.
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
        format!("{} has no secret key in PEM that isn't encrypted (\"BEGIN PRIVATE KEY\")", path.display())
    })
}

fn timestamp(time: x509_cert::time::Time) -> Timestamp {
    // A certificate may be valid beyond the year 2554, where nanoseconds end.
    Timestamp(u64::try_from(time.to_unix_duration().as_nanos()).unwrap_or(u64::MAX))
}

impl Tls {
    /// Serves this certificate until it gets another one.
    ///
    /// # Errors
    /// In words, where the cryptography can't do TLS 1.2 and 1.3.
    pub(crate) fn new(certificate: Certificate) -> Result<Self, String> {
        let current = Arc::new(Current(ArcSwap::from_pointee(certificate)));
        let config = ServerConfig::builder_with_provider(authorities::provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|error| format!("[server.tls]: {error}"))?;
        let mut config = config
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&current) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![ALPN.to_vec()];
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let turns = Semaphore::new(cores.div_ceil(CORES_PER_TURN));
        Ok(Self { current, config: Arc::new(config), turns })
    }

    /// The certificate that new connections get.
    pub(crate) fn certificate(&self) -> Arc<Certificate> {
        self.current.0.load_full()
    }

    /// Says if new connections get this one.
    pub(crate) fn serves(&self, certificate: &Certificate) -> bool {
        self.certificate().key.cert == certificate.key.cert
    }

    /// Gives new connections another certificate; the others go on.
    pub(crate) fn serve(&self, certificate: Certificate) {
        self.current.0.store(Arc::new(certificate));
    }

    /// Shakes hands, in its turn.
    pub(super) async fn accept<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        in_turn(&self.turns, TlsAcceptor::from(Arc::clone(&self.config)).accept(stream)).await
    }
}

/// Does work that waits for a peer in between, and has a turn only while it works itself.
async fn in_turn<W: Future + Unpin>(turns: &Semaphore, mut work: W) -> W::Output {
    loop {
        let mut turn = Some(turns.acquire().await);
        let done = poll_fn(|context| match turn.take() {
            Some(_turn) => Pin::new(&mut work).poll(context).map(Some),
            // Something has come of the peer.
            None => Poll::Ready(None),
        });
        if let Some(done) = done.await {
            return done;
        }
    }
}

#[cfg(test)]
mod tests;
