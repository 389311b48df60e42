//! Identities that belong to a tenant and say whose they are.
//!
//! In JSON they stand without their tenant: nobody there is told of tenants, and none says whose he is. So one that was read from
//! JSON is [nobody's](TenantId::NOBODY), and finds nothing, until it is given the tenant of a credential. Records and the store
//! have the tenant.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};

use super::{InvalidName, RESERVED_SEGMENT, Sequence, TenantId, check_installation_id, check_point_path};

/// Writes a text that is a tenant's, in JSON without whose it is.
pub fn write_owned<S: Serializer>(tenant: TenantId, text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        text.serialize(serializer)
    } else {
        (tenant, text).serialize(serializer)
    }
}

/// Reads what [`write_owned`] wrote; what was in JSON is nobody's.
pub fn read_owned<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(TenantId, String), D::Error> {
    if deserializer.is_human_readable() {
        Ok((TenantId::NOBODY, String::deserialize(deserializer)?))
    } else {
        Deserialize::deserialize(deserializer)
    }
}

macro_rules! owned_name {
    (#[doc = $doc:literal] $name:ident, $kind:literal, $check:ident) => {
        #[doc = $doc]
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name {
            tenant: TenantId,
            text: Arc<str>,
        }

        impl $name {
            /// Checks the text.
            pub fn new(tenant: TenantId, text: &str) -> Result<Self, InvalidName> {
                match $check(text) {
                    Ok(()) => Ok(Self { tenant, text: text.into() }),
                    Err(problem) => Err(InvalidName { kind: $kind, text: text.to_owned(), problem }),
                }
            }

            pub fn tenant(&self) -> TenantId {
                self.tenant
            }

            /// The same name in a tenant.
            #[must_use]
            pub fn within(self, tenant: TenantId) -> Self {
                Self { tenant, ..self }
            }

            /// The text, by which its tenant knows it.
            pub fn as_str(&self) -> &str {
                &self.text
            }

            /// The text, shared.
            pub fn to_arc(&self) -> Arc<str> {
                Arc::clone(&self.text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.text)
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                ObjectBuilder::new().schema_type(Type::String).description(Some($doc.trim())).into()
            }
        }

        impl utoipa::ToSchema for $name {}

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                write_owned(self.tenant, &self.text, serializer)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let (tenant, text) = read_owned(deserializer)?;
                Self::new(tenant, &text).map_err(serde::de::Error::custom)
            }
        }
    };
}

owned_name! {
    /// A named signal at a tenant's site, such as `farm/barn-2/pig-0042/weight`.
    PointPath, "point path", check_point_path
}
owned_name! {
    /// An installation, unique in its tenant, such as `pigs`.
    InstallationId, "installation id", check_installation_id
}

impl PointPath {
    /// Says if only the runtime may write this point.
    pub fn is_reserved(&self) -> bool {
        self.text.split('/').next() == Some(RESERVED_SEGMENT)
    }

    /// The segments, in order.
    pub fn segments(&self) -> std::str::Split<'_, char> {
        self.text.split('/')
    }
}

/// Counts installs, resets, migrations and replays of a tenant, from 1. Never used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, utoipa::ToSchema)]
#[schema(value_type = u64)]
pub struct Generation(pub u64);

impl Generation {
    /// The bits of the number within its tenant; whose it is stands above.
    const BITS: u32 = 40;
    /// The bits of whose it is. The tenant `main` is 0 there, so that its numbers are short.
    const TENANT: u32 = (1 << (64 - Self::BITS)) - 1;

    /// The tenant's generation of this number.
    pub fn of(tenant: TenantId, number: u64) -> Self {
        let whose = tenant.0.wrapping_sub(TenantId::MAIN.0) & Self::TENANT;
        Self(u64::from(whose) << Self::BITS | number & ((1 << Self::BITS) - 1))
    }

    pub fn tenant(self) -> TenantId {
        let whose = (self.0 >> Self::BITS) as u32;
        TenantId(whose.wrapping_add(TenantId::MAIN.0) & Self::TENANT)
    }

    /// The number, by which its tenant knows it.
    pub fn number(self) -> u64 {
        self.0 & ((1 << Self::BITS) - 1)
    }

    /// The same number in a tenant.
    #[must_use]
    pub fn within(self, tenant: TenantId) -> Self {
        Self::of(tenant, self.number())
    }

    /// The one after this in its tenant.
    #[must_use]
    pub fn next(self) -> Self {
        Self::of(self.tenant(), self.number() + 1)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.number(), f)
    }
}

