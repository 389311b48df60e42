//! A replica against a plain model, and the times of timers.

use super::*;
use ironloom_types::changes::StateChanges;
use ironloom_types::clock::SECOND;
use ironloom_types::effects::{AlarmChange, OneShot};
use ironloom_types::ids::SlotName;

fn effects(state: &[(&str, Option<&str>)]) -> Effects {
    let mut changes = StateChanges::default();
    for (key, value) in state {
        changes.push(key, value.map(str::as_bytes));
    }
    Effects { state: changes, ..Effects::default() }
}

fn keys<'a>(replica: &'a Replica, prefix: &'a str, after: Option<&'a str>) -> Vec<&'a str> {
    replica.range(prefix, after).map(|(key, _)| &**key).collect()
}

#[test]
fn state_is_set_deleted_and_counted_to_the_byte() {
    let mut replica = Replica::default();
    replica.take(&effects(&[("a", Some("1")), ("b/1", Some("22")), ("b/2", Some("3"))]), None, Timestamp(1));
    replica.take(&effects(&[("a", None), ("b/1", Some("4")), ("c", None)]), None, Timestamp(2));
    let cost = state_cost("b/1", b"4") + state_cost("b/2", b"3");
    assert_eq!(replica.state_bytes(), cost as u64);
    assert_eq!(keys(&replica, "", None), ["b/1", "b/2"]);
    assert_eq!(keys(&replica, "b/", Some("b/1")), ["b/2"]);
    assert_eq!(keys(&replica, "b/", Some("a")), ["b/1", "b/2"]);
    assert_eq!(keys(&replica, "a", None), Vec::<&str>::new());
}

#[test]
fn alarms_and_timers_stand_until_they_end() {
    let mut replica = Replica::default();
    let key: AlarmKey = (SlotName::new("hot").unwrap(), "attic".into());
    let mut raised = Effects::default();
    let act = AlarmAct::Raise { message: "31 °C".into(), since: None };
    raised.alarms.push(AlarmChange { key: key.clone(), act });
    raised.timers.insert("soon".into(), Some(Timestamp(5)));
    raised.timers.insert("later".into(), Some(Timestamp(90 * SECOND)));
    replica.take(&raised, None, Timestamp(10 * SECOND));
    assert_eq!(replica.alarms.get(&key), Some(&alarm_cost("attic", "31 °C")));
    let soon = OneShot { due: Timestamp(11 * SECOND), asked: Timestamp(5) };
    assert_eq!(replica.timers.get("soon"), Some(&soon), "a second after at the earliest");

    let mut ended = Effects::default();
    ended.alarms.push(AlarmChange { key: key.clone(), act: AlarmAct::Clear { since: None } });
    replica.take(&ended, Some("soon"), Timestamp(11 * SECOND));
    assert!(replica.alarms.is_empty());
    assert_eq!(replica.timers.keys().map(|name| &**name).collect::<Vec<_>>(), ["later"]);
    // One that is set anew while it fires stays.
    let mut again = Effects::default();
    again.timers.insert("later".into(), Some(Timestamp(200 * SECOND)));
    replica.take(&again, Some("later"), Timestamp(90 * SECOND));
    assert_eq!(replica.timers.get("later").map(|set| set.due), Some(Timestamp(200 * SECOND)));
    replica.end_timer("later");
    assert!(replica.timers.is_empty());
}

#[test]
fn a_timer_is_due_at_the_time_of_its_run_unless_that_waited_for_others() {
    let manifest = "manifest = 1\nid = \"com.example.one\"\nname = \"One\"\nversion = \"0.1.0\"\nschedule = true\n\
                    [timers.daily]\ncron = \"0 6 * * *\"\n";
    let manifest = Manifest::parse(manifest).unwrap();
    let utc = jiff::tz::TimeZone::UTC;
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let mut replica = Replica::default();
    replica
        .timers
        .insert("once".into(), OneShot::set(at("2026-01-01T05:00:00Z"), at("2026-01-01T05:29:59Z")));
    let (six, seven) = (at("2026-01-01T06:00:00Z"), at("2026-01-01T07:00:00Z"));
    assert_eq!(replica.due("daily", six, &manifest, &utc), six);
    assert_eq!(replica.due("once", at("2026-01-01T05:30:00Z"), &manifest, &utc), at("2026-01-01T05:00:00Z"));
    replica.come_to(seven);
    assert_eq!(replica.due("daily", seven, &manifest, &utc), six);
    assert_eq!(replica.due("once", seven, &manifest, &utc), at("2026-01-01T05:00:00Z"));
    // Time was set back.
    assert_eq!(replica.due("daily", at("2026-01-01T06:30:00Z"), &manifest, &utc), at("2026-01-01T06:30:00Z"));
}
