//! The one list of allowed imports and exports: interfaces, their versions, and the declarations that a manifest
//! has to make for them.
//!
//! `ironloom-apps` judges components by it, the sandbox links by it.

use semver::Version;
use serde::{Deserialize, Serialize};

/// The version of the interfaces that this host has, roles and types included. 0.1.x match each other both ways.
pub const INTERFACES: &str = "0.1.0";
/// The version of WASI that this host has, of which each 0.2.x matches.
pub const WASI: &str = "0.2.0";
/// Types alone: there is nothing to call.
pub const TYPES: &str = "ironloom:types/types";
/// Packages of WASI that every component may import, since every toolchain does without asking.
pub const BASELINE: [&str; 6] =
    ["wasi:cli/", "wasi:clocks/", "wasi:filesystem/", "wasi:io/", "wasi:random/", "wasi:sockets/"];

/// Something that an app can import besides the WASI baseline. The matches over it are exhaustive, so that a new
/// one doesn't compile until all of it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Capability {
    /// Facts about the invocation.
    Invocation,
    /// What an app remembers between invocations.
    State,
    /// Derived readings and set-points.
    Outputs,
    /// Alarms for people.
    Alarms,
    /// Timers that fire once.
    Schedule,
    /// The installation's settings.
    Settings,
    /// The app's log.
    Logging,
}

/// The declarations of a manifest that decide what a component may import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Declared {
    /// It has `[outputs.*]`.
    pub outputs: bool,
    /// It has `[alarms.*]`.
    pub alarms: bool,
    /// It has the line `schedule = true`.
    pub schedule: bool,
}

impl Capability {
    /// Every one, for iteration.
    pub const ALL: [Self; 7] = [
        Self::Invocation,
        Self::State,
        Self::Outputs,
        Self::Alarms,
        Self::Schedule,
        Self::Settings,
        Self::Logging,
    ];

    /// Returns the interface's name, without its version.
    pub fn interface(self) -> &'static str {
        match self {
            Self::Invocation => "ironloom:invocation/invocation",
            Self::State => "ironloom:state/state",
            Self::Outputs => "ironloom:outputs/outputs",
            Self::Alarms => "ironloom:alarms/alarms",
            Self::Schedule => "ironloom:timers/schedule",
            Self::Settings => "wasi:config/store",
            Self::Logging => "wasi:logging/logging",
        }
    }

    /// Returns the version of the interface that this host has.
    pub fn version(self) -> &'static str {
        match self {
            Self::Invocation | Self::State | Self::Outputs | Self::Alarms | Self::Schedule => INTERFACES,
            Self::Settings => "0.2.0-rc.1",
            Self::Logging => "0.1.0-draft",
        }
    }

    /// Returns what a manifest must have for an app to import it; `None` where every app may.
    pub fn declaration(self) -> Option<&'static str> {
        match self {
            Self::Outputs => Some("an [outputs.NAME] section"),
            Self::Alarms => Some("an [alarms.NAME] section"),
            Self::Schedule => Some("the line `schedule = true`"),
            Self::Invocation | Self::State | Self::Settings | Self::Logging => None,
        }
    }

    /// Returns whether an app that declares this may import it.
    pub fn is_declared(self, declared: Declared) -> bool {
        match self {
            Self::Outputs => declared.outputs,
            Self::Alarms => declared.alarms,
            Self::Schedule => declared.schedule,
            Self::Invocation | Self::State | Self::Settings | Self::Logging => true,
        }
    }
}

/// Something that an app can be called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Is called with the readings of its inputs.
    Readings,
    /// Is called when a timer is due.
    Timers,
    /// Brings its state from one version's form into the next one's.
    Lifecycle,
}

impl Role {
    /// Every one, for iteration.
    pub const ALL: [Self; 3] = [Self::Readings, Self::Timers, Self::Lifecycle];

    /// Returns the interface's name, without its version.
    pub fn interface(self) -> &'static str {
        match self {
            Self::Readings => "ironloom:feeds/readings",
            Self::Timers => "ironloom:timers/timers",
            Self::Lifecycle => "ironloom:lifecycle/migration",
        }
    }
}

/// The roles that a component has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roles {
    /// Is called with the readings of its inputs.
    pub readings: bool,
    /// Is called when a timer is due.
    pub timers: bool,
    /// Brings its state from one version's form into the next one's.
    pub lifecycle: bool,
}

impl Roles {
    /// Adds a role.
    pub fn insert(&mut self, role: Role) {
        match role {
            Role::Readings => self.readings = true,
            Role::Timers => self.timers = true,
            Role::Lifecycle => self.lifecycle = true,
        }
    }

    /// Returns the roles among the exports of a component, in a version that this host has. Other exports, such
    /// as `wasi:cli/run`, are passed over.
    pub fn of_exports<'a>(exports: impl IntoIterator<Item = &'a str>) -> Self {
        let mut roles = Self::default();
        for export in exports {
            let (interface, version) = split(export);
            let role = Role::ALL.into_iter().find(|role| role.interface() == interface);
            if let Some(role) = role.filter(|_| fits(INTERFACES, version)) {
                roles.insert(role);
            }
        }
        roles
    }
}

/// Splits `package:name/interface@version`; a name without a version has the version "".
pub fn split(name: &str) -> (&str, &str) {
    name.split_once('@').unwrap_or((name, ""))
}

/// Returns whether a version that is offered serves one that is wanted. From 1.0 on the major decides, below it
/// the minor, in both directions; a pre-release goes only with itself.
pub fn fits(offered: &str, wanted: &str) -> bool {
    let (Ok(offered), Ok(wanted)) = (Version::parse(offered), Version::parse(wanted)) else { return false };
    if !offered.pre.is_empty() || !wanted.pre.is_empty() {
        return offered == wanted;
    }
    offered.major == wanted.major && (offered.major > 0 || offered.minor == wanted.minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patch_releases_go_together_and_minors_do_not() {
        assert!(fits("0.1.0", "0.1.7") && fits("0.1.7", "0.1.0"));
        assert!(!fits("0.1.0", "0.2.0") && !fits("0.1.0", "1.1.0"));
        assert!(fits("1.2.0", "1.4.1") && !fits("1.2.0", "2.2.0"));
        assert!(fits("0.2.0-rc.1", "0.2.0-rc.1") && !fits("0.2.0-rc.1", "0.2.0"));
        assert!(!fits("0.1.0", "") && !fits("0.1.0", "0.1"));
    }

    #[test]
    fn roles_are_found_by_name_and_version() {
        let names = ["ironloom:feeds/readings@0.1.3", "ironloom:timers/timers@0.2.0", "wasi:cli/run@0.2.0"];
        assert_eq!(Roles::of_exports(names), Roles { readings: true, ..Roles::default() });
    }
}
