//! `[server]`: where the API listens, who gets in, by which certificate, and how much of it anybody may take.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::{key, number, span};
use crate::telemetry::LogLines;
use ironloom_apps::quantity::Span;
use ironloom_apps::toml_section::Section;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    /// The address of the API.
    pub listen: SocketAddr,
    /// Further names of the server.
    pub hosts: Vec<String>,
    /// Who needs a token.
    pub tokens: TokenRule,
    /// Connections at a time, without those in reserve.
    pub connections: usize,
    /// Those of one address that isn't loopback.
    pub connections_per_address: usize,
    /// The longest that headers may take to come, and a connection may do nothing between two requests.
    pub idle: Span,
    pub rates: Rates,
    /// The server's own log lines that are written.
    pub log: LogLines,
    /// The files of its certificate; without, it speaks no TLS.
    pub tls: Option<TlsFiles>,
}

/// Requests and connections in a second, sustained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rates {
    /// Of a token.
    pub requests: u32,
    /// Of a token, of those that push readings.
    pub pushes: u32,
    /// Of an address, of those that nobody's token came with.
    pub strangers: u32,
    /// New connections of an address that isn't loopback.
    pub connections: u32,
}

/// The files of a certificate, as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// The certificate, and those between it and its authority.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Who needs a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenRule {
    /// Everybody, unless only programs of this machine reach the server.
    Auto,
    Required,
    Optional,
}

impl TokenRule {
    const ALL: [Self; 3] = [Self::Auto, Self::Required, Self::Optional];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Required => "required",
            Self::Optional => "optional",
        }
    }

    /// Says if a token is needed at an address.
    pub(crate) fn requires(self, listen: SocketAddr) -> bool {
        match self {
            Self::Auto => !listen.ip().is_loopback(),
            Self::Required => true,
            Self::Optional => false,
        }
    }
}

/// Fewer, and the connections of an admin and of a few sources would push each other out.
const MIN_CONNECTIONS: u32 = 16;
/// LimitNOFILE of the unit has room for as many, and for the server's own files.
const MAX_CONNECTIONS: u32 = 65_536;
const MIN_IDLE: Span = Span(1_000_000_000);
const MAX_IDLE: Span = Span(3_600_000_000_000);
const MAX_RATE: u32 = 1_000_000;

impl Server {
    // All keys are taken before one that is wrong ends the reading, so that every error is found.
    pub(super) fn read(mut section: Section<'_, '_>) -> Option<Self> {
        let listen = key(&mut section, "server", "listen");
        let hosts = key(&mut section, "server", "hosts");
        let tokens = key(&mut section, "server", "tokens");
        let connections =
            number(key(&mut section, "server", "connections"), MIN_CONNECTIONS..=MAX_CONNECTIONS);
        let of_address = number(key(&mut section, "server", "connections_per_address"), 1..=MAX_CONNECTIONS);
        let idle = span(key(&mut section, "server", "idle"), MIN_IDLE..=MAX_IDLE);
        let requests = number(key(&mut section, "server", "rate"), 1..=MAX_RATE);
        let pushes = number(key(&mut section, "server", "rate_of_pushes"), 1..=MAX_RATE);
        let strangers = number(key(&mut section, "server", "rate_without_token"), 1..=MAX_RATE);
        let new_connections = number(key(&mut section, "server", "rate_of_connections"), 1..=MAX_RATE);
        let log = key(&mut section, "server", "log").and_then(|field| field.parsed(str::parse));
        let tls = tls(section.table("tls"));
        section.finish();
        let tokens = tokens.and_then(|field| {
            field.parsed(|text| {
                let rule = TokenRule::ALL.into_iter().find(|rule| rule.name() == text);
                rule.ok_or("must be auto, required or optional")
            })
        });
        let listen = listen.and_then(|field| {
            let wrong =
                |text: &str| format!("{text:?} is not an address with a port, such as \"127.0.0.1:7420\"");
            field.parsed(|text| text.parse().map_err(|_| wrong(text)))
        });
        let hosts = hosts.and_then(|field| {
            let hosts = field.texts()?;
            for host in &hosts {
                if let Err(problem) = check_host(host) {
                    field.refuse(problem);
                }
            }
            Some(hosts)
        });
        Some(Self {
            listen: listen?,
            hosts: hosts?,
            tokens: tokens?,
            connections: connections? as usize,
            connections_per_address: of_address? as usize,
            idle: idle?,
            rates: Rates {
                requests: requests?,
                pushes: pushes?,
                strangers: strangers?,
                connections: new_connections?,
            },
            log: log?,
            tls: tls?,
        })
    }
}

fn tls(mut section: Section<'_, '_>) -> Option<Option<TlsFiles>> {
    let certificate = key(&mut section, "server.tls", "certificate").and_then(|field| field.file());
    let key = key(&mut section, "server.tls", "key").and_then(|field| field.file());
    let files = certificate.zip(key).map(|(certificate, key)| TlsFiles { certificate, key });
    let is_none = |path: &PathBuf| path.as_os_str().is_empty();
    if files.as_ref().is_some_and(|files| is_none(&files.certificate) != is_none(&files.key)) {
        section.refuse("needs both `certificate` and `key`, or neither");
    }
    section.finish();
    files.map(|files| Some(files).filter(|files| !is_none(&files.certificate)))
}

/// Checks a name as the Host header gives it, without the port.
fn check_host(host: &str) -> Result<(), String> {
    let is_name = !host.is_empty()
        && host.len() <= 253
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    let is_address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>().is_ok();
    if is_name || is_address {
        return Ok(());
    }
    Err(format!("{host:?} is not a host name; write it without scheme and port, such as \"loom.local\""))
}
