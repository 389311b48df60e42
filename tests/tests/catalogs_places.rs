//! The places that catalogs are read from: web servers with and without TLS, registries, and bundles on a stick.

use std::process::Output;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ironloom_tests::certificates::Authority;
use ironloom_tests::docker_registry::DockerRegistry;
use ironloom_tests::publishing::{APP, Maker, done, fetch, install, key, refresh, refused, run};
use ironloom_tests::server::Setup;
use ironloom_tests::web_files::WebFiles;
use serde_json::json;

#[test]
fn a_catalog_is_read_from_a_web_server() -> Result<()> {
    let setup = Setup::new()?;
    let maker = Maker::new(&setup.folder().join("maker"))?;
    let Some(web) = WebFiles::start(&maker.catalog(), None, "a catalog behind a web server")? else {
        return Ok(());
    };
    let server = setup.start()?;
    let source = format!("http://127.0.0.1:{}/", web.port());
    let add = |source: String| {
        server.client().post("/v1/catalogs", &json!({"source": source, "trust": [maker.root]}))
    };
    refused(add("http://127.0.0.1:1/".to_owned())?, 422, "catalog", "can't be read")?;
    refused(add(format!("{source}nothing"))?, 422, "catalog", "has no root/1.json")?;
    refused(add(format!("{source}moved"))?, 422, "catalog", "redirects aren't followed")?;
    add(source)?.json()?;
    let package = fetch(&server, "0.1.0")?;
    install(&server, "rooms", &package)?.json()?;
    server.stop()?;
    Ok(())
}

#[test]
fn a_web_server_with_tls_is_held_against_the_authorities_that_are_trusted() -> Result<()> {
    let what = "a catalog behind a web server with TLS";
    let setup = Setup::new()?;
    let maker = Maker::new(&setup.folder().join("maker"))?;
    let authority = Authority::new(setup.folder(), "Plant CA")?;
    let certificate = authority.sign("localhost")?;
    let Some(web) = WebFiles::start(&maker.catalog(), Some(&certificate), what)? else { return Ok(()) };
    let of = |host: &str, path: &str| format!("https://{host}:{}/{path}", web.port());
    let body = |source: String| json!({"source": source, "trust": [maker.root]});

    // Without a word the machine's own authorities count.
    let server = setup.start()?;
    let stranger = server.client().post("/v1/catalogs", &body(of("localhost", "")))?;
    refused(stranger, 422, "catalog", "name the file of its authority by [catalogs] ca")?;
    server.stop()?;

    let setup = setup.config("[catalogs]\nca = [\"Plant CA.pem\"]\n");
    let server = setup.start()?;
    let add = |source: String| server.client().post("/v1/catalogs", &body(source));
    // The certificate is another name's.
    refused(add(of("127.0.0.1", ""))?, 422, "catalog", "can't be read")?;
    refused(
        add(of("localhost", "moved"))?,
        422,
        "catalog",
        "leads to \"http://127.0.0.1:1/moved/root/1.json\"",
    )?;
    // What speaks TLS isn't asked without.
    let plain = format!("http://localhost:{}/", web.port());
    refused(add(plain)?, 422, "catalog", "can't be read")?;
    add(of("localhost", ""))?.json()?;
    let package = fetch(&server, "0.1.0")?;
    install(&server, "rooms", &package)?.json()?;
    server.stop()?;

    let setup = setup.config("[catalogs]\nca = [\"ironloom.toml\"]\n");
    let server = setup.start()?;
    let refresh = server.client().post("/v1/catalogs/plant/refresh", &json!({}))?;
    refused(refresh, 422, "catalog", "ironloom.toml has no certificate in PEM")?;
    server.stop()?;
    Ok(())
}

/// The user `me` with the password `correct horse`, as `htpasswd -B` has it.
const HTPASSWD: &str = "me:$2b$04$2KRX0v2FZ/i6nK68KqS58.9LB1FT/tHem2vvwxFF1EujshPBJ.hEW\n";

/// The place of a repository in a registry that listens on loopback.
fn repository(registry: &DockerRegistry) -> String {
    format!("oci+http://127.0.0.1:{}/plant/apps", registry.port())
}

