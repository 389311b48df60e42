//! `GET /v1/events`: what happens, as server-sent events.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;

use super::access::need;
use super::facade::{Place, RETRY_SOON};
use super::held::Held;
use super::params::Params;
use super::problem::Problem;
use super::{Api, EVENTS_TYPE};
use crate::access::{Action, Principal, Resource, authorize};
use crate::telemetry::events::{Event, Events, What};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{InstallationId, TenantId};

/// Listeners at the same time, and those of one token among them.
const MAX_LISTENERS: usize = 64;
const MAX_OF_ONE: usize = 16;
/// Events that are written in one step.
const AT_ONCE: usize = 100;
/// The time after which a comment shows a listener, and whatever is in between, that the server is there.
const STILL: Duration = Duration::from_secs(15);

/// Sends events for as long as somebody listens.
pub(super) async fn events(
    State(api): State<Api>,
    mut params: Params,
    headers: HeaderMap,
    Extension(held): Extension<Held>,
    Extension(principal): Extension<Principal>,
) -> Result<Response, Problem> {
    let kinds = kinds(params.text("kinds"))?;
    if kinds.as_ref().is_some_and(|kinds| kinds.contains(&"token")) {
        need(&principal, Action::Administer)?;
    }
    let installation: Option<InstallationId> = params.installation()?;
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()).filter(|id| !id.is_empty());
    // Whoever goes on has listened before, and hears of a gap.
    if let (Some(id), None) = (&installation, last) {
        api.node.has_events_of(id)?;
    }
    let place = api.listeners.take(&principal)?;
    let events = api.node.events();
    let mut listener = Listener {
        news: events.news(),
        after: events.now(),
        gap: None,
        kinds,
        installation,
        tenant: principal.tenant(),
        sees_tokens: authorize(&principal, Action::Administer, Resource::Platform).is_ok(),
        held,
        is_first: true,
        events,
        _place: place,
    };
    if let Some(id) = last {
        match listener.events.place(id) {
            Some(place) => listener.after = place,
            // From another run: all of this one is new, and nobody knows what was before.
            None => (listener.after, listener.gap) = (0, Some(None)),
        }
    }
    let parts = futures_util::stream::unfold(listener, |mut listener| async move {
        let part = listener.next().await?;
        Some((Ok::<_, std::convert::Infallible>(part), listener))
    });
    let mut response = Response::new(Body::from_stream(parts));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(EVENTS_TYPE));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// The kinds that are asked for; `None` is all of them.
fn kinds(text: Option<String>) -> Result<Option<Vec<&'static str>>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let kind = |name: &str| {
        let known = What::KINDS.into_iter().find(|kind| *kind == name.trim());
        known.ok_or_else(|| {
            let detail =
                format!("there are no events of kind {name:?}; the kinds are {}", What::KINDS.join(", "));
            Problem::malformed("bad-parameter", detail).at(Place::field("kinds"))
        })
    };
    text.split(',').map(kind).collect::<Result<_, _>>().map(Some)
}

/// Who asks for `alarm` also hears of the alarms that are too many to be told one by one.
fn is_of(what: &What, kinds: &[&str]) -> bool {
    kinds.contains(&what.kind()) || (matches!(what, What::Alarms { .. }) && kinds.contains(&"alarm"))
}

/// Places of listeners.
#[derive(Clone, Default)]
pub(super) struct Places(Arc<Mutex<Taken>>);

#[derive(Default)]
struct Taken {
    all: usize,
    /// By the token's name; without one nobody is told from others.
    of: BTreeMap<Box<str>, usize>,
}

/// A place, until it is dropped.
struct Seat {
    taken: Arc<Mutex<Taken>>,
    of: Option<Box<str>>,
}

impl Places {
    fn take(&self, principal: &Principal) -> Result<Seat, Problem> {
        let of: Option<Box<str>> = principal.role().map(|_| principal.name().into());
        let mut taken = self.0.lock();
        let own = of.as_ref().map_or(0, |name| taken.of.get(name).copied().unwrap_or_default());
        let detail = match () {
            () if taken.all >= MAX_LISTENERS => {
                format!("{MAX_LISTENERS} listeners have all places for events")
            }
            () if own >= MAX_OF_ONE => format!("{MAX_OF_ONE} listeners of this token have all its places"),
            () => {
                taken.all += 1;
                of.iter().for_each(|name| *taken.of.entry(name.clone()).or_default() += 1);
                return Ok(Seat { taken: Arc::clone(&self.0), of });
            }
        };
        Err(Problem::unavailable("busy", detail, RETRY_SOON))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.taken.lock();
        taken.all -= 1;
        let Some(name) = &self.of else { return };
        if let Some(own) = taken.of.get_mut(name) {
            *own -= 1;
            if *own == 0 {
                taken.of.remove(name);
            }
        }
    }
}

struct Listener {
    events: Arc<Events>,
    news: watch::Receiver<u64>,
    /// The last event that was dealt with.
    after: u64,
    /// A gap to be told, with the number of events in it where that is known.
    gap: Option<Option<u64>>,
    kinds: Option<Vec<&'static str>>,
    installation: Option<InstallationId>,
    /// Whose events they are to hear.
    tenant: TenantId,
    /// Whoever may not list tokens doesn't hear of them, either.
    sees_tokens: bool,
    held: Held,
    is_first: bool,
    _place: Seat,
}

