//! Signed packages: keys, signatures, and whose the id of an app is.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ironloom_tests::publishing::{PASSPHRASE, done, install, key, one_state, run, signed};
use ironloom_tests::server::{Setup, binary};
use serde_json::{Value, json};

fn refused(folder: &Path, arguments: &[&str]) -> Result<String> {
    let output = run(folder, arguments)?;
    ensure!(matches!(output.status.code(), Some(1 | 2)) && output.stdout.is_empty(), "{output:?}");
    Ok(String::from_utf8(output.stderr)?)
}

/// A file that its owner alone may read.
fn secret(folder: &Path, name: &str, text: &str) -> Result<()> {
    let path = folder.join(name);
    fs::write(&path, text)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o600))?)
}

#[test]
fn a_key_is_made_shown_and_never_written_over_another() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let public = key(folder, "a.key")?;
    ensure!(public.starts_with("ed25519:") && public.len() == 51, "{public}");
    assert_eq!(fs::metadata(folder.join("a.key"))?.permissions().mode() & 0o777, 0o600);
    assert_eq!(done(folder, &["key", "show", "a.key"])?, format!("{public}\n"));
    let told = refused(folder, &["key", "new", "a.key"])?;
    ensure!(told.contains("a.key: exists already"), "{told}");
    assert_eq!(done(folder, &["key", "show", "a.key"])?, format!("{public}\n"));

    secret(folder, "wrong", "battery staple\n")?;
    let told = refused(folder, &["key", "show", "a.key", "--passphrase-file", "wrong"])?;
    ensure!(told.contains("a.key: the passphrase doesn't open the key"), "{told}");
    secret(folder, "right", &format!("{PASSPHRASE}\r\n"))?;
    done(folder, &["key", "show", "a.key", "--passphrase-file", "right"])?;
    for file in ["right", "a.key"] {
        fs::set_permissions(folder.join(file), fs::Permissions::from_mode(0o604))?;
        let told = refused(folder, &["key", "show", "a.key", "--passphrase-file", "right"])?;
        ensure!(told.contains(&format!("{file} has a secret")) && told.contains("chmod o="), "{told}");
        fs::set_permissions(folder.join(file), fs::Permissions::from_mode(0o600))?;
    }
    secret(folder, "short", "short")?;
    let told = refused(folder, &["key", "new", "b.key", "--passphrase-file", "short"])?;
    ensure!(told.contains("has 5 characters") && !folder.join("b.key").exists(), "{told}");
    let told = refused(folder, &["key", "show", "right"])?;
    ensure!(told.contains("right: it is no encrypted Ed25519 key"), "{told}");
    let mut command = Command::new(binary()?);
    command.args(["key", "show", "a.key"]).current_dir(folder).env_remove("IRONLOOM_PASSPHRASE");
    let told = command.stdin(Stdio::null()).output()?;
    assert_eq!(told.status.code(), Some(2), "{told:?}");
    Ok(())
}

#[test]
fn a_signature_is_one_that_openssl_would_make() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let public = key(folder, "a.key")?;
    let tar = signed(folder, "0.1.0", &["a.key"])?;
    let parts = ironloom_tests::package::members(&tar)?;
    let json = |name: &str| -> Result<Value> {
        let part = parts.iter().find(|(part, _)| part == name).with_context(|| format!("no {name}"))?;
        Ok(serde_json::from_slice(&part.1)?)
    };
    let blob = |descriptor: &Value| -> Result<String> {
        Ok(descriptor["digest"].as_str().context("no digest")?.replace("sha256:", "blobs/sha256/"))
    };
    let index = json("index.json")?;
    let manifests = index["manifests"].as_array().context("no manifests")?;
    let signature =
        manifests.iter().find(|one| one["artifactType"] == "application/vnd.ironloom.signature.v1");
    let manifest = json(&blob(signature.context("no signature")?)?)?;
    assert_eq!(manifest["subject"]["digest"], manifests[0]["digest"]);
    let envelope = json(&blob(&manifest["layers"][0])?)?;
    assert_eq!(envelope["payloadType"], "application/vnd.oci.image.manifest.v1+json");
    let payload = STANDARD.decode(envelope["payload"].as_str().context("no payload")?)?;
    assert_eq!(manifests[0]["digest"], ironloom_tests::package::digest(&payload));
    assert_eq!(envelope["signatures"][0]["keyid"], public);

    // By the word of DSSE and RFC 8410, and by another implementation.
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let mut message = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    message.extend(&payload);
    let mut der = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    der.extend(URL_SAFE_NO_PAD.decode(public.trim_start_matches("ed25519:"))?);
    let signature = STANDARD.decode(envelope["signatures"][0]["sig"].as_str().context("no signature")?)?;
    for (name, bytes) in [("message", &message), ("public", &der), ("signature", &signature)] {
        fs::write(folder.join(name), bytes)?;
    }
    let mut openssl = Command::new("openssl");
    openssl.args(["pkeyutl", "-verify", "-rawin", "-pubin", "-keyform", "DER", "-inkey", "public"]);
    openssl.args(["-in", "message", "-sigfile", "signature"]).current_dir(folder);
    match openssl.output() {
        Ok(output) => ensure!(output.status.success(), "{output:?}"),
        Err(error) => ironloom_mutate::missing("openssl", "signatures against OpenSSL", &error.to_string()),
    }
    Ok(())
}

