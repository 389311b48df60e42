//! Grants as JSON, as the log keeps them, and against a manifest.

use super::*;
use proptest::prelude::*;

const MANIFEST: &str = "manifest = 1\nid = \"a.b\"\nname = \"x\"\nversion = \"1.0.0\"\n\
    [outputs.limit]\nkind = \"set-point\"\ntype = \"real\"\n\
    [outputs.gate]\nkind = \"set-point\"\ntype = \"boolean\"\n\
    [outputs.gain]\nkind = \"derived\"\ntype = \"real\"\n";

fn parse(json: &str) -> Result<Grants, String> {
    serde_json::from_str(json).map_err(|error| error.to_string())
}

#[test]
fn a_grant_is_checked_where_it_is_parsed() {
    let grants =
        parse(r#"{"outputs":{"limit":{"allow":"0, 6..32","toward":"high","ttl":"60s","safe":6}}}"#).unwrap();
    let limit = grants.outputs.values().next().unwrap();
    assert_eq!(limit.allow.to_string(), "0, 6..32");
    assert_eq!((limit.toward, limit.ttl), (Toward::High, Some(Span(60_000_000_000))));
    assert_eq!((limit.safe, limit.strict), (Some(Safe::Number(6.0)), false));
    for (wrong, reason) in [
        (r#"{"allow":"zero to ten"}"#, "is not a value"),
        (r#"{"allow":""}"#, "is not a value"),
        (r#"{"allow":"0,"}"#, "is not a value"),
        (r#"{"allow":"32..6"}"#, "ends below its beginning"),
        (r#"{"allow":"NaN"}"#, "is not a value"),
        (r#"{"allow":"0..inf"}"#, "is not a value"),
        (r#"{"allow":"0","toward":"up"}"#, "unknown variant"),
        (r#"{"allow":"0","ttl":"soon"}"#, "is not a valid span"),
        (r#"{"allow":"0","safe":"off"}"#, "is not a safe value"),
        (r#"{"allow":"0","until":1}"#, "unknown field"),
    ] {
        let error = parse(&format!(r#"{{"outputs":{{"limit":{wrong}}}}}"#)).unwrap_err();
        assert!(error.contains(reason), "{wrong}: {error}");
    }
    assert!(parse(r#"{"hosts":[]}"#).is_err());
    let many = vec!["1"; 65].join(",");
    assert!(many.parse::<Allowed>().unwrap_err().contains("at most 64"));
}

#[test]
fn grants_are_held_against_the_outputs() {
    let manifest = Manifest::parse(MANIFEST).unwrap();
    let check = |json: &str| -> Vec<String> {
        parse(json).unwrap().check(&manifest).iter().map(ToString::to_string).collect()
    };
    assert!(
        check(r#"{"outputs":{"limit":{"allow":"0, 6..32","safe":"hold"},"gate":{"allow":"true,false"}}}"#)
            .is_empty()
    );
    assert_eq!(
        check(
            r#"{"outputs":{"gain":{"allow":"1"},"door":{"allow":"1"},"gate":{"allow":"0..1"},
                "limit":{"allow":"0, 6..32","safe":3,"ttl":"0 s"}}}"#
        ),
        [
            "grants.outputs.door: is not an output of a.b",
            "grants.outputs.gain: is a derived output, which needs no grant",
            "grants.outputs.gate.allow: 0..1 does not fit the output's type, boolean",
            "grants.outputs.limit.ttl: must be longer than 0 s",
            "grants.outputs.limit.safe: 3 is not among the allowed values, 0, 6..32",
        ]
    );
}

#[test]
fn set_points_come_no_more_often_than_the_app_the_admin_and_the_host_say() {
    let manifest =
        Manifest::parse(&MANIFEST.replace("[outputs.gate]", "every = \"10 s\"\n[outputs.gate]")).unwrap();
    let every = |json: &str, policy: Option<u64>| {
        let mut grants = parse(json).unwrap();
        grants.slow_down(&manifest, policy.map(|seconds| Span(seconds * 1_000_000_000)));
        let all: Vec<_> =
            grants.outputs.values().map(|grant| grant.every.map(|every| every.to_string())).collect();
        all
    };
    let both = r#"{"outputs":{"limit":{"allow":"1"},"gate":{"allow":"true"}}}"#;
    // In the order of their names: gate, limit.
    assert_eq!(every(both, None), [None, Some("10 s".to_owned())]);
    assert_eq!(every(both, Some(5)), [Some("5 s".to_owned()), Some("10 s".to_owned())]);
    assert_eq!(
        every(r#"{"outputs":{"limit":{"allow":"1","every":"1 min"}}}"#, Some(5)),
        [Some("1 min".to_owned())]
    );
    assert_eq!(
        every(r#"{"outputs":{"limit":{"allow":"1","every":"1 s"}}}"#, None),
        [Some("10 s".to_owned())]
    );
    let check = |grant: &str| {
        let problems = parse(&format!(r#"{{"outputs":{{"limit":{grant}}}}}"#)).unwrap().check(&manifest);
        problems.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        check(r#"{"allow":"1","every":"0 s"}"#),
        ["grants.outputs.limit.every: must be longer than 0 s"]
    );
    assert_eq!(
        check(r#"{"allow":"1","every":"10 s","ttl":"10 s"}"#),
        [
            "grants.outputs.limit.every: 10 s is not shorter than the ttl, 10 s, within which a set-point must be renewed"
        ]
    );
    assert_eq!(check(r#"{"allow":"1","every":"9 s","ttl":"10 s"}"#), [""; 0]);
    let wrong = MANIFEST.replace("kind = \"derived\"", "kind = \"derived\"\nevery = \"1 s\"");
    let error = Manifest::parse(&wrong).unwrap_err().to_string();
    assert!(error.contains("outputs.gain.every: is for set-points alone"), "{error}");
    assert!(!error.contains("longer than"), "{error}");
    let wrong = MANIFEST.replace("kind = \"set-point\"", "kind = \"set-point\"\nevery = \"0 s\"");
    let error = Manifest::parse(&wrong).unwrap_err().to_string();
    assert!(error.contains("every: must be longer than 0 s") && !error.contains("alone"), "{error}");
}

#[test]
fn grants_read_back_from_the_log_and_from_json() {
    let json = r#"{"outputs":{
        "limit":{"allow":"-0.1, 6..32","toward":"high","ttl":"60 s","safe":6.5,"strict":true},
        "gate":{"allow":"false","safe":false},"heat":{"allow":"1","safe":"hold"}}}"#;
    for grants in [parse(json).unwrap(), Grants::default()] {
        let bytes = postcard::to_stdvec(&grants).unwrap();
        assert_eq!(postcard::from_bytes::<Grants>(&bytes).unwrap(), grants);
        assert_eq!(parse(&serde_json::to_string(&grants).unwrap()).unwrap(), grants);
    }
}

fn grant(json: &str) -> OutputGrant {
    serde_json::from_str(json).unwrap()
}

#[test]
fn a_value_is_moved_only_in_the_direction_of_the_grant() {
    for (json, asked, expected) in [
        (r#"{"allow":"0, 6..32"}"#, 16.0, Some(16.0)),
        (r#"{"allow":"0, 6..32"}"#, 40.0, Some(32.0)),
        (r#"{"allow":"0, 6..32"}"#, 5.9, Some(0.0)),
        (r#"{"allow":"0, 6..32"}"#, -1.0, None),
        // 0 A can't become 6 A, unless the admin says that more is the safe side.
        (r#"{"allow":"6..32"}"#, 0.0, None),
        (r#"{"allow":"6..32","toward":"high"}"#, 0.0, Some(6.0)),
        (r#"{"allow":"6..32","toward":"high"}"#, 33.0, None),
        (r#"{"allow":"0, 6..32","strict":true}"#, 5.0, None),
        (r#"{"allow":"0, 6..32","strict":true}"#, 6.0, Some(6.0)),
        (r#"{"allow":"0, 6..32"}"#, f64::NAN, None),
        (r#"{"allow":"0, 6..32"}"#, f64::INFINITY, None),
        (r#"{"allow":"0, 6..32","toward":"high"}"#, f64::NEG_INFINITY, None),
    ] {
        let found = grant(json).admit(&Value::Real(asked)).ok();
        assert_eq!(found, expected.map(Value::Real), "{json} {asked}");
    }
    for (json, asked, expected) in [
        (r#"{"allow":"0..1, 5.5..9.5"}"#, 5, Some(1)),
        (r#"{"allow":"0..1, 5.5..9.5"}"#, 12, Some(9)),
        (r#"{"allow":"0.2..0.8"}"#, 1, None),
        (r#"{"allow":"0..1e300"}"#, i64::MAX, None),
    ] {
        let found = grant(json).admit(&Value::Integer(asked)).ok();
        assert_eq!(found, expected.map(Value::Integer), "{json} {asked}");
    }
    for (json, asked, expected) in [
        (r#"{"allow":"false"}"#, true, Some(false)),
        (r#"{"allow":"true"}"#, false, None),
        (r#"{"allow":"true","toward":"high"}"#, false, Some(true)),
        (r#"{"allow":"false","strict":true}"#, true, None),
    ] {
        let found = grant(json).admit(&Value::Boolean(asked)).ok();
        assert_eq!(found, expected.map(Value::Boolean), "{json} {asked}");
    }
    let error = grant(r#"{"allow":"6..32"}"#).admit(&Value::Real(0.0)).unwrap_err();
    assert_eq!(error.to_string(), "0 is not allowed, and may not be moved; allowed: 6..32");
    let text = grant(r#"{"allow":"1"}"#).admit(&Value::Text("1".into()));
    assert!(matches!(text, Err(NotAllowed::Type { .. })));
}

#[test]
fn ranges_are_in_ascending_order_and_do_not_overlap() {
    // With a decimal comma 6.5 would become 6, and 5 be allowed.
    for text in ["0, 6,5..32", "6..32, 8..40", "6..32, 32", "2, 1", "1, 1"] {
        let error = text.parse::<Allowed>().unwrap_err();
        assert!(error.contains("ascending order") && error.contains("decimals have a point"), "{error}");
    }
    for text in ["0, 6.5..32", "-1..-0.5, 0", "true, false", "5"] {
        assert_eq!(text.parse::<Allowed>().unwrap().to_string(), text);
    }
}

#[test]
fn a_huge_value_has_a_next_one_too() {
    let admit = |allow: &str, toward, asked: f64| {
        let grant = OutputGrant { toward, ..OutputGrant::of(allow.parse().unwrap()) };
        grant.admit(&Value::Real(asked)).ok()
    };
    for asked in [1e18, 1e300, f64::MAX] {
        assert_eq!(admit("0, 6..32", Toward::Low, asked), Some(Value::Real(32.0)));
        assert_eq!(admit("-32..-6, 0", Toward::High, -asked), Some(Value::Real(-32.0)));
        assert_eq!(admit("0, 6..32", Toward::High, asked), None);
    }
}

proptest! {
    /// By trying all that is allowed, on a grid that every bound lies on.
    #[test]
    fn the_nearest_allowed_value_is_found(
        bounds in proptest::collection::vec((-20i32..20, 0i32..6), 1..6),
        asked in -30i32..30,
        high in any::<bool>(),
    ) {
        // In ascending order, and without overlaps.
        let mut bounds = bounds;
        bounds.sort_unstable();
        bounds.dedup_by(|next, before| next.0 <= before.0 + before.1);
        let text: Vec<String> = bounds.iter().map(|(low, width)| format!("{low}..{}", low + width)).collect();
        let toward = if high { Toward::High } else { Toward::Low };
        let grant = OutputGrant { toward, ..OutputGrant::of(text.join(", ").parse().unwrap()) };
        let allowed = (-30i32..30).filter(|n| bounds.iter().any(|(low, width)| (*low..=low + width).contains(n)));
        let expected = if high {
            allowed.filter(|n| *n >= asked).min()
        } else {
            allowed.filter(|n| *n <= asked).max()
        };
        let integer = grant.admit(&Value::Integer(i64::from(asked))).ok();
        prop_assert_eq!(&integer, &expected.map(|n| Value::Integer(i64::from(n))));
        let real = grant.admit(&Value::Real(f64::from(asked))).ok();
        prop_assert_eq!(&real, &expected.map(|n| Value::Real(f64::from(n))));
        for found in [integer, real].into_iter().flatten() {
            prop_assert!(grant.allows(&found));
        }
    }
}
