//! Keys: in order, apart from each other, and readable.

use std::borrow::Cow;

use proptest::prelude::*;

use super::*;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Digest, Generation, Ordinal, Revision, Sequence, TenantId};

/// An item that owns its texts.
#[derive(Clone, Debug)]
pub(super) struct Owned {
    kind: KeyKind,
    tenant: u32,
    number: u64,
    generation: u64,
    first: String,
    second: String,
    hash: [u8; 32],
}

impl Owned {
    pub(super) fn item(&self) -> Item<'_> {
        let tenant = TenantId(self.tenant);
        let generation = Generation::of(tenant, self.generation);
        match self.kind {
            KeyKind::Format => Item::Format,
            KeyKind::Epoch => Item::Epoch,
            KeyKind::Folded => Item::Folded,
            KeyKind::Log => Item::Log,
            KeyKind::PointPage => Item::PointPage(self.number as u32),
            KeyKind::LatestPage => Item::LatestPage(self.number as u32),
            KeyKind::Installation => Item::Installation(tenant, &self.first),
            KeyKind::Revision => {
                Item::Revision(tenant, Cow::Borrowed(&self.first), Revision(self.number as u32))
            }
            KeyKind::Receipt => Item::Receipt(&self.first),
            KeyKind::Idempotency => Item::Idempotency(self.hash),
            KeyKind::Block => Item::Block(tenant, Sequence(self.number)),
            KeyKind::Package => Item::Package(Digest(self.hash)),
            KeyKind::Stream => Item::Stream(&self.first),
            KeyKind::Lane => Item::Lane(generation),
            KeyKind::State => Item::State(generation, &self.first),
            KeyKind::Timer => Item::Timer(generation, &self.first),
            KeyKind::Alarm => Item::Alarm(generation, Cow::Borrowed(&self.first), &self.second),
            KeyKind::DeadLetter => Item::DeadLetter(generation, self.number),
            KeyKind::Invocation => Item::Invocation(generation, Ordinal(self.number), 1),
            KeyKind::Episode => Item::Episode(generation, Timestamp(self.number), 7),
            KeyKind::PastRevision => Item::PastRevision(generation, Revision(self.number as u32)),
            KeyKind::EpisodeTime => Item::EpisodeTime(Timestamp(self.number), Generation::of(tenant, 3), 7),
            KeyKind::Driven => Item::Driven(tenant, &self.first),
            KeyKind::AlarmNews => Item::AlarmNews(self.number as u32),
            KeyKind::Connector => Item::Connector(&self.first),
            KeyKind::AppOwner => Item::AppOwner(tenant, &self.first),
            KeyKind::Catalog => Item::Catalog(&self.first),
            KeyKind::Holding => Item::Holding(tenant, Digest(self.hash)),
            KeyKind::Tenant => Item::Tenant(tenant),
            KeyKind::Token => Item::Token(&self.first),
            KeyKind::Consent => Item::Consent(tenant, &self.first),
            KeyKind::AuditEntry => Item::AuditEntry(7, self.number),
            KeyKind::AuditCheckpoint => Item::AuditCheckpoint(7, self.number),
            KeyKind::Intent => Item::Intent(generation, Ordinal(self.number), 7),
        }
    }

    fn of_generation(&self) -> bool {
        self.kind as u8 >= KeyKind::Lane as u8
    }

    /// What the order of keys means, in plain numbers and texts.
    fn rank(&self) -> impl Ord + use<> {
        let item = self.item();
        let number = match item {
            Item::PointPage(_)
            | Item::LatestPage(_)
            | Item::AlarmNews(_)
            | Item::Revision(..)
            | Item::PastRevision(..) => u64::from(self.number as u32),
            Item::Block(..)
            | Item::DeadLetter(..)
            | Item::Invocation(..)
            | Item::Episode(..)
            | Item::AuditEntry(..)
            | Item::AuditCheckpoint(..)
            | Item::Intent(..) => self.number,
            Item::EpisodeTime(..) => self.number,
            _ => 0,
        };
        let first = match item.clone() {
            Item::Installation(_, text)
            | Item::Driven(_, text)
            | Item::AppOwner(_, text)
            | Item::Consent(_, text)
            | Item::Receipt(text)
            | Item::Stream(text)
            | Item::Connector(text)
            | Item::Catalog(text)
            | Item::Token(text)
            | Item::State(_, text)
            | Item::Timer(_, text) => text.to_owned(),
            Item::Revision(_, text, _) | Item::Alarm(_, text, _) => text.into_owned(),
            _ => String::new(),
        };
        let second = if self.kind == KeyKind::Alarm { self.second.clone() } else { String::new() };
        let hash = match self.kind {
            KeyKind::Idempotency | KeyKind::Package | KeyKind::Holding => self.hash,
            _ => [0; 32],
        };
        let generation =
            if self.of_generation() { Generation::of(TenantId(self.tenant), self.generation).0 } else { 0 };
        (self.kind as u8, item.tenant(), generation, first, second, number, hash)
    }
}

