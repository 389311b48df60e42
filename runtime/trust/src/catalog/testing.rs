//! A catalog for tests.

use super::floor::Floor;
use super::index::{App, Asks, Index, Publisher, Version};
use super::root::Root;
use crate::envelope::{Envelope, Keys};
use crate::key::SecretKey;
use crate::strict::Integer;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{AppId, Digest};

pub(super) struct Signers {
    pub(super) root: [SecretKey; 3],
    pub(super) index: [SecretKey; 2],
    pub(super) publisher: SecretKey,
}

impl Signers {
    pub(super) fn new() -> Self {
        let key = || SecretKey::generate().unwrap();
        Self { root: [key(), key(), key()], index: [key(), key()], publisher: key() }
    }

    /// Two of three keys sign the root, one of two the index.
    pub(super) fn root(&self, version: u64) -> Root {
        Root {
            catalog: "plant".parse().unwrap(),
            version: Integer::new(version).unwrap(),
            issued: day(version),
            expires: day(1000),
            root: Keys { threshold: 2, keys: self.root.iter().map(SecretKey::public).collect() },
            index: Keys { threshold: 1, keys: self.index.iter().map(SecretKey::public).collect() },
            rotations: Vec::new(),
        }
    }

    pub(super) fn floor(&self) -> Floor {
        let root = signed(self.root(1).to_envelope().unwrap(), &self.root);
        Floor::first(root.as_bytes(), &[self.root[0].public()]).unwrap()
    }

    pub(super) fn index(&self, version: u64) -> Index {
        Index {
            catalog: "plant".parse().unwrap(),
            version: Integer::new(version).unwrap(),
            issued: day(version),
            expires: day(version + 30),
            publishers: vec![Publisher {
                name: "Example Farm Software".to_owned(),
                keys: [self.publisher.public()].into(),
                prefixes: ["com.example".to_owned()].into(),
            }],
            apps: vec![self.app("com.example.pigs"), self.app("com.example.tyres")],
            revoked: Vec::new(),
            blocked: Vec::new(),
            rotations: Vec::new(),
        }
    }

    pub(super) fn app(&self, id: &str) -> App {
        App {
            id: AppId::new(id).unwrap(),
            name: "An app".to_owned(),
            key: self.publisher.public(),
            description: String::new(),
            license: "Apache-2.0".to_owned(),
            categories: ["farm".to_owned()].into(),
            icon: None,
            versions: ["0.1.0", "0.2.0"].map(version).into(),
        }
    }
}

pub(super) fn version(version: &str) -> Version {
    Version {
        version: version.parse().unwrap(),
        digest: Digest::of(version.as_bytes()),
        file: Digest::of(b"file"),
        size: Integer::new(2048).unwrap(),
        asks: Asks::default(),
    }
}

pub(super) fn day(day: u64) -> Timestamp {
    Timestamp(1_796_000_000_000_000_000).plus(day * 86_400_000_000_000)
}

pub(super) fn signed<'k>(mut envelope: Envelope, keys: impl IntoIterator<Item = &'k SecretKey>) -> String {
    keys.into_iter().for_each(|key| envelope.sign(key));
    envelope.to_json()
}
