//! Who sends a request, whether it may, and the routes of tokens.

#[cfg(test)]
mod tests;

use std::time::Duration;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::body::Json;
use super::facade::{Identity, NewToken, TokenRequest};
use super::held::Held;
use super::operation::{Operation, Whose};
use super::params::{Params, TokenId};
use super::problem::Problem;
use super::rates::{Caller, Peer};
use super::{Api, answers};
use crate::access::{Action, Denied, Principal, Resource, Token, TokenHash, authorize};

/// The interval at which a long answer looks if its caller's token is still valid.
const LOOK: Duration = Duration::from_secs(1);

/// Says who sends this request and what it came with, for the handler and for answers that take long; or refuses it.
pub(super) fn admit(api: &Api, operation: &Operation, request: &mut Request) -> Result<(), Problem> {
    let peer = request.extensions().get::<Peer>().copied();
    let found = principal(api, request.headers());
    let caller = match &found {
        Ok((_, Some(hash))) => Some(Caller::of(hash)),
        Ok((Principal::Local, None)) => peer.filter(|peer| !peer.is_local()).map(Caller::Open),
        _ => peer.map(Caller::Stranger),
    };
    if let Some(caller) = caller {
        api.rates.count(caller, operation, found.is_err())?;
    }
    let (principal, hash) = found?;
    let resource = match operation.whose {
        Whose::Platform => Resource::Platform,
        Whose::Tenant => Resource::Tenant(principal.tenant()),
    };
    // Before it is refused: the audit log tells whom.
    request.extensions_mut().insert(principal.clone());
    authorize(&principal, operation.needs, resource).map_err(|denied| problem(&principal, denied))?;
    if let Some(held) = request.extensions_mut().get_mut::<Held>() {
        if principal != Principal::Nobody {
            held.connection().set_known();
        }
        if let Some(hash) = hash {
            held.depend_on(Authority { api: api.clone(), hash });
        }
    }
    Ok(())
}

/// Refuses somebody who may not do what a part of a request asks for, beyond its operation.
pub(super) fn need(principal: &Principal, action: Action) -> Result<(), Problem> {
    authorize(principal, action, Resource::Platform).map_err(|denied| problem(principal, denied))
}

/// Whoever the headers show, and by which token.
fn principal(api: &Api, headers: &HeaderMap) -> Result<(Principal, Option<TokenHash>), Problem> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = given.next() else {
        let anybody = !api.guard.tokens_required;
        return Ok((if anybody { Principal::Local } else { Principal::Nobody }, None));
    };
    let malformed =
        |detail: &str| Problem::unauthenticated(detail).hint("Send `Authorization: Bearer ilm_…`, once.");
    if given.next().is_some() {
        return Err(malformed("the request has more than one Authorization header"));
    }
    let text = value.to_str().ok().and_then(|text| text.split_once(' '));
    let Some((_, token)) = text.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) else {
        return Err(malformed("the Authorization header has no Bearer token"));
    };
    let token: Token = token.trim().parse().map_err(malformed)?;
    let hash = token.hash();
    // One answer for all reasons: nobody learns which tokens there were.
    let Some(holder) = api.node.holder(&hash) else {
        return Err(Problem::unauthenticated("the token isn't known, or it has expired")
            .hint("A platform-admin makes another one with `ironloom token add`."));
    };
    Ok((Principal::Holder(holder), Some(hash)))
}

fn problem(principal: &Principal, denied: Denied) -> Problem {
    match denied {
        Denied::Unauthenticated => Problem::unauthenticated(
            "this server answers only those who show a token",
        )
        .hint("Send `Authorization: Bearer ilm_…`; the commands take it from IRONLOOM_TOKEN or --token-file.")
        .hint("A platform-admin makes tokens with `ironloom token add`."),
        Denied::Role(role, action) => {
            let who = principal.name();
            let able: Vec<_> = action.roles().map(|role| role.name()).collect();
            let detail = format!("{who:?} has the role {role}, which may not {}", action.words());
            Problem::forbidden("role", detail).hint(format!("These may: {}.", able.join(", ")))
        }
        Denied::Tenant => {
            let detail = format!("{:?} is of a tenant, and this is the platform's", principal.name());
            Problem::forbidden("tenant", detail)
                .hint("Whoever runs the server does this with a token of `main`.")
        }
        Denied::Foreign => Problem::not_found("there is nothing of this name"),
    }
}

/// The right by which a long answer goes on.
#[derive(Clone)]
pub(super) struct Authority {
    api: Api,
    hash: TokenHash,
}

impl Authority {
    pub(super) fn holds(&self) -> bool {
        self.api.node.holder(&self.hash).is_some()
    }

    /// Ready when the token isn't valid any more.
    pub(super) async fn lost(&self) {
        while self.holds() {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Answers who sends the request.
pub(super) async fn identity(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
) -> Result<Response, Problem> {
    let tenant = api.node.tenant_name(principal.tenant());
    let identity = match &principal {
        Principal::Holder(holder) => Identity {
            name: Some(holder.name.clone()),
            role: Some(holder.role),
            tenant,
            expires: holder.expires,
        },
        _ => Identity { tenant, ..Identity::default() },
    };
    answers::ok(&api, &identity).await
}

pub(super) async fn list(State(api): State<Api>, mut params: Params) -> Result<Response, Problem> {
    answers::ok(&api, &api.node.tokens(&params.page()?)).await
}

pub(super) async fn add(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    Json(request): Json<TokenRequest>,
) -> Result<Response, Problem> {
    let made: NewToken = api.node.add_token(request, principal.name().into()).await?;
    let path = format!("/v1/tokens/{}", made.info.name);
    let mut response = answers::created(&api, &path, &made).await?;
    // It is the one time that a secret is in an answer.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

pub(super) async fn show(State(api): State<Api>, TokenId(name): TokenId) -> Result<Response, Problem> {
    answers::ok(&api, &api.node.token(&name)?).await
}

pub(super) async fn remove(State(api): State<Api>, TokenId(name): TokenId) -> Result<Response, Problem> {
    api.node.remove_token(name).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
