//! The tokens of people and machines: made, taken back, and looked up.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Node, pages, problems};
use crate::access::{HOST, Holder, Role, Token, TokenHash, TokenName};
use crate::api::facade::{Answer, NewToken, Page, PageQuery, Place, Problem, TokenInfo, TokenRequest};
use crate::api::host::{AdminToken, StartError};
use crate::fold::Shared;
use crate::fold::submission::{self, Submission};
use crate::records::admin::AdminRecord;
use crate::records::token::{MOST_TOKENS, TokenChange, TokenRecord};
use ironloom_storage::log::CommitterHandle;
use ironloom_storage::small_files;
use ironloom_trust::audit::Chain;
use ironloom_types::clock::{Timestamp, host_time};
use ironloom_types::ids::TenantId;

/// The file of the token that the server itself makes.
const ADMIN_TOKEN: &str = "admin-token";
/// The name of that token.
const ADMIN: &str = "admin";

/// Why a start can't give its admin a token.
#[derive(Debug, thiserror::Error)]
enum FirstTokenError {
    #[error("the system gives no random bytes for a token: {0}")]
    Random(getrandom::Error),
    #[error("{0}")]
    Name(String),
    #[error("{} can't be written: {error}", path.display())]
    Write { path: PathBuf, error: std::io::Error },
}

fn is_over(expires: Option<Timestamp>, now: Timestamp) -> bool {
    expires.is_some_and(|expires| expires <= now)
}

fn info(token: &TokenRecord, tenant: String, now: Timestamp) -> TokenInfo {
    TokenInfo {
        name: token.name.clone(),
        role: token.role,
        tenant,
        made: token.made,
        made_by: token.made_by.to_string(),
        expires: token.expires,
        expired: is_over(token.expires, now),
    }
}

/// Makes the token of an admin where there is none that is valid, or where one is asked for. The file is there
/// before the record, so that a token that the log knows can be had.
pub(super) fn make_first_token(
    data: &Path,
    shared: &Shared,
    committer: &CommitterHandle<Submission>,
    wanted: AdminToken,
) -> Result<(), StartError> {
    let now = host_time();
    let is_there = || {
        let tokens = shared.tokens.read();
        tokens.all().any(|token| token.role == Role::PlatformAdmin && !is_over(token.expires, now))
    };
    if wanted == AdminToken::Never || (wanted == AdminToken::Missing && is_there()) {
        return Ok(());
    }
    let record = first_token(data, now).map_err(|error| StartError::Storage(error.to_string()))?;
    // Waited for: whoever reads the file may show it with the first request.
    let failed = |error: String| StartError::Storage(format!("the token of an admin can't be kept: {error}"));
    let change = TokenChange::Made(Box::new(record));
    let said = super::audit::by_the_host(
        Chain::Platform,
        "addToken",
        format!("tokens/{ADMIN}"),
        &change.to_string(),
    );
    submission::submit(committer, AdminRecord::Token(change), Some(said))
        .map_err(|refusal| failed(refusal.to_string()))?
        .blocking_recv()
        .map_err(|error| failed(error.to_string()))?
        .map_err(|refusal| failed(refusal.to_string()))
}

fn first_token(data: &Path, now: Timestamp) -> Result<TokenRecord, FirstTokenError> {
    let name = TokenName::new(ADMIN).map_err(FirstTokenError::Name)?;
    let token = Token::random().map_err(FirstTokenError::Random)?;
    let path = data.join(ADMIN_TOKEN);
    let failed = |error| FirstTokenError::Write { path: path.clone(), error };
    small_files::write_private(&path, format!("{}\n", token.reveal()).as_bytes()).map_err(failed)?;
    let shown = std::path::absolute(&path).unwrap_or(path);
    tracing::info!(file = %shown.display(), "the token of a platform-admin is in a file; keep it or remove it");
    Ok(TokenRecord {
        name,
        role: Role::PlatformAdmin,
        tenant: TenantId::MAIN,
        hash: token.hash(),
        made: now,
        made_by: HOST.into(),
        expires: None,
    })
}

impl Node {
    /// Whoever has the token of this hash, while it is valid.
    pub(super) fn holder(&self, hash: &TokenHash) -> Option<Arc<Holder>> {
        let holder = self.shared.tokens.read().holder(hash)?;
        (!is_over(holder.expires, host_time())).then_some(holder)
    }

    fn token_info(&self, token: &TokenRecord, now: Timestamp) -> TokenInfo {
        info(token, self.tenant_name(token.tenant), now)
    }

