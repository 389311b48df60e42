//! Grants as JSON, as the log keeps them, and against a manifest.

use super::*;

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
