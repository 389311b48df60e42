//! The one place that decides who may do what.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::token::TokenName;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::TenantId;

// The names of those that have no token. No token has such a name: they never begin with a dash.

/// The server itself.
pub(crate) const HOST: &str = "-host";
/// A program of the server's machine that needs no token.
const LOCAL: &str = "-local";
/// Whoever shows no valid token.
pub(crate) const NOBODY: &str = "-";

/// The work that somebody is there for. New ones go to the end: their order is the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
pub(crate) enum Role {
    /// Sees everything, and changes nothing.
    #[serde(rename = "viewer")]
    Viewer,
    /// Runs the plant as well: acknowledges alarms, turns the kill switch, pauses apps, pushes readings.
    #[serde(rename = "operator")]
    Operator,
    /// Manages apps as well: packages, installations with their state, points.
    #[serde(rename = "app-admin")]
    AppAdmin,
    /// May do everything: tokens, catalogs, connectors, configuration, backups too.
    #[serde(rename = "platform-admin")]
    PlatformAdmin,
    /// Pushes readings and does nothing else: for machines.
    #[serde(rename = "source")]
    Source,
    /// Reads the audit log besides what a viewer reads, and changes nothing.
    #[serde(rename = "auditor")]
    Auditor,
}

impl Role {
    pub(crate) const ALL: [Self; 6] =
        [Self::Viewer, Self::Operator, Self::AppAdmin, Self::PlatformAdmin, Self::Source, Self::Auditor];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::AppAdmin => "app-admin",
            Self::PlatformAdmin => "platform-admin",
            Self::Source => "source",
            Self::Auditor => "auditor",
        }
    }

    fn may(self, action: Action) -> bool {
        match action {
            Action::Probe | Action::Identify => true,
            Action::Read => self != Self::Source,
            Action::Audit => matches!(self, Self::Auditor | Self::PlatformAdmin),
            Action::Push => !matches!(self, Self::Viewer | Self::Auditor),
            Action::Operate => matches!(self, Self::Operator | Self::AppAdmin | Self::PlatformAdmin),
            Action::ManageApps => matches!(self, Self::AppAdmin | Self::PlatformAdmin),
            Action::Administer => self == Self::PlatformAdmin,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|role| role.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("{text:?} is not a role; the roles are {names}")
        })
    }
}

/// The kinds of things that somebody may want to do. Each operation of the API is of one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Action {
    /// Asks whether the server is alive and ready.
    Probe,
    /// Asks who it is itself.
    Identify,
    Read,
    /// Reads the audit log.
    Audit,
    Push,
    Operate,
    ManageApps,
    Administer,
}

impl Action {
    #[cfg(test)]
    const ALL: [Self; 8] = [
        Self::Probe,
        Self::Identify,
        Self::Read,
        Self::Audit,
        Self::Push,
        Self::Operate,
        Self::ManageApps,
        Self::Administer,
    ];

    /// The roles that have it.
    pub(crate) fn roles(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| role.may(self))
    }

    /// It in words, behind "may".
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Probe => "ask whether the server is there",
            Self::Identify => "ask who it is",
            Self::Read => "read anything",
            Self::Audit => "read the audit log",
            Self::Push => "push readings",
            Self::Operate => "operate the plant",
            Self::ManageApps => "manage apps",
            Self::Administer => "administer the server",
        }
    }

    #[cfg(test)]
    fn name(self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::Identify => "identify",
            Self::Read => "read",
            Self::Audit => "audit",
            Self::Push => "push",
            Self::Operate => "operate",
            Self::ManageApps => "manage-apps",
            Self::Administer => "administer",
        }
    }
}

/// Whose it is that something is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    /// The server itself, with all that its tenants share. Those of the tenant `main` run it.
    Platform,
    Tenant(TenantId),
}

/// Whoever has a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub name: TokenName,
    pub role: Role,
    /// The one tenant whose data it may touch.
    pub tenant: TenantId,
    /// The time at which the token expires, by the machine's clock.
    pub expires: Option<Timestamp>,
}

