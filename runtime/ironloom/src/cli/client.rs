//! Speaks to a server's API.

use std::io::ErrorKind;
use std::time::Duration;

use serde::de::DeserializeOwned;
use ureq::http::Response;
use ureq::{Agent, Body, Timeout};

use super::failure::Failure;
use crate::api::facade::Problem;
use crate::api::problem::PROBLEM_JSON;

/// The longest answer that is taken: pages are bounded by the server.
const MAX_ANSWER: u64 = 1 << 30;

/// A server, by its URL.
#[derive(Debug)]
pub(super) struct Client {
    agent: Agent,
    url: String,
}

/// An answer that isn't an error.
#[derive(Debug)]
pub(super) struct Answer {
    pub text: String,
    /// The `after` of the next page, from the `Link` header.
    pub next: Option<String>,
    /// Whether something was created: 201.
    pub created: bool,
}

impl Answer {
    /// The body, read as JSON.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_str(&self.text).map_err(|error| {
            Failure::Other(anyhow::anyhow!(
                "the server's answer can't be read ({error}): is it a different version?"
            ))
        })
    }
}

/// Parameters of a query; those without a value are left out.
pub(super) type Query<'a> = &'a [(&'a str, Option<String>)];

impl Client {
    /// Doesn't connect yet.
    pub(super) fn new(url: &str) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .timeout_connect(Some(Duration::from_secs(5)))
            .build();
        Self { agent: config.new_agent(), url: url.trim_end_matches('/').to_owned() }
    }

    pub(super) fn get(&self, path: &str, query: Query<'_>) -> Result<Answer, Failure> {
        self.get_as(path, query, "application/json")
    }

    /// GET in another form than JSON.
    pub(super) fn get_as(&self, path: &str, query: Query<'_>, accept: &str) -> Result<Answer, Failure> {
        let mut request = self.agent.get(self.of(path)).header("accept", accept);
        for (name, value) in query {
            if let Some(value) = value {
                request = request.query(name, value);
            }
        }
        self.answer(request.call())
    }

    pub(super) fn post(
        &self,
        path: &str,
        query: Query<'_>,
        kind: &str,
        body: &[u8],
    ) -> Result<Answer, Failure> {
        self.post_with(path, query, kind, &[], body)
    }

    /// POST with further headers.
    pub(super) fn post_with(
        &self,
        path: &str,
        query: Query<'_>,
        kind: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, Failure> {
        let mut request = self.agent.post(self.of(path)).content_type(kind);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        for (name, value) in query {
            if let Some(value) = value {
                request = request.query(name, value);
            }
        }
        self.answer(request.send(body))
    }

    pub(super) fn delete(&self, path: &str, query: Query<'_>) -> Result<Answer, Failure> {
        let mut request = self.agent.delete(self.of(path));
        for (name, value) in query {
            if let Some(value) = value {
                request = request.query(name, value);
            }
        }
        self.answer(request.call())
    }

    fn of(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    fn answer(&self, result: Result<Response<Body>, ureq::Error>) -> Result<Answer, Failure> {
        let not_reached = |error: ureq::Error| Failure::NotReached {
            url: self.url.clone(),
            reason: error.to_string(),
            sent: !is_before_connection(&error),
        };
        let mut response = result.map_err(|error| match error {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => Failure::Misuse(format!(
                "{:?} is not the URL of a server, such as http://127.0.0.1:7420",
                self.url
            )),
            _ if self.url.starts_with("https:") => Failure::Misuse(format!(
                "{}: this command speaks http:// only; run it on the server's machine, as with --url \
                 http://127.0.0.1:7420",
                self.url
            )),
            error => not_reached(error),
        })?;
        let (status, kind) = (response.status(), response.headers().get("content-type").cloned());
        let next = response.headers().get("link").and_then(|link| after(link.to_str().ok()?));
        let text = response
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER)
            .lossy_utf8(true)
            .read_to_string()
            .map_err(not_reached)?;
        if status.is_success() {
            return Ok(Answer { text, next, created: status == 201 });
        }
        let known = kind.is_some_and(|kind| kind == PROBLEM_JSON);
        match serde_json::from_str::<Problem>(&text) {
            Ok(problem) if known => Err(Failure::Refused(problem)),
            _ => Err(Failure::Other(anyhow::anyhow!(
                "{} answers {status}: is it an ironloom server?",
                self.url
            ))),
        }
    }
}

/// Whether there was no connection, so that nobody can have carried the request out.
fn is_before_connection(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => true,
        ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect) => true,
        ureq::Error::Io(error) => matches!(
            error.kind(),
            ErrorKind::ConnectionRefused
                | ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable
                | ErrorKind::AddrNotAvailable
        ),
        _ => false,
    }
}

fn after(link: &str) -> Option<String> {
    let (_, rest) = link.split_once("after=")?;
    Some(rest.split(['&', '>']).next()?.to_owned())
}

/// A segment of a path, whatever it holds.
pub(super) fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_escaped_and_links_read() {
        assert_eq!(segment("sha256:0a"), "sha256:0a");
        assert_eq!(segment("a/b ü"), "a%2Fb%20%C3%BC");
        assert_eq!(after("</v1/readings?limit=5&after=6>; rel=\"next\""), Some("6".to_owned()));
    }

    #[test]
    fn nobody_there_is_told_apart_from_a_wrong_url() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let failure = Client::new(&format!("http://{free}")).get("/healthz", &[]).unwrap_err();
        assert!(matches!(failure, Failure::NotReached { .. }), "{failure:?}");
        for url in ["not a url", "https://127.0.0.1:1"] {
            let failure = Client::new(url).get("/healthz", &[]).unwrap_err();
            assert!(matches!(failure, Failure::Misuse(_)), "{failure:?}");
        }
    }
}