impl Serialize for Generation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let number = if serializer.is_human_readable() { self.number() } else { self.0 };
        number.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Generation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let is_readable = deserializer.is_human_readable();
        let number = u64::deserialize(deserializer)?;
        Ok(if is_readable { Self::of(TenantId::NOBODY, number) } else { Self(number) })
    }
}

/// The last sequence of each tenant's stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LastSequences(BTreeMap<TenantId, Sequence>);

impl LastSequences {
    /// That of a tenant.
    pub fn of(&self, tenant: TenantId) -> Sequence {
        self.0.get(&tenant).copied().unwrap_or_default()
    }

    /// Takes note of a tenant's last one.
    pub fn set(&mut self, tenant: TenantId, last: Sequence) {
        self.0.insert(tenant, last);
    }

    /// The tenants with readings, and the last sequence of each.
    pub fn iter(&self) -> impl Iterator<Item = (TenantId, Sequence)> {
        self.0.iter().map(|(tenant, last)| (*tenant, *last))
    }
}

impl FromIterator<(TenantId, Sequence)> for LastSequences {
    fn from_iter<I: IntoIterator<Item = (TenantId, Sequence)>>(all: I) -> Self {
        Self(all.into_iter().collect())
    }
}

/// The last generation of each tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LastGenerations(BTreeMap<TenantId, Generation>);

impl LastGenerations {
    /// That of a tenant.
    pub fn of(&self, tenant: TenantId) -> Generation {
        self.0.get(&tenant).copied().unwrap_or(Generation::of(tenant, 0))
    }

    /// Takes note of one that is there, or was.
    pub fn note(&mut self, generation: Generation) {
        let last = self.0.entry(generation.tenant()).or_insert(generation);
        *last = generation.max(*last);
    }

    /// Says if one is there, or was.
    pub fn has(&self, generation: Generation) -> bool {
        generation <= self.of(generation.tenant())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER: TenantId = TenantId(7);

    #[test]
    fn point_paths_follow_the_rules() {
        let new = |text: &str| PointPath::new(TenantId::MAIN, text);
        for good in ["a", "farm/barn-2/pig-0042/weight", "apps/pigs/daily-gain/1/2", "farm/Größe"] {
            assert!(new(good).is_ok(), "{good}");
        }
        let long = "a/".repeat(16) + "a";
        for bad in
            ["", "/", "a//b", "a/", "./a", "a/..", "a/{b}", "a+b", "#", "a\u{7}", "Gro\u{308}sse", &long]
        {
            assert!(new(bad).is_err(), "{bad}");
        }
        assert!(new(&"x".repeat(255)).is_ok());
        assert!(new(&"x".repeat(256)).is_err());
    }

    #[test]
    fn only_the_first_segment_reserves_a_point() {
        let is_reserved = |text: &str| PointPath::new(TenantId::MAIN, text).unwrap().is_reserved();
        assert!(is_reserved("apps/x"));
        assert!(!is_reserved("appsx/x"));
        assert!(!is_reserved("farm/apps"));
    }

    #[test]
    fn a_name_in_json_is_nobodys_and_one_in_a_record_its_tenants() {
        let id = InstallationId::new(OTHER, "pigs").unwrap();
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, "\"pigs\"");
        let read: InstallationId = serde_json::from_str(&json).unwrap();
        assert_ne!(read, id);
        assert_eq!(read.tenant(), TenantId::NOBODY);
        assert_eq!(read.within(OTHER), id);
        // The tenant, the length, the text.
        let record = postcard::to_stdvec(&id).unwrap();
        assert_eq!(record, *b"\x07\x04pigs");
        assert_eq!(postcard::from_bytes::<InstallationId>(&record).unwrap(), id);
    }

    #[test]
    fn a_generation_counts_in_its_tenant() {
        assert_eq!(Generation::of(TenantId::MAIN, 3), Generation(3));
        let third = Generation::of(OTHER, 3);
        assert_eq!((third.tenant(), third.number(), third.to_string()), (OTHER, 3, "3".to_owned()));
        assert_eq!(third.next(), Generation::of(OTHER, 4));
        assert_eq!(serde_json::to_string(&third).unwrap(), "3");
        let read: Generation = serde_json::from_str("3").unwrap();
        assert_eq!((read.tenant(), read.within(OTHER)), (TenantId::NOBODY, third));
        let record = postcard::to_stdvec(&third).unwrap();
        assert_eq!(postcard::from_bytes::<Generation>(&record).unwrap(), third);
        assert!(Generation::of(OTHER, u64::MAX) < Generation::of(TenantId(8), 0));
    }
}
