//! A deed: what somebody is about to do, as the audit log will tell it.
//!
//! It goes along with the work as a value of the task, so that whatever writes a record of the log can put the entry into
//! that record: then there is both or none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use super::{Principal, Role, without_tokens};
use ironloom_trust::audit::{Chain, Outcome, Said};
use ironloom_types::ids::Digest;

tokio::task_local! {
    static DEED: Option<Arc<Deed>>;
}

/// The deed that this task does.
pub(crate) fn current() -> Option<Arc<Deed>> {
    DEED.try_with(Clone::clone).ok().flatten()
}

/// Does work as this deed.
pub(crate) async fn within<T>(deed: Option<Arc<Deed>>, work: impl Future<Output = T>) -> T {
    DEED.scope(deed, work).await
}

/// Something that somebody asks for.
pub(crate) struct Deed {
    chain: Chain,
    who: Box<str>,
    role: Option<Role>,
    action: &'static str,
    resource: Box<str>,
    body: Mutex<Body>,
    /// A record has its entry.
    is_told: AtomicBool,
}

/// The request's body, as far as it came.
struct Body {
    hash: Sha256,
    is_empty: bool,
}

impl Deed {
    pub(crate) fn new(chain: Chain, principal: &Principal, action: &'static str, resource: String) -> Self {
        Self {
            chain,
            who: principal.name().into(),
            role: principal.role(),
            action,
            resource: without_tokens(&resource).into(),
            body: Mutex::new(Body { hash: Sha256::new(), is_empty: true }),
            is_told: AtomicBool::new(false),
        }
    }

    /// Takes the next part of the request's body in.
    pub(crate) fn add_to_body(&self, part: &[u8]) {
        let mut body = self.body.lock();
        body.hash.update(part);
        body.is_empty &= part.is_empty();
    }

    /// Its entry with this result. The body is as far as it has come: whoever acts on a body has read all of it.
    pub(crate) fn said(&self, outcome: Outcome, problem: &str, detail: &str) -> Said {
        let body = self.body.lock();
        let digest = (!body.is_empty).then(|| Digest(body.hash.clone().finalize().into()));
        Said {
            chain: self.chain,
            who: self.who.clone(),
            role: self.role.map_or("", Role::name).into(),
            action: self.action.into(),
            resource: self.resource.clone(),
            outcome,
            problem: problem.into(),
            detail: without_tokens(detail).into(),
            digest,
        }
    }

    /// Notes that a durable record has its entry.
    pub(crate) fn set_told(&self) {
        self.is_told.store(true, Ordering::Release);
    }

    pub(crate) fn is_told(&self) -> bool {
        self.is_told.load(Ordering::Acquire)
    }
}