#[test]
fn verify_and_inspect_say_who_has_signed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let [a, b] = [key(folder, "a.key")?, key(folder, "b.key")?];
    fs::write(folder.join("plain.app.tar"), one_state("0.1.0")?)?;
    let told = refused(folder, &["verify", "plain.app.tar"])?;
    ensure!(told.contains("plain.app.tar: isn't signed; `ironloom sign"), "{told}");
    done(folder, &["sign", "plain.app.tar", "--key", "a.key", "-o", "a.app.tar"])?;
    let told = done(folder, &["verify", "a.app.tar", "--key", &a])?;
    ensure!(told.contains(&format!("signed by     {a}\n")), "{told}");
    let told = refused(folder, &["verify", "a.app.tar", "--key", &a, "--key", &b])?;
    ensure!(told.contains(&format!("isn't signed by {b}; it is signed by {a}")), "{told}");
    let told = done(folder, &["inspect", "a.app.tar"])?;
    ensure!(told.contains(&format!("signed by     {a}\n")), "{told}");
    let told = done(folder, &["inspect", "plain.app.tar"])?;
    ensure!(told.contains("signed by     nobody\n"), "{told}");
    // Neither the identity nor the app changes.
    let json = |file: &str| -> Result<Value> {
        Ok(serde_json::from_str(&done(folder, &["inspect", file, "--json"])?)?)
    };
    let (mut plain, signed) = (json("plain.app.tar")?, json("a.app.tar")?);
    assert_eq!((&plain["signers"], &signed["signers"]), (&json!([]), &json!([a])));
    plain["signers"] = signed["signers"].clone();
    assert_eq!(plain, signed);
    Ok(())
}

#[test]
fn what_nobody_has_signed_runs_only_where_the_host_allows_it_and_shows_everywhere() -> Result<()> {
    let setup = Setup::new()?.signed_only();
    let server = setup.start()?;
    let package = server.client().add_package(&one_state("0.1.0")?)?;
    let problem = install(&server, "rooms", &package)?.problem(422)?;
    assert_eq!(problem["kind"], "unsigned", "{problem}");
    ensure!(problem["detail"].as_str().is_some_and(|text| text.contains("[policy] unsigned")), "{problem}");
    ensure!(server.client().all("/v1/installations")?.is_empty());
    let notes = server.client().get("/readyz")?.json()?["notes"].to_string();
    ensure!(!notes.contains("unsigned"), "{notes}");
    server.stop()?;

    let server = setup.clone().config("[policy]\nunsigned = true\n").start()?;
    install(&server, "rooms", &package)?.json()?;
    assert_eq!(server.client().installation("rooms")?["signers"], json!([]));
    let note = "unsigned packages may be installed, and 1 installations run one";
    assert_eq!(server.client().get("/readyz")?.json()?["notes"], json!([note]));
    let url = server.client().url().to_owned();
    for command in [&["list"][..], &["show", "rooms"]] {
        let told = done(setup.folder(), &[command, &["--url", &url]].concat())?;
        ensure!(told.contains("0.1.0, unsigned"), "{told}");
    }
    server.stop()?;

    // What runs already goes on.
    let server = setup.config("").start()?;
    let note = "unsigned packages can't be installed any more, and 1 installations run one";
    assert_eq!(server.client().get("/readyz")?.json()?["notes"], json!([note]));
    server.client().push_one("room/attic", 1)?;
    install(&server, "more", &package)?.problem(422)?;
    server.stop()?;
    Ok(())
}

