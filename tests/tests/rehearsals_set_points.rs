//! Rehearsals of apps that drive machines: their set-points are compared, and no machine hears of them.

use anyhow::Result;
use ironloom_tests::apps::{number, wait_for_installation};
use ironloom_tests::driving::{Bench, outcomes, points, told};
use ironloom_tests::rehearsing::{of_kind, rehearse, report};
use ironloom_tests::wait_until;
use serde_json::{Value, json};

#[test]
fn set_points_are_compared_and_none_is_sent() -> Result<()> {
    let Some(bench) = Bench::new("set-points of a rehearsal", 60_000, json!({}))? else { return Ok(()) };
    let (client, stations) = (bench.client(), bench.broker.subscribe("stations/#")?);
    bench.wish("7", 16.0)?;
    wait_until("its outcome", || Ok(outcomes(client, "7")? == ["accepted"]))?;
    bench.wish("8", 8.0)?;
    wait_until("its outcome", || Ok(outcomes(client, "8")? == ["accepted"]))?;
    wait_for_installation(client, "driver", "all readings", |now| number(now, "lag.readings") == 0)?;
    let sent = [("7".to_owned(), vec![16.0]), ("8".to_owned(), vec![8.0])];
    assert_eq!(told(&stations)?, sent.clone().into());
    let (before, open) = (client.installation("driver")?, points(client)?);
    let set_points = |report: &Value| -> Vec<Value> {
        let all = of_kind(report, "set-point").into_iter();
        all.map(|one| json!([one["what"], one["old"], one["new"]])).collect()
    };

    // The life is a setting of the app: half a minute instead of one, for either of them.
    let report =
        report(client, "driver", &json!({"from": "beginning", "change": {"settings": {"life": 30_000}}}))?;
    assert_eq!(report["differences"][0]["kind"], "set-point", "{report}");
    let (long, short) = ("for 60 s, as output limit", "for 30 s, as output limit");
    assert_eq!(
        set_points(&report),
        [
            json!(["plant/7/limit", format!("16 {long}"), format!("16 {short}")]),
            json!(["plant/8/limit", format!("8 {long}"), format!("8 {short}")]),
        ]
    );
    let compared = &report["compared"]["set-point"];
    assert_eq!((number(compared, "old"), number(compared, "new"), number(compared, "different")), (2, 2, 2));
    // 16 A is lowered to what a narrower grant has, and 8 A stays.
    let grant = json!({"allow": "0, 6..10", "toward": "low", "safe": 6});
    let narrow = json!({"from": "beginning", "change": {"grants": {"outputs": {"limit": grant}}}});
    let over = rehearse(client, "driver", &narrow)?;
    // The app hears of it at once, and keeps what it hears.
    assert_eq!(over["report"]["state"]["samples"], json!(["ticket/7"]), "{over}");
    let lowered = json!(["plant/7/limit", format!("16 {long}"), format!("10 {long}")]);
    assert_eq!(set_points(&over["report"]), [lowered]);

    // What is sent comes at once: this one would come behind what the rehearsals had sent.
    assert_eq!(points(client)?, open);
    let after = client.installation("driver")?;
    assert_eq!((&after["counters"], &after["revision"]), (&before["counters"], &before["revision"]));
    bench.wish("9", 6.0)?;
    wait_until("its outcome", || Ok(outcomes(client, "9")? == ["accepted"]))?;
    let [seven, eight] = sent;
    assert_eq!(told(&stations)?, [seven, eight, ("9".to_owned(), vec![6.0])].into());
    assert_eq!((outcomes(client, "7")?.len(), outcomes(client, "8")?.len()), (1, 1));
    Ok(())
}
