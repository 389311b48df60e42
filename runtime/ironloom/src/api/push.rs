//! `POST /v1/readings`.

use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use super::applied::Wait;
use super::facade::{
    Applied, Detail, Place, Push, Pushed, RETRY_SOON, RequestKey, SetAside, StoppedInstallation,
};
use super::held::Held;
use super::intake::{Mode, Parsed};
use super::memory::Share;
use super::params::Params;
use super::problem::{FEED_CLOCK, Problem};
use super::readings::{Form, parse};
use super::{
    ARROW_TYPE, Api, JSON_TYPE, KEY_HEADER, NDJSON_TYPE, answers, arrow, body, explain, guard, room,
};
use crate::access::{Action, Principal, Resource, authorize};
use crate::aside::aside_if;
use ironloom_types::clock::Source;
use ironloom_types::ids::{InstallationId, Sequence, TenantId};
use ironloom_types::limits::MAX_BODY;

pub(crate) const MAX_KEY: usize = 64;

/// Bodies longer than this are read aside: it takes milliseconds.
pub(super) const READ_ASIDE: usize = 256 << 10;

/// The answer to a push.
#[derive(Serialize, ToSchema)]
pub(super) struct Accepted {
    /// The number of readings.
    accepted: u64,
    /// The sequence of the last of them; of the last before, where there were none.
    through: Sequence,
    /// The same request was taken before, and this is the answer it got.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    duplicate: bool,
    /// With `?partial=true`: the number of bad lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<u64>,
    /// With `?partial=true`: the first bad lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<Vec<Detail>>,
    /// With `?wait=applied`: whether all apps that are bound to it have dealt with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    applied: Option<bool>,
    /// The first of the apps that have not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pending: Vec<InstallationId>,
    /// The first of those that stand still before it, or were removed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    stopped: Vec<StoppedInstallation>,
    /// The first of those that have set some of its readings aside, or may have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    set_aside: Vec<SetAside>,
    /// The first of those that never deal with some of its readings, or may not, where the readings are gone: they were past
    /// their retention or damaged, or somebody dropped the backlog.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    lost: Vec<InstallationId>,
}

/// Takes readings, and answers once they are durable.
pub(super) async fn push(
    State(api): State<Api>,
    mut params: Params,
    headers: HeaderMap,
    held: Option<Extension<Held>>,
    Extension(principal): Extension<Principal>,
    body: Body,
) -> Result<Response, Problem> {
    guard::need_type(&headers, &[NDJSON_TYPE, JSON_TYPE, ARROW_TYPE])?;
    let mode = if params.flag("partial")? { Mode::PARTIAL } else { Mode::WHOLE };
    let key = idempotency_key(&headers)?.map(|key| own_key(key, &principal).into_bytes());
    let (wait, tenant) = (Wait::of(&mut params)?, params.tenant());
    let body = body::take(&api.memory.readings, held.as_deref(), &headers, body, MAX_BODY).await?;
    let Read { mut parsed, key, share } = match guard::media_type(&headers).as_deref() {
        Some(ARROW_TYPE) => read_arrow(&api, tenant, body, mode, key).await?,
        Some(JSON_TYPE) => read(&api, tenant, body, Form::Json, mode, key).await?,
        _ => read(&api, tenant, body, Form::Lines, mode, key).await?,
    };
    let wait = wait.map(|wait| wait.enter(&api)).transpose()?;
    // Before anything is taken: whoever were refused the answer, would send the readings once more.
    let mut answer = api.memory.answers.share();
    if mode.partial {
        answer.grow(answers::write(&parsed.bad)?.len()).await?;
    }
    // Where it waits for places of new points, it counts there: others with none have the memory.
    let share = share.filter(|_| parsed.new_points.is_empty());
    let pushed = match (take(&api, tenant, &mut parsed, mode, key).await, key) {
        // What is refused now, or has nothing good in it now, may be what was taken before: the clock has been
        // set since, or the disk is full by now.
        (refused, Some(key)) if refused.as_ref().map_or(true, |pushed| pushed.accepted == 0) => {
            match api.node.find_push(key).await? {
                Some(before) => before,
                None => refused?,
            }
        }
        (taken, _) => taken?,
    };
    drop(share);
    if mode.partial && !pushed.duplicate {
        api.count_bad_lines(&parsed.bad_by_kind());
    }
    // A line that is bad now isn't one that was refused then.
    let bad = if pushed.duplicate { Vec::new() } else { parsed.bad };
    let waited = wait.is_some();
    let far = match wait {
        Some(wait) => wait.applied(&api, tenant, held.map(|Extension(held)| held), pushed).await?,
        None => Applied::default(),
    };
    let is_late = waited && far.is_late();
    // Whoever only pushes isn't told which apps there are.
    let far = match authorize(&principal, Action::Read, Resource::Tenant(tenant)) {
        Ok(()) => far,
        Err(_) => Applied { applied: far.applied, ..Applied::default() },
    };
    let refused = mode.partial.then(|| parsed.lines.saturating_sub(pushed.accepted));
    let accepted = Accepted {
        accepted: pushed.accepted,
        through: pushed.through,
        duplicate: pushed.duplicate,
        refused,
        errors: mode.partial.then_some(bad),
        applied: waited.then_some(far.applied),
        pending: far.pending,
        stopped: far.stopped,
        set_aside: far.set_aside,
        lost: far.lost,
    };
    let status = if is_late { StatusCode::ACCEPTED } else { StatusCode::OK };
    answers::within(answer, status, &accepted)
}