#[test]
fn a_catalog_is_pushed_into_a_registry_and_read_from_there() -> Result<()> {
    let Some(registry) = DockerRegistry::start("", "", "a catalog in a registry")? else { return Ok(()) };
    let setup = Setup::new()?.signed_only();
    let maker = Maker::new(&setup.folder().join("maker"))?;
    let place = repository(&registry);
    let push = || done(&maker.folder, &["catalog", "push", "catalog", &place]);
    let server = setup.start()?;
    let add = |source: &str| {
        server.client().post("/v1/catalogs", &json!({"source": source, "trust": [maker.root]}))
    };
    refused(add(&place)?, 422, "catalog", "has no root/1.json")?;
    ensure!(push()?.contains("index 2 of plant; 1 packages, of which 1 are new"));
    // Once more, with nothing to do.
    ensure!(push()?.contains("1 packages, of which 0 are new"));
    assert_eq!(add(&place)?.json()?["source"], place);
    // The package has its signature with it: unsigned ones aren't let in here.
    let package = fetch(&server, "0.1.0")?;
    install(&server, "rooms", &package)?.json()?;

    // A newer index, and a new root whose keys sign it.
    let root = key(&maker.folder, "root2.key")?;
    maker.add("0.2.0", "publisher.key")?;
    maker.publish()?;
    done(&maker.folder, &["catalog", "root", "catalog", "--root-key", &root])?;
    maker.sign("root.key")?;
    maker.sign("root2.key")?;
    let seen = refresh(&server)?.json()?;
    ensure!(push()?.contains("2 packages, of which 1 are new"));
    let newer = refresh(&server)?.json()?;
    ensure!(newer["index"]["version"].as_u64() > seen["index"]["version"].as_u64(), "{newer}");
    assert_eq!(newer["root"], 2);
    let package = fetch(&server, "0.2.0")?;
    server.client().patch("/v1/installations/rooms", &json!({"package": package}))?.json()?;

    // An index from before isn't brought back by mistake.
    let other = Maker::new(&setup.folder().join("other"))?;
    let output = run(&other.folder, &["catalog", "push", "catalog", &place])?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(told.contains("has the index") && told.contains("already, and this one is 2"), "{told}");
    // Elsewhere it is the first; whoever puts it there by force is found out by the server.
    let tag = format!("{place}:other");
    done(&other.folder, &["catalog", "push", "catalog", &tag])?;
    let answer = server.client().post("/v1/catalogs/plant/refresh", &json!({"source": tag}))?;
    refused(answer, 422, "catalog", "is signed by 0 of the keys")?;
    server.stop()?;
    Ok(())
}

#[test]
fn a_registry_that_wants_a_login_gets_it_over_tls_alone() -> Result<()> {
    let what = "a catalog in a registry with logins and TLS";
    let setup = Setup::new()?;
    let folder = setup.folder().to_owned();
    let authority = Authority::new(&folder, "Plant CA")?;
    let (certificate, secret) = authority.sign("localhost")?;
    let passwords = folder.join("htpasswd");
    std::fs::write(&passwords, HTPASSWD)?;
    let tls = format!("  tls:\n    certificate: {}\n    key: {}", certificate.display(), secret.display());
    let auth = format!("auth:\n  htpasswd:\n    realm: plant\n    path: {}", passwords.display());
    let Some(registry) = DockerRegistry::start(&tls, &auth, what)? else { return Ok(()) };
    let maker = Maker::new(&folder.join("maker"))?;
    let host = format!("localhost:{}", registry.port());
    let place = format!("oci://{host}/apps");
    let logins = folder.join("auth.json");
    let login = |password: &str| -> Result<()> {
        let auth = STANDARD.encode(format!("me:{password}"));
        ironloom_tests::certificates::write_secret(
            &logins,
            &json!({"auths": {&host: {"auth": auth}}}).to_string(),
        )
    };
    let ca = authority.certificate().display().to_string();
    let push = |more: &[&str]| {
        run(&maker.folder, &[&["catalog", "push", "catalog", &place, "--ca", &ca], more].concat())
    };
    let told = |output: Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let without = told(push(&[])?);
    ensure!(without.contains("it wants a login") && without.contains("--logins"), "{without}");
    login("wrong")?;
    let logins_file = logins.display().to_string();
    let wrong = told(push(&["--logins", &logins_file])?);
    ensure!(wrong.contains("it wants a login") && !wrong.contains("wrong"), "{wrong}");
    login("correct horse")?;
    let pushed = push(&["--logins", &logins_file])?;
    ensure!(pushed.status.success(), "{pushed:?}");

    let setup = setup.config("[catalogs]\nca = [\"Plant CA.pem\"]\nlogins = \"auth.json\"\n");
    let server = setup.start()?;
    let add = json!({"source": place, "trust": [maker.root]});
    server.client().post("/v1/catalogs", &add)?.json()?;
    let package = fetch(&server, "0.1.0")?;
    install(&server, "rooms", &package)?.json()?;
    login("wrong")?;
    refused(refresh(&server)?, 422, "catalog", "it wants a login")?;
    server.stop()?;
    ensure!(!setup.said().contains(&STANDARD.encode("me:wrong")));
    Ok(())
}

