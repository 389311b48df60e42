//! The state as an app sees it, against a plain map.

use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;
use crate::env::{BoxFuture, StatePage};

type Map = BTreeMap<String, Vec<u8>>;

/// What is stored; keys that end in an even letter are in the cache.
struct Stored {
    map: Map,
    loads: AtomicUsize,
}

impl StateReader for Stored {
    fn cached(&self, key: &str) -> Cached {
        if key.bytes().last().is_some_and(|byte| byte % 2 == 0) {
            Cached::Known(self.map.get(key).cloned().map(Bytes::from))
        } else {
            Cached::Unknown
        }
    }

    fn load<'a>(&'a self, keys: &'a [Box<str>]) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, HostFault>> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        Box::pin(async {
            Ok(keys.iter().map(|key| self.map.get(&**key).cloned().map(Bytes::from)).collect())
        })
    }

    fn scan<'a>(&'a self, scan: Scan<'a>) -> BoxFuture<'a, Result<StatePage, HostFault>> {
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
    map.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum()
}

#[derive(Clone, Debug)]
enum Op {
    Set(Vec<(String, Vec<u8>)>),
    Delete(Vec<String>),
    Get(Vec<String>),
    Scan(String, u32),
}

fn key() -> impl Strategy<Value = String> {
    "[ab]{1,3}"
}

fn op() -> impl Strategy<Value = Op> {
    let value = || prop::collection::vec(any::<u8>(), 0..20);
    prop_oneof![
        prop::collection::vec((key(), value()), 1..4).prop_map(Op::Set),
        prop::collection::vec(key(), 1..3).prop_map(Op::Delete),
        prop::collection::vec(key(), 1..4).prop_map(Op::Get),
        ("[ab]{0,2}", 1_u32..4).prop_map(|(prefix, limit)| Op::Scan(prefix, limit)),
    ]
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

async fn scan_all(view: &View<'_>, prefix: &str, limit: u32) -> Map {
    let mut all = Map::new();
    let mut after: Option<String> = None;
    loop {
        let Ok(page) = view.scan(prefix, after.as_deref(), limit).await else { panic!("a scan fails") };
        assert!(page.entries.len() <= limit as usize);
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
    fn reads_see_own_writes_over_what_is_stored(stored in stored(), ops in prop::collection::vec(op(), 1..12), room in 0_u64..60) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (before, mut model) = (stored.clone(), stored.clone());
            let granted = size(&stored) + room;
            let reader = Arc::new(Stored { map: stored, loads: AtomicUsize::new(0) });
            let mut context = Context::new(reader, size(&model), granted, 1 << 20);
            let mut quota = Quota::default();
            for op in ops {
                let mut view = View { context: &mut context, quota: &mut quota };
                match op {
                    Op::Set(entries) => {
                        let changes = entries.iter().cloned().map(|(key, value)| (key, Some(value))).collect();
                        let entries = entries.into_iter().map(|(key, value)| Entry { key, value }).collect();
                        let answer = wit::Host::set_many(&mut view, entries).await.unwrap();
                        assert_eq!(answer.is_ok(), write(&mut model, changes, granted));
                    }
                    Op::Delete(keys) => {
                        let changes = keys.iter().cloned().map(|key| (key, None)).collect();
                        assert!(wit::Host::delete_many(&mut view, keys).await.unwrap().is_ok());
                        assert!(write(&mut model, changes, granted));
                    }
                    Op::Get(keys) => {
                        let expected: Vec<_> = keys.iter().map(|key| model.get(key).cloned()).collect();
                        let one = wit::Host::get(&mut view, keys[0].clone()).await.unwrap().unwrap();
                        assert_eq!(one, expected[0]);
                        assert_eq!(wit::Host::get_many(&mut view, keys).await.unwrap().unwrap(), expected);
                    }
                    Op::Scan(prefix, limit) => {
                        let mut expected = model.clone();
                        expected.retain(|key, _| key.starts_with(&prefix));
                        assert_eq!(scan_all(&view, &prefix, limit).await, expected);
                    }
                }
            }
            // What is written, over what was stored, is the model.
            let mut after = before;
            for (key, value) in context.into_writes() {
                match value {
                    Some(value) => after.insert(key.into(), value.to_vec()),
                    None => after.remove(&*key),
                };
            }
            assert_eq!(after, model);
        });
    }
}

fn empty(loads: Map) -> (Arc<Stored>, Quota) {
    (Arc::new(Stored { map: loads, loads: AtomicUsize::new(0) }), Quota::default())
}

#[tokio::test]
async fn keys_and_values_have_bounds() {
    let (reader, mut quota) = empty(Map::new());
    let mut context = Context::new(reader, 0, 1 << 30, 1 << 20);
    let mut view = View { context: &mut context, quota: &mut quota };
    let long = "x".repeat(513);
    assert!(matches!(wit::Host::get(&mut view, String::new()).await.unwrap(), Err(Error::InvalidKey(_))));
    assert!(matches!(wit::Host::get(&mut view, long.clone()).await.unwrap(), Err(Error::InvalidKey(_))));
    assert!(matches!(wit::Host::delete(&mut view, long).await.unwrap(), Err(Error::InvalidKey(_))));
    let set = async |view: &mut View<'_>, bytes| {
        wit::Host::set(view, "k".to_owned(), vec![0; bytes]).await.unwrap()
    };
    assert!(matches!(set(&mut view, MAX_STATE_VALUE + 1).await, Err(Error::TooLarge(262_144))));
    assert!(set(&mut view, MAX_STATE_VALUE).await.is_ok());
    assert!(matches!(View::scan(&view, "", None, 0).await, Err(Failure::App(Error::Other(_)))));
}

#[tokio::test]
async fn writes_far_from_the_quota_look_nothing_up() {
    let (reader, mut quota) = empty(Map::from([("a".to_owned(), vec![0; 10])]));
    let mut context = Context::new(reader.clone(), 11, 1_000, 1 << 20);
    let mut view = View { context: &mut context, quota: &mut quota };
    assert!(wit::Host::set(&mut view, "a".to_owned(), vec![0; 900]).await.unwrap().is_ok());
    assert_eq!(reader.loads.load(Ordering::SeqCst), 0);
    // With what it replaces counted as kept, 1,011 bytes; without, just the 1,000: only a look tells.
    assert!(wit::Host::set(&mut view, "a".to_owned(), vec![0; 999]).await.unwrap().is_ok());
    assert_eq!(reader.loads.load(Ordering::SeqCst), 1);
    let error = wit::Host::set(&mut view, "a".to_owned(), vec![0; 1_000]).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::QuotaExceeded(1_000)));
}

#[tokio::test]
async fn an_app_over_its_quota_can_make_room() {
    let (reader, mut quota) = empty(Map::from([("a".to_owned(), vec![0; 99])]));
    let mut context = Context::new(reader, 100, 50, 1 << 20);
    let mut view = View { context: &mut context, quota: &mut quota };
    assert!(wit::Host::set(&mut view, "b".to_owned(), vec![]).await.unwrap().is_err());
    assert!(wit::Host::set(&mut view, "a".to_owned(), vec![0; 79]).await.unwrap().is_ok());
    assert!(wit::Host::delete(&mut view, "a".to_owned()).await.unwrap().is_ok());
    assert!(wit::Host::set(&mut view, "b".to_owned(), vec![0; 49]).await.unwrap().is_ok());
}
