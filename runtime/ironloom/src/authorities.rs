//! Certificates of authorities that servers are held against, and what is wrong with a server that isn't trusted.

use std::error::Error;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{CertificateError, InvalidMessage};

use ironloom_storage::small_files;

/// The largest file of certificates.
pub(crate) const MAX_CERTIFICATES: u64 = 4 << 20;

/// The cryptography of all TLS.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Those of the system; none where it has none.
pub(crate) fn of_system() -> Vec<CertificateDer<'static>> {
    rustls_native_certs::load_native_certs().certs
}

/// Those of a file, at least one.
///
/// # Errors
/// In words, with the file.
pub(crate) fn of_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = small_files::read(path, MAX_CERTIFICATES).map_err(|error| error.to_string())?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let all = all.map_err(|error| format!("{}: {error}", path.display()))?;
    if all.is_empty() {
        return Err(format!("{} has no certificate in PEM", path.display()));
    }
    Ok(all)
}

/// Why a connection over TLS isn't made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Distrust {
    /// Nobody who is trusted has signed its certificate.
    Authority,
    Other(String),
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Authority => "its certificate isn't from a trusted authority",
            Self::Other(words) => words,
        })
    }
}

/// The reason why a connection over TLS isn't made; `None` where the error is of another kind.
pub(crate) fn distrust(error: &(dyn Error + 'static)) -> Option<Distrust> {
    let words = match of_rustls(error)? {
        rustls::Error::InvalidCertificate(error) => match error {
            CertificateError::UnknownIssuer => return Some(Distrust::Authority),
            CertificateError::NotValidForName => "its certificate is for another name".to_owned(),
            CertificateError::NotValidForNameContext { presented, .. } => {
                let names = presented.join(", ");
                format!("its certificate is for another name; it is for {names}")
            }
            CertificateError::Expired => "its certificate has expired".to_owned(),
            CertificateError::ExpiredContext { not_after, .. } => {
                let end = jiff::Timestamp::from_second(not_after.as_secs().cast_signed());
                end.map_or_else(
                    |_| "its certificate has expired".to_owned(),
                    |end| format!("its certificate expired on {end}"),
                )
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate isn't valid yet, or the clock here is wrong".to_owned()
            }
            other => format!("its certificate isn't trusted ({other})"),
        },
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "it doesn't speak TLS; call it with http://".to_owned()
        }
        other => format!("no TLS connection can be made ({other})"),
    };
    Some(Distrust::Other(words))
}

/// The error of the TLS library within another one.
fn of_rustls<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        // The error that io::Error wraps isn't its source; that one's source is.
        let io = error.downcast_ref::<std::io::Error>();
        if let Some(inner) = io.and_then(|io| io.get_ref()) {
            return of_rustls(inner);
        }
        next = error.source();
    }
    None
}
