//! Speaks to a server's API.

use std::io::{ErrorKind, Read as _};
use std::time::Duration;

use serde::de::DeserializeOwned;
use ureq::http::header::AUTHORIZATION;
use ureq::http::{Request, Response};
use ureq::middleware::MiddlewareNext;
use ureq::{Agent, Body, RequestBuilder, SendBody, Timeout};

use super::credentials::Credentials;
use super::failure::Failure;
use crate::api::facade::Problem;
use crate::api::problem::PROBLEM_JSON;
use crate::catalogs::web::distrust;

/// The longest answer that is taken: pages are bounded by the server.
const MAX_ANSWER: u64 = 1 << 30;

/// A server, by its URL.
#[derive(Debug)]
pub(super) struct Client {
    agent: Agent,
    url: String,
    credentials: Credentials,
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

/// A parameter that is true, or left out.
pub(super) fn flag(name: &'static str, is: bool) -> (&'static str, Option<String>) {
    (name, is.then(|| "true".to_owned()))
}

/// Makes connections within a time, and has each request end within another.
fn agent(connect: Duration, whole: Option<Duration>, with: &Credentials) -> Agent {
    let mut config = Agent::config_builder().http_status_as_error(false).proxy(None).max_redirects(0);
    if let Some(authorization) = with.authorization.clone() {
        config = config.middleware(move |mut request: Request<SendBody<'_>>, next: MiddlewareNext<'_>| {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
            next.handle(request)
        });
    }
    let config = config.tls_config(with.tls()).timeout_connect(Some(connect)).timeout_global(whole);
    config.build().new_agent()
}

impl Client {
    /// Speaks to a server that this process has started, which asks for no token. Commands have [`Global::client`].
    ///
    /// [`Global::client`]: super::Global::client
    pub(super) fn of_own_server(url: &str) -> Self {
        Self::reaching(url, Credentials::default())
    }

    /// Speaks to a server with a token to show and authorities to believe. Doesn't connect yet.
    pub(super) fn reaching(url: &str, credentials: Credentials) -> Self {
        let agent = agent(Duration::from_secs(5), None, &credentials);
        Self { agent, url: url.trim_end_matches('/').to_owned(), credentials }
    }

    /// The same, with a limit for each request as a whole.
    pub(super) fn within(self, time: Duration) -> Self {
        Self { agent: agent(time, Some(time), &self.credentials), ..self }
    }

    pub(super) fn get(&self, path: &str, query: Query<'_>) -> Result<Answer, Failure> {
        self.get_as(path, query, "application/json")
    }

    /// GET of bytes that aren't text.
    pub(super) fn get_bytes(&self, path: &str) -> Result<Vec<u8>, Failure> {
        let request = self.agent.get(self.of(path));
        let mut response = self.responded(request.call())?;
        if !response.status().is_success() {
            return Err(self
                .read(response)
                .err()
                .unwrap_or_else(|| anyhow::anyhow!("{path} isn't there").into()));
        }
        let bytes = response.body_mut().with_config().limit(MAX_ANSWER).read_to_vec();
        bytes.map_err(|error| self.not_reached(&error))
    }

    /// GET in another form than JSON.
    pub(super) fn get_as(&self, path: &str, query: Query<'_>, accept: &str) -> Result<Answer, Failure> {
        let request = self.agent.get(self.of(path)).header("accept", accept);
        self.answer(asked(request, query).call())
    }

