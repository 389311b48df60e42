//! What an invocation's effects cost.

use super::*;
use crate::lanes::price::Bill;
use ironloom_types::effects::{Intent, Refused};
use ironloom_types::ids::{PointPath, TenantId};
use ironloom_types::readings::{NewPoint, Value};

#[test]
fn each_effect_is_on_the_bill_once() {
    let (lane, table) = lane();
    // One dead letter has to go for each that comes.
    testing::change(&lane, |meta| meta.dead_letters_kept = MAX_DEAD_LETTERS);
    let refuse = |reading| Refused { frame: 0, reading, reason: "no".into() };
    let mut effects = Effects { refused: vec![refuse(0), refuse(1)], ..Effects::default() };
    for n in 0..7 {
        let value = (n > 0).then(|| vec![b'v'; 10 * n]);
        effects.state.push(&format!("key {n}"), value.as_deref());
    }
    for _ in 0..6 {
        effects.derived.push(PointNumber(3), Timestamp(1), Quality::Good, ValueRef::Text("abc"));
    }
    for n in 0..5 {
        effects.new_points.push(NewPoint { path: path(n), unit: None });
    }
    for n in 0..3 {
        effects.timers.insert(format!("timer {n}").into(), Some(Timestamp(2_000)));
    }
    for n in 0..2 {
        let key = (SlotName::new("hot").unwrap(), format!("e{n}").into());
        let act = AlarmAct::Raise { message: "42".into(), since: None };
        effects.alarms.push(AlarmChange { key, act });
    }
    let limit = Intent {
        list: 0,
        output: SlotName::new("limit").unwrap(),
        entity: "1".into(),
        point: PointPath::new(TenantId::MAIN, "plant/1").unwrap(),
        asked: Value::Real(1.0),
        value: Value::Real(1.0),
        time_to_live: 1,
    };
    effects.intents = vec![limit.clone(), limit];
    let work = readings(&lane, &table, 1, 2);
    let done = run_with(&lane, &work, report(Outcome::Ok, effects), 0, &letters([5, 6], 260));
    let (encoded, of_head) = done.encode();
    // The texts of the derived readings aren't in the head, nor is the state: of that, keys of 5 bytes and values of 60
    // and less, one byte is beyond what a key includes.
    let bytes = of_head + 6 * "abc".len();
    let bill = Bill {
        keys: 7,
        state_bytes: 1,
        derived: 6,
        new_points: 5,
        matches: 0,
        dead_letters: 4,
        timers: 3,
        alarms: 2,
        intents: 2,
        bytes,
    };
    assert_eq!(done.bill(of_head), bill);
    assert!(encoded.len() - of_head > 10 + 20 + 30 + 40 + 50 + 60, "keys and values are behind the head");
}