#[test]
fn an_app_id_belongs_to_whoever_signed_it_first() -> Result<()> {
    let setup = Setup::new()?;
    let folder = setup.folder().to_owned();
    let [a, _b] = [key(&folder, "a.key")?, key(&folder, "b.key")?];
    let server = setup.start()?;
    let add = |version: &str, keys: &[&str]| -> Result<String> {
        server.client().add_package(&signed(&folder, version, keys)?)
    };
    let first = add("0.1.0", &["a.key"])?;
    let (other, none, next) =
        (add("0.2.0", &["b.key"])?, add("0.3.0", &[])?, add("0.4.0", &["b.key", "a.key"])?);
    install(&server, "rooms", &first)?.json()?;
    assert_eq!(server.client().installation("rooms")?["signers"], json!([a]));
    let changed = |answer: ironloom_tests::http::Answer| -> Result<()> {
        let problem = answer.problem(409)?;
        assert_eq!(problem["kind"], "publisher-changed", "{problem}");
        ensure!(problem["detail"].as_str().is_some_and(|text| text.contains(&a)), "{problem}");
        Ok(())
    };
    for package in [&other, &none] {
        changed(server.client().patch("/v1/installations/rooms", &json!({"package": package}))?)?;
        changed(install(&server, "more", package)?)?;
    }
    assert_eq!(server.client().installation("rooms")?["revision"], 1);
    server.client().patch("/v1/installations/rooms", &json!({"package": next}))?.json()?;
    // It stays so when nothing of it is installed, and after a loss of the process.
    server.client().delete("/v1/installations/rooms?purge=true")?;
    server.kill()?;
    let server = setup.start()?;
    for package in [&other, &none] {
        changed(install(&server, "rooms", package)?)?;
    }
    install(&server, "rooms", &first)?.json()?;
    server.stop()?;
    Ok(())
}

#[test]
fn an_unsigned_app_becomes_that_of_its_first_signer() -> Result<()> {
    let setup = Setup::new()?;
    let folder = setup.folder().to_owned();
    key(&folder, "a.key")?;
    key(&folder, "b.key")?;
    let server = setup.start()?;
    let none = server.client().add_package(&one_state("0.1.0")?)?;
    install(&server, "rooms", &none)?.json()?;
    let by_a = server.client().add_package(&signed(&folder, "0.2.0", &["a.key"])?)?;
    server.client().patch("/v1/installations/rooms", &json!({"package": by_a}))?.json()?;
    let by_b = server.client().add_package(&signed(&folder, "0.3.0", &["b.key"])?)?;
    for package in [by_b, none] {
        let answer = server.client().patch("/v1/installations/rooms", &json!({"package": package}))?;
        assert_eq!(answer.problem(409)?["kind"], "publisher-changed");
    }
    server.stop()?;
    Ok(())
}

#[test]
fn of_several_signers_one_is_named_as_the_publisher() -> Result<()> {
    let setup = Setup::new()?;
    let folder = setup.folder().to_owned();
    let [a, b, c] = [key(&folder, "a.key")?, key(&folder, "b.key")?, key(&folder, "c.key")?];
    let server = setup.start()?;
    fs::write(folder.join("both.app.tar"), signed(&folder, "0.1.0", &["a.key", "b.key"])?)?;
    let url = server.client().url().to_owned();
    let install = ["install", "both.app.tar", "--id", "rooms", "--bind", "value=room/{name}", "--url", &url];
    let told = refused(&folder, &install)?;
    ensure!(told.contains(" have signed the package") && told.contains("--publisher KEY"), "{told}");
    let told = refused(&folder, &[&install[..], &["--publisher", &c]].concat())?;
    ensure!(told.contains(&format!("isn't signed by {c}")), "{told}");
    done(&folder, &[&install[..], &["--publisher", &b]].concat())?;
    let by_a = server.client().add_package(&signed(&folder, "0.2.0", &["a.key"])?)?;
    let problem =
        server.client().patch("/v1/installations/rooms", &json!({"package": by_a}))?.problem(409)?;
    ensure!(
        problem["detail"].as_str().is_some_and(|text| text.contains(&b) && text.contains(&a)),
        "{problem}"
    );
    server.stop()?;
    Ok(())
}

