//! `ironloom token`: who may do what.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::client::{Answer, segment};
use super::failure::{Failure, Outcome};
use super::{Global, PageArgs, output};
use crate::access::{Role, TokenName};
use crate::api::JSON_TYPE;
use crate::api::facade::{Identity, NewToken, TokenInfo, TokenRequest};
use ironloom_apps::quantity::Span;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::TenantName;

/// Tokens of people and machines. Whoever shows one may do what its role allows: viewer, operator, app-admin,
/// platform-admin, auditor for the audit log, or source for machines that only push readings.
#[derive(Args, Debug)]
pub(super) struct Tokens {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a token, and print it: the one time that it is shown
    Add {
        /// Whose or what for it is, such as anna or gateway-3
        name: TokenName,
        /// viewer, operator, app-admin, platform-admin, auditor or source
        #[arg(long)]
        role: Role,
        /// The tenant whose data it is for; without it main
        #[arg(long, value_name = "NAME")]
        tenant: Option<TenantName>,
        /// Valid for this long, such as "90 d"
        #[arg(long = "for", value_name = "TIME", conflicts_with = "until")]
        span: Option<Span>,
        /// Valid until then (RFC 3339)
        #[arg(long, value_name = "TIME")]
        until: Option<Timestamp>,
        /// A new file for the token, that nobody else can read; without it the token is printed
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// List the tokens
    List {
        #[command(flatten)]
        page: PageArgs,
    },
    /// Take a token back; it is revoked at once
    Remove {
        /// Its name
        name: TokenName,
    },
    /// Show whose the token is that this command shows the server
    Show,
}

impl Tokens {
    pub(super) fn run(self, global: &Global) -> Outcome {
        match self.command {
            Command::Add { name, role, tenant, span, until, output } => {
                add(global, &TokenRequest { name, role, tenant, until, span }, output.as_deref())
            }
            Command::List { page } => {
                let query = [("after", page.after), ("limit", Some(page.limit.to_string()))];
                let header = ["name", "role", "tenant", "expires", "made", "by"];
                output::list(global, "/v1/tokens", &query, &header, |token: TokenInfo| {
                    let expires = token.expires.map_or("never".to_owned(), |expires| expires.to_string());
                    let expires = if token.expired { format!("{expires}, expired") } else { expires };
                    [
                        token.name.to_string(),
                        token.role.to_string(),
                        token.tenant,
                        expires,
                        token.made.to_string(),
                        token.made_by,
                    ]
                })
            }
            Command::Remove { name } => {
                global.client()?.delete(&path(&name), &[])?;
                output::done(global, &format!("the token {name} is revoked"))
            }
            Command::Show => {
                let answer = global.client()?.get("/v1/me", &[])?;
                output::one(global, &answer, |identity: Identity| shown(&identity))
            }
        }
    }
}

fn path(name: &TokenName) -> String {
    format!("/v1/tokens/{}", segment(name.as_str()))
}

fn add(global: &Global, request: &TokenRequest, file: Option<&Path>) -> Outcome {
    let body = serde_json::to_vec(request).map_err(|error| Failure::Other(error.into()))?;
    let client = global.client()?;
    let make = || client.post("/v1/tokens", &[], JSON_TYPE, &body);
    if let Some(path) = file {
        let name = kept_in(path, make)?;
        return output::done(global, &format!("the token of {name} is in {}", path.display()));
    }
    let answer = make()?;
    if global.json {
        return output::json(&answer);
    }
    let made: NewToken = answer.read()?;
    output::print(&format!("{}\n", made.token))?;
    output::note(&format!(
        "this is the token of {}, shown this once: keep it in a file that nobody else can read, and name that with \
         --token-file",
        made.info.name
    ));
    Ok(())
}

/// Makes a token for a file. The file is there before the token, as nobody shows a token a second time.
fn kept_in(path: &Path, make: impl FnOnce() -> Result<Answer, Failure>) -> Result<TokenName, Failure> {
    output::check_new(path)?;
    let failed = |error| anyhow::Error::new(error).context(format!("can't write {}", path.display()));
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    let made = make().and_then(|answer| answer.read::<NewToken>());
    let made = made.inspect_err(|_| {
        let _ = fs::remove_file(path);
    })?;
    writeln!(file, "{}", made.token).and_then(|()| file.sync_all()).map_err(failed)?;
    Ok(made.info.name)
}

fn shown(identity: &Identity) -> String {
    let (Some(name), Some(role)) = (&identity.name, identity.role) else {
        return "no token is shown, and none is needed here: everything may be done\n".to_owned();
    };
    let until = identity.expires.map_or(String::new(), |expires| format!(", until {expires}"));
    format!("{name}, with the role {role} in the tenant {}{until}\n", identity.tenant)
}
