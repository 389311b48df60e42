//! `?wait=applied`: a push is answered once apps have dealt with its readings.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::Api;
use super::facade::{Applied, Place, Pushed, RETRY_SOON};
use super::held::Held;
use super::params::Params;
use super::problem::Problem;
use ironloom_apps::quantity::Span;
use ironloom_types::ids::TenantId;
use ironloom_types::limits::MAX_WAITING_PUSHES;

/// How long a push waits unless it says so.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The longest that it may wait.
const MAX_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a push is to wait.
pub(super) struct Wait(Duration);

/// A push that has a place to wait.
pub(super) struct Waiting {
    within: Duration,
    _place: OwnedSemaphorePermit,
}

impl Wait {
    /// Reads what a request says of it.
    pub(super) fn of(params: &mut Params) -> Result<Option<Self>, Problem> {
        let (wait, timeout) = (params.text("wait"), params.value::<Span>("timeout")?);
        let bad = |field: &str, detail: String| {
            Err(Problem::malformed("bad-parameter", detail).at(Place::field(field)))
        };
        match wait.as_deref() {
            Some("applied") => {}
            Some(other) => return bad("wait", format!("`wait` can only be `applied`, not {other:?}")),
            None if timeout.is_some() => {
                return bad("timeout", "`timeout` is for pushes with `wait=applied`".to_owned());
            }
            None => return Ok(None),
        }
        let within = timeout.map_or(TIMEOUT, Span::duration);
        if within > MAX_TIMEOUT {
            let most = MAX_TIMEOUT.as_secs();
            return bad("timeout", format!("`timeout` may be at most {most} s"));
        }
        Ok(Some(Self(within)))
    }

    /// Takes a place: once the body is there, and before anything of it is taken.
    pub(super) fn enter(self, api: &Api) -> Result<Waiting, Problem> {
        let Ok(place) = Arc::clone(&api.waiting).try_acquire_owned() else {
            let detail =
                format!("{MAX_WAITING_PUSHES} pushes wait for apps already; nothing of this one was taken");
            return Err(Problem::unavailable("busy", detail, RETRY_SOON));
        };
        Ok(Waiting { within: self.0, _place: place })
    }
}

impl Waiting {
    /// Waits. A server that stops doesn't wait for it: the answer says how far the apps are.
    pub(super) async fn applied(
        self,
        api: &Api,
        tenant: TenantId,
        held: Option<Held>,
        pushed: Pushed,
    ) -> Result<Applied, Problem> {
        let ended = async {
            match held {
                Some(held) => drop(held.ended().await),
                None => std::future::pending().await,
            }
        };
        api.node.applied(tenant, pushed, self.within, Box::pin(ended)).await
    }
}
