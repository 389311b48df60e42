//! `ironloom packages`.

use clap::{Args, Subcommand};

use super::client::{Client, segment};
use super::failure::Outcome;
use super::{Global, PageArgs, output};
use crate::api::facade::PackageInfo;

/// Lists packages, or deletes one.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Packages {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    page: PageArgs,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Delete a package that no installation has
    Delete {
        /// Its digest
        digest: String,
    },
}

impl Packages {
    /// Runs it.
    pub fn run(self, global: &Global) -> Outcome {
        if let Some(What::Delete { digest }) = self.what {
            Client::new(&global.url).delete(&format!("/v1/packages/{}", segment(&digest)), &[])?;
            return output::done(global, &format!("{digest} is deleted"));
        }
        let query = [("after", self.page.after), ("limit", Some(self.page.limit.to_string()))];
        output::list(
            global,
            "/v1/packages",
            &query,
            &["app", "version", "name", "digest"],
            |item: PackageInfo| [item.id.to_string(), item.version, item.name, item.digest.to_string()],
        )
    }
}