fn text() -> impl Strategy<Value = String> {
    // Few letters, so that one text is often the beginning of another; with what escaping must get right.
    prop::collection::vec(prop::sample::select(vec!['\0', '\u{1}', 'a', 'b', '~', 'ÿ', '\u{10ffff}']), 0..6)
        .prop_map(|letters| letters.into_iter().collect())
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..4_u64, 254..258_u64, Just(u64::from(u32::MAX)), Just(u64::MAX), any::<u64>()]
}

pub(super) fn items() -> impl Strategy<Value = Owned> {
    let kinds = prop::sample::select(KeyKind::ALL.to_vec());
    let tenants = prop_oneof![1..4_u32, Just(255), Just(256), Just((1 << 24) - 1)];
    let generations = prop_oneof![0..4_u64, 254..258_u64, Just((1 << 40) - 1)];
    let hash = prop_oneof![Just([0; 32]), Just([0xff; 32]), any::<[u8; 32]>()];
    (kinds, tenants, number(), generations, text(), text(), hash).prop_map(
        |(kind, tenant, number, generation, first, second, hash)| Owned {
            kind,
            tenant,
            number,
            generation,
            first,
            second,
            hash,
        },
    )
}

proptest! {
    #[test]
    fn a_key_reads_back_as_built(owned in items()) {
        let key = owned.item().key();
        prop_assert_eq!(key.parse().unwrap(), owned.item());
        prop_assert_eq!(Key::from_stored(key.as_bytes()), key);
    }

    #[test]
    fn keys_stand_in_the_order_of_what_they_name(a in items(), b in items()) {
        prop_assert_eq!(a.item().key().cmp(&b.item().key()), a.rank().cmp(&b.rank()));
    }

    #[test]
    fn tenants_never_mix(a in items(), b in items()) {
        let (a, b) = (a.item(), b.item());
        prop_assume!(a.tenant() != b.tenant());
        prop_assert_ne!(a.key(), b.key());
        for kind in KeyKind::ALL {
            prop_assert!(!KeyRange::tenant(*kind, a.tenant()).contains(&b.key()));
        }
    }

    #[test]
    fn ranges_hold_exactly_their_own(owned in items(), kind in prop::sample::select(KeyKind::ALL.to_vec()),
                                     generation in 0..4_u64, prefix in text()) {
        let item = owned.item();
        let (key, tenant) = (item.key(), TenantId(owned.tenant));
        prop_assert_eq!(KeyRange::all(kind).contains(&key), item.kind() == kind);
        let is_own = item.kind() == kind && item.tenant() == tenant;
        prop_assert_eq!(KeyRange::tenant(kind, tenant).contains(&key), is_own);
        let own = owned.of_generation().then_some(Generation::of(tenant, owned.generation));
        // A generation drawn apart from the item's is seldom the same one, so the item's own is asked for as well.
        for generation in own.into_iter().chain([Generation::of(tenant, generation)]) {
            if kind as u8 >= KeyKind::Lane as u8 {
                let expected = own == Some(generation) && item.kind() == kind;
                prop_assert_eq!(KeyRange::generation(kind, generation).contains(&key), expected);
            }
            let is_state = matches!(item, Item::State(of, text) if of == generation && text.starts_with(&prefix));
            prop_assert_eq!(KeyRange::state(generation, &prefix).contains(&key), is_state);
        }
        prop_assert!(KeyRange::everything().contains(&key));
    }

    #[test]
    fn bytes_that_no_key_has_are_read_as_none_or_as_themselves(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let key = Key::from_stored(&bytes);
        if let Some(item) = key.parse() {
            prop_assert_eq!(item.key(), key);
        }
    }

    #[test]
    fn parts_stand_behind_all_keys(owned in items(), number in any::<u16>()) {
        let key = owned.item().key();
        prop_assert!(!KeyRange::everything().contains(&Key::from_stored(&key.part(number))));
    }
}

