//! The states that are kept of installations that are gone.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{AppId, Digest, Generation, InstallationId};

/// A state that is kept of an installation that was uninstalled or reset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct KeptState {
    /// The installation's id, which another may have by now.
    pub id: InstallationId,
    /// Its number: it tells several states of one id apart.
    pub generation: Generation,
    pub state: KeptAs,
    /// The app; it isn't known any more once the state is being purged. So are the next three.
    #[serde(default)]
    pub app: Option<AppId>,
    /// The app's version.
    #[serde(default)]
    pub version: Option<String>,
    #[serde(default)]
    pub package: Option<Digest>,
    /// Bytes that its keys and values count.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// The time of its end, by the machine's clock.
    pub ended: Timestamp,
    /// The time after which it is purged; unknown where the clock was wrong when it ended.
    #[serde(default)]
    pub until: Option<Timestamp>,
}

/// The fate of a state that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum KeptAs {
    /// An install may adopt it.
    Kept,
    /// It is going.
    Purging,
}

impl KeptAs {
    /// Its name in answers.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Purging => "purging",
        }
    }
}

/// The state that an installation goes on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Adopt {
    /// That of the last one with its id.
    Newest,
    /// That of this generation.
    Generation(Generation),
}

impl fmt::Display for Adopt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newest => f.write_str("newest"),
            Self::Generation(generation) => generation.fmt(f),
        }
    }
}

impl FromStr for Adopt {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "newest" => Ok(Self::Newest),
            _ => text.parse().map(|number| Self::Generation(Generation(number))).map_err(
                |_| "it is `newest`, or the number of a generation that `ironloom list --gone` lists",
            ),
        }
    }
}

impl Serialize for Adopt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Adopt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