#[test]
fn signatures_that_dont_fit_are_refused_and_leave_nothing() -> Result<()> {
    let setup = Setup::new()?;
    let folder = setup.folder().to_owned();
    let [a, b] = [key(&folder, "a.key")?, key(&folder, "b.key")?];
    let server = setup.start()?;
    let tar = signed(&folder, "0.1.0", &["a.key"])?;
    let another = signed(&folder, "0.2.0", &["a.key"])?;
    let kind = [("content-type", "application/vnd.ironloom.package+tar")];
    let refused = |members: Vec<(String, Vec<u8>)>, said: &str| -> Result<()> {
        let tar = ironloom_tests::package::tar(&members);
        let problem = server.client().send("POST", "/v1/packages", &kind, &tar)?.problem(422)?;
        ensure!(problem["detail"].as_str().is_some_and(|text| text.contains(said)), "{problem}");
        Ok(())
    };
    // The envelope of another version.
    let envelopes = |tar: &[u8]| -> Result<Vec<u8>> {
        let members = ironloom_tests::package::members(tar)?;
        let envelope = members.into_iter().find(|(_, bytes)| bytes.starts_with(b"{\"payloadType\""));
        Ok(envelope.context("no envelope")?.1)
    };
    let other_envelope = envelopes(&another)?;
    refused(ironloom_tests::package::with_envelope(&tar, &other_envelope)?, "another package")?;
    // One key in the name of another.
    let renamed = String::from_utf8(envelopes(&tar)?)?.replace(&a, &b).into_bytes();
    refused(ironloom_tests::package::with_envelope(&tar, &renamed)?, "doesn't fit")?;
    // Two signatures by one key.
    let mut twice: Value = serde_json::from_slice(&envelopes(&tar)?)?;
    let one = twice["signatures"][0].clone();
    twice["signatures"].as_array_mut().context("no signatures")?.push(one);
    refused(
        ironloom_tests::package::with_envelope(&tar, &serde_json::to_vec(&twice)?)?,
        "two signatures by",
    )?;
    // A key twice in the JSON.
    let doubled = String::from_utf8(envelopes(&tar)?)?.replacen('{', "{\"payload\":\"\",", 1);
    refused(ironloom_tests::package::with_envelope(&tar, doubled.as_bytes())?, "duplicate field")?;
    // A changed layer under the old digest.
    let mut members = ironloom_tests::package::members(&tar)?;
    let layer = members.iter_mut().max_by_key(|(_, bytes)| bytes.len()).context("no layer")?;
    let last = layer.1.len() - 1;
    layer.1[last] ^= 1;
    refused(members, "different digest")?;
    ensure!(server.client().all("/v1/packages")?.is_empty());
    server.stop()?;
    Ok(())
}

#[test]
fn a_further_signature_comes_with_the_package_sent_again_and_none_is_lost() -> Result<()> {
    let setup = Setup::new()?.signed_only();
    let folder = setup.folder().to_owned();
    let [a, b] = [key(&folder, "a.key")?, key(&folder, "b.key")?];
    let server = setup.start()?;
    let package = server.client().add_package(&one_state("0.1.0")?)?;
    install(&server, "rooms", &package)?.problem(422)?;
    for (file, signers) in [("a.key", vec![&a]), ("b.key", vec![&a, &b])] {
        assert_eq!(server.client().add_package(&signed(&folder, "0.1.0", &[file])?)?, package);
        let shown = server.client().get(&format!("/v1/packages/{package}"))?.json()?;
        let shown: BTreeSet<&str> =
            shown["signers"].as_array().context("no signers")?.iter().filter_map(Value::as_str).collect();
        assert_eq!(shown, signers.into_iter().map(String::as_str).collect());
    }
    assert_eq!(server.client().add_package(&one_state("0.1.0")?)?, package);
    server.kill()?;
    let server = setup.start()?;
    assert_eq!(fs::read_dir(setup.data().join("packages"))?.count(), 1);
    let file = server.client().get(&format!("/v1/packages/{package}/file"))?;
    fs::write(folder.join("kept.app.tar"), &file.body)?;
    done(&folder, &["verify", "kept.app.tar", "--key", &a, "--key", &b])?;
    server.stop()?;
    Ok(())
}

#[test]
fn the_hosts_policy_says_whose_apps_run() -> Result<()> {
    let setup = Setup::new()?.signed_only();
    let folder = setup.folder().to_owned();
    let [a, b] = [key(&folder, "a.key")?, key(&folder, "b.key")?];
    let tar = signed(&folder, "0.1.0", &["a.key"])?;
    for (policy, said) in [
        (format!("publishers = [\"{b}\"]"), "[policy] publishers"),
        (format!("publishers_denied = [\"{a}\"]"), "[policy] publishers_denied"),
        ("apps = [\"com.another\"]".to_owned(), "[policy] apps"),
        ("apps_denied = [\"com\", \"test\", \"org\"]".to_owned(), "[policy] apps_denied"),
    ] {
        let server = setup.clone().config(format!("[policy]\n{policy}\n")).start()?;
        let package = server.client().add_package(&tar)?;
        let problem = install(&server, "rooms", &package)?.problem(422)?;
        assert_eq!(problem["kind"], "policy", "{problem}");
        ensure!(problem["detail"].as_str().is_some_and(|text| text.contains(said)), "{problem}");
        ensure!(server.client().all("/v1/installations")?.is_empty());
        server.stop()?;
    }
    let server = setup.config(format!("[policy]\npublishers = [\"{a}\"]\n")).start()?;
    let package = server.client().add_package(&tar)?;
    install(&server, "rooms", &package)?.json()?;
    server.stop()?;
    Ok(())
}
