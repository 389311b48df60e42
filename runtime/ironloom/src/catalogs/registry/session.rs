//! Requests to one repository of a registry: anonymous, or with a login where the registry asks for one.

use std::cell::RefCell;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use ureq::http::header::{AUTHORIZATION, LOCATION, WWW_AUTHENTICATE};
use ureq::http::{HeaderMap, Request, Response, StatusCode, Uri};
use ureq::{Agent, Body};

use super::{IMAGE_TYPE, MAX_MANIFEST, Manifest, Place};
use crate::catalogs::web::{self, Access};
use ironloom_storage::small_files;
use ironloom_types::ids::Digest;
use ironloom_types::text::shorten;

/// The largest token and file of logins.
const MAX_SMALL: u64 = 64 << 10;
/// The most redirects to a blob: registries keep them in object stores.
const MAX_REDIRECTS: usize = 3;

/// A registry's answer to a login.
#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

/// A file of logins, as `docker login` and `podman login` write it.
#[derive(Deserialize)]
pub(super) struct Logins {
    #[serde(default)]
    auths: std::collections::BTreeMap<String, Login>,
}

#[derive(Deserialize)]
struct Login {
    auth: Option<String>,
}

pub(super) struct Session {
    agent: Agent,
    /// Such as `https://registry.example/v2/plant/apps`.
    base: String,
    scheme: &'static str,
    host: String,
    /// The deeds that a token is to be for.
    scope: String,
    /// `Basic …`, where the host's logins have one for this registry.
    login: Option<String>,
    /// The header that the registry has taken.
    authorization: RefCell<Option<String>>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without what must stay secret.
        f.debug_struct("Session").field("base", &self.base).finish_non_exhaustive()
    }
}

impl Session {
    pub(super) fn new(place: &Place, access: &Access, writes: bool) -> Result<Self, String> {
        let login = match &access.logins {
            Some(file) => login(file, place)?,
            None => None,
        };
        let deeds = if writes { "pull,push" } else { "pull" };
        Ok(Self {
            agent: web::agent(access, !place.plain)?,
            base: format!("{}://{}/v2/{}", place.scheme(), place.host, place.repository),
            scheme: place.scheme(),
            host: place.host.clone(),
            scope: format!("repository:{}:{deeds}", place.repository),
            login,
            authorization: RefCell::new(None),
        })
    }

    /// The manifest that has a tag; `None` where none has.
    pub(super) fn manifest(&self, tag: &str) -> Result<Option<Manifest>, String> {
        let headers = [("accept", IMAGE_TYPE)];
        let answer = self.send("GET", &self.of(&format!("manifests/{tag}")), &headers, &[])?;
        let Some(mut answer) = found(answer)? else { return Ok(None) };
        let bytes = web::body(&mut answer, MAX_MANIFEST)?;
        let read = serde_json::from_slice(&bytes);
        read.map(Some).map_err(|error| format!("the tag {tag} is no image manifest: {error}"))
    }

    /// A blob of at most so many bytes, which are those of its digest; `None` where there is none.
    pub(super) fn blob(&self, digest: Digest, most: u64) -> Result<Option<Vec<u8>>, String> {
        let mut answer = self.send("GET", &self.of(&format!("blobs/{digest}")), &[], &[])?;
        for _ in 0..MAX_REDIRECTS {
            if !answer.status().is_redirection() {
                break;
            }
            let to = self.location(answer.headers())?;
            if self.scheme == "https" && !to.starts_with("https://") {
                return Err(format!("the registry leads from https:// to {:?}", shorten(&to, 200)));
            }
            // Whoever keeps the registry's blobs gets nothing that is for the registry.
            answer = self.agent.get(&to).call().map_err(|error| web::problem(&error))?;
        }
        let Some(mut answer) = found(answer)? else { return Ok(None) };
        let bytes = web::body(&mut answer, most)?;
        let found = Digest::of(&bytes);
        if found != digest {
            return Err(format!("the registry gives {found} where {digest} was asked for"));
        }
        Ok(Some(bytes))
    }

    /// Returns whether something is there.
    pub(super) fn has(&self, path: &str) -> Result<bool, String> {
        let mut answer = self.send("HEAD", &self.of(path), &[("accept", IMAGE_TYPE)], &[])?;
        match answer.status() {
            status if status.is_success() || status.is_redirection() => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(refusal(&mut answer)),
        }
    }