/// Whoever sends a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Principal {
    /// Shows no token where one is needed.
    Nobody,
    /// A program of this machine, where the configuration has these do everything.
    Local,
    Holder(Arc<Holder>),
}

impl Principal {
    /// Its role, where it has one.
    pub(crate) fn role(&self) -> Option<Role> {
        match self {
            Self::Holder(holder) => Some(holder.role),
            _ => None,
        }
    }

    /// The one tenant whose data it may touch.
    pub(crate) fn tenant(&self) -> TenantId {
        match self {
            Self::Nobody => TenantId::NOBODY,
            Self::Local => TenantId::MAIN,
            Self::Holder(holder) => holder.tenant,
        }
    }

    /// Its name for people and the audit log.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Nobody => NOBODY,
            Self::Local => LOCAL,
            Self::Holder(holder) => holder.name.as_str(),
        }
    }
}

/// Why somebody may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// It has to say who it is.
    Unauthenticated,
    /// Its role doesn't allow it.
    Role(Role, Action),
    /// It is of a tenant that was added, and this is the platform's.
    Tenant,
    /// There is nothing of the kind for it, as if nobody had it.
    Foreign,
}

/// Decides whether somebody may do something. Every request passes here, and nothing else decides.
pub(crate) fn authorize(principal: &Principal, action: Action, resource: Resource) -> Result<(), Denied> {
    match principal {
        _ if action == Action::Probe => Ok(()),
        Principal::Nobody => Err(Denied::Unauthenticated),
        Principal::Local => Ok(()),
        Principal::Holder(holder) if !holder.role.may(action) => Err(Denied::Role(holder.role, action)),
        Principal::Holder(holder) => match resource {
            Resource::Platform if holder.tenant == TenantId::MAIN => Ok(()),
            Resource::Platform => Err(Denied::Tenant),
            Resource::Tenant(tenant) if tenant == holder.tenant => Ok(()),
            Resource::Tenant(_) => Err(Denied::Foreign),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(role: Role) -> Principal {
        let name = TokenName::new("x").unwrap();
        Principal::Holder(Arc::new(Holder { name, role, tenant: TenantId::MAIN, expires: None }))
    }

    /// The table of the documentation, read as it stands there.
    #[test]
    fn the_documentation_says_who_may_what() {
        let page = include_str!("../../../../docs/src/admin/access.md");
        let rows: Vec<Vec<&str>> = page
            .lines()
            .filter(|line| line.starts_with("| `"))
            .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
            .filter(|cells: &Vec<&str>| cells.len() == 1 + Role::ALL.len())
            .collect();
        assert_eq!(rows.len(), Action::ALL.len(), "{rows:?}");
        let head = page.lines().find(|line| line.starts_with("| action")).unwrap();
        let roles: Vec<Role> = head.split('|').skip(2).filter_map(|cell| cell.trim().parse().ok()).collect();
        assert_eq!(roles.len(), Role::ALL.len(), "{head}");
        for row in rows {
            let action = Action::ALL.into_iter().find(|one| row[0] == format!("`{}`", one.name())).unwrap();
            for (role, cell) in roles.iter().zip(&row[1..]) {
                let allowed = authorize(&holder(*role), action, Resource::Tenant(TenantId::MAIN)).is_ok();
                assert_eq!(allowed, *cell == "yes", "{role} {action:?}");
            }
        }
    }

    #[test]
    fn nobody_may_probe_alone_and_another_tenant_has_nothing() {
        for action in Action::ALL {
            let nobody = authorize(&Principal::Nobody, action, Resource::Platform);
            assert_eq!(nobody.is_ok(), action == Action::Probe, "{action:?}");
            assert!(authorize(&Principal::Local, action, Resource::Platform).is_ok());
        }
        let foreign = authorize(&holder(Role::PlatformAdmin), Action::Read, Resource::Tenant(TenantId(2)));
        assert_eq!(foreign, Err(Denied::Foreign));
    }
}
