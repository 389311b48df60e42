//! Keys and signatures, against the standard and against OpenSSL.

use std::process::Command;

use proptest::prelude::*;

use super::*;

fn from_pem(pem: &str, passphrase: &str) -> Result<SecretKey, SecretKeyError> {
    LockedKey::read(pem)?.open(passphrase)
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// The third test of RFC 8032, section 7.1: secret key, public key, message, signature.
const RFC: [&str; 4] = [
    "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
    "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
    "af82",
    "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
];

#[test]
fn signatures_are_those_of_the_standard() {
    let [secret, public, message, signature] = RFC.map(hex);
    let key = SecretKey(SigningKey::from_bytes(&secret.try_into().unwrap()));
    assert_eq!(key.public().bytes.as_slice(), public);
    assert_eq!(key.sign(&message).as_slice(), signature);
    assert!(key.public().verifies(&message, &signature));
    assert!(!key.public().verifies(b"other", &signature));
    assert!(!key.public().verifies(&message, &signature[..63]));
}

#[test]
fn a_key_has_one_text() {
    let key = SecretKey::generate().unwrap().public();
    let text = key.to_string();
    assert_eq!(text.len(), "ed25519:".len() + 43);
    assert_eq!(text.parse(), Ok(key));
    // The last of 43 characters has two bits that no byte needs.
    let loose = format!("ed25519:{}B", "A".repeat(42));
    for wrong in [
        "",
        "ed25519",
        "ed25519:",
        &text[..50],
        &format!("{text}="),
        &format!("{text} "),
        &loose,
        "two words:x",
    ] {
        assert!(matches!(wrong.parse::<PublicKey>(), Err(InvalidKey::Form(_))), "{wrong}");
    }
    assert!(
        matches!("sm2:abc".parse::<PublicKey>(), Err(InvalidKey::Scheme { scheme, .. }) if scheme == "sm2")
    );
}

#[test]
fn points_under_which_anybody_can_sign_are_no_keys() {
    // The points of small order, from https://eprint.iacr.org/2020/1244 (table 6), with the second forms of some.
    for bytes in [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    ] {
        let text = format!("ed25519:{}", URL_SAFE_NO_PAD.encode(hex(bytes)));
        assert_eq!(text.parse::<PublicKey>(), Err(InvalidKey::Bytes(text.clone())), "{bytes}");
    }
    // A point of large order in its second form: its coordinate is the prime and 3.
    let second = format!("f0{}7f", "ff".repeat(30));
    let first = format!("03{}", "00".repeat(31));
    let text = |bytes: &str| format!("ed25519:{}", URL_SAFE_NO_PAD.encode(hex(bytes)));
    assert!(text(&first).parse::<PublicKey>().is_ok());
    assert_eq!(text(&second).parse::<PublicKey>(), Err(InvalidKey::Bytes(text(&second))));
}

#[test]
fn a_secret_key_opens_with_its_passphrase_alone() {
    let key = SecretKey::generate().unwrap();
    let pem = key.to_pem("correct horse").unwrap();
    assert!(pem.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"));
    assert_eq!(from_pem(&pem, "correct horse").unwrap().public(), key.public());
    assert_eq!(from_pem(&pem, "correct horsf").unwrap_err(), SecretKeyError::Passphrase);
    assert_eq!(key.to_pem("seven c").unwrap_err(), SecretKeyError::ShortPassphrase(7));
    assert_ne!(*key.to_pem("correct horse").unwrap(), *pem, "salt and vector are new each time");
    assert_eq!(format!("{key:?}"), format!("the secret key of {}", key.public()));
    for text in ["", "key", "-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----\n"] {
        assert_eq!(from_pem(text, "correct horse").unwrap_err(), SecretKeyError::Form, "{text}");
    }
}

/// Runs OpenSSL; `None` where it isn't installed.
fn openssl(arguments: &[&str]) -> Option<Vec<u8>> {
    let Ok(output) = Command::new("openssl").args(arguments).output() else {
        ironloom_mutate::missing("openssl", "keys and signatures against OpenSSL", "it isn't installed");
        return None;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(output.stdout)
}

#[test]
fn openssl_reads_our_keys_and_signatures_and_we_read_its() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let [ours, public, theirs, message, signature] =
        ["ours", "public", "theirs", "message", "signature"].map(path);
    let key = SecretKey::generate().unwrap();
    std::fs::write(&ours, &*key.to_pem("correct horse").unwrap()).unwrap();
    std::fs::write(&message, b"what is signed").unwrap();
    std::fs::write(&signature, key.sign(b"what is signed")).unwrap();

    let Some(der) =
        openssl(&["pkey", "-in", &ours, "-passin", "pass:correct horse", "-pubout", "-outform", "DER"])
    else {
        return;
    };
    // RFC 8410: the key's bytes stand at the end of its 44.
    assert_eq!((der.len(), &der[12..]), (44, key.public().bytes.as_slice()));
    openssl(&["pkey", "-in", &ours, "-passin", "pass:correct horse", "-pubout", "-out", &public]);
    openssl(&[
        "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", &public, "-in", &message, "-sigfile", &signature,
    ]);

    openssl(&[
        "genpkey",
        "-algorithm",
        "ed25519",
        "-aes256",
        "-pass",
        "pass:battery staple",
        "-out",
        &theirs,
    ]);
    let read = from_pem(&std::fs::read_to_string(&theirs).unwrap(), "battery staple").unwrap();
    let signed = openssl(&[
        "pkeyutl",
        "-sign",
        "-rawin",
        "-inkey",
        &theirs,
        "-passin",
        "pass:battery staple",
        "-in",
        &message,
    ]);
    assert!(read.public().verifies(b"what is signed", &signed.unwrap()));

    openssl(&["genpkey", "-algorithm", "ed25519", "-out", &theirs]);
    let plain = std::fs::read_to_string(&theirs).unwrap();
    assert_eq!(from_pem(&plain, "").unwrap_err(), SecretKeyError::Plain);
}

proptest! {
    #[test]
    fn any_text_is_a_key_in_its_one_form_or_none(text in "(ed25519:)?[A-Za-z0-9_=-]{0,50}") {
        if let Ok(key) = text.parse::<PublicKey>() {
            prop_assert_eq!(key.to_string(), text);
        }
    }

    #[test]
    fn a_changed_message_or_signature_is_refused(message in proptest::collection::vec(any::<u8>(), 1..100), at in any::<usize>(), bit in 0..8_u8) {
        let key = SecretKey(SigningKey::from_bytes(&[7; 32]));
        let mut signature = key.sign(&message);
        prop_assert!(key.public().verifies(&message, &signature));
        let mut other = message.clone();
        other[at % message.len()] ^= 1 << bit;
        prop_assert!(!key.public().verifies(&other, &signature));
        signature[at % 64] ^= 1 << bit;
        prop_assert!(!key.public().verifies(&message, &signature));
    }
}
