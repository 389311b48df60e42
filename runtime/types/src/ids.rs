//! The newtypes that carry identity through the code, each checked where it is made.

mod owned;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::owned::{
    Generation, InstallationId, LastGenerations, LastSequences, PointPath, read_owned, write_owned,
};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number! {
    /// An enterprise. All data belongs to one.
    TenantId(u32)
}
number! {
    /// The unit of order, placement and retention within a tenant.
    StreamId(u32)
}
number! {
    /// Counts the records of the log, from 1. Recovery and fold use only this.
    Position(u64)
}
number! {
    /// Counts the readings of one stream, from 1, without holes. 0 stands before the first.
    Sequence(u64)
}
number! {
    /// Stands for a point's path in records and blocks.
    PointNumber(u32)
}
number! {
    /// Counts the invocations of a generation, from 1.
    Ordinal(u64)
}
number! {
    /// Counts the revisions of an installation, from 1.
    Revision(u32)
}
number! {
    /// Rises with each start of the server on a store; fences off an earlier process.
    Epoch(u32)
}

number! {
    /// Counts the catalogs that a server gets to know, from 1. One that was forgotten and comes again is another one.
    CatalogNumber(u32)
}

impl TenantId {
    /// The node itself, and whoever isn't said: nothing belongs to it.
    pub const NOBODY: Self = Self(0);
    /// The tenant that there is from the first start on.
    pub const MAIN: Self = Self(1);
}

impl StreamId {
    /// The one stream of each tenant.
    pub const MAIN: Self = Self(0);
}

macro_rules! next {
    ($($name:ident),*) => {$(
        impl $name {
            /// The one after this; the greatest there is stays itself.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }
    )*};
}
next!(Position, Sequence, Ordinal, Revision, Epoch, CatalogNumber);

/// The reason why a text is not a valid name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {text:?} {problem}")]
pub struct InvalidName {
    /// The expected kind of name, such as `point path`.
    pub kind: &'static str,
    /// The text, as given.
    pub text: String,
    /// The problem, as the end of a sentence.
    pub problem: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $check:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, utoipa::ToSchema)]
        #[serde(transparent)]
        #[schema(value_type = String)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the text.
            pub fn new(text: &str) -> Result<Self, InvalidName> {
                match $check(text) {
                    Ok(()) => Ok(Self(text.into())),
                    Err(problem) => Err(InvalidName { kind: $kind, text: text.to_owned(), problem }),
                }
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The text, shared.
            pub fn to_arc(&self) -> Arc<str> {
                Arc::clone(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name! {
    /// An app in a catalog, such as `com.example.pigs`.
    AppId, "app id", check_app_id
}
name! {
    /// The name of a tenant, such as `acme`.
    TenantName, "tenant", check_installation_id
}
name! {
    /// A name that a manifest declares (input, output, alarm, timer, setting), such as `daily-gain`.
    SlotName, "name", check_slot_name
}

/// The first segment of the points that the runtime itself writes.
pub const RESERVED_SEGMENT: &str = "apps";
/// The longest point path, in bytes.
pub const MAX_PATH_BYTES: usize = 255;
/// The most segments of a point path.
pub const MAX_PATH_SEGMENTS: usize = 16;

/// Checks one segment of a point path.
pub fn check_segment(segment: &str) -> Result<(), &'static str> {
    if segment.is_empty() {
        return Err("has an empty segment");
    }
    if segment == "." || segment == ".." {
        return Err("has a segment `.` or `..`");
    }
    if segment.chars().any(|c| c.is_control() || matches!(c, '+' | '#' | '{' | '}')) {
        return Err("has a control character or one of `+ # { }`");
    }
    Ok(())
}

/// Checks a whole point path and says what is wrong with it.
pub fn check_point_path(path: &str) -> Result<(), &'static str> {
    if path.is_empty() {
        return Err("is empty");
    }
    if path.len() > MAX_PATH_BYTES {
        return Err("is longer than 255 bytes");
    }
    let mut segments = 0;
    for segment in path.split('/') {
        check_segment(segment)?;
        segments += 1;
    }
    if segments > MAX_PATH_SEGMENTS {
        return Err("has more than 16 segments");
    }
    if !path.is_ascii() && !unicode_normalization::is_nfc(path) {
        return Err("is not in Unicode normalization form C");
    }
    Ok(())
}

fn check_installation_id(id: &str) -> Result<(), &'static str> {
    let first = id.bytes().next().ok_or("is empty")?;
    if id.len() > 63 {
        return Err("is longer than 63 bytes");
    }
    if !first.is_ascii_lowercase() {
        return Err("must begin with a letter from a to z");
    }
    if !id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return Err("may hold only a to z, 0 to 9 and `-`");
    }
    Ok(())
}

