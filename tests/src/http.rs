//! Requests to the server, and its errors as `application/problem+json`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::described;

/// The media type of packages.
pub const PACKAGE: &str = "application/vnd.ironloom.package+tar";
/// The media type of pushed readings.
pub const NDJSON: &str = "application/x-ndjson";
/// The media type of all other bodies.
pub const JSON: &str = "application/json";

/// A client of one server.
#[derive(Clone, Debug)]
pub struct Client {
    url: String,
    agent: ureq::Agent,
    /// Shown with each request.
    token: Option<String>,
}

/// The server's answer, whatever the status.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// The type of the body.
    pub content_type: String,
    /// Of `Link` with `rel="next"`, the path and query.
    pub next: Option<String>,
    pub retry_after: Option<u64>,
    /// Where what was made is found; empty where nothing was.
    pub location: String,
    /// The revision's, where the answer has one.
    pub etag: String,
    pub body: Vec<u8>,
    request: String,
}

impl Answer {
    /// The body as text, as far as it is some.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body of a successful answer.
    pub fn json(self) -> Result<Value> {
        ensure!((200..300).contains(&self.status), "{} got {}: {}", self.request, self.status, self.text());
        if self.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&self.body).with_context(|| format!("{} got {}", self.request, self.text()))
    }

    /// The problem of an answer with this status. Checks that it is one: type, status, kind and a
    /// sentence.
    pub fn problem(self, status: u16) -> Result<Value> {
        let whole = || format!("{} got {} {}: {}", self.request, self.status, self.content_type, self.text());
        ensure!(self.status == status, "{status} was expected, but {}", whole());
        ensure!(self.content_type.starts_with("application/problem+json"), "no problem: {}", whole());
        let problem: Value = serde_json::from_slice(&self.body).with_context(whole)?;
        ensure!(problem["status"] == json!(status), "the body names another status: {}", whole());
        for field in ["type", "title", "kind", "detail"] {
            ensure!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "no {field}: {}", whole());
        }
        Ok(problem)
    }
}

fn agent(tls: TlsConfig) -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .tls_config(tls)
        .timeout_global(Some(Duration::from_secs(120)));
    config.build().new_agent()
}

impl Client {
    /// A client of the server at this URL, such as `http://127.0.0.1:7420`.
    pub fn new(url: &str) -> Self {
        Self { url: url.to_owned(), agent: agent(TlsConfig::default()), token: None }
    }

    /// A client that holds the server's certificate against this authority.
    pub fn trusting(url: &str, ca: &Path) -> Result<Self> {
        let ca = Certificate::from_pem(&std::fs::read(ca)?)?;
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(RootCerts::Specific(Arc::new(vec![ca])));
        Ok(Self { url: url.to_owned(), agent: agent(tls.build()), token: None })
    }

    /// The same for whoever has this token.
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// The header that shows the token.
    pub fn authorization(&self) -> Option<String> {
        self.token.as_ref().map(|token| format!("Bearer {token}"))
    }

    /// Where the server is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Sends a request with any method, headers and body. `path` begins with `/`. An error means that
    /// no whole answer came.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer> {
        let request = format!("{method} {path}");
        let mut builder = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        if let Some(authorization) = self.authorization() {
            builder = builder.header("authorization", authorization);
        }
        let answer = if body.is_empty() && method != "POST" && method != "PATCH" && method != "PUT" {
            self.agent.run(builder.body(())?)
        } else {
            self.agent.run(builder.body(body)?)
        };
        let mut answer = answer.with_context(|| request.clone())?;
        let header = |name: &str| {
            answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let next = header("link").strip_prefix('<').and_then(|link| Some(link.split_once('>')?.0.to_owned()));
        let (content_type, retry_after) = (header("content-type"), header("retry-after").parse().ok());
        let (location, etag) = (header("location"), header("etag"));
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(1 << 30).read_to_vec();
        let body = body.with_context(|| format!("{request}: the answer broke off"))?;
        let ask = || {
            let mut asked = self.agent.get(format!("{}/openapi.json", self.url));
            if let Some(authorization) = self.authorization() {
                asked = asked.header("authorization", authorization);
            }
            let mut answer = asked.call()?;
            ensure!(answer.status() == 200, "the description isn't given: {}", answer.status());
            let document = answer.body_mut().read_to_vec()?;
            Ok(serde_json::from_slice(&document)?)
        };
        described::check((method, path), (status, &content_type, &body), ask)?;
        Ok(Answer { status, content_type, next, retry_after, location, etag, body, request })
    }

