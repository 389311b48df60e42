//! Keys: in order, apart from each other, and readable.

use std::borrow::Cow;

use proptest::prelude::*;

use super::*;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Digest, Generation, Ordinal, Revision, Sequence, StreamId, TenantId};

/// An item that owns its texts.
#[derive(Clone, Debug)]
pub(super) struct Owned {
    kind: KeyKind,
    number: u64,
    generation: u64,
    first: String,
    second: String,
    hash: [u8; 32],
}

impl Owned {
    pub(super) fn item(&self) -> Item<'_> {
        let generation = Generation(self.generation);
        match self.kind {
            KeyKind::Format => Item::Format,
            KeyKind::Epoch => Item::Epoch,
            KeyKind::Folded => Item::Folded,
            KeyKind::Log => Item::Log,
            KeyKind::PointPage => Item::PointPage(self.number as u32),
            KeyKind::LatestPage => Item::LatestPage(self.number as u32),
            KeyKind::Installation => Item::Installation(&self.first),
            KeyKind::Revision => Item::Revision(Cow::Borrowed(&self.first), Revision(self.number as u32)),
            KeyKind::Receipt => Item::Receipt(&self.first),
            KeyKind::Idempotency => Item::Idempotency(self.hash),
            KeyKind::Block => Item::Block(Sequence(self.number)),
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
            KeyKind::EpisodeTime => Item::EpisodeTime(Timestamp(self.number), Generation(3), 7),
            KeyKind::Driven => Item::Driven(&self.first),
            KeyKind::AlarmNews => Item::AlarmNews(self.number as u32),
            KeyKind::Connector => Item::Connector(&self.first),
            KeyKind::AppOwner => Item::AppOwner(&self.first),
            KeyKind::Catalog => Item::Catalog(&self.first),
            KeyKind::Token => Item::Token(&self.first),
            KeyKind::Consent => Item::Consent(&self.first),
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
            Item::Block(_)
            | Item::DeadLetter(..)
            | Item::Invocation(..)
            | Item::Episode(..)
            | Item::AuditEntry(..)
            | Item::AuditCheckpoint(..)
            | Item::Intent(..) => self.number,
            Item::EpisodeTime(..) => self.number,
            _ => 0,
        };
        let first = match item {
            Item::Installation(text)
            | Item::Receipt(text)
            | Item::Stream(text)
            | Item::Driven(text)
            | Item::Connector(text)
            | Item::AppOwner(text)
            | Item::Catalog(text)
            | Item::Token(text)
            | Item::Consent(text)
            | Item::State(_, text)
            | Item::Timer(_, text) => text.to_owned(),
            Item::Revision(text, _) | Item::Alarm(_, text, _) => text.into_owned(),
            _ => String::new(),
        };
        let second = if self.kind == KeyKind::Alarm { self.second.clone() } else { String::new() };
        let hash = match self.kind {
            KeyKind::Idempotency | KeyKind::Package => self.hash,
            _ => [0; 32],
        };
        let generation = if self.of_generation() { self.generation } else { 0 };
        (self.kind, generation, first, second, number, hash)
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
    let hash = prop_oneof![Just([0; 32]), Just([0xff; 32]), any::<[u8; 32]>()];
    (kinds, number(), number(), text(), text(), hash).prop_map(
        |(kind, number, generation, first, second, hash)| Owned {
            kind,
            number,
            generation,
            first,
            second,
            hash,
        },
    )
}

pub(super) fn scopes() -> impl Strategy<Value = Scope> {
    let tenants = prop_oneof![1..4_u32, Just(255), Just(256), Just(u32::MAX - 1)];
    let streams = prop_oneof![0..3_u32, Just(u32::MAX)];
    (tenants, streams)
        .prop_map(|(tenant, stream)| Scope { tenant: TenantId(tenant), stream: StreamId(stream) })
}

fn is_of_the_node(item: &Item<'_>) -> bool {
    matches!(item, Item::Format | Item::Epoch | Item::Folded | Item::Log)
}

