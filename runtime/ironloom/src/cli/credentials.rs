//! The token that a command shows a server, and the authorities that it holds the server's certificate against.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;
use ureq::http::uri::Scheme;
use ureq::http::{HeaderValue, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::Global;
use super::failure::Failure;
use crate::access::Token;
use crate::authorities;
use ironloom_storage::small_files;

/// The longest file of a token.
const MAX_TOKEN_FILE: u64 = 4 << 10;

#[derive(Clone, Debug, Default)]
pub(super) struct Credentials {
    /// The header of each request.
    pub authorization: Option<HeaderValue>,
    /// Certificates of authorities, for a server that speaks TLS.
    authorities: Vec<CertificateDer<'static>>,
}

impl Credentials {
    /// With the token that was given: it isn't an argument, since everybody on a machine sees these.
    pub(super) fn of(global: &Global) -> Result<Self, Failure> {
        let token = token(global)?;
        if token.is_some() && !global.plain_http && is_in_clear(&global.url) {
            return Err(Failure::Misuse(format!(
                "the token isn't shown to {}: without TLS everybody on the way could read it\n\
                 hint: Call the server with https://. On a network that you trust, pass --plain-http.",
                global.url
            )));
        }
        let authorization = token.and_then(|token| {
            // A token has no byte that a header can't have.
            let mut shown = HeaderValue::try_from(format!("Bearer {}", token.reveal())).ok()?;
            shown.set_sensitive(true);
            Some(shown)
        });
        let mut authorities = Vec::new();
        if global.url.starts_with("https:") {
            authorities = authorities::of_system();
            for file in &global.ca {
                authorities.extend(authorities::of_file(file).map_err(Failure::File)?);
            }
        }
        Ok(Self { authorization, authorities })
    }

    /// The same for requests.
    pub(super) fn tls(&self) -> TlsConfig {
        let roots = self.authorities.iter().map(|one| Certificate::from_der(one).to_owned()).collect();
        TlsConfig::builder()
            .unversioned_rustls_crypto_provider(authorities::provider())
            .root_certs(RootCerts::Specific(Arc::new(roots)))
            .build()
    }

    /// The same for streams.
    pub(super) fn connector(&self) -> Result<TlsConnector, rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(self.authorities.iter().cloned());
        let config = ClientConfig::builder_with_provider(authorities::provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

/// Says if requests to a server leave this machine without TLS.
fn is_in_clear(url: &str) -> bool {
    // What is no URL at all is told where it is called.
    let Ok(uri) = url.parse::<Uri>() else { return false };
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let is_here = match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    };
    uri.scheme() != Some(&Scheme::HTTPS) && !is_here
}

fn token(global: &Global) -> Result<Option<Token>, Failure> {
    let (text, from) = match &global.token_file {
        Some(file) => (small_files::read_secret_text(file, MAX_TOKEN_FILE)?, file.display().to_string()),
        None => match std::env::var("IRONLOOM_TOKEN") {
            Ok(token) => (token, "IRONLOOM_TOKEN".to_owned()),
            Err(_) => return Ok(None),
        },
    };
    let first = text.lines().next().unwrap_or_default().trim();
    first.parse::<Token>().map(Some).map_err(|error| Failure::Misuse(format!("{from}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_tls_a_token_stays_on_this_machine() {
        for url in [
            "http://127.0.0.1:7420",
            "http://127.8.9.1",
            "http://[::1]:7420/",
            "http://[::ffff:127.0.0.1]:7420",
            "http://LocalHost:7420",
            "https://loom.plant:7420",
            "HTTPS://192.0.2.7",
            "not a url",
        ] {
            assert!(!is_in_clear(url), "{url}");
        }
        for url in [
            "http://loom.plant:7420",
            "HTTP://192.0.2.7",
            "http://[2001:db8::1]:7420",
            "http://0.0.0.0:7420",
            "http://localhost.example.org",
            "http://127.0.0.1@example.org",
            "http://127.0.0.1.example.org",
        ] {
            assert!(is_in_clear(url), "{url}");
        }
    }
}