#[test]
fn the_bytes_of_keys_are_these() {
    // They stand in every store from the first release on.
    let other = TenantId(258);
    let head = |kind: u8, tenant: [u8; 2], generation: [u8; 8]| {
        [&[kind, 0, 0, tenant[0], tenant[1], 0, 0, 0, 0][..], &generation].concat()
    };
    // Of the node where there is no generation, else of the tenant `main`.
    let with = |kind, generation: u8, name: &[u8]| {
        let tenant = [0, u8::from(generation > 0)];
        [head(kind, tenant, [0, 0, 0, 0, 0, 0, 0, generation]), name.to_vec()].concat()
    };
    let of_other = |kind, name: &[u8]| [head(kind, [1, 2], [0; 8]), name.to_vec()].concat();
    let golden: Vec<(Item<'_>, Vec<u8>)> = vec![
        (Item::PointPage(258), with(16, 0, &[0, 0, 1, 2])),
        (Item::LatestPage(3), with(17, 0, &[0, 0, 0, 3])),
        (Item::Installation(other, "pigs"), of_other(18, b"pigs")),
        (Item::Revision(other, "pigs".into(), Revision(5)), of_other(19, b"pigs\0\0\0\0\0\x05")),
        (Item::Receipt("csv"), with(20, 0, b"csv")),
        (Item::Idempotency([7; 32]), with(21, 0, &[7; 32])),
        (Item::Block(other, Sequence(1)), of_other(22, &[0, 0, 0, 0, 0, 0, 0, 1])),
        (Item::Package(Digest([8; 32])), with(23, 0, &[8; 32])),
        (Item::Stream("scale-7"), with(24, 0, b"scale-7")),
        (Item::Lane(Generation(6)), with(32, 6, b"")),
        (Item::State(Generation(6), "pig/1"), with(33, 6, b"pig/1")),
        (Item::Timer(Generation(6), "soon"), with(34, 6, b"soon")),
        (Item::Alarm(Generation(6), "fe\0ver".into(), "a\0b"), with(35, 6, b"fe\0\xffver\0\0a\0b")),
        (Item::DeadLetter(Generation(6), 9), with(36, 6, &[0, 0, 0, 0, 0, 0, 0, 9])),
        (Item::Invocation(Generation(6), Ordinal(9), 2), with(37, 6, &[0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 2])),
        (
            Item::Episode(Generation(6), Timestamp(258), 9),
            with(38, 6, &[0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 9]),
        ),
        (Item::PastRevision(Generation(6), Revision(258)), with(39, 6, &[0, 0, 1, 2])),
        (
            Item::EpisodeTime(Timestamp(258), Generation(6), 9),
            [
                head(25, [0, 1], [0; 8]),
                vec![0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 9],
            ]
            .concat(),
        ),
        (
            Item::Lane(Generation::of(other, 6)),
            // 257 above: `main` is 0 there.
            head(32, [1, 2], [0, 1, 1, 0, 0, 0, 0, 6]),
        ),
        (Item::Driven(other, "ev/1"), of_other(26, b"ev/1")),
        (Item::AlarmNews(258), with(27, 0, &[0, 0, 1, 2])),
        (Item::Connector("plant"), with(28, 0, b"plant")),
        (Item::AppOwner(other, "com.example.a"), of_other(29, b"com.example.a")),
        (Item::Catalog("plant"), with(30, 0, b"plant")),
        (Item::Holding(other, Digest([8; 32])), of_other(11, &[8; 32])),
        (Item::Tenant(other), of_other(14, b"")),
        (Item::Token("anna"), with(31, 0, b"anna")),
        (Item::Consent(other, "pigs"), of_other(15, b"pigs")),
        (Item::AuditEntry(258, 9), with(12, 0, &[0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 9])),
        (Item::AuditCheckpoint(258, 9), with(13, 0, &[0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 9])),
        (Item::Intent(Generation(6), Ordinal(258), 9), with(40, 6, &[0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 9])),
    ];
    for (item, bytes) in golden {
        assert_eq!(item.key().as_bytes(), bytes, "{item:?}");
    }
    assert_eq!(Key::format().as_bytes(), with(1, 0, b""));
    assert_eq!(Key::epoch().as_bytes(), with(2, 0, b""));
    assert_eq!(Key::folded().as_bytes(), with(3, 0, b""));
}
