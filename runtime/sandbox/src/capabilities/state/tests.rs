//! The state as an app sees it, against a plain map.

use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use std::collections::BTreeMap;

use super::*;
use crate::env::{BoxFuture, StatePage};
use crate::interrupt::Interrupt;
use ironloom_types::limits::Limits;

type Map = BTreeMap<String, Vec<u8>>;

/// What is stored; keys that end in an even letter are in the cache.
struct Stored {
    map: Map,
    loads: AtomicUsize,
    /// The most keys that were looked for at once.
    looks: AtomicUsize,
}

impl Stored {
    fn new(map: Map) -> Self {
        Self { map, loads: AtomicUsize::new(0), looks: AtomicUsize::new(0) }
    }
}

impl StateReader for Stored {
    fn cached(&self, keys: &Keys, from: usize, show: &mut dyn FnMut(usize, Cached<'_>) -> bool) {
        let _all = (from..keys.len()).all(|place| {
            self.looks.fetch_max(place + 1 - from, Ordering::SeqCst);
            let key = keys.get(place);
            let value = self.map.get(key).map(Vec::as_slice);
            let is_known = key.bytes().last().is_some_and(|byte| byte % 2 == 0);
            show(place, if is_known { Cached::Known(value, Spot::NONE) } else { Cached::Unknown })
        });
    }

    fn load<'a>(
        &'a self,
        keys: &'a [Box<str>],
        _: &'a Meter,
    ) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, ReadError>> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        Box::pin(async {
            Ok(keys.iter().map(|key| self.map.get(&**key).cloned().map(Bytes::from)).collect())
        })
    }

    fn scan<'a>(&'a self, scan: Scan<'a>, _: &'a Meter) -> BoxFuture<'a, Result<StatePage, ReadError>> {
        Box::pin(async move {
            let mut all = self.map.iter().filter(|(key, _)| {
                key.starts_with(scan.prefix) && scan.after.is_none_or(|after| key.as_str() > after)
            });
            let entries = all.by_ref().take(scan.limit);
            let entries = entries.map(|(key, value)| (key.as_str().into(), value.clone().into())).collect();
            Ok(StatePage { entries, more: all.next().is_some() })
        })
    }
}

fn size(map: &Map) -> u64 {
    map.iter().map(|(key, value)| (128 + key.len() + value.len()) as u64).sum()
}

/// The entities of the batch.
const ENTITIES: [&str; 5] = ["a", "b", "ba", "bb", "aab"];

#[derive(Clone, Debug)]
enum Op {
    /// Many keys, of which some are deleted.
    Set(Vec<(String, Option<Vec<u8>>)>),
    One(String, Option<Vec<u8>>),
    Get(Vec<String>),
    /// Entities under a prefix.
    SetRows(String, Vec<(usize, Option<Vec<u8>>)>),
    GetRows(String),
    Scan(String, u32),
}

fn key() -> impl Strategy<Value = String> {
    "[ab]{1,3}"
}

fn op() -> impl Strategy<Value = Op> {
    let value = || prop::option::weighted(0.7, prop::collection::vec(any::<u8>(), 0..20));
    prop_oneof![
        prop::collection::vec((key(), value()), 0..4).prop_map(Op::Set),
        (key(), value()).prop_map(|(key, value)| Op::One(key, value)),
        prop::collection::vec(key(), 0..4).prop_map(Op::Get),
        ("a?", prop::collection::vec((0..ENTITIES.len(), value()), 0..4))
            .prop_map(|(prefix, rows)| Op::SetRows(prefix, rows)),
        "[ab]?".prop_map(Op::GetRows),
        ("[ab]{0,2}", 1_u32..4).prop_map(|(prefix, limit)| Op::Scan(prefix, limit)),
    ]
}

