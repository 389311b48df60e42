//! Web servers and registries, as commands reach them that run without a server.

use std::path::PathBuf;

use clap::Args;

use crate::catalogs::web::Access;

#[derive(Args, Debug)]
pub(in crate::cli) struct Reach {
    /// A file with certificates (PEM) of authorities to trust, in addition to those of the system; more than once for several
    #[arg(long, value_name = "FILE")]
    ca: Vec<PathBuf>,
    /// A file with logins for registries, as `docker login` or `podman login` writes it
    #[arg(long, value_name = "FILE")]
    logins: Option<PathBuf>,
}

impl Reach {
    pub(in crate::cli) fn access(self) -> Access {
        Access { ca: self.ca, logins: self.logins }
    }
}
