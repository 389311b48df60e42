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

/// Entity, message where it is raised, and since when.
type Seen = (String, Option<String>, Option<u64>);

fn with(count: usize, call: impl FnOnce(&mut View<'_>)) -> Vec<Seen> {
    with_room(AlarmRoom { count, bytes: count * ALARM_BYTES, limit: MAX_ALARMS_BYTES }, call)
}

fn with_room(standing: AlarmRoom, call: impl FnOnce(&mut View<'_>)) -> Vec<Seen> {
    let mut context = Context::new(Arc::new(Stands(standing)));
    let app = AppContext { alarms: vec![SlotName::new("fever").unwrap()], ..AppContext::default() };
    call(&mut View { context: &mut context, app: &app, quota: &mut Quota::default() });
    let seen = |AlarmChange { key: (_, entity), act }| match act {
        AlarmAct::Raise { message, since } => {
            (entity.to_string(), Some(String::from(message)), since.map(|since| since.0))
        }
        AlarmAct::Clear { since } => (entity.to_string(), None, since.map(|since| since.0)),
    };
    context.into_changes().into_iter().map(seen).collect()
}

fn raise(view: &mut View<'_>, entity: &str, message: &str) -> Result<(), Error> {
    view.raise("fever".to_owned(), entity.to_owned(), message.to_owned(), None)
}

fn clear(view: &mut View<'_>, entity: &str) -> Result<(), Error> {
    view.clear("fever".to_owned(), entity.to_owned(), None)
}

#[test]
fn all_changes_are_seen_in_their_order() {
    let changes = with(1, |view| {
        view.raise("fever".to_owned(), "a".to_owned(), "first".to_owned(), Some(5)).unwrap();
        raise(view, "passing", "short").unwrap();
        // Only the words of an alarm that is active change, not since when it is.
        view.raise("fever".to_owned(), "a".to_owned(), "second".to_owned(), Some(6)).unwrap();
        clear(view, "passing").unwrap();
        raise(view, "sick", "40.6").unwrap();
        view.clear("fever".to_owned(), "sick".to_owned(), Some(7)).unwrap();
        raise(view, "passing", "again").unwrap();
        clear(view, "never").unwrap();
    });
    let raised = |entity: &str, message: &str, since| (entity.to_owned(), Some(message.to_owned()), since);
    let cleared = |entity: &str, since| (entity.to_owned(), None, since);
    let expected = [
        raised("a", "second", Some(5)),
        raised("passing", "short", None),
        cleared("passing", None),
        raised("sick", "40.6", None),
        cleared("sick", Some(7)),
        raised("passing", "again", None),
    ];
    assert_eq!(changes, expected);
}

#[test]
fn changes_are_bounded_in_number() {
    let changes = with(0, |view| {
        for _ in 0..MAX_ALARM_CHANGES / 2 {
            raise(view, "a", "").unwrap();
            clear(view, "a").unwrap();
        }
        let Err(Error::Other(text)) = raise(view, "a", "") else { panic!("one too many") };
        assert!(text.contains("20000 times"), "{text}");
    });
    assert_eq!(changes.len(), MAX_ALARM_CHANGES);
}

#[test]
fn what_the_manifest_does_not_declare_is_refused_by_name() {
    with(0, |view| {
        let error = view.raise("flood".to_owned(), String::new(), String::new(), None).unwrap_err();
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