/// Hands readings over, if there are only good ones or `partial` allows others.
async fn take(
    api: &Api,
    tenant: TenantId,
    parsed: &mut Parsed,
    mode: Mode,
    key: Option<RequestKey>,
) -> Result<Pushed, Problem> {
    if parsed.needs_clock {
        return Err(no_clock(api.node.clock().source));
    }
    // No line of it is a good one, and no hint about lines helps.
    if parsed.is_unusable {
        let mut problem = refusal(std::mem::take(&mut parsed.bad));
        problem.hints.clear();
        return Err(problem);
    }
    if parsed.bad_lines > 0 && !mode.partial {
        return Err(refusal(std::mem::take(&mut parsed.bad)));
    }
    room::wait(api, tenant, parsed).await?;
    // Where nothing can be taken, nothing is written that could remember the key, and the same request
    // again takes nothing again.
    let columns = std::mem::take(&mut parsed.columns);
    let new_points = std::mem::take(&mut parsed.new_points);
    api.node.submit(Push { tenant, columns, new_points, key, stream: None })?.await
}

/// Readings have no `at`, and no clock says what it is. The machine's clock is soon set; what brings a feed's first time isn't
/// known here, so whoever can wait for nobody else need not try again.
pub(super) fn no_clock(source: Source) -> Problem {
    match source {
        Source::Host => {
            let detail = "readings need an `at` of their own: the machine's clock is wrong";
            Problem::unavailable("clock", detail, RETRY_SOON)
        }
        Source::Feed => {
            let detail = "readings need an `at` of their own: under `[site] clock = \"feed\"` time comes from the readings, \
                          and none has brought one yet";
            Problem::unavailable(FEED_CLOCK, detail, RETRY_SOON)
                .hint("Send one reading with an `at` first, by a push of its own; those of later pushes may lack one.")
        }
    }
}

/// A body that was read.
struct Read {
    parsed: Parsed,
    key: Option<RequestKey>,
    /// The memory of its readings, where that may be more than the body had.
    share: Option<Share>,
}

/// The key of a request, where it has one.
type Key = Option<Vec<u8>>;

/// Reads a body of text, and hashes it where it has a key; a long one aside.
async fn read(
    api: &Api,
    tenant: TenantId,
    body: Bytes,
    form: Form,
    mode: Mode,
    key: Key,
) -> Result<Read, Problem> {
    let node = Arc::clone(&api.node);
    let is_long = body.len() > READ_ASIDE;
    let work = move || {
        let parsed = parse(&body, form, node.ingest_rules(tenant), || node.lookup(tenant), mode);
        Read { parsed, key: hashed(key, mode, &body), share: None }
    };
    aside_if(is_long, work).await.map_err(|error| unread(&error))
}

/// Reads a body of columns likewise. Its rows may have fewer bytes there than in memory, so they get a share of theirs.
async fn read_arrow(api: &Api, tenant: TenantId, body: Bytes, mode: Mode, key: Key) -> Result<Read, Problem> {
    let is_long = body.len() > READ_ASIDE;
    let bytes = body.clone();
    let opened = aside_if(is_long, move || arrow::Stream::open(bytes)).await;
    let stream = match opened.map_err(|error| unread(&error))? {
        Ok(stream) => stream,
        Err(problems) => {
            return Ok(Read { parsed: arrow::refused(problems), key: hashed(key, mode, &body), share: None });
        }
    };
    let mut share = api.memory.readings.share();
    share.grow(stream.memory()).await?;
    let is_long = is_long || stream.memory() > READ_ASIDE;
    let node = Arc::clone(&api.node);
    let work = move || {
        let parsed = arrow::read(&stream, node.ingest_rules(tenant), || node.lookup(tenant), mode);
        Read { parsed, key: hashed(key, mode, &body), share: Some(share) }
    };
    aside_if(is_long, work).await.map_err(|error| unread(&error))
}