/// Values as they cross the boundary.
fn packed(values: impl IntoIterator<Item = Option<Vec<u8>>>) -> Packed {
    let mut packed = Packed { lengths: Vec::new(), bytes: Vec::new() };
    for value in values {
        packed.lengths.push(value.as_ref().map_or(-1, |value| value.len() as i32));
        packed.bytes.extend(value.unwrap_or_default());
    }
    packed
}

fn unpacked(packed: &Packed) -> Vec<Option<Vec<u8>>> {
    let Ok(values) = unpack(packed, packed.lengths.len()) else { panic!("{packed:?} doesn't add up") };
    values.map(|value| value.map(Vec::from)).collect()
}

async fn get_many(view: &mut View<'_>, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, Error> {
    let found = wit::Host::get_many(view, keys.join("\n")).await.unwrap();
    found.map(|packed| unpacked(&packed))
}

async fn set_many(view: &mut View<'_>, entries: Vec<(String, Option<Vec<u8>>)>) -> Result<(), Error> {
    let (keys, values): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
    wit::Host::set_many(view, keys.join("\n"), packed(values)).await.unwrap()
}

async fn delete_many(view: &mut View<'_>, keys: Vec<String>) -> Result<(), Error> {
    set_many(view, keys.into_iter().map(|key| (key, None)).collect()).await
}

fn stored() -> impl Strategy<Value = Map> {
    prop::collection::btree_map(key(), prop::collection::vec(any::<u8>(), 0..20), 0..8)
}

/// Applies a write to the model, unless it would take it over what was granted.
fn write(model: &mut Map, changes: Vec<(String, Option<Vec<u8>>)>, granted: u64) -> bool {
    let mut after = model.clone();
    for (key, value) in changes {
        match value {
            Some(value) => after.insert(key, value),
            None => after.remove(&key),
        };
    }
    let allowed = size(&after) <= granted || size(&after) <= size(model);
    if allowed {
        *model = after;
    }
    allowed
}

async fn scan_all(view: &mut View<'_>, prefix: &str, limit: u32) -> Map {
    let mut all = Map::new();
    let mut after: Option<String> = None;
    loop {
        let Ok(page) = view.scan(prefix, after.as_deref(), limit).await else { panic!("a scan fails") };
        // Wherever the entries lie, stored or written, only the last page isn't full, and it names no next one.
        let full = page.entries.len() == limit as usize;
        assert!(full || page.next.is_none());
        assert!(page.next.is_none() || page.next.as_ref() == page.entries.last().map(|entry| &entry.key));
        for entry in page.entries {
            assert!(after.as_ref().is_none_or(|after| entry.key > *after), "in order");
            after = Some(entry.key.clone());
            all.insert(entry.key, entry.value);
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return all,
        }
    }
}

