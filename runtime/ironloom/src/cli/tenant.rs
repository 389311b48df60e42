//! `ironloom tenant`: enterprises that share the server.

use clap::{Args, Subcommand};

use super::client::segment;
use super::failure::{Failure, Outcome};
use super::{Global, PageArgs, output};
use crate::api::JSON_TYPE;
use crate::api::facade::{TenantInfo, TenantQuotas, TenantRequest};
use ironloom_types::ids::TenantName;

/// Tenants share the server, and nothing else: each has its own points, installations, alarms and audit log, and whoever has
/// a token of one sees nothing of the others.
#[derive(Args, Debug)]
pub(super) struct Tenants {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Add a tenant; `ironloom token add --tenant NAME` makes tokens for it
    Add {
        /// Such as acme
        name: TenantName,
        #[command(flatten)]
        quotas: Quotas,
    },
    /// Give a tenant other quotas
    Set {
        /// Its name
        name: TenantName,
        #[command(flatten)]
        quotas: Quotas,
    },
    /// List the tenants
    List {
        #[command(flatten)]
        page: PageArgs,
    },
}

#[derive(Args, Clone, Copy, Debug)]
struct Quotas {
    /// The most points; without it the server's own bound
    #[arg(long)]
    points: Option<u32>,
    /// The most installations; without it any number
    #[arg(long)]
    installations: Option<u32>,
}

impl From<Quotas> for TenantQuotas {
    fn from(Quotas { points, installations }: Quotas) -> Self {
        Self { points, installations }
    }
}

impl Tenants {
    pub(super) fn run(self, global: &Global) -> Outcome {
        match self.command {
            Command::Add { name, quotas } => {
                let request = TenantRequest { name: name.clone(), quotas: quotas.into() };
                let body = serde_json::to_vec(&request).map_err(|error| Failure::Other(error.into()))?;
                let answer = global.client()?.post("/v1/tenants", &[], JSON_TYPE, &body)?;
                let next = format!("`ironloom token add NAME --tenant {name}` makes a token for it");
                output::done_with(global, &answer, &format!("tenant {name} is added; {next}"))
            }
            Command::Set { name, quotas } => {
                let body = serde_json::to_vec(&TenantQuotas::from(quotas));
                let body = body.map_err(|error| Failure::Other(error.into()))?;
                let path = format!("/v1/tenants/{}", segment(name.as_str()));
                let answer = global.client()?.put(&path, JSON_TYPE, &body)?;
                output::done_with(global, &answer, &format!("tenant {name} has these quotas from now on"))
            }
            Command::List { page } => {
                let query = [("after", page.after), ("limit", Some(page.limit.to_string()))];
                let header = ["name", "installations", "points", "since"];
                output::list(global, "/v1/tenants", &query, &header, |tenant: TenantInfo| {
                    let of = |there: u64, most: Option<u32>| match most {
                        Some(most) => format!("{there} of {most}"),
                        None => there.to_string(),
                    };
                    [
                        tenant.name.to_string(),
                        of(tenant.installations, tenant.quotas.installations),
                        of(tenant.points, tenant.quotas.points),
                        tenant.since.map_or_else(String::new, |since| since.to_string()),
                    ]
                })
            }
        }
    }
}