    pub(super) fn list_tokens(&self, page: &PageQuery) -> Page<TokenInfo> {
        let now = host_time();
        let tokens = self.shared.tokens.read();
        pages::by_name(
            page,
            tokens.all(),
            |token| token.name.to_string(),
            |token| self.token_info(token, now),
        )
    }

    pub(super) fn show_token(&self, name: &TokenName) -> Answer<TokenInfo> {
        let tokens = self.shared.tokens.read();
        tokens.get(name).map(|token| self.token_info(token, host_time())).ok_or_else(|| no_token(name))
    }

    /// Makes a token.
    pub(super) async fn add_token(self: Arc<Self>, request: TokenRequest, by: Box<str>) -> Answer<NewToken> {
        self.check_space()?;
        let now = host_time();
        let expires = expiry(&request, now)?;
        let tenant = request.tenant.as_ref().map_or(Ok(TenantId::MAIN), |name| self.tenant_named(name))?;
        if request.role == Role::PlatformAdmin && tenant != TenantId::MAIN {
            let detail = "a platform-admin is of the platform, and has no tenant but main";
            return Err(Problem::refused("token", detail)
                .at(Place::field("tenant"))
                .hint("Leave `tenant` out, or choose app-admin."));
        }
        let token = Token::random().map_err(|error| problems::internal(&error))?;
        let record = TokenRecord {
            name: request.name,
            role: request.role,
            tenant,
            hash: token.hash(),
            made: now,
            made_by: by,
            expires,
        };
        let _changing = self.admin.tokens.lock().await;
        {
            let tokens = self.shared.tokens.read();
            if let Some(known) = tokens.get(&record.name) {
                let what = if is_over(known.expires, now) { ", which has expired" } else { "" };
                let detail = format!("there is a token {}{what}", record.name);
                return Err(
                    Problem::conflict("exists", detail).hint("Take it back first, or choose another name.")
                );
            }
            if tokens.len() >= MOST_TOKENS {
                let detail = format!("there are {MOST_TOKENS} tokens already, and that is the most");
                return Err(Problem::refused("token", detail).hint("Take back those that have expired."));
            }
        }
        let info = self.token_info(&record, now);
        self.change(AdminRecord::Token(TokenChange::Made(Box::new(record)))).await?;
        Ok(NewToken { token: token.reveal().to_owned(), info })
    }

    /// Takes a token back.
    pub(super) async fn remove_token(self: Arc<Self>, name: TokenName) -> Answer<()> {
        let _changing = self.admin.tokens.lock().await;
        {
            let now = host_time();
            let tokens = self.shared.tokens.read();
            let gone = tokens.get(&name).ok_or_else(|| no_token(&name))?;
            let is_admin =
                |token: &TokenRecord| token.role == Role::PlatformAdmin && !is_over(token.expires, now);
            if is_admin(gone) && tokens.all().filter(|token| is_admin(token)).count() == 1 {
                let detail =
                    format!("{name} is the last token of a platform-admin: nobody could make another");
                return Err(Problem::conflict("in-use", detail).hint("Make another one first."));
            }
        }
        self.change(AdminRecord::Token(TokenChange::Removed(name))).await
    }
}

fn no_token(name: &TokenName) -> Problem {
    Problem::not_found(format!("there is no token {name}"))
        .hint("`ironloom token list` lists those that there are.")
}

/// The time at which a token that is asked for expires.
fn expiry(request: &TokenRequest, now: Timestamp) -> Answer<Option<Timestamp>> {
    let wrong = |detail: String, field: &str| {
        let problem = Problem::refused("token", detail).at(Place::field(field));
        Err(problem.hint(
            "`for` is a time span such as \"90 d\", `until` a time to come; with neither it doesn't expire.",
        ))
    };
    match (request.until, request.span) {
        (Some(_), Some(_)) => wrong("`until` and `for` both say when it expires; give one".to_owned(), "for"),
        (Some(until), None) if until <= now => wrong(format!("{until} has passed"), "until"),
        (Some(until), None) => Ok(Some(until)),
        (None, Some(span)) if span.duration() < Duration::from_secs(1) => {
            wrong(format!("{span} is too short; a token lives for 1 s at least"), "for")
        }
        (None, Some(span)) => match now.0.checked_add(span.0) {
            Some(until) => Ok(Some(Timestamp(until))),
            None => wrong(format!("{span} from now is later than any time there is"), "for"),
        },
        (None, None) => Ok(None),
    }
}