pub(super) fn unread(error: &impl std::fmt::Display) -> Problem {
    Problem::internal(format!("the body could not be read: {error}"))
}

fn hashed(key: Key, mode: Mode, body: &[u8]) -> Option<RequestKey> {
    key.map(|key| request_key(&key, mode.partial, body))
}

const TAKE_THE_GOOD: &str = "With ?partial=true the valid lines are accepted.";

/// 403 where nothing else is wrong than that lines name reserved points, 422 where their points are too many.
pub(super) fn refusal(bad: Vec<Detail>) -> Problem {
    let first = bad.first().map_or(String::new(), |bad| match bad.place.as_ref() {
        Some(Place { line: Some(line), .. }) => format!("line {line}: {}", bad.detail),
        Some(Place { batch: Some(batch), row: Some(row), .. }) => {
            format!("batch {batch}, row {row}: {}", bad.detail)
        }
        _ => bad.detail.clone(),
    });
    // As many as are named: what is behind them was left.
    let rest = if bad.len() == Mode::WHOLE.named {
        ", and what is behind them may not have been looked at"
    } else {
        ""
    };
    let more = match bad.len() {
        0 | 1 => String::new(),
        count => format!("; {} more are listed in `errors`{rest}", count - 1),
    };
    let detail = format!("nothing was accepted; {first}{more}");
    let place = bad.first().and_then(|bad| bad.place.clone()).unwrap_or_default();
    let are_all = |kind: &str| bad.iter().all(|bad| bad.kind == kind);
    let problem = if are_all(explain::RESERVED) {
        Problem::forbidden(explain::RESERVED, detail)
    } else if are_all(explain::TOO_MANY_POINTS) {
        Problem::refused(explain::TOO_MANY_POINTS, detail).hint(TAKE_THE_GOOD)
    } else {
        Problem::malformed("bad-lines", detail).hint(TAKE_THE_GOOD)
    };
    problem.at(place).with(bad)
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(KEY_HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if let Ok(key) = value.to_str()
        && is_key(key.as_bytes())
        && values.next().is_none()
    {
        return Ok(Some(key));
    }
    let detail = format!("the Idempotency-Key must be 1 to {MAX_KEY} visible ASCII characters, once");
    Err(Problem::malformed("bad-key", detail).at(Place::field("Idempotency-Key")))
}

pub(crate) fn is_key(key: &[u8]) -> bool {
    (1..=MAX_KEY).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic)
}

/// A key as it is kept, with the name of the token that it came with: nobody has another's stream, nor the answer to another's
/// request. Neither a key nor a name has a blank.
pub(super) fn own_key(key: &str, principal: &Principal) -> String {
    match principal {
        Principal::Holder(holder) => format!("{key} {}", holder.name),
        Principal::Local | Principal::Nobody => key.to_owned(),
    }
}

/// A stream has its key in its path: in a header it would do nothing.
pub(super) fn no_key_header(headers: &HeaderMap) -> Result<(), Problem> {
    if !headers.contains_key(KEY_HEADER) {
        return Ok(());
    }
    let detail = "a stream has no Idempotency-Key; give it a key of its own with ?key=";
    Err(Problem::malformed("bad-key", detail).at(Place::field("Idempotency-Key")))
}

/// The key of a stream that somebody opens.
pub(super) fn stream_key(key: &str, principal: &Principal) -> Result<Arc<str>, Problem> {
    if is_key(key.as_bytes()) {
        return Ok(own_key(key, principal).into());
    }
    let detail = format!("the key of a stream must be 1 to {MAX_KEY} visible ASCII characters");
    Err(Problem::malformed("bad-key", detail).at(Place::field("key")))
}

/// A request is the same one by all that decides about its effect: not how long it waits, nor how its query is spelt.
pub(super) fn request_key(key: &[u8], partial: bool, body: &[u8]) -> RequestKey {
    let mut hash = Sha256::new();
    hash.update([u8::from(partial)]);
    hash.update(body);
    RequestKey { key: half(Sha256::digest(key).into()), request: half(hash.finalize().into()) }
}

fn half(digest: [u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&digest[..16]);
    half
}