proptest! {
    #[test]
    fn reads_see_own_writes_over_what_is_stored(stored in stored(), ops in prop::collection::vec(op(), 1..12), room in 0_u64..400) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (before, mut model) = (stored.clone(), stored.clone());
            let granted = size(&stored) + room;
            let reader = Arc::new(Stored::new(stored));
            let mut context = Context::new(reader, size(&model), granted, 1 << 20);
            context.set_entities(&ENTITIES.join("\n"));
            let (mut quota, meter) = (Quota::default(), Meter::unlimited());
            for op in ops {
                let mut view = View { context: &mut context, quota: &mut quota, meter: &meter };
                match op {
                    Op::Set(entries) => {
                        let answer = set_many(&mut view, entries.clone()).await;
                        assert_eq!(answer.is_ok(), write(&mut model, entries, granted));
                    }
                    Op::One(key, value) => {
                        let answer = match value.clone() {
                            Some(value) => wit::Host::set(&mut view, key.clone(), value).await,
                            None => wit::Host::delete(&mut view, key.clone()).await,
                        };
                        assert_eq!(answer.unwrap().is_ok(), write(&mut model, vec![(key, value)], granted));
                    }
                    Op::Get(keys) => {
                        let expected: Vec<_> = keys.iter().map(|key| model.get(key).cloned()).collect();
                        for (key, value) in keys.iter().zip(&expected) {
                            assert_eq!(wit::Host::get(&mut view, key.clone()).await.unwrap().unwrap(), *value);
                        }
                        assert_eq!(get_many(&mut view, &keys).await.unwrap(), expected);
                    }
                    Op::SetRows(prefix, rows) => {
                        let (lines, values): (Vec<_>, Vec<_>) = rows.iter().cloned().unzip();
                        let lines = lines.into_iter().map(|line| line as u32).collect();
                        let answer = wit::Host::set_rows(&mut view, prefix.clone(), lines, packed(values)).await;
                        let entries = rows.into_iter().map(|(line, value)| (format!("{prefix}{}", ENTITIES[line]), value));
                        assert_eq!(answer.unwrap().is_ok(), write(&mut model, entries.collect(), granted));
                    }
                    Op::GetRows(prefix) => {
                        let expected: Vec<_> =
                            ENTITIES.iter().map(|entity| model.get(&format!("{prefix}{entity}")).cloned()).collect();
                        let found = wit::Host::get_rows(&mut view, prefix).await.unwrap().unwrap();
                        assert_eq!(unpacked(&found), expected);
                    }
                    Op::Scan(prefix, limit) => {
                        let mut expected = model.clone();
                        expected.retain(|key, _| key.starts_with(&prefix));
                        assert_eq!(scan_all(&mut view, &prefix, limit).await, expected);
                    }
                }
            }
            // What is written, over what was stored, is the model.
            let mut after = before;
            for (key, value) in context.into_writes().iter() {
                match value {
                    Some(value) => after.insert(key.to_owned(), value.to_vec()),
                    None => after.remove(key),
                };
            }
            assert_eq!(after, model);
        });
    }
}

fn empty(loads: Map) -> (Arc<Stored>, Quota) {
    (Arc::new(Stored::new(loads)), Quota::default())
}

#[tokio::test]
async fn keys_and_values_have_bounds() {
    let (reader, mut quota) = empty(Map::new());
    let mut context = Context::new(reader, 0, 1 << 30, 1 << 20);
    let meter = Meter::unlimited();
    let mut view = View { context: &mut context, quota: &mut quota, meter: &meter };
    let long = "x".repeat(513);
    assert!(matches!(wit::Host::get(&mut view, String::new()).await.unwrap(), Err(Error::InvalidKey(_))));
    assert!(matches!(wit::Host::get(&mut view, long.clone()).await.unwrap(), Err(Error::InvalidKey(_))));
    assert!(matches!(wit::Host::delete(&mut view, long).await.unwrap(), Err(Error::InvalidKey(_))));
    let two_lines = wit::Host::set(&mut view, "a\nb".to_owned(), Vec::new()).await.unwrap();
    assert!(matches!(two_lines, Err(Error::InvalidKey(_))));
    let set = async |view: &mut View<'_>, bytes| {
        wit::Host::set(view, "k".to_owned(), vec![0; bytes]).await.unwrap()
    };
    assert!(matches!(set(&mut view, MAX_STATE_VALUE + 1).await, Err(Error::TooLarge(262_144))));
    assert!(set(&mut view, MAX_STATE_VALUE).await.is_ok());
    assert!(matches!(view.scan("", None, 0).await, Err(Failure::App(Error::Other(_)))));
}

