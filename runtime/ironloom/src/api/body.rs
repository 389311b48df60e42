//! Receives request bodies within their limits, at a pace that a slow network reaches and an idle client doesn't.

use std::pin::pin;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;
use tokio::time::Instant;

use super::facade::Place;
use super::held::{self, Held};
use super::memory::{FREE, Memory};
use super::problem::Problem;
use super::{Api, JSON_TYPE, guard};
use ironloom_apps::problem::join_path;

/// The longest without a byte.
const SILENCE: Duration = Duration::from_secs(10);
/// The time that a body may take whatever its length.
pub(super) const GRACE: Duration = Duration::from_secs(30);
/// Bytes in each second that a body has to come with beyond that: a poor mobile network has more.
pub(super) const LEAST_RATE: u64 = 32 << 10;

/// The longest JSON body that isn't readings.
const MAX_JSON: usize = 1 << 20;

/// Reads the whole body, whose bytes hold their share of the memory. It may come slowly: whoever loses its right meanwhile is
/// refused, so that nothing is done by a request that was begun before.
pub(super) async fn take(
    memory: &Memory,
    held: Option<&Held>,
    headers: &HeaderMap,
    mut body: Body,
    most: usize,
) -> Result<Bytes, Problem> {
    let too_large = || Problem::too_large(format!("the body may have at most {most} bytes"));
    if let Some(coding) = headers.get(header::CONTENT_ENCODING).filter(|coding| *coding != "identity") {
        let detail = format!("the body's Content-Encoding is {coding:?}; it must be sent as it is");
        return Err(Problem::unsupported_type(detail));
    }
    let announced = headers.get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > most) {
        return Err(too_large());
    }
    let mut share = memory.share();
    let mut bytes = Vec::with_capacity(announced.unwrap_or(0).min(FREE));
    let mut pace = Pace::new();
    let mut lost = pin!(async {
        match held {
            Some(held) => held.lost().await,
            None => std::future::pending().await,
        }
    });
    loop {
        let next = tokio::select! {
            biased;
            next = pace.wait(bytes.len(), body.frame()) => next?,
            () = &mut lost => return Err(held::lost()),
        };
        let Some(frame) = next else { break };
        let frame =
            frame.map_err(|error| Problem::malformed("body", format!("the body was cut off: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        let length = bytes.len() + data.len();
        if length > most {
            return Err(too_large());
        }
        pace.own_wait(share.grow(length)).await?;
        bytes.extend_from_slice(&data);
    }
    held.map_or(Ok(()), Held::check)?;
    Ok(share.with(bytes))
}

/// Holds a sender to a pace. What the server makes it wait doesn't count.
struct Pace {
    /// Moved on by the server's own waits.
    started: Instant,
}

impl Pace {
    fn new() -> Self {
        Self { started: Instant::now() }
    }

    async fn wait<T>(&self, received: usize, next: impl Future<Output = T>) -> Result<T, Problem> {
        let allowed = GRACE + Duration::from_millis(received as u64 * 1_000 / LEAST_RATE);
        let deadline = (self.started + allowed).min(Instant::now() + SILENCE);
        tokio::time::timeout_at(deadline, next).await.map_err(|_| {
            let (silence, grace) = (SILENCE.as_secs(), GRACE.as_secs());
            Problem::too_slow(format!(
                "the body came too slowly: at most {silence} s may pass without a byte, and after {grace} s the \
                 average must be {LEAST_RATE} bytes a second"
            ))
        })
    }

    async fn own_wait<T>(&mut self, wait: impl Future<Output = T>) -> T {
        let before = Instant::now();
        let done = wait.await;
        self.started += before.elapsed();
        done
    }
}

/// A body of JSON that must be there.
pub(super) struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Api> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        parse(&json(request, api).await?).map(Self)
    }
}

/// A body of JSON; an empty one is the default, and then needs no type.
pub(super) struct Optional<T>(pub T);

impl<T: DeserializeOwned + Default> FromRequest<Api> for Optional<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        if guard::is_bare(&request) {
            return Ok(Self(T::default()));
        }
        let bytes = json(request, api).await?;
        if bytes.is_empty() { Ok(Self(T::default())) } else { parse(&bytes).map(Self) }
    }
}

/// The body of a route that takes nothing: empty, or `{}`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

async fn json(request: Request, api: &Api) -> Result<Bytes, Problem> {
    let (head, body) = request.into_parts();
    guard::need_type(&head.headers, &[JSON_TYPE])?;
    take(&api.memory.admin, head.extensions.get(), &head.headers, body, MAX_JSON).await
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let parsed = serde_path_to_error::deserialize(&mut json);
    let (error, place) = match parsed {
        Ok(parsed) => match json.end() {
            Ok(()) => return Ok(parsed),
            Err(error) => (error, Place::default()),
        },
        Err(error) => {
            let place = if error.inner().is_data() { place_of(error.path()) } else { Place::default() };
            (error.into_inner(), place)
        }
    };
    let item = place.item.map_or(String::new(), |item| format!("item {item}: "));
    let field = place.field.as_ref().map_or(String::new(), |field| format!("{field}: "));
    let (line, column) = (Some(error.line() as u64), Some(error.column() as u64));
    let kind = if error.is_data() { "bad-field" } else { "not-json" };
    let detail = format!("the body can't be read: {item}{field}{error}");
    Err(Problem::malformed(kind, detail).at(Place { line, column, ..place }))
}