#[test]
fn a_bundle_brings_chosen_apps_on_a_stick() -> Result<()> {
    let setup = Setup::new()?.signed_only();
    let maker = Maker::new(&setup.folder().join("maker"))?;
    maker.add("0.2.0", "publisher.key")?;
    maker.publish()?;
    let bundle = |arguments: &[&str]| {
        run(&maker.folder, &[&["bundle", "catalog", "-o", "stick.tar"], arguments].concat())
    };
    let told = |output: Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let unsure = told(bundle(&[APP])?);
    ensure!(
        unsure.contains(&format!("signed by {}", maker.root)) && unsure.contains("--trust KEY"),
        "{unsure}"
    );
    let trust = ["--trust", &maker.root];
    let none = told(bundle(&[&["com.example.other"], &trust[..]].concat())?);
    ensure!(none.contains("the catalog plant doesn't offer com.example.other"), "{none}");
    let none = told(bundle(&[&[&*format!("{APP}@3.0.0")], &trust[..]].concat())?);
    ensure!(none.contains("has no version 3.0.0 of") && none.contains("it has 0.1.0, 0.2.0"), "{none}");
    ensure!(!maker.folder.join("stick.tar").exists());
    let made = bundle(&[&[APP], &trust[..]].concat())?;
    ensure!(made.status.success(), "{made:?}");
    ensure!(String::from_utf8_lossy(&made.stdout).contains(&format!("  {APP} 0.2.0\n")), "{made:?}");

    let server = setup.start()?;
    let stick = maker.folder.join("stick.tar");
    let url = server.client().url().to_owned();
    let add = ["catalog", "add", "stick.tar", "--trust", &maker.root, "--url", &url];
    done(&maker.folder, &add)?;
    let package = fetch(&server, "0.2.0")?;
    install(&server, "rooms", &package)?.json()?;
    // Only what was chosen is in it, though the index has all.
    let answer = server.client().post(&format!("/v1/apps/{APP}/fetch"), &json!({"version": "0.1.0"}))?;
    refused(answer, 422, "catalog", "lacks the file of")?;

    // A newer one, from another file, and an older one again.
    let old = std::fs::read(&stick)?;
    maker.add("0.3.0", "publisher.key")?;
    maker.publish()?;
    let newer = ["bundle", "catalog", APP, "-o", "newer.tar", "--trust", &maker.root];
    done(&maker.folder, &newer)?;
    let refresh_from = ["catalog", "refresh", "plant", "--source", "newer.tar", "--url", &url];
    ensure!(done(&maker.folder, &refresh_from)?.contains("newer.tar"));
    fetch(&server, "0.3.0")?;
    let back = ["catalog", "refresh", "plant", "--source", "stick.tar", "--url", &url];
    let told_back = told(run(&maker.folder, &back)?);
    ensure!(told_back.contains("somebody offers an older one"), "{told_back}");

    // A stick with other contents.
    let altered = maker.folder.join("newer.tar");
    let mut bytes = std::fs::read(&altered)?;
    let at = bytes.len() - 4096;
    bytes[at] ^= 1;
    std::fs::write(&altered, &bytes)?;
    std::fs::remove_file(&stick)?;
    refresh(&server)?.json()?;
    std::fs::write(&altered, &old[..old.len() / 2])?;
    refused(refresh(&server)?, 422, "catalog", "is cut off")?;
    std::fs::remove_file(&altered)?;
    std::os::unix::fs::symlink("/dev/zero", &altered)?;
    refused(refresh(&server)?, 422, "catalog", "neither a folder nor a regular file")?;
    server.stop()?;
    Ok(())
}

#[test]
fn a_slow_web_server_holds_up_its_own_catalog_alone() -> Result<()> {
    let setup = Setup::new()?;
    let maker = Maker::new(&setup.folder().join("maker"))?;
    let slow = Maker::named(&setup.folder().join("slow"), "slow")?;
    let Some(web) = WebFiles::start(&slow.catalog(), None, "a web server that is slow")? else {
        return Ok(());
    };
    let server = setup.start()?;
    maker.add_to(&server)?;
    let source = format!("http://127.0.0.1:{}/slow", web.port());
    server.client().post("/v1/catalogs", &json!({"source": source, "trust": [slow.root]}))?.json()?;
    let path = format!("/v1/apps/{APP}/fetch");
    std::thread::scope(|threads| -> Result<()> {
        let client = server.client();
        let waits = threads.spawn(|| client.post(&path, &json!({"catalog": "slow"})));
        // The other one comes before the slow one is given up.
        let start = Instant::now();
        server.client().post(&path, &json!({"catalog": "plant"}))?.json()?;
        let took = start.elapsed();
        ensure!(!waits.is_finished() && took < Duration::from_secs(15), "{took:?}");
        let answer = waits.join().map_err(|_| anyhow::anyhow!("it panicked"))?;
        refused(answer?, 422, "catalog", "can't be read")
    })?;
    server.stop()?;
    Ok(())
}