    /// Lines of a server for as long as it is listened to, from behind the event of this id.
    pub(super) fn listen(
        &self,
        path: &str,
        query: Query<'_>,
        last: Option<&str>,
    ) -> Result<impl std::io::Read + use<>, Failure> {
        let request = self.agent.get(self.of(path)).header("accept", "text/event-stream");
        let mut request = asked(request, query);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let result = request.call();
        match result {
            Ok(answer) if answer.status().is_success() => Ok(answer.into_body().into_reader()),
            other => Err(match self.answer(other) {
                Err(failure) => failure,
                Ok(_) => Failure::Other(anyhow::anyhow!("{}: no events come", self.url)),
            }),
        }
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

    pub(super) fn patch(
        &self,
        path: &str,
        query: Query<'_>,
        kind: &str,
        body: &[u8],
    ) -> Result<Answer, Failure> {
        let request = self.agent.patch(self.of(path)).content_type(kind);
        self.answer(asked(request, query).send(body))
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
        self.answer(asked(request, query).send(body))
    }

    pub(super) fn put(&self, path: &str, kind: &str, body: &[u8]) -> Result<Answer, Failure> {
        self.answer(self.agent.put(self.of(path)).content_type(kind).send(body))
    }

    pub(super) fn delete(&self, path: &str, query: Query<'_>) -> Result<Answer, Failure> {
        self.answer(asked(self.agent.delete(self.of(path)), query).call())
    }

    /// GET of an answer of any length, which is written as it comes.
    pub(super) fn download(
        &self,
        path: &str,
        query: Query<'_>,
        to: &mut dyn std::io::Write,
    ) -> Result<(), Failure> {
        let result = asked(self.agent.get(self.of(path)), query).call();
        let mut response = match result {
            Ok(response) if response.status().is_success() => response,
            other => return self.answer(other).map(drop),
        };
        let mut from = response.body_mut().with_config().limit(u64::MAX).reader();
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = from.read(&mut buffer).map_err(|error| Failure::Lost {
                text: format!("{} broke off its answer ({error}): its log says why", self.url),
            })?;
            if read == 0 {
                return Ok(());
            }
            to.write_all(&buffer[..read])?;
        }
    }

    fn of(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    fn answer(&self, result: Result<Response<Body>, ureq::Error>) -> Result<Answer, Failure> {
        self.read(self.responded(result)?)
    }

    fn not_reached(&self, error: &ureq::Error) -> Failure {
        if let Some(reason) = distrust(error) {
            return Failure::Distrusted { url: self.url.clone(), reason: reason.to_string() };
        }
        let sent = !is_before_connection(error);
        Failure::NotReached { url: self.url.clone(), reason: error.to_string(), sent }
    }

    fn responded(&self, result: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>, Failure> {
        result.map_err(|error| match error {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => Failure::Misuse(format!(
                "{:?} is not the URL of a server, such as http://127.0.0.1:7420",
                self.url
            )),
            error => self.not_reached(&error),
        })
    }

    fn read(&self, mut response: Response<Body>) -> Result<Answer, Failure> {
        let (status, kind) = (response.status(), response.headers().get("content-type").cloned());
        let next = response.headers().get("link").and_then(|link| after(link.to_str().ok()?));
        let text = response
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER)
            .lossy_utf8(true)
            .read_to_string()
            .map_err(|error| self.not_reached(&error))?;
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

/// A request with these parameters.
fn asked<B>(request: RequestBuilder<B>, query: Query<'_>) -> RequestBuilder<B> {
    let given = query.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    given.fold(request, |request, (name, value)| request.query(*name, value))
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

    /// A command that forgets its token fails only on a server that asks for one.
    #[test]
    fn no_command_but_dev_speaks_to_a_server_without_its_token() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli");
        let (mut folders, mut found, mut seen) = (vec![folder], Vec::new(), 0);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    seen += 1;
                    let text = std::fs::read_to_string(&path).unwrap();
                    if text.contains("of_own_server") || text.contains("Client::reaching") {
                        found.push(path.file_name().unwrap().to_str().unwrap().to_owned());
                    }
                }
            }
        }
        found.sort();
        assert!(seen > 50, "{seen}");
        // The one makes them, `dev` starts its own server, and `mod` has that of all others.
        assert_eq!(found, ["client.rs", "dev.rs", "mod.rs"]);
    }

    #[test]
    fn nobody_there_is_told_apart_from_a_wrong_url() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let failure = Client::of_own_server(&format!("http://{free}")).get("/healthz", &[]).unwrap_err();
        assert!(matches!(failure, Failure::NotReached { .. }), "{failure:?}");
        let failure = Client::of_own_server("not a url").get("/healthz", &[]).unwrap_err();
        assert!(matches!(failure, Failure::Misuse(_)), "{failure:?}");
        let failure = Client::of_own_server(&format!("https://{free}")).get("/healthz", &[]).unwrap_err();
        assert!(matches!(failure, Failure::NotReached { sent: false, .. }), "{failure:?}");
    }
}