fn check_slot_name(name: &str) -> Result<(), &'static str> {
    check_installation_id(name)
}

fn check_app_id(id: &str) -> Result<(), &'static str> {
    if id.len() > 255 {
        return Err("is longer than 255 bytes");
    }
    if id.split('.').count() < 2 {
        return Err("needs at least two parts, such as `com.example.pigs`");
    }
    for part in id.split('.') {
        if part.is_empty() {
            return Err("has an empty part between two dots");
        }
        if part.starts_with('-') {
            return Err("has a part that begins with `-`");
        }
        if !part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
            return Err("may hold only a to z, 0 to 9, `-` and dots");
        }
    }
    Ok(())
}

/// A SHA-256 digest, written as `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, utoipa::ToSchema)]
#[schema(value_type = String, pattern = "^sha256:[0-9a-f]{64}$")]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// The 64 hexadecimal digits.
    pub fn hex(&self) -> String {
        use fmt::Write as _;
        let mut out = String::with_capacity(64);
        for byte in self.0 {
            let _ = write!(out, "{byte:02x}");
        }
        out
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let fail = |problem| InvalidName { kind: "digest", text: text.to_owned(), problem };
        let hex = text.strip_prefix("sha256:").ok_or_else(|| fail("must begin with `sha256:`"))?;
        let well_formed = hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !well_formed {
            return Err(fail("must have 64 lower-case hexadecimal digits after `sha256:`"));
        }
        let mut bytes = [0; 32];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).map_err(|_| fail("is not hexadecimal"))?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The id of an intent: the same after a crash between its commit and its sending. Written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, utoipa::ToSchema)]
#[schema(value_type = String, pattern = "^[0-9a-f]{32}$")]
pub struct IntentId(pub [u8; 16]);

impl IntentId {
    /// The id of the intent at this place, counted from 0, among those of an invocation: the first bytes of a SHA-256.
    pub fn of(generation: Generation, ordinal: Ordinal, index: u32) -> Self {
        let mut bytes = Vec::with_capacity(24);
        bytes.extend_from_slice(&generation.tenant().0.to_le_bytes());
        bytes.extend_from_slice(&generation.number().to_le_bytes());
        bytes.extend_from_slice(&ordinal.0.to_le_bytes());
        bytes.extend_from_slice(&index.to_le_bytes());
        let mut id = [0; 16];
        id.copy_from_slice(&Digest::of(&bytes).0[..16]);
        Self(id)
    }
}

impl fmt::Display for IntentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for IntentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for IntentId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let fail = || InvalidName {
            kind: "intent",
            text: text.to_owned(),
            problem: "must have 32 lower-case hexadecimal digits",
        };
        if text.len() != 32 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(fail());
        }
        let mut bytes = [0; 16];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| fail())?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for IntentId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for IntentId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn app_ids_are_reversed_domains() {
        for good in ["com.example.pigs", "a.b", "io.1st-farm.x2"] {
            assert!(AppId::new(good).is_ok(), "{good}");
        }
        for bad in ["", "pigs", "com..pigs", "com.Example", "-com.example", "com.-example", "com.a_b"] {
            assert!(AppId::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn digests_read_back_as_written() {
        let digest = Digest::of(b"abc");
        // FIPS 180-2, appendix B.1.
        let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.parse::<Digest>(), Ok(digest));
        assert!("sha256:BA".parse::<Digest>().is_err());
    }

    #[test]
    fn an_intent_has_an_id_of_its_own_that_reads_back() {
        let id = |generation, ordinal, index| {
            IntentId::of(Generation::of(TenantId::MAIN, generation), Ordinal(ordinal), index)
        };
        // `printf '\x01\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x04\0\0\0' | sha256sum`
        assert_eq!(id(2, 3, 4).to_string(), "dbc430ac6800ba935a969899d16276bc");
        assert_eq!(id(2, 3, 4).to_string().parse(), Ok(id(2, 3, 4)));
        assert!(id(2, 3, 4) != id(3, 2, 4) && id(2, 3, 4) != id(2, 4, 3));
        for wrong in ["", "00", &"g".repeat(32), &"A".repeat(32), &"0".repeat(33)] {
            assert!(wrong.parse::<IntentId>().is_err(), "{wrong}");
        }
    }
}
