//! One-shot timers: set, cancelled and refused.

use super::*;
use crate::env::AlarmRoom;
use ironloom_types::effects::AlarmKey;
use ironloom_types::ids::SlotName;

/// One-shot timers that are set already.
struct Set(&'static [&'static str], usize);

impl Holdings for Set {
    fn alarm(&self, _: &AlarmKey) -> Option<usize> {
        None
    }
    fn alarms(&self) -> AlarmRoom {
        AlarmRoom::default()
    }
    fn has_timer(&self, name: &str) -> bool {
        self.0.contains(&name)
    }
    fn timers(&self) -> usize {
        self.1
    }
}

fn with<T>(
    holdings: Set,
    call: impl FnOnce(&mut View<'_>) -> T,
) -> (T, BTreeMap<Box<str>, Option<Timestamp>>) {
    let mut context = Context::new(Arc::new(holdings));
    let app = AppContext { timers: vec![SlotName::new("morning").unwrap()], ..AppContext::default() };
    let answer = call(&mut View { context: &mut context, app: &app, quota: &mut Quota::default() });
    (answer, context.into_timers())
}

#[test]
fn the_last_change_of_a_name_counts() {
    let ((), timers) = with(Set(&["old", "other"], 2), |view| {
        view.set("a".to_owned(), 1).unwrap();
        view.set("a".to_owned(), 2).unwrap();
        view.set("gone".to_owned(), 3).unwrap();
        assert!(view.cancel("gone".to_owned()).unwrap());
        assert!(!view.cancel("gone".to_owned()).unwrap());
        assert!(view.cancel("old".to_owned()).unwrap());
        assert!(!view.cancel("old".to_owned()).unwrap());
        assert!(!view.cancel("never".to_owned()).unwrap());
    });
    assert_eq!(timers, BTreeMap::from([("a".into(), Some(Timestamp(2))), ("old".into(), None)]));
}

#[test]
fn names_of_the_manifest_and_of_no_length_are_refused() {
    let ((), timers) = with(Set(&[], 0), |view| {
        for name in ["", "morning", &"x".repeat(257)] {
            assert!(matches!(view.set(name.to_owned(), 1), Err(Error::InvalidName)), "{name}");
        }
        assert!(view.set("x".repeat(256), 1).is_ok());
    });
    assert_eq!(timers.len(), 1);
}

#[test]
fn no_more_timers_than_allowed() {
    with(Set(&["old"], MAX_TIMERS), |view| {
        assert!(matches!(view.set("new".to_owned(), 1), Err(Error::TooMany)));
        assert!(view.set("old".to_owned(), 1).is_ok(), "replacing one adds none");
        assert!(view.cancel("old".to_owned()).unwrap());
        assert!(view.set("new".to_owned(), 1).is_ok());
    });
}
