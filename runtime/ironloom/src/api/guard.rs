//! The checks that every request passes before anybody asks whose it is. On loopback programs
//! of this machine need no token: a web page that is open in a browser here may not, be it
//! by a request across origins, or by a name of its own that resolves to this machine.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use axum::body::HttpBody as _;
use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, header};

use super::problem::Problem;
use super::{ARROW_TYPE, JSON_TYPE, NDJSON_TYPE, PACKAGE_TYPE};

/// The longest request line and headers, in bytes. Beyond: 431.
pub(crate) const MAX_HEADERS: usize = 64 << 10;

/// Under which names the server may be called.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    /// The address that it listens on.
    pub listen: SocketAddr,
    /// Further names: `[server] hosts`, such as those of a proxy in front of it.
    pub hosts: Vec<String>,
    /// It speaks TLS itself.
    pub tls: bool,
    /// Whoever shows no token may nothing; else it may everything.
    pub tokens_required: bool,
}

/// The address at which a connection arrived: an extension of its requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ArrivedAt(pub SocketAddr);

impl Guard {
    fn knows(&self, name: &str, arrived: IpAddr) -> bool {
        let name = name.trim_start_matches('[').trim_end_matches(']');
        if name.eq_ignore_ascii_case("localhost") {
            return true;
        }
        match name.parse::<IpAddr>() {
            Ok(address) => {
                [arrived, self.listen.ip()].iter().any(|known| known.to_canonical() == address.to_canonical())
            }
            Err(_) => self.hosts.iter().any(|host| host.eq_ignore_ascii_case(name)),
        }
    }

    fn scheme(&self) -> &'static str {
        if self.tls { "https://" } else { "http://" }
    }

    /// Refuses what doesn't come from this machine's own programs.
    pub(super) fn check(&self, request: &Request) -> Result<(), Problem> {
        // The connection's buffer bounds them only roughly.
        let length = request.uri().path_and_query().map_or(0, |path| path.as_str().len())
            + request
                .headers()
                .iter()
                .map(|(name, value)| name.as_str().len() + value.len() + 4)
                .sum::<usize>();
        if length > MAX_HEADERS {
            let detail = format!("request line and headers may have {MAX_HEADERS} bytes, and have {length}");
            return Err(Problem::headers_too_large(detail));
        }
        let arrived = request.extensions().get::<ArrivedAt>().map_or(self.listen, |arrived| arrived.0);
        let host = single(request.headers(), header::HOST)
            .and_then(|host| host.parse::<Authority>().ok())
            .filter(|host| !host.as_str().contains('@'))
            .ok_or_else(|| {
                Problem::malformed("host", "the request must name its server once, in the Host header")
            })?;
        // A request in absolute form names it a second time.
        for name in std::iter::once(&host).chain(request.uri().authority()) {
            if !self.knows(name.host(), arrived.ip()) {
                return Err(Problem::forbidden(
                    "host",
                    format!("this server isn't called {:?}", name.host()),
                )
                .hint(format!("Call it {}{}.", self.scheme(), canonical(arrived)))
                .hint("Further names are listed in `[server] hosts`."));
            }
        }
        if request.headers().contains_key(header::ORIGIN) {
            let origin = single(request.headers(), header::ORIGIN).unwrap_or_default();
            // A proxy speaks TLS under the names that it was given, where this server doesn't.
            let of_proxy = self.hosts.iter().any(|name| name.eq_ignore_ascii_case(host.host()));
            let own = origin.strip_prefix(self.scheme());
            let own = own.or_else(|| origin.strip_prefix("https://").filter(|_| of_proxy));
            if own != Some(host.as_str()) {
                let detail = format!("requests from web pages of {origin:?} aren't accepted");
                return Err(Problem::forbidden("origin", detail));
            }
        }
        if [Method::POST, Method::PUT, Method::PATCH].contains(request.method()) {
            check_type(request)?;
        }
        Ok(())
    }
}

/// Refuses what a web page could send without asking first. A type that no form can send is a proof that none did;
/// a request without a body needs no type, and there the browser says where it comes from.
fn check_type(request: &Request) -> Result<(), Problem> {
    let known = [JSON_TYPE, NDJSON_TYPE, ARROW_TYPE, PACKAGE_TYPE];
    let headers = request.headers();
    if is_bare(request) {
        return refuse_other_sites(headers);
    }
    match media_type(headers) {
        Some(given) if known.contains(&&*given) => Ok(()),
        _ => Err(wrong_type(&known, headers)),
    }
}

/// Refuses what a browser sends for a web page of another site, for requests that cost much though they change nothing.
pub(super) fn refuse_other_sites(headers: &HeaderMap) -> Result<(), Problem> {
    let site = headers.get("sec-fetch-site");
    match site.filter(|site| *site != "same-origin" && *site != "none") {
        Some(_) => {
            Err(Problem::forbidden("origin", "requests from web pages of other sites aren't accepted"))
        }
        None => Ok(()),
    }
}

/// Whether a request has neither a body nor a type of one.
pub(crate) fn is_bare(request: &Request) -> bool {
    request.body().is_end_stream() && !request.headers().contains_key(header::CONTENT_TYPE)
}

/// An IPv4 address that came over an IPv6 socket, as people write it.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn single(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// The media type of the body, without parameters.
pub(crate) fn media_type(headers: &HeaderMap) -> Option<Cow<'_, str>> {
    let value = single(headers, header::CONTENT_TYPE)?;
    let name = value.split(';').next().unwrap_or_default().trim();
    let is_lower = !name.bytes().any(|byte| byte.is_ascii_uppercase());
    Some(if is_lower { name.into() } else { name.to_ascii_lowercase().into() })
}

/// Refuses a body of another type than the route's.
pub(crate) fn need_type(headers: &HeaderMap, types: &[&str]) -> Result<(), Problem> {
    match media_type(headers) {
        Some(given) if types.contains(&&*given) => Ok(()),
        _ => Err(wrong_type(types, headers)),
    }
}

fn wrong_type(types: &[&str], headers: &HeaderMap) -> Problem {
    let given = media_type(headers).map_or("nothing".to_owned(), |given| format!("{given:?}"));
    Problem::unsupported_type(format!("the Content-Type must be {}, and is {given}", types.join(" or ")))
}
