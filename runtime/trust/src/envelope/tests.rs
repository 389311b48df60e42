//! Envelopes that fit, and those that do not.

use proptest::prelude::*;

use super::*;

fn key() -> SecretKey {
    SecretKey::generate().unwrap()
}

fn keys(threshold: u8, keys: &[&SecretKey]) -> Keys {
    Keys { threshold, keys: keys.iter().map(|key| key.public()).collect() }
}

fn signed(kind: Kind, bytes: &[u8], keys: &[&SecretKey]) -> String {
    let mut envelope = Envelope::new(kind, bytes.to_vec());
    keys.iter().for_each(|key| envelope.sign(key));
    envelope.to_json()
}

#[test]
fn what_is_signed_is_the_encoding_of_dsse() {
    // The example of https://github.com/secure-systems-lab/dsse/blob/master/protocol.md
    let encoded = pre_authentication("http://example.com/HelloWorld", b"hello world");
    assert_eq!(encoded, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
}

#[test]
fn bytes_are_had_by_naming_the_keys() {
    let (a, b, other) = (key(), key(), key());
    let json = signed(Kind::Index, b"{}", &[&a, &b]);
    let read = Envelope::read(Kind::Index, json.as_bytes()).unwrap();
    assert_eq!(read.signed_by(&keys(1, &[&a])).unwrap(), b"{}");
    assert_eq!(read.signed_by(&keys(2, &[&a, &b, &other])).unwrap(), b"{}");
    assert_eq!(read.to_json(), json);
    for (keys, found) in [(keys(2, &[&a, &other]), 1), (keys(1, &[&other]), 0), (keys(0, &[&a]), 1)] {
        let error = read.signed_by(&keys).unwrap_err();
        assert!(matches!(error, EnvelopeError::Threshold { found: f, .. } if f == found), "{error}");
    }
}

#[test]
fn a_signature_for_one_kind_holds_for_no_other() {
    let key = key();
    let json = signed(Kind::Root, b"{}", &[&key]);
    let error = Envelope::read(Kind::Index, json.as_bytes()).unwrap_err();
    assert!(matches!(error, EnvelopeError::Type { .. }), "{error}");
    let relabelled = json.replace(Kind::Root.payload_type(), Kind::Index.payload_type());
    let error = Envelope::read(Kind::Index, relabelled.as_bytes()).unwrap_err();
    assert_eq!(error, EnvelopeError::Signature { kind: Kind::Index, key: key.public() });
}

#[test]
fn a_signature_by_one_key_named_as_another_is_refused() {
    let (a, b) = (key(), key());
    let json = signed(Kind::Package, b"x", &[&a]).replace(&a.public().to_string(), &b.public().to_string());
    let error = Envelope::read(Kind::Package, json.as_bytes()).unwrap_err();
    assert_eq!(error, EnvelopeError::Signature { kind: Kind::Package, key: b.public() });
}

#[test]
fn a_key_counts_once_and_an_unknown_scheme_for_nothing() {
    let a = key();
    let json = signed(Kind::Package, b"x", &[&a]);
    let one = &json[json.find("[{").unwrap() + 1..json.rfind(']').unwrap()];
    let twice = json.replace(one, &format!("{one},{one}"));
    let error = Envelope::read(Kind::Package, twice.as_bytes()).unwrap_err();
    assert!(error.to_string().contains("two signatures by"), "{error}");
    let strange = json.replace(one, &format!(r#"{{"keyid":"sm2:abc","sig":"AAAA"}},{one}"#));
    let read = Envelope::read(Kind::Package, strange.as_bytes()).unwrap();
    assert_eq!(read.signers().collect::<Vec<_>>(), [a.public()]);
    assert!(read.signed_by(&keys(2, &[&a])).is_err());
    let many = json.replace(one, &vec![one; MAX_SIGNATURES + 1].join(","));
    assert!(Envelope::read(Kind::Package, many.as_bytes()).unwrap_err().to_string().contains("more than 16"));
}

#[test]
fn what_is_no_envelope_is_named() {
    let a = key();
    let good = signed(Kind::Rotation, b"x", &[&a]);
    for (bad, said) in [
        (String::new(), "EOF while parsing"),
        ("[]".to_owned(), "invalid"),
        (good.replacen('{', r#"{"payload":"","#, 1), "duplicate field `payload`"),
        (good.replacen('{', r#"{"more":1,"#, 1), "unknown field `more`"),
        (good.replace("\"eA==\"", "\"eA\""), "its payload is not base64"),
        (good.replace(&a.public().to_string(), "me"), "not a public key"),
        (
            good.replace(&a.public().to_string(), "ed25519:AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
            "names a key that is none",
        ),
    ] {
        let error = Envelope::read(Kind::Rotation, bad.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    let large = signed(Kind::Rotation, &vec![0; Kind::Rotation.max_bytes() + 1], &[&a]);
    let error = Envelope::read(Kind::Rotation, large.as_bytes()).unwrap_err();
    assert!(matches!(error, EnvelopeError::TooLarge { size: 16_385, .. }), "{error}");
    let huge = vec![b' '; Kind::Rotation.max_envelope() + 1];
    assert!(matches!(Envelope::read(Kind::Rotation, &huge).unwrap_err(), EnvelopeError::TooLarge { .. }));
}

proptest! {
    #[test]
    fn an_altered_envelope_is_the_same_or_refused(
        json in ironloom_mutate::mutated(vec![signed(Kind::Rotation, b"what was signed", &[&SecretKey::generate().unwrap()]).into_bytes()])
    ) {
        if let Ok(read) = Envelope::read(Kind::Rotation, &json) {
            for key in read.signers() {
                let keys = Keys { threshold: 1, keys: [key].into() };
                prop_assert_eq!(read.signed_by(&keys).unwrap(), b"what was signed");
            }
        }
    }
}