    pub fn get(&self, path: &str) -> Result<Answer> {
        self.send("GET", path, &[], &[])
    }

    pub fn delete(&self, path: &str) -> Result<Answer> {
        self.send("DELETE", path, &[], &[])
    }

    /// POST of JSON.
    pub fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send("POST", path, &[("content-type", JSON)], body.to_string().as_bytes())
    }

    /// PATCH with JSON.
    pub fn patch(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send("PATCH", path, &[("content-type", JSON)], body.to_string().as_bytes())
    }

    /// POST of readings, one JSON object on each line, under an idempotency key if there is one.
    pub fn push(&self, lines: &[u8], key: Option<&str>) -> Result<Answer> {
        let mut headers = vec![("content-type", NDJSON)];
        headers.extend(key.map(|key| ("idempotency-key", key)));
        self.send("POST", "/v1/readings", &headers, lines)
    }

    /// Pushes one reading and gives its sequence.
    pub fn push_one(&self, point: &str, value: impl Into<Value>) -> Result<u64> {
        let line = json!({"point": point, "value": value.into()}).to_string();
        let answer = self.push(line.as_bytes(), None)?.json()?;
        answer["through"].as_u64().with_context(|| format!("no `through` in {answer}"))
    }

    /// POST of a package; gives its digest.
    pub fn add_package(&self, tar: &[u8]) -> Result<String> {
        let added = self.send("POST", "/v1/packages", &[("content-type", PACKAGE)], tar)?.json()?;
        Ok(added["digest"].as_str().with_context(|| format!("no digest in {added}"))?.to_owned())
    }

    pub fn installation(&self, id: &str) -> Result<Value> {
        self.get(&format!("/v1/installations/{id}"))?.json()
    }

    /// All items of a list, page by page. `path` may have a query.
    pub fn all(&self, path: &str) -> Result<Vec<Value>> {
        let join = if path.contains('?') { '&' } else { '?' };
        let mut items = Vec::new();
        let mut after = String::new();
        for _ in 0..100_000 {
            let page = self.get(&format!("{path}{join}limit=1000{after}"))?.json()?;
            let more = page["items"].as_array().with_context(|| format!("no items in {page}"))?;
            items.extend(more.iter().cloned());
            match &page["next"] {
                Value::Null => return Ok(items),
                Value::String(next) => after = format!("&after={}", percent_encode(next)),
                other => bail!("`next` is {other} in {path}"),
            }
        }
        bail!("{path} has no end")
    }

    /// All readings of the journal after a sequence. `filter` is a query such as `point=a/b`, or empty.
    pub fn journal(&self, after: u64, filter: &str) -> Result<Vec<Value>> {
        let mut readings = Vec::new();
        let mut path =
            Some(format!("/v1/readings?limit=10000&after={after}&{filter}").trim_end_matches('&').to_owned());
        while let Some(this) = path {
            let answer = self.get(&this)?;
            ensure!(answer.status == 200, "{this} got {}: {}", answer.status, answer.text());
            path = answer.next.clone();
            for line in answer.body.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
                readings.push(
                    serde_json::from_slice(line)
                        .with_context(|| String::from_utf8_lossy(line).into_owned())?,
                );
            }
        }
        Ok(readings)
    }
}

/// A text as part of a query.
pub fn percent_encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn texts_are_encoded_for_queries() {
        assert_eq!(super::percent_encode("a/b c&ä"), "a%2Fb%20c%26%C3%A4");
    }
}
