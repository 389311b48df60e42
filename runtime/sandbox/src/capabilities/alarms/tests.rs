//! Alarms: what is raised, cleared and refused.

use super::*;
use ironloom_types::limits::ALARM_BYTES;

/// The message of `fever` of `sick`, which stands already.
const SICK: &str = "40.5";

/// One alarm, which takes so much room.
struct Stands(AlarmRoom);

impl Holdings for Stands {
    fn alarm(&self, (alarm, entity): &AlarmKey) -> Option<usize> {
        (alarm.as_str() == "fever" && &**entity == "sick").then(|| alarm_cost("sick", SICK))
    }
    fn alarms(&self) -> AlarmRoom {
        self.0
    }
    fn has_timer(&self, _: &str) -> bool {
        false
    }
    fn timers(&self) -> usize {
        0
    }
}

fn with(count: usize, call: impl FnOnce(&mut View<'_>)) -> Vec<(String, Option<String>)> {
    with_room(AlarmRoom { count, bytes: count * ALARM_BYTES, limit: MAX_ALARMS_BYTES }, call)
}

fn with_room(standing: AlarmRoom, call: impl FnOnce(&mut View<'_>)) -> Vec<(String, Option<String>)> {
    let mut context = Context::new(Arc::new(Stands(standing)));
    let app = AppContext { alarms: vec![SlotName::new("fever").unwrap()], ..AppContext::default() };
    call(&mut View { context: &mut context, app: &app, quota: &mut Quota::default() });
    let changes = context.into_changes().into_iter();
    changes.map(|((_, entity), change)| (entity.to_string(), change.map(String::from))).collect()
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

#[test]
fn alarms_take_no_more_bytes_than_allowed() {
    let longest = "x".repeat(MAX_ALARM_MESSAGE);
    let one = alarm_cost("new", &longest);
    let room = |bytes, limit| AlarmRoom { count: 5, bytes, limit };
    with_room(room(MAX_ALARMS_BYTES - one, MAX_ALARMS_BYTES), |view| {
        raise(view, "new", &longest).unwrap();
        assert!(matches!(raise(view, "two", ""), Err(Error::TooMany)));
        assert!(matches!(raise(view, "sick", "40.55"), Err(Error::TooMany)), "a byte more");
        raise(view, "sick", SICK).unwrap();
        raise(view, "new", &longest[1..]).unwrap();
        raise(view, "sick", "40.55").unwrap();
        assert!(matches!(raise(view, "new", &longest), Err(Error::TooMany)));
        // What is cleared takes none, whether it stood before or not.
        clear(view, "new").unwrap();
        raise(view, "two", "").unwrap();
        clear(view, "two").unwrap();
        clear(view, "sick").unwrap();
        raise(view, "new", &longest).unwrap();
    });
    // Others have taken what the site has for all.
    with_room(room(1_000, 1_200), |view| {
        let Err(Error::Other(text)) = raise(view, "new", "") else { panic!("it has no room") };
        assert!(text.contains("1200 bytes") && text.contains("1000 are taken"), "{text}");
        raise(view, "sick", "4").unwrap();
    });
}
