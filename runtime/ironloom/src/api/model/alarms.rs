//! Alarms and what people do with them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use ironloom_apps::manifest::Severity;
use ironloom_apps::quantity::Span;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{InstallationId, SlotName};

use super::super::facade::{Order, PageQuery};

/// An episode of an alarm: from its raising until it is normal, or the next one takes its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Alarm {
    /// Its id, never used twice.
    pub id: String,
    /// The installation that raised it.
    pub installation: InstallationId,
    /// Its name in the manifest.
    pub code: SlotName,
    pub entity: String,
    /// The severity in the manifest: `low`, `medium`, `high` or `critical`.
    pub severity: String,
    /// The state, as ISA-18.2 names it.
    pub state: AlarmState,
    /// The app's message.
    pub message: String,
    /// Since when the condition was there: as the app says, or as `raised`.
    pub since: Timestamp,
    /// When it was raised.
    pub raised: Timestamp,
    /// The end of the condition.
    pub cleared: Option<AlarmCleared>,
    /// Its last acknowledgement: by whom, and when.
    pub acknowledged: Option<AlarmNote>,
    /// The acknowledgements before that, the first one first: after it was shelved it is to be acknowledged once more. The
    /// first and the last 19 are kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub acknowledged_before: Vec<AlarmNote>,
    /// The last time that it was shelved.
    pub shelved: Option<AlarmShelved>,
    /// Further comments of people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub comments: Vec<AlarmNote>,
}

/// The states of ISA-18.2 (IEC 62682) that an alarm passes through here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AlarmState {
    /// The condition is there, and nobody has acknowledged it.
    Unacknowledged,
    /// The condition is there, and somebody has acknowledged it.
    Acknowledged,
    /// The condition is gone, but nobody has acknowledged that it was there.
    #[serde(rename = "return-to-normal-unacknowledged")]
    ReturnedUnacknowledged,
    /// Nobody wants to see it until a time.
    Shelved,
    /// Neither is the condition there nor does it wait for anybody.
    Normal,
}

impl AlarmState {
    /// Its name in API and CLI.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unacknowledged => "unacknowledged",
            Self::Acknowledged => "acknowledged",
            Self::ReturnedUnacknowledged => "return-to-normal-unacknowledged",
            Self::Shelved => "shelved",
            Self::Normal => "normal",
        }
    }
}

/// The end of an alarm's condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct AlarmCleared {
    pub at: Timestamp,
    /// `app`, or `removed` where the installation was uninstalled while the alarm was active.
    pub by: String,
}

/// A deed of somebody with an alarm, or a comment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct AlarmNote {
    pub at: Timestamp,
    /// The name that was given.
    pub by: Option<String>,
    pub comment: Option<String>,
}

/// A time for which an alarm is shelved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct AlarmShelved {
    #[serde(flatten)]
    pub note: AlarmNote,
    /// When it ends, or ended.
    pub until: Timestamp,
}

/// Asks to acknowledge an alarm, to unshelve it or to say something about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NoteRequest {
    /// Who does it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// Asks to shelve an alarm: `until` a time, or `for` a span of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ShelveRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub span: Option<Span>,
    /// Who does it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// A deed of somebody with an alarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AlarmDeed {
    Acknowledge(NoteRequest),
    Shelve(ShelveRequest),
    Unshelve(NoteRequest),
    Comment(NoteRequest),
}

/// The episodes of alarms to list: all of these must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EpisodesQuery {
    pub installation: Option<InstallationId>,
    pub code: Option<SlotName>,
    pub entity: Option<String>,
    /// This severity, or a higher one.
    pub severity: Option<Severity>,
    /// Since then or later.
    pub from: Option<Timestamp>,
    /// Since an earlier time.
    pub to: Option<Timestamp>,
    pub order: Order,
    pub page: PageQuery,
}
