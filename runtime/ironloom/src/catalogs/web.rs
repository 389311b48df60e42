//! Files of web servers, over HTTP and HTTPS.

use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ureq::http::Response;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use crate::authorities::{self, Distrust};

/// The time to connect to a web server, and to get the head of an answer.
const ANSWER: Duration = Duration::from_secs(20);
/// The time that a file may take whatever its length, and the longest without a byte of it.
const GRACE: Duration = Duration::from_secs(20);
/// Bytes in each second that it has to come with beyond that.
const LEAST_RATE: u64 = 32 << 10;
/// The time for a whole file.
const WHOLE: Duration = Duration::from_secs(600);

/// The configuration of the places that catalogs are read from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Access {
    /// Files with certificates of authorities, besides those of the system.
    pub ca: Vec<PathBuf>,
    /// The file of logins for registries, as `docker login` writes it.
    pub logins: Option<PathBuf>,
}

/// Makes connections. Redirects aren't followed: whoever adds a catalog has said where it is.
///
/// # Errors
/// Certificates that can't be read, where they are needed.
pub(super) fn agent(access: &Access, with_tls: bool) -> Result<Agent, String> {
    let roots = if with_tls { authorities(access)? } else { Vec::new() };
    let tls = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(authorities::provider())
        .root_certs(RootCerts::Specific(Arc::new(roots)));
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .timeout_connect(Some(ANSWER))
        .timeout_recv_response(Some(ANSWER))
        .timeout_global(Some(WHOLE))
        .timeout_per_read(Some(GRACE))
        .tls_config(tls.build());
    Ok(config.build().new_agent())
}

/// The authorities that certificates of servers are held against.
pub(super) fn authorities(access: &Access) -> Result<Vec<Certificate<'static>>, String> {
    let mut all = authorities::of_system();
    for path in &access.ca {
        all.extend(authorities::of_file(path).map_err(|error| format!("[catalogs] ca: {error}"))?);
    }
    if all.is_empty() {
        return Err(
            "this machine has no certificates of authorities; install them, or name a file by [catalogs] ca"
                .to_owned(),
        );
    }
    Ok(all.iter().map(|one| Certificate::from_der(one).to_owned()).collect())
}

/// The reason why a server isn't trusted; `None` where the error is of another kind.
pub(crate) fn distrust(error: &ureq::Error) -> Option<Distrust> {
    match error {
        ureq::Error::Rustls(error) => authorities::distrust(error),
        ureq::Error::Io(error) => authorities::distrust(error),
        _ => None,
    }
}

/// The words for an error, with what to do about it.
pub(super) fn problem(error: &ureq::Error) -> String {
    match distrust(error) {
        Some(reason @ Distrust::Authority) => {
            format!("{reason}; name the file of its authority by [catalogs] ca")
        }
        Some(reason) => reason.to_string(),
        None => error.to_string(),
    }
}

/// Gets a file of at most so many bytes; `None` where there is none.
///
/// # Errors
/// In words, without the URL.
pub(super) fn get(agent: &Agent, url: &str, most: u64) -> Result<Option<Vec<u8>>, String> {
    let mut answer = agent.get(url).call().map_err(|error| problem(&error))?;
    match answer.status().as_u16() {
        200 => body(&mut answer, most).map(Some),
        404 | 410 => Ok(None),
        status if answer.status().is_redirection() => {
            let to = answer.headers().get("location").and_then(|to| to.to_str().ok()).unwrap_or("nowhere");
            let to: String = to.chars().take(200).collect();
            Err(format!(
                "the server answers with status {status} and leads to {to:?}, and redirects aren't followed; name the place itself"
            ))
        }
        status => Err(format!("the server answers with status {status}")),
    }
}

/// The body of an answer, of at most so many bytes, at a pace that a slow network reaches.
pub(super) fn body(answer: &mut Response<Body>, most: u64) -> Result<Vec<u8>, String> {
    let start = Instant::now();
    let mut bytes = Vec::new();
    let mut body = answer.body_mut().as_reader().take(most.saturating_add(1));
    let mut part = vec![0; 64 << 10];
    loop {
        let length = body.read(&mut part).map_err(|error| error.to_string())?;
        if length == 0 {
            break;
        }
        bytes.extend_from_slice(part.get(..length).unwrap_or_default());
        let allowed = GRACE + Duration::from_millis(bytes.len() as u64 * 1_000 / LEAST_RATE);
        if start.elapsed() > allowed {
            return Err(format!("it comes with less than {} KiB in a second", LEAST_RATE >> 10));
        }
    }
    if bytes.len() as u64 > most {
        return Err(format!("it has more than {most} bytes, the most that are taken"));
    }
    Ok(bytes)
}
