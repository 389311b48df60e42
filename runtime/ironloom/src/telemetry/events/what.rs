//! Events of the site, as they are told.

use serde::Serialize;

use super::{EVENT, TEXT};
use ironloom_types::ids::{AppId, Digest, InstallationId, SlotName};
use ironloom_types::text::shorten;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum What {
    /// The state of an installation: `installed`, `set`, `upgraded`, `reset`, `running`, `paused`, `quarantined`, `waiting`, `uninstalled`,
    /// `asks-consent`, `consent-refused`.
    Installation {
        installation: InstallationId,
        state: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// An alarm was `raised`, `cleared`, `acknowledged`, `shelved`, `unshelved` or `commented`.
    Alarm {
        installation: InstallationId,
        alarm: String,
        change: &'static str,
        code: SlotName,
        entity: String,
        severity: &'static str,
        message: String,
    },
    /// A person has `set` or `deleted` a key of an app's state.
    State { installation: InstallationId, key: String, change: &'static str },
    /// More alarms of one invocation than are told one by one.
    Alarms { installation: InstallationId, changes: usize },
    /// Readings were set aside.
    DeadLetters { installation: InstallationId, count: u64 },
    /// Points match an input, but are left out.
    PointsLeftOut { installation: InstallationId, count: u64 },
    /// Readings that wait for it have used up so much of their retention, in percent: 50, then 90.
    Expiring { installation: InstallationId, percent: u8 },
    /// Somebody has `set` what points are, `retired` or `renamed` them; the first of so many, by its path before.
    Points { point: String, count: usize, change: &'static str },
    /// The state of a connector; with a part, that of its `set-points` or of `publishing`.
    Connector {
        connector: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        part: Option<&'static str>,
        state: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// The end of a set-point: its outcome.
    SetPoint {
        installation: InstallationId,
        point: String,
        outcome: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// Set-points wait for a person to confirm them.
    Unconfirmed { installation: InstallationId, count: u64 },
    /// More ends of set-points than are told one by one.
    SetPoints { installation: InstallationId, count: u64 },
    /// The kill switch was turned: `halted` or `released`. Without an installation, that of the site.
    Halt {
        #[serde(skip_serializing_if = "Option::is_none")]
        installation: Option<InstallationId>,
        state: &'static str,
    },
    /// A package was `added` or `removed`.
    Package { package: Digest, change: &'static str },
    /// The id of an app belongs to another key, which has taken the place of the one before: by a rotation, or because
    /// somebody has consented to another publisher.
    Owner { app: AppId, from: String, to: String },
    /// A catalog was `set`, that is added or found to be another one, or `removed`.
    Catalog { catalog: String, change: &'static str },
    /// A token was `made`, or `removed`.
    Token { token: String, change: &'static str },
    /// The machine's clock has `stepped`, is `behind` journal time, or has `caught-up`; or journal time was `set-back`.
    Clock { state: &'static str },
    /// The disk is `low`, so that nothing new is taken, or `ok` again.
    Disk { state: &'static str },
}

impl What {
    /// Its kind, as in JSON.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Installation { .. } => "installation",
            Self::Alarm { .. } => "alarm",
            Self::State { .. } => "state",
            Self::Alarms { .. } => "alarms",
            Self::DeadLetters { .. } => "dead-letters",
            Self::PointsLeftOut { .. } => "points-left-out",
            Self::Expiring { .. } => "expiring",
            Self::Points { .. } => "points",
            Self::Connector { .. } => "connector",
            Self::SetPoint { .. } => "set-point",
            Self::SetPoints { .. } => "set-points",
            Self::Unconfirmed { .. } => "unconfirmed",
            Self::Halt { .. } => "halt",
            Self::Package { .. } => "package",
            Self::Owner { .. } => "owner",
            Self::Catalog { .. } => "catalog",
            Self::Token { .. } => "token",
            Self::Clock { .. } => "clock",
            Self::Disk { .. } => "disk",
        }
    }

    /// All kinds.
    pub(crate) const KINDS: [&str; 19] = [
        "installation",
        "state",
        "alarm",
        "alarms",
        "dead-letters",
        "points-left-out",
        "expiring",
        "points",
        "connector",
        "set-point",
        "set-points",
        "unconfirmed",
        "halt",
        "package",
        "owner",
        "catalog",
        "token",
        "clock",
        "disk",
    ];

    /// The installation that it is about.
    pub(crate) fn installation(&self) -> Option<&InstallationId> {
        match self {
            Self::Installation { installation, .. }
            | Self::State { installation, .. }
            | Self::Alarm { installation, .. }
            | Self::Alarms { installation, .. }
            | Self::DeadLetters { installation, .. }
            | Self::PointsLeftOut { installation, .. }
            | Self::SetPoint { installation, .. }
            | Self::SetPoints { installation, .. }
            | Self::Unconfirmed { installation, .. }
            | Self::Expiring { installation, .. } => Some(installation),
            Self::Halt { installation, .. } => installation.as_ref(),
            Self::Points { .. }
            | Self::Connector { .. }
            | Self::Package { .. }
            | Self::Owner { .. }
            | Self::Catalog { .. }
            | Self::Token { .. }
            | Self::Clock { .. }
            | Self::Disk { .. } => None,
        }
    }

    /// Gives whose turn to be told it is.
    pub(super) fn teller(&self) -> (&'static str, String) {
        let who = match self {
            Self::Connector { connector, part, .. } => format!("{connector}/{}", part.unwrap_or_default()),
            _ => self.installation().map_or_else(String::new, ToString::to_string),
        };
        (self.kind(), who)
    }

    /// Returns true where the last one told says how it is now.
    pub(super) fn is_state(&self) -> bool {
        matches!(self, Self::Installation { .. } | Self::Connector { .. })
    }

    /// One of them for both: counts are added, of states the last one counts.
    pub(super) fn and(self, later: Self) -> Self {
        match (self, later) {
            (Self::DeadLetters { count, .. }, Self::DeadLetters { installation, count: more }) => {
                Self::DeadLetters { installation, count: count + more }
            }
            (Self::PointsLeftOut { count, .. }, Self::PointsLeftOut { installation, count: more }) => {
                Self::PointsLeftOut { installation, count: count + more }
            }
            (Self::Unconfirmed { count, .. }, Self::Unconfirmed { installation, count: more }) => {
                Self::Unconfirmed { installation, count: count + more }
            }
            (Self::SetPoints { count, .. }, Self::SetPoints { installation, count: more }) => {
                Self::SetPoints { installation, count: count + more }
            }
            (_, later) => later,
        }
    }

    pub(super) fn bounded(mut self) -> Self {
        let text = match &mut self {
            Self::Installation { reason: Some(text), .. }
            | Self::Alarm { message: text, .. }
            | Self::State { key: text, .. }
            | Self::SetPoint { reason: Some(text), .. }
            | Self::Connector { error: Some(text), .. } => text,
            _ => return self,
        };
        if text.len() > TEXT {
            *text = shorten(text, TEXT).into_owned();
        }
        self
    }

    pub(super) fn bytes(&self) -> usize {
        let texts = match self {
            Self::Installation { reason, .. } => reason.as_ref().map_or(0, String::len),
            Self::Alarm { message, entity, .. } => message.len() + entity.len(),
            Self::State { key, .. } => key.len(),
            Self::Points { point, .. } => point.len(),
            Self::SetPoint { point, reason, .. } => point.len() + reason.as_ref().map_or(0, String::len),
            Self::Connector { error, .. } => error.as_ref().map_or(0, String::len),
            _ => 0,
        };
        EVENT + texts
    }
}
