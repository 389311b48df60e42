//! Alarms: what is raised, cleared and refused.

use super::*;

/// `fever` of `sick` stands already.
struct Stands(usize);

impl Holdings for Stands {
    fn has_alarm(&self, alarm: &SlotName, entity: &str) -> bool {
        alarm.as_str() == "fever" && entity == "sick"
    }
    fn alarms(&self) -> usize {
        self.0
    }
    fn has_timer(&self, _: &str) -> bool {
        false
    }
    fn timers(&self) -> usize {
        0
    }
}

fn with(standing: usize, call: impl FnOnce(&mut View<'_>)) -> Vec<(String, Option<String>)> {
    let mut context = Context::new(Arc::new(Stands(standing)));
    let app = AppContext { alarms: vec![SlotName::new("fever").unwrap()], ..AppContext::default() };
    call(&mut View { context: &mut context, app: &app, quota: &mut Quota::default() });
    let changes = context.into_changes().into_iter();
    changes.map(|((_, entity), change)| (entity.into_string(), change.map(String::from))).collect()
}

fn raise(view: &mut View<'_>, entity: &str, message: &str) -> Result<(), Error> {
    view.raise("fever".to_owned(), entity.to_owned(), message.to_owned())
}

fn clear(view: &mut View<'_>, entity: &str) -> Result<(), Error> {
    view.clear("fever".to_owned(), entity.to_owned())
}

#[test]
fn the_last_change_of_an_alarm_counts() {
    let changes = with(1, |view| {
        raise(view, "a", "first").unwrap();
        raise(view, "a", "second").unwrap();
        raise(view, "passing", "short").unwrap();
        clear(view, "passing").unwrap();
        clear(view, "sick").unwrap();
        clear(view, "never").unwrap();
    });
    assert_eq!(changes, [("a".to_owned(), Some("second".to_owned())), ("sick".to_owned(), None)]);
}

#[test]
fn what_the_manifest_does_not_declare_is_refused_by_name() {
    with(0, |view| {
        let error = view.raise("flood".to_owned(), String::new(), String::new()).unwrap_err();
        assert!(matches!(error, Error::UnknownAlarm(name) if name == "flood"));
        assert!(matches!(raise(view, &"x".repeat(513), ""), Err(Error::TooLong)));
        assert!(matches!(raise(view, "", &"x".repeat(1_025)), Err(Error::TooLong)));
        assert!(matches!(raise(view, "a\nb", ""), Err(Error::Other(_))));
        assert!(raise(view, &"x".repeat(512), &"x".repeat(1_024)).is_ok());
    });
}

#[test]
fn no_more_alarms_than_allowed() {
    with(MAX_ALARMS, |view| {
        assert!(matches!(raise(view, "new", ""), Err(Error::TooMany)));
        assert!(raise(view, "sick", "still").is_ok(), "one that stands adds none");
        clear(view, "sick").unwrap();
        assert!(raise(view, "new", "").is_ok());
    });
}