proptest! {
    #[test]
    fn a_key_reads_back_as_built(scope in scopes(), owned in items()) {
        let key = scope.key(owned.item());
        let (read_scope, item) = key.parse().unwrap();
        prop_assert_eq!(&item, &owned.item());
        if !is_of_the_node(&item) {
            prop_assert_eq!(read_scope, scope);
        }
        prop_assert_eq!(Key::from_stored(key.as_bytes()), key);
    }

    #[test]
    fn keys_stand_in_the_order_of_what_they_name(scope in scopes(), a in items(), b in items()) {
        prop_assert_eq!(scope.key(a.item()).cmp(&scope.key(b.item())), a.rank().cmp(&b.rank()));
    }

    #[test]
    fn tenants_and_streams_never_mix(a in scopes(), b in scopes(), x in items(), y in items()) {
        prop_assume!(a != b && !is_of_the_node(&x.item()) && !is_of_the_node(&y.item()));
        prop_assert_eq!(a.key(x.item()).cmp(&b.key(y.item())), a.cmp(&b));
        for kind in KeyKind::ALL {
            prop_assert!(!a.all(*kind).contains(&b.key(y.item())));
        }
    }

    #[test]
    fn ranges_hold_exactly_their_own(scope in scopes(), owned in items(), kind in prop::sample::select(KeyKind::ALL.to_vec()),
                                     generation in number(), prefix in text()) {
        let item = owned.item();
        let key = scope.key(owned.item());
        if !is_of_the_node(&item) {
            prop_assert_eq!(scope.all(kind).contains(&key), item.kind() == kind);
        }
        let own = owned.of_generation().then_some(Generation(owned.generation));
        // A generation drawn apart from the item's is seldom the same one, so the item's own is asked for as well.
        for generation in own.into_iter().chain([Generation(generation)]) {
            if kind as u8 >= KeyKind::Lane as u8 {
                let expected = own == Some(generation) && item.kind() == kind;
                prop_assert_eq!(scope.generation(kind, generation).contains(&key), expected);
            }
            let is_state = matches!(item, Item::State(of, text) if of == generation && text.starts_with(&prefix));
            prop_assert_eq!(scope.state(generation, &prefix).contains(&key), is_state);
        }
        if let Some(own) = own {
            prop_assert!(scope.generation(item.kind(), own).contains(&key));
        }
        prop_assert!(KeyRange::everything().contains(&key));
    }

    #[test]
    fn bytes_that_no_key_has_are_read_as_none_or_as_themselves(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let key = Key::from_stored(&bytes);
        if let Some((scope, item)) = key.parse() {
            prop_assert_eq!(scope.key(item), key);
        }
    }

    #[test]
    fn parts_stand_behind_all_keys(scope in scopes(), owned in items(), number in any::<u16>()) {
        let key = scope.key(owned.item());
        prop_assert!(!KeyRange::everything().contains(&Key::from_stored(&key.part(number))));
    }
}

#[test]
fn the_bytes_of_keys_are_these() {
    // They stand in every store from the first release on.
    let scope = Scope { tenant: TenantId(1), stream: StreamId(2) };
    let head = |kind: u8, generation: u8| [0, 0, 0, 1, 0, 0, 0, 2, kind, 0, 0, 0, 0, 0, 0, 0, generation];
    let with = |kind, generation, name: &[u8]| [&head(kind, generation)[..], name].concat();
    let golden: Vec<(Item<'_>, Vec<u8>)> = vec![
        (Item::PointPage(258), with(16, 0, &[0, 0, 1, 2])),
        (Item::LatestPage(3), with(17, 0, &[0, 0, 0, 3])),
        (Item::Installation("pigs"), with(18, 0, b"pigs")),
        (Item::Revision("pigs".into(), Revision(5)), with(19, 0, b"pigs\0\0\0\0\0\x05")),
        (Item::Receipt("csv"), with(20, 0, b"csv")),
        (Item::Idempotency([7; 32]), with(21, 0, &[7; 32])),
        (Item::Block(Sequence(1)), with(22, 0, &[0, 0, 0, 0, 0, 0, 0, 1])),
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
            with(25, 0, &[0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 9]),
        ),
        (Item::Driven("ev/1"), with(26, 0, b"ev/1")),
        (Item::AlarmNews(258), with(27, 0, &[0, 0, 1, 2])),
        (Item::Connector("plant"), with(28, 0, b"plant")),
        (Item::AppOwner("com.example.a"), with(29, 0, b"com.example.a")),
        (Item::Catalog("plant"), with(30, 0, b"plant")),
        (Item::Token("anna"), with(31, 0, b"anna")),
        (Item::Consent("pigs"), with(15, 0, b"pigs")),
        (Item::AuditEntry(258, 9), with(12, 0, &[0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 9])),
        (Item::AuditCheckpoint(258, 9), with(13, 0, &[0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 9])),
        (Item::Intent(Generation(6), Ordinal(258), 9), with(40, 6, &[0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 9])),
    ];
    for (item, bytes) in golden {
        assert_eq!(scope.key(item.clone()).as_bytes(), bytes, "{item:?}");
    }
    let of_the_node = |kind| [0, 0, 0, 0, 0, 0, 0, 0, kind, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(Key::format().as_bytes(), of_the_node(1));
    assert_eq!(Key::epoch().as_bytes(), of_the_node(2));
    assert_eq!(Key::folded().as_bytes(), of_the_node(3));
}