/// The item of a list, and the field of it or of the body.
fn place_of(path: &serde_path_to_error::Path) -> Place {
    let mut place = Place::default();
    let mut field = String::new();
    for (depth, segment) in path.iter().enumerate() {
        match segment {
            Segment::Seq { index } if depth == 0 => place.item = Some(*index as u64 + 1),
            Segment::Seq { index } => field.push_str(&format!("[{index}]")),
            Segment::Map { key } => field = join_path(&field, key),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    place.field = Some(field).filter(|field| !field.is_empty());
    place
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use hyper::body::Frame;

    use super::*;

    /// A body whose parts come after these pauses.
    fn slow(parts: Vec<(u64, usize)>) -> Body {
        let (to, from) = tokio::sync::mpsc::channel::<Bytes>(1);
        tokio::spawn(async move {
            for (pause, bytes) in parts {
                tokio::time::sleep(Duration::from_millis(pause)).await;
                if to.send(Bytes::from(vec![b'x'; bytes])).await.is_err() {
                    return;
                }
            }
        });
        Body::new(Frames(from))
    }

    struct Frames(tokio::sync::mpsc::Receiver<Bytes>);

    impl axum::body::HttpBody for Frames {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            self.0.poll_recv(context).map(|data| data.map(|data| Ok(Frame::data(data))))
        }
    }

    async fn status(parts: Vec<(u64, usize)>, most: usize) -> Result<usize, u16> {
        let memory = Memory::new(64 << 20);
        let taken = take(&memory, None, &HeaderMap::new(), slow(parts), most).await;
        taken.map(|bytes| bytes.len()).map_err(|problem| problem.status)
    }

    #[test]
    fn a_field_that_cant_be_read_is_named_with_its_item() {
        use crate::api::installations::Requests;
        let package = format!("sha256:{}", "0".repeat(64));
        let list = |wrong: &str| {
            let good = format!(r#"{{"id":"a","package":"{package}"}}"#);
            format!(r#"[{good},{good},{{"id":"b","package":"{package}",{wrong}}}]"#)
        };
        for (body, item, field) in [
            (list(r#""bindings":{"weight":7}"#), Some(3), Some("bindings.weight")),
            (list(r#""limits":{"memory":"7 bananas"}"#), Some(3), Some("limits.memory")),
            (list(r#""colour":1"#), Some(3), Some("colour")),
            (r#"[{"id":"a"}]"#.to_owned(), Some(1), None),
            (r#"{"id":"A"}"#.to_owned(), None, Some("id")),
            (r#"{"id":"a"} x"#.to_owned(), None, None),
        ] {
            let problem = parse::<Requests>(body.as_bytes()).err().unwrap();
            let place = problem.place.as_ref().unwrap();
            assert_eq!((place.item, place.field.as_deref()), (item, field), "{problem}");
            let told = item.map(|item| format!("item {item}: ")).unwrap_or_default();
            let told = told + &field.map(|field| format!("{field}: ")).unwrap_or_default();
            assert!(problem.detail.starts_with(&format!("the body can't be read: {told}")), "{problem}");
            assert_eq!(place.line, Some(1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_network_is_waited_for_and_an_idler_is_not() {
        // 64 MiB at 512 kbit/s: seventeen minutes.
        assert_eq!(status(vec![(1_000, 64 << 10); 1_024], 64 << 20).await, Ok(64 << 20));
        assert_eq!(status(vec![(9_000, 1); 3], 100).await, Ok(3));
        assert_eq!(status(vec![(11_000, 1)], 100).await, Err(408));
        assert_eq!(status(vec![(9_000, 1); 100], 100).await, Err(408));
        assert_eq!(status(vec![(0, 101)], 100).await, Err(413));
    }

    #[tokio::test(start_paused = true)]
    async fn silent_senders_hold_no_memory() {
        let memory = Memory::new(1 << 20);
        let announced = HeaderMap::from_iter([(header::CONTENT_LENGTH, "1048576".parse().unwrap())]);
        let silent: Vec<_> = (0..50)
            .map(|_| {
                let (memory, announced) = (memory.clone(), announced.clone());
                tokio::spawn(async move {
                    take(&memory, None, &announced, slow(vec![(60_000, 1)]), 1 << 20).await
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let honest = take(&memory, None, &announced, slow(vec![(1, 1 << 20)]), 1 << 20).await.unwrap();
        assert_eq!(honest.len(), 1 << 20);
        for one in silent {
            assert_eq!(one.await.unwrap().unwrap_err().status, 408);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_for_others_is_not_held_against_the_sender() {
        let memory = Memory::new(1 << 20);
        let mut others = memory.share();
        others.grow(FREE + (1 << 20)).await.unwrap();
        let body = slow(vec![(0, 200 << 10)]);
        let refused = take(&memory, None, &HeaderMap::new(), body, 1 << 20).await.unwrap_err();
        assert_eq!((refused.status, refused.retry_after), (503, Some(1)));
        let small = take(&memory, None, &HeaderMap::new(), slow(vec![(0, 60 << 10)]), 1 << 20).await.unwrap();
        assert_eq!(small.len(), 60 << 10);
    }
}