#[tokio::test]
async fn rows_are_those_of_the_batch() {
    let (reader, mut quota) = empty(Map::new());
    let mut context = Context::new(reader, 0, 1 << 30, 1 << 20);
    let meter = Meter::unlimited();
    let get = async |context: &mut Context, quota: &mut Quota, prefix: &str| {
        let mut view = View { context, quota, meter: &meter };
        wit::Host::get_rows(&mut view, prefix.to_owned()).await.unwrap()
    };
    let set =
        async |context: &mut Context, quota: &mut Quota, prefix: &str, lines: &[u32], values: Packed| {
            let mut view = View { context, quota, meter: &meter };
            wit::Host::set_rows(&mut view, prefix.to_owned(), lines.to_vec(), values).await.unwrap()
        };
    let one = || packed([Some(b"x".to_vec())]);
    // A call for a timer has no batch.
    assert_eq!(get(&mut context, &mut quota, "p/").await.unwrap().lengths, [] as [i32; 0]);
    let error = set(&mut context, &mut quota, "p/", &[0], one()).await.unwrap_err();
    assert!(matches!(error, Error::Other(text) if text == "there is no line 0: the batch has 0 entities"));

    let longest = "e".repeat(512);
    context.set_entities(&format!("\n{longest}\nb"));
    for (lines, problem) in [
        (&[3][..], "there is no line 3: the batch has 3 entities"),
        (&[2, u32::MAX], "there is no line 4294967295: the batch has 3 entities"),
        (&[0, 2], "there are 2 keys and 1 values"),
        (&[2; 20_001], "a call names 20001 keys; at most 20000 are allowed"),
    ] {
        let error = set(&mut context, &mut quota, "p", lines, one()).await.unwrap_err();
        assert!(matches!(&error, Error::Other(text) if text == problem), "{error:?}");
    }
    // The empty entity has no key without a prefix, and the longest none with one.
    for (prefix, lines) in [("", [0, 2]), ("p", [1, 2]), ("p\n", [0, 2]), (&*"p".repeat(513), [0, 2])] {
        let values = packed([Some(vec![1]), Some(vec![2])]);
        let error = set(&mut context, &mut quota, prefix, &lines, values).await.unwrap_err();
        assert!(matches!(error, Error::InvalidKey(_)), "{error:?}");
        assert!(matches!(get(&mut context, &mut quota, prefix).await, Err(Error::InvalidKey(_))));
    }
    // Of what a line gets twice the last counts.
    let values = packed([Some(vec![1]), Some(vec![2, 2]), None, Some(vec![3])]);
    assert!(set(&mut context, &mut quota, "p", &[2, 2, 0, 0], values).await.is_ok());
    let expected = [("p", Some("\u{3}")), ("pb", Some("\u{2}\u{2}"))];
    assert_eq!(context.into_writes(), expected.into_iter().collect());
}

/// All is cached, and each key at a spot that is its first byte.
struct Spots;

impl StateReader for Spots {
    fn cached(&self, keys: &Keys, from: usize, show: &mut dyn FnMut(usize, Cached<'_>) -> bool) {
        let spot = |place| Spot(u32::from(keys.get(place).as_bytes()[0]));
        let _all = (from..keys.len()).all(|place| show(place, Cached::Known(Some(b"old"), spot(place))));
    }

    fn load<'a>(
        &'a self,
        _: &'a [Box<str>],
        _: &'a Meter,
    ) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, ReadError>> {
        Box::pin(async { panic!("all is cached") })
    }

    fn scan<'a>(&'a self, _: Scan<'a>, _: &'a Meter) -> BoxFuture<'a, Result<StatePage, ReadError>> {
        Box::pin(async { panic!("nobody scans") })
    }
}

