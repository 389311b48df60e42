//! Certificates that are taken, and those that aren't, with what is said of them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};

use super::*;

/// A folder with an authority.
struct Plant {
    folder: tempfile::TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Plant {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = date_time_ymd(2050, 1, 1);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { folder: tempfile::tempdir().unwrap(), authority }
    }

    /// Files of a certificate that ends in this year.
    fn files(&self, name: &str, year: i32) -> TlsFiles {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["loom.plant".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(year, 1, 1));
        let own = params.signed_by(&key, &self.authority).unwrap();
        let chain = own.pem() + &self.authority.pem();
        let key = self.write(&format!("{name}.key"), &key.serialize_pem());
        TlsFiles { certificate: self.write(&format!("{name}.pem"), &chain), key }
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn a_certificate_says_when_it_ends_a_month_before() {
    let plant = Plant::new();
    let certificate = Certificate::read(&plant.files("own", 2031)).unwrap();
    assert_eq!(certificate.until(), at("2031-01-01T00:00:00Z"));
    assert_eq!(certificate.note(at("2030-12-01T23:59:59Z")), None);
    let soon = certificate.note(at("2030-12-02T00:00:00Z")).unwrap();
    assert!(soon.contains("ends on 2031-01-01T00:00:00") && soon.contains("in 30 days"), "{soon}");
    assert!(!certificate.is_over(at("2030-12-31T23:59:59Z")));
    let over = certificate.note(at("2031-01-01T00:00:00Z")).unwrap();
    assert!(over.contains("expired on 2031-01-01"), "{over}");
    assert!(certificate.is_over(at("2031-01-01T00:00:00Z")));
    let early = certificate.note(at("2019-01-01T00:00:00Z")).unwrap();
    assert!(early.contains("isn't valid before 2020-01-01"), "{early}");
    // The authority is in the chain, and ends before this one.
    let long = Certificate::read(&plant.files("long", 2060)).unwrap();
    assert_eq!(long.until(), at("2050-01-01T00:00:00Z"));
}

#[test]
fn a_certificate_says_which_hosts_it_isnt_for() {
    let certificate = Certificate::read(&Plant::new().files("own", 2031)).unwrap();
    let told =
        |hosts: &[&str]| certificate.not_for(&hosts.iter().map(|&host| host.to_owned()).collect::<Vec<_>>());
    assert_eq!(told(&[]), None);
    assert_eq!(told(&["LOOM.plant"]), None);
    let note = told(&["loom.plant", "other.plant", "192.0.2.7", "::1"]).unwrap();
    assert!(note.contains("isn't for other.plant, 192.0.2.7, ::1, which"), "{note}");
}

#[test]
fn files_that_cant_be_taken_are_named_and_no_key_is_shown() {
    let plant = Plant::new();
    let (good, other) = (plant.files("good", 2031), plant.files("other", 2031));
    let told = |certificate: &PathBuf, key: &PathBuf| {
        let files = TlsFiles { certificate: certificate.clone(), key: key.clone() };
        let error = Certificate::read(&files).unwrap_err();
        let secret = fs::read_to_string(&good.key).unwrap();
        assert!(!secret.lines().any(|line| line.len() > 30 && error.contains(line)), "{error}");
        error
    };
    let nowhere = plant.folder.path().join("nowhere");
    let junk = plant.write("junk", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n");
    let broken = fs::read_to_string(&good.key).unwrap().replace("-----END", "hunter2-----END");
    let broken = plant.write("broken.key", &broken);
    let locked = plant.write(
        "locked.key",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let long = plant.write("long.pem", &fs::read_to_string(&good.certificate).unwrap().repeat(9));
    for (certificate, key, says) in [
        (&nowhere, &good.key, "[server.tls] certificate: "),
        (&good.certificate, &nowhere, "[server.tls] key: "),
        (&good.key, &good.key, "good.key has no certificate in PEM"),
        (&junk, &good.key, "[server.tls] certificate: "),
        (&long, &good.key, "has 18 certificates; at most 16 are taken"),
        (&good.certificate, &good.certificate, "good.pem has no secret key in PEM"),
        (&good.certificate, &broken, "broken.key has no secret key in PEM"),
        (&good.certificate, &locked, "that isn't encrypted"),
        (&good.certificate, &other.key, "other.key isn't the key of the first certificate in"),
    ] {
        let error = told(certificate, key);
        assert!(error.contains(says), "{says}: {error}");
    }
    fs::set_permissions(&good.key, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(told(&good.certificate, &good.key).contains("chmod o="));
    fs::set_permissions(&good.key, fs::Permissions::from_mode(0o640)).unwrap();
    let read = Certificate::read(&good).unwrap();
    assert!(format!("{read:?}").starts_with("Certificate(until 2031-"));
}

#[test]
fn new_connections_get_the_certificate_of_the_time() {
    let plant = Plant::new();
    let read = |name: &str, year| Certificate::read(&plant.files(name, year)).unwrap();
    let tls = Tls::new(read("first", 2031)).unwrap();
    let second = read("second", 2032);
    assert!(!tls.serves(&second));
    tls.serve(second);
    assert_eq!(tls.certificate().until(), at("2032-01-01T00:00:00Z"));
    let same = TlsFiles {
        certificate: plant.folder.path().join("second.pem"),
        key: plant.folder.path().join("second.key"),
    };
    assert!(tls.serves(&Certificate::read(&same).unwrap()));
    assert_eq!(tls.config.alpn_protocols, [b"http/1.1".to_vec()]);
}

#[tokio::test(start_paused = true)]
async fn work_waits_for_its_turn_and_has_none_while_it_waits_for_its_peer() {
    let turns = Arc::new(Semaphore::new(1));
    let (peer, heard) = tokio::sync::oneshot::channel();
    let waits = tokio::spawn({
        let turns = Arc::clone(&turns);
        async move { in_turn(&turns, heard).await }
    });
    tokio::task::yield_now().await;
    // The other has the turn as long as nothing comes of the first one's peer.
    let held = turns.acquire().await.unwrap();
    peer.send(7).unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert!(!waits.is_finished(), "two at a time");
    drop(held);
    assert_eq!(waits.await.unwrap(), Ok(7));
}