    /// Brings a blob there.
    pub(super) fn put_blob(&self, bytes: &[u8]) -> Result<Digest, String> {
        let digest = Digest::of(bytes);
        if self.has(&format!("blobs/{digest}"))? {
            return Ok(digest);
        }
        let mut begun = self.send("POST", &self.of("blobs/uploads/"), &[], &[])?;
        if begun.status() != StatusCode::ACCEPTED {
            return Err(refusal(&mut begun));
        }
        let to = self.location(begun.headers())?;
        let is_own = to.parse::<Uri>().is_ok_and(|uri| {
            uri.scheme_str() == Some(self.scheme)
                && uri.authority().is_some_and(|authority| authority.as_str() == self.host)
        });
        if !is_own {
            return Err(format!(
                "the registry wants the upload at {:?}, which is elsewhere",
                shorten(&to, 200)
            ));
        }
        let joint = if to.contains('?') { '&' } else { '?' };
        let headers = [("content-type", "application/octet-stream")];
        let mut answer = self.send("PUT", &format!("{to}{joint}digest={digest}"), &headers, bytes)?;
        if answer.status() == StatusCode::CREATED { Ok(digest) } else { Err(refusal(&mut answer)) }
    }

    /// Gives a tag to a manifest.
    pub(super) fn put_manifest(&self, tag: &str, manifest: &[u8]) -> Result<(), String> {
        let headers = [("content-type", IMAGE_TYPE)];
        let mut answer = self.send("PUT", &self.of(&format!("manifests/{tag}")), &headers, manifest)?;
        if answer.status() == StatusCode::CREATED { Ok(()) } else { Err(refusal(&mut answer)) }
    }

    fn of(&self, path: &str) -> String {
        format!("{}/{path}", self.base)
    }

    /// The URL that an answer leads to.
    fn location(&self, headers: &HeaderMap) -> Result<String, String> {
        let to = headers.get(LOCATION).and_then(|to| to.to_str().ok());
        let to = to.ok_or_else(|| "the registry leads elsewhere and doesn't say where".to_owned())?;
        Ok(if to.starts_with('/') { format!("{}://{}{to}", self.scheme, self.host) } else { to.to_owned() })
    }