#[tokio::test]
async fn rows_that_are_written_have_the_spots_where_they_were_read() {
    let mut quota = Quota::default();
    let mut context = Context::new(Arc::new(Spots), 0, 1 << 30, 1 << 20);
    context.set_entities("c\na\nb");
    let meter = Meter::unlimited();
    let mut view = View { context: &mut context, quota: &mut quota, meter: &meter };
    assert!(wit::Host::get_rows(&mut view, String::new()).await.unwrap().is_ok());
    let values = packed([Some(vec![1]), None]);
    assert!(wit::Host::set_rows(&mut view, String::new(), vec![2, 0], values).await.unwrap().is_ok());
    let values = packed([Some(vec![2])]);
    assert!(wit::Host::set_rows(&mut view, "x".to_owned(), vec![1], values).await.unwrap().is_ok());
    assert!(wit::Host::set(&mut view, "d".to_owned(), vec![3]).await.unwrap().is_ok());
    let writes = context.into_writes();
    let found: Vec<_> = writes.with_spots(0).collect();
    let spot = |letter: u8| Spot(u32::from(letter));
    let expected: [(&str, Option<&[u8]>, Spot); 4] = [
        ("b", Some(&[1]), spot(b'b')),
        ("c", None, spot(b'c')),
        ("d", Some(&[3]), Spot::NONE),
        // Its row was not read under this prefix.
        ("xa", Some(&[2]), Spot::NONE),
    ];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn writes_far_from_the_quota_look_nothing_up() {
    let (reader, mut quota) = empty(Map::from([("a".to_owned(), vec![0; 10])]));
    // An entry counts 128 bytes, its key and its value.
    let mut context = Context::new(reader.clone(), 139, 1_128, 1 << 20);
    let meter = Meter::unlimited();
    let mut view = View { context: &mut context, quota: &mut quota, meter: &meter };
    assert!(wit::Host::set(&mut view, "a".to_owned(), vec![0; 860]).await.unwrap().is_ok());
    assert_eq!(reader.loads.load(Ordering::SeqCst), 0);
    // With what it replaces counted as kept, 1,267 bytes; without, just the 1,128: only a look tells.
    assert!(wit::Host::set(&mut view, "a".to_owned(), vec![0; 999]).await.unwrap().is_ok());
    assert_eq!(reader.loads.load(Ordering::SeqCst), 1);
    let error = wit::Host::set(&mut view, "a".to_owned(), vec![0; 1_000]).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::QuotaExceeded(1_128)));
}

#[tokio::test]
async fn an_app_over_its_quota_can_make_room() {
    let (reader, mut quota) = empty(Map::from([("a".to_owned(), vec![0; 99])]));
    let mut context = Context::new(reader, 228, 178, 1 << 20);
    let meter = Meter::unlimited();
    let mut view = View { context: &mut context, quota: &mut quota, meter: &meter };
    assert!(wit::Host::set(&mut view, "b".to_owned(), vec![]).await.unwrap().is_err());
    assert!(wit::Host::set(&mut view, "a".to_owned(), vec![0; 79]).await.unwrap().is_ok());
    assert!(wit::Host::delete(&mut view, "a".to_owned()).await.unwrap().is_ok());
    assert!(wit::Host::set(&mut view, "b".to_owned(), vec![0; 49]).await.unwrap().is_ok());
}

#[tokio::test]
async fn keys_of_one_invocation_are_bounded() {
    let (reader, mut quota) = empty(Map::new());
    let mut context = Context::new(reader, 0, 1 << 30, 1 << 20);
    let meter = Meter::unlimited();
    let mut view = View { context: &mut context, quota: &mut quota, meter: &meter };
    let keys = |from: usize, to: usize| (from..to).map(|n| n.to_string()).collect::<Vec<_>>();
    let delete = async |view: &mut View<'_>, from, to| delete_many(view, keys(from, to)).await;
    // One call with more than all of them together may change is refused before anything is made of it.
    assert!(
        matches!(delete(&mut view, 0, 20_001).await, Err(Error::Other(text)) if text.contains("20000 are"))
    );
    assert!(get_many(&mut view, &keys(0, 20_001)).await.is_err());
    assert!(delete(&mut view, 0, 12_000).await.is_ok());
    assert!(delete(&mut view, 6_000, 20_000).await.is_ok(), "the same keys again are no further ones");
    assert!(
        matches!(delete(&mut view, 19_999, 20_001).await, Err(Error::Other(text)) if text.contains("20001"))
    );
    assert_eq!(context.into_writes().len(), 20_000);
}

