//! Web servers and registries, as commands reach them that run without a server.

use std::path::PathBuf;

use clap::Args;

use crate::catalogs::web::Access;
use crate::cli::Global;

#[derive(Args, Debug)]
pub(in crate::cli) struct Reach {
    /// A file with logins for registries, as `docker login` or `podman login` writes it
    #[arg(long, value_name = "FILE")]
    logins: Option<PathBuf>,
}

impl Reach {
    pub(in crate::cli) fn access(self, global: &Global) -> Access {
        Access { ca: global.ca.clone(), logins: self.logins }
    }
}
