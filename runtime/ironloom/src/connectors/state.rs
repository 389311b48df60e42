//! The state of each part of a connector: of what it brings in, its set-points and what it publishes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A part of a connector. Each has a connection of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Readings,
    SetPoints,
    Publishing,
}

impl Part {
    /// Its name in events and sentences. What a connector brings in goes without one.
    pub(crate) fn name(self) -> Option<&'static str> {
        match self {
            Self::Readings => None,
            Self::SetPoints => Some("set-points"),
            Self::Publishing => Some("publishing"),
        }
    }

    /// A state of it, in a table or a line of the log.
    pub(crate) fn with(self, state: State) -> String {
        self.name().map_or_else(|| state.name().to_owned(), |name| format!("{name} {}", state.name()))
    }
}

/// The state of a part of a connector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = ConnectorState)]
pub(crate) enum State {
    #[default]
    Connecting,
    Running,
    /// To try again.
    Waiting,
    /// Until apps are there.
    Held,
    /// Nothing more is to be read.
    Done,
    Stopped,
}

impl State {
    /// Its name in API, events and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Held => "held",
            Self::Done => "done",
            Self::Stopped => "stopped",
        }
    }

    /// Returns true where it runs, has finished, or waits for apps as it is told to.
    pub(crate) fn is_well(self) -> bool {
        matches!(self, Self::Running | Self::Done | Self::Held)
    }
}

/// The state of a part, and its latest error.
#[derive(Clone, Debug, Default)]
pub(super) struct Now {
    pub state: State,
    pub last_error: Option<String>,
    /// The error is the reason of a state that isn't well, and over with that.
    is_reason: bool,
}

/// The difference that a change has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Changed {
    pub is_other_state: bool,
    pub is_new_error: bool,
}

impl Now {
    pub(super) fn new(state: State, last_error: Option<String>) -> Self {
        Self { state, is_reason: last_error.is_some(), last_error }
    }

    pub(super) fn set(&mut self, state: State) -> Changed {
        if state.is_well() && self.is_reason {
            (self.last_error, self.is_reason) = (None, false);
        }
        let before = std::mem::replace(&mut self.state, state);
        Changed { is_other_state: before != state, is_new_error: false }
    }

    pub(super) fn failed(&mut self, state: State, error: &str) -> Changed {
        let is_other_state = self.state != state;
        let is_new_error = is_other_state || self.last_error.as_deref() != Some(error);
        *self = Self::new(state, Some(error.to_owned()));
        Changed { is_other_state, is_new_error }
    }

    /// Something is wrong with what came or went, and it goes on.
    pub(super) fn noticed(&mut self, error: String) {
        (self.last_error, self.is_reason) = (Some(error), false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_state_goes_with_it_and_a_notice_stays() {
        let mut now = Now::default();
        let changed = |is_other_state, is_new_error| Changed { is_other_state, is_new_error };
        assert_eq!(now.failed(State::Waiting, "refused"), changed(true, true));
        assert_eq!(now.failed(State::Waiting, "refused"), changed(false, false));
        assert_eq!(now.failed(State::Waiting, "no route"), changed(false, true));
        assert_eq!(now.set(State::Connecting), changed(true, false));
        assert_eq!(now.last_error.as_deref(), Some("no route"));
        assert_eq!(now.set(State::Running), changed(true, false));
        assert_eq!(now.last_error, None);
        now.noticed("line 5".to_owned());
        now.set(State::Done);
        assert_eq!((now.state, now.last_error.as_deref()), (State::Done, Some("line 5")));
    }
}