/// Values so large that few of them are loaded at once; each key counts how often it was asked for.
struct Large(parking_lot::Mutex<BTreeMap<String, u32>>);

impl StateReader for Large {
    fn cached(&self, keys: &Keys, from: usize, show: &mut dyn FnMut(usize, Cached<'_>) -> bool) {
        let _all = (from..keys.len()).all(|place| show(place, Cached::Unknown));
    }
    fn load<'a>(
        &'a self,
        keys: &'a [Box<str>],
        _: &'a Meter,
    ) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, ReadError>> {
        let part = &keys[..keys.len().min(4)];
        part.iter().for_each(|key| *self.0.lock().entry(key.to_string()).or_default() += 1);
        Box::pin(async { Ok(part.iter().map(|key| Some(Bytes::copy_from_slice(key.as_bytes()))).collect()) })
    }
    fn scan<'a>(&'a self, _: Scan<'a>, _: &'a Meter) -> BoxFuture<'a, Result<StatePage, ReadError>> {
        Box::pin(async { Ok(StatePage::default()) })
    }
}

#[tokio::test]
async fn a_key_that_is_named_again_and_again_is_loaded_once_and_parts_end_where_they_are_large() {
    let (reader, mut quota) = (Arc::new(Large(Default::default())), Quota::default());
    let mut context = Context::new(reader.clone(), 10_000, 10_000, 1 << 20);
    let meter = Meter::unlimited();
    let mut view = View { context: &mut context, quota: &mut quota, meter: &meter };
    let keys: Vec<String> = (0..2_000).map(|n| format!("{}", n % 7)).collect();
    let values = get_many(&mut view, &keys).await.unwrap();
    for (key, value) in keys.iter().zip(values) {
        assert_eq!(value.as_deref(), Some(key.as_bytes()));
    }
    let asked = reader.0.lock().clone();
    assert!(asked.len() == 7 && asked.values().all(|times| *times == 1), "{asked:?}");
    // The quota is used up, so that the sizes of all that is replaced are asked for: as large as what is written.
    let entries = (0..7).map(|n| (n.to_string(), Some(vec![0; 1]))).collect();
    assert!(set_many(&mut view, entries).await.is_ok());
    assert!(reader.0.lock().values().all(|times| *times == 2));
}

#[tokio::test]
async fn keys_without_values_are_effects_as_well() {
    let (reader, mut quota) = empty(Map::new());
    let mut context = Context::new(reader, 0, 1 << 30, 1 << 20);
    let meter = Meter::unlimited();
    // 128 + 512 bytes each: 20,000 of them are 12.8 MB; of effects there may be 16 MiB, of which 4 MB are used.
    quota.effect(4_000_000, 0).unwrap();
    let mut view = View { context: &mut context, quota: &mut quota, meter: &meter };
    let keys = |count: usize| (0..count).map(|n| format!("{n:0512}")).collect::<Vec<_>>();
    // (16,777,216 - 4,000,000) / 640 = 19,964.4
    assert!(matches!(delete_many(&mut view, keys(19_965)).await, Err(Error::Other(_))));
    assert!(delete_many(&mut view, keys(19_964)).await.is_ok());
}

/// Pages of state, of which each names how many entries were asked for.
struct Counting {
    stored: Stored,
    scans: AtomicUsize,
}

impl StateReader for Counting {
    fn cached(&self, keys: &Keys, from: usize, show: &mut dyn FnMut(usize, Cached<'_>) -> bool) {
        self.stored.cached(keys, from, show);
    }
    fn load<'a>(
        &'a self,
        keys: &'a [Box<str>],
        meter: &'a Meter,
    ) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, ReadError>> {
        self.stored.load(keys, meter)
    }
    fn scan<'a>(&'a self, scan: Scan<'a>, meter: &'a Meter) -> BoxFuture<'a, Result<StatePage, ReadError>> {
        self.scans.fetch_add(1, Ordering::SeqCst);
        self.stored.scan(scan, meter)
    }
}