impl Listener {
    /// The next part of the answer; `None` where it ends.
    async fn next(&mut self) -> Option<Bytes> {
        if std::mem::take(&mut self.is_first) {
            // So that a listener knows at once that it is one.
            return Some(Bytes::from_static(b": events\n\n"));
        }
        loop {
            if !self.held.holds() {
                return None;
            }
            self.news.borrow_and_update();
            let next = self.events.after(self.after, AT_ONCE);
            let gap = self.gap.take().or((next.lost > 0).then_some(Some(next.lost)));
            let mut part = Vec::new();
            if let Some(lost) = gap {
                let before = next.events.first().map_or(self.events.now(), |first| first.number - 1);
                write_gap(&self.events.id(before), lost, &mut part);
            }
            for event in next.events {
                self.after = event.number;
                if self.wants(&event.what) {
                    write_event(&self.events.id(event.number), &event, &mut part);
                }
            }
            if !part.is_empty() {
                return Some(part.into());
            }
            if self.after < self.events.now() {
                continue;
            }
            tokio::select! {
                _ = self.news.changed() => {}
                _ = self.held.ended() => return None,
                () = tokio::time::sleep(STILL) => return Some(Bytes::from_static(b":\n\n")),
            }
        }
    }

    fn wants(&self, what: &What) -> bool {
        // What is of no installation is of the platform.
        let whose = what.installation().map_or(TenantId::MAIN, InstallationId::tenant);
        whose == self.tenant
            && (self.sees_tokens || !matches!(what, What::Token { .. }))
            && self.kinds.as_ref().is_none_or(|kinds| is_of(what, kinds))
            && self.installation.as_ref().is_none_or(|id| what.installation() == Some(id))
    }
}

#[derive(Serialize)]
struct Told<'a> {
    id: &'a str,
    at: Timestamp,
    #[serde(flatten)]
    what: &'a What,
}

fn write_event(id: &str, event: &Event, out: &mut Vec<u8>) {
    let told = Told { id, at: event.at, what: &event.what };
    write(id, event.what.kind(), &serde_json::to_string(&told).unwrap_or_default(), out);
}

/// Tells that events are missing before this id.
fn write_gap(id: &str, lost: Option<u64>, out: &mut Vec<u8>) {
    let gap = serde_json::json!({"id": id, "kind": "gap", "lost": lost});
    write(id, "gap", &gap.to_string(), out);
}

fn write(id: &str, kind: &str, data: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("id: {id}\nevent: {kind}\ndata: {data}\n\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Holder, Role, TokenName};

    #[test]
    fn one_token_leaves_places_to_others() {
        let places = Places::default();
        let holder = |name: &str| {
            let (name, role) = (TokenName::new(name).unwrap(), Role::Viewer);
            Principal::Holder(Arc::new(Holder { name, role, tenant: TenantId::MAIN, expires: None }))
        };
        let mut held: Vec<_> = (0..MAX_OF_ONE).map(|_| places.take(&holder("anna")).unwrap()).collect();
        assert_eq!(places.take(&holder("anna")).err().map(|problem| problem.status), Some(503));
        held.push(places.take(&holder("ben")).unwrap());
        held.remove(0);
        held.push(places.take(&holder("anna")).unwrap());
        held.extend((held.len()..MAX_LISTENERS).map(|_| places.take(&Principal::Local).unwrap()));
        assert!(places.take(&holder("ben")).is_err());
        drop(held);
        assert!(places.take(&holder("ben")).is_ok() && places.0.lock().of.is_empty());
    }

    #[test]
    fn events_are_written_as_the_standard_has_them() {
        let mut out = Vec::new();
        let event = Event { number: 7, at: Timestamp(1), what: What::Disk { state: "low" } };
        write_event("a-7", &event, &mut out);
        write_gap("a-6", None, &mut out);
        let expected = concat!(
            "id: a-7\nevent: disk\ndata: {\"id\":\"a-7\",\"at\":\"1970-01-01T00:00:00.000000001Z\",",
            "\"kind\":\"disk\",\"state\":\"low\"}\n\n",
            "id: a-6\nevent: gap\ndata: {\"id\":\"a-6\",\"kind\":\"gap\",\"lost\":null}\n\n",
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        let known = kinds(Some("alarm, disk".to_owned())).unwrap();
        assert_eq!(known, Some(vec!["alarm", "disk"]));
        assert_eq!(kinds(Some("alarm,fire".to_owned())).unwrap_err().status, 400);
    }

    #[test]
    fn whoever_asks_for_alarms_hears_that_there_are_more() {
        let more =
            What::Alarms { installation: InstallationId::new(TenantId::MAIN, "rooms").unwrap(), changes: 7 };
        assert!(is_of(&more, &["disk", "alarm"]) && is_of(&more, &["alarms"]));
        assert!(!is_of(&more, &["disk"]) && !is_of(&What::Disk { state: "low" }, &["alarm"]));
    }
}