    /// Sends a request, once more with what the registry asks for where that is a login.
    fn send(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Response<Body>, String> {
        let answer = self.send_once(method, url, headers, body)?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let Some(authorization) = self.authorize(answer.headers())? else { return Ok(answer) };
        *self.authorization.borrow_mut() = Some(authorization);
        self.send_once(method, url, headers, body)
    }

    fn send_once(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Response<Body>, String> {
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(authorization) = self.authorization.borrow().as_deref() {
            request = request.header(AUTHORIZATION, authorization);
        }
        let answer = match method {
            "GET" | "HEAD" => {
                let request = request.body(()).map_err(|error| error.to_string())?;
                self.agent.run(request)
            }
            _ => {
                let request = request.body(body).map_err(|error| error.to_string())?;
                self.agent.run(request)
            }
        };
        answer.map_err(|error| web::problem(&error))
    }

    /// The header for what a registry has asked for; `None` where this host has none.
    fn authorize(&self, headers: &HeaderMap) -> Result<Option<String>, String> {
        let asked = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        for challenge in asked.filter_map(|asked| http_auth::parse_challenges(asked).ok()).flatten() {
            let parameter = |name: &str| {
                let mut all = challenge.params.iter();
                all.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_unescaped())
            };
            if challenge.scheme.eq_ignore_ascii_case("basic") {
                return Ok(self.login.clone());
            }
            if challenge.scheme.eq_ignore_ascii_case("bearer")
                && let Some(realm) = parameter("realm")
            {
                return self.token(&realm, parameter("service").as_deref()).map(Some);
            }
        }
        Ok(None)
    }

    /// Gets a token where the registry says.
    fn token(&self, realm: &str, service: Option<&str>) -> Result<String, String> {
        // Without TLS anybody on the way may have named another place for the login.
        let is_own =
            realm.strip_prefix("http://").is_some_and(|rest| rest.split('/').next() == Some(&*self.host));
        if !realm.starts_with("https://") && (self.scheme == "https" || !is_own) {
            let realm = shorten(realm, 200);
            return Err(format!(
                "the registry leads from {}://{} to {realm:?} for a token",
                self.scheme, self.host
            ));
        }
        let mut request = self.agent.get(realm).query("scope", &self.scope);
        if let Some(service) = service {
            request = request.query("service", service);
        }
        if let Some(login) = &self.login {
            request = request.header(AUTHORIZATION, login);
        }
        let mut answer = request.call().map_err(|error| web::problem(&error))?;
        if answer.status() != StatusCode::OK {
            return Err(format!("no token: {}", refusal(&mut answer)));
        }
        let bytes = web::body(&mut answer, MAX_SMALL)?;
        let token: Token = serde_json::from_slice(&bytes).map_err(|_| "the token isn't one".to_owned())?;
        let token = token.token.or(token.access_token).ok_or_else(|| "the token isn't one".to_owned())?;
        Ok(format!("Bearer {token}"))
    }
}

/// An answer that has what was asked for; `None` where there is nothing.
fn found(mut answer: Response<Body>) -> Result<Option<Response<Body>>, String> {
    match answer.status() {
        StatusCode::OK => Ok(Some(answer)),
        StatusCode::NOT_FOUND => Ok(None),
        _ => Err(refusal(&mut answer)),
    }
}

/// The words for an answer that is none of those that are expected.
fn refusal(answer: &mut Response<Body>) -> String {
    let status = answer.status().as_u16();
    match status {
        401 | 403 => format!(
            "the registry answers with status {status}: it wants a login, or lets this one not do that; name the file of \
             logins by [catalogs] logins, or --logins"
        ),
        404 => "the registry answers with status 404: it has no such repository".to_owned(),
        _ => format!("the registry answers with status {status}"),
    }
}

/// Reads a file of logins.
pub(super) fn logins(file: &Path) -> Result<Logins, String> {
    let bytes = small_files::read_secret(file, MAX_SMALL).map_err(|error| format!("logins: {error}"))?;
    // The error would have a part of a secret in it.
    serde_json::from_slice(&bytes).map_err(|_| {
        format!("{} is no file of logins, as `docker login` or `podman login` writes it", file.display())
    })
}

/// The login for a registry, out of a file. Without TLS it is sent only where the file says `http://`.
fn login(file: &Path, place: &Place) -> Result<Option<String>, String> {
    let host = place.host.as_str();
    let logins = logins(file)?;
    let found = logins.auths.iter().find(|(of, _)| {
        let rest = of.strip_prefix("http://");
        let of = if place.plain { rest } else { of.strip_prefix("https://").or(Some(of)) };
        of.is_some_and(|of| of.split('/').next() == Some(host))
    });
    let Some(auth) = found.and_then(|(_, login)| login.auth.clone()) else { return Ok(None) };
    if STANDARD.decode(&auth).is_err() {
        return Err(format!("{}: the login for {host} isn't base64", file.display()));
    }
    Ok(Some(format!("Basic {auth}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_for_its_registry_alone_and_never_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("auth.json");
        let text = r#"{"auths": {"a.example": {"auth": "bWU6cHc="}, "https://b.example/v1/": {"auth": "%%"}, "c.example": {}, "http://d.example": {"auth": "bWU6cHc="}}}"#;
        ironloom_storage::small_files::write_private(&file, text.as_bytes()).unwrap();
        let login = |file: &Path, host: &str| login(file, &Place::new(&format!("{host}/apps")).unwrap());
        assert_eq!(login(&file, "oci://a.example"), Ok(Some("Basic bWU6cHc=".to_owned())));
        assert_eq!(login(&file, "oci+http://a.example"), Ok(None));
        assert_eq!(login(&file, "oci+http://d.example"), Ok(Some("Basic bWU6cHc=".to_owned())));
        assert_eq!(login(&file, "oci://d.example"), Ok(None));
        assert_eq!(login(&file, "oci://x.a.example"), Ok(None));
        assert_eq!(login(&file, "oci://c.example"), Ok(None));
        assert!(
            login(&file, "oci://b.example").unwrap_err().ends_with("the login for b.example isn't base64")
        );
        std::fs::write(&file, r#"{"auths": {"a.example": {"auth": 12345}}}"#).unwrap();
        let told = login(&file, "oci://a.example").unwrap_err();
        assert!(told.contains("is no file of logins") && !told.contains("12345"), "{told}");
        let access = Access { logins: None, ..Access::default() };
        let mut session =
            Session::new(&Place::new("oci+http://a.example/b").unwrap(), &access, false).unwrap();
        session.login = Some("Basic bWU6cHc=".to_owned());
        assert!(!format!("{session:?}").contains("bWU6"));
    }
}