#[tokio::test]
async fn a_scan_over_deleted_keys_goes_in_large_steps_and_ends_with_the_time() {
    let map: Map = (0..20_000).map(|n| (format!("{n:05}"), Vec::new())).collect();
    let stored = Stored::new(map);
    let reader = Arc::new(Counting { stored, scans: AtomicUsize::new(0) });
    let mut quota = Quota::default();
    let mut context = Context::new(reader.clone(), 0, 1 << 30, 1 << 20);
    let meter = Meter::unlimited();
    let mut view = View { context: &mut context, quota: &mut quota, meter: &meter };
    let keys = (0..19_999).map(|n| format!("{n:05}")).collect();
    assert!(delete_many(&mut view, keys).await.is_ok());
    let Ok(page) = view.scan("", None, 1).await else { panic!("the scan fails") };
    assert_eq!((page.entries.len(), page.next), (1, None));
    assert_eq!(page.entries[0].key, "19999");
    assert_eq!(reader.scans.load(Ordering::SeqCst), 20, "1,000 keys at a time");

    let spent = Meter::new(
        &ironloom_types::limits::Limits { cpu: 0, ..Default::default() },
        crate::Interrupt::default(),
    );
    let mut view = View { context: &mut context, quota: &mut quota, meter: &spent };
    assert!(matches!(view.scan("", None, 1).await, Err(Failure::End(ReadError::Overrun(_)))));
}

#[tokio::test]
async fn a_key_that_is_in_no_cache_makes_no_look_at_the_others_longer() {
    // The first of 3,000 keys is only in the store, and so is one of each two.
    let keys = (0..3_000).map(|n| format!("{n:04}{}", if n % 2 == 0 { "a" } else { "b" }));
    let keys: Vec<String> = keys.collect();
    let map: Map = keys.iter().map(|key| (key.clone(), key.clone().into_bytes())).collect();
    let (reader, mut quota) = empty(map.clone());
    let mut context = Context::new(Arc::clone(&reader) as _, size(&map), 1 << 30, 1 << 20);
    let meter = Meter::unlimited();
    let mut view = View { context: &mut context, quota: &mut quota, meter: &meter };
    let found = get_many(&mut view, &keys).await.unwrap();
    assert!(found.iter().zip(&keys).all(|(found, key)| found.as_deref() == Some(key.as_bytes())));
    assert_eq!(reader.looks.load(Ordering::SeqCst), KEYS_AT_ONCE);
}

#[tokio::test]
async fn a_call_that_loads_much_ends_where_its_time_is_used_up() {
    let keys: Vec<String> = (0..5_000).map(|n| format!("{n:04}a")).collect();
    let map: Map = keys.iter().map(|key| (key.clone(), vec![1])).collect();
    let spent = Meter::new(&Limits { cpu: 0, ..Limits::default() }, Interrupt::default());
    spent.charge_now(|| std::hint::black_box((0..10_000).sum::<u64>()));
    let (reader, mut quota) = empty(map.clone());
    let mut context = Context::new(Arc::clone(&reader) as _, size(&map), 1 << 30, 1 << 20);
    let mut view = View { context: &mut context, quota: &mut quota, meter: &spent };
    assert!(wit::Host::get_many(&mut view, keys.join("\n")).await.is_err());
    assert_eq!(reader.loads.load(Ordering::SeqCst), 1);
    // So few that the look at the cache doesn't end it.
    let few: Keys = keys.iter().take(500).map(String::as_str).collect();
    assert!(matches!(quota::stored_sizes(&*reader, &few, &spent).await, Err(ReadError::Overrun(_))));
    assert_eq!(reader.loads.load(Ordering::SeqCst), 2);
}
