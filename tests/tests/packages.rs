//! Packages: what is taken, what is refused and with which words, and that two writers agree.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use ironloom_tests::apps::{install, request};
use ironloom_tests::http::PACKAGE;
use ironloom_tests::package::{self, Members, Package, SBOM, WASM, pack, tar, tar_header};
use ironloom_tests::{Client, Setup, guests, sbom};
use serde_json::{Value, json};

fn post(client: &Client, bytes: &[u8]) -> Result<ironloom_tests::Answer> {
    client.send("POST", "/v1/packages", &[("content-type", PACKAGE)], bytes)
}

fn manifest(guest: &str) -> Result<String> {
    Ok(fs::read_to_string(guests::folder_of(guest).join("app.toml"))?)
}

#[test]
fn a_package_is_known_by_its_digest() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    let package = guests::package("one-state")?;
    let first = post(client, &package.tar())?;
    assert_eq!(first.status, 201, "{}", first.text());
    let info = first.json()?;
    assert_eq!(info["digest"], package.digest(), "{info}");
    assert_eq!((&info["id"], &info["version"]), (&json!("com.example.one-state"), &json!("0.1.0")));
    assert!(info["inputs"]["value"].is_object(), "{info}");
    let again = post(client, &package.tar())?;
    assert_eq!(again.status, 200);
    assert_eq!(
        client.get(&format!("/v1/packages/{}", package.digest()))?.json()?["digest"],
        package.digest()
    );
    assert_eq!(client.all("/v1/packages")?.len(), 1);

    let answer = install(client, "one", &package, json!({"value": ["load/{point}/value"]}), json!({}))?;
    assert_eq!(answer["package"], package.digest());
    client.delete(&format!("/v1/packages/{}", package.digest()))?.problem(409)?;
    client.delete("/v1/installations/one?purge=true")?.json()?;
    client.delete(&format!("/v1/packages/{}", package.digest()))?.json()?;
    client.get(&format!("/v1/packages/{}", package.digest()))?.problem(404)?;
    Ok(())
}

#[test]
fn the_cli_builds_the_same_bytes_each_time_and_the_digest_of_another_writer() -> Result<()> {
    let folder = guests::folder_of("one-state");
    let mut expected = guests::package("one-state")?;
    let run = |arguments: &[&str]| -> Result<Vec<u8>> {
        let mut command = Command::new(ironloom_tests::server::binary()?);
        let output = command.args(arguments).current_dir(&folder).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "ironloom {arguments:?}: {said}");
        Ok(output.stdout)
    };
    let build = || -> Result<(Value, Vec<u8>)> {
        let told: Value = serde_json::from_slice(&run(&["build", "--json"])?)?;
        let file = told["path"].as_str().with_context(|| told.to_string())?;
        ensure!(file.ends_with("one-state-0.1.0.app.tar"), "{file}");
        let bytes = fs::read(folder.join(file))?;
        Ok((told, bytes))
    };
    let (first, second) = (build()?, build()?);
    assert!(first == second, "the same input gives the same bytes");
    let file = first.0["path"].as_str().context("no path")?;
    let printed = run(&["inspect", file, "--sbom"])?;
    sbom::check(&serde_json::from_slice(&printed)?, &folder)?;
    expected.layers.push((SBOM.to_owned(), printed));
    assert_eq!(first.0["digest"], expected.digest());
    Ok(())
}

#[test]
fn a_component_is_packed_as_build_packs_it_and_is_told_from_a_package() -> Result<()> {
    let setup = Setup::new()?;
    let folder = setup.folder().join("elsewhere");
    fs::create_dir_all(&folder)?;
    fs::copy(guests::build("one-state")?, folder.join("made.wasm"))?;
    fs::copy(guests::folder_of("one-state").join("app.toml"), folder.join("app.toml"))?;
    fs::write(folder.join("core.wasm"), CORE)?;
    let expected = guests::package("one-state")?;
    let run = |arguments: &[&str]| -> Result<(bool, String, String)> {
        let mut command = Command::new(ironloom_tests::server::binary()?);
        let output = command.args(arguments).current_dir(&folder).output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((output.status.success(), text(&output.stdout), text(&output.stderr)))
    };
    let (done, said, error) = run(&["pack", "made.wasm"])?;
    ensure!(done, "{error}");
    assert_eq!(said, format!("one-state-0.1.0.app.tar\n{}\n", expected.digest()));
    let packed = fs::read(folder.join("one-state-0.1.0.app.tar"))?;
    let document =
        r#"{"bomFormat":"CycloneDX","specVersion":"1.6","components":[{"type":"library","name":"a"}]}"#;
    fs::write(folder.join("sbom.json"), document)?;
    let (done, _, error) = run(&["pack", "made.wasm", "--sbom", "sbom.json", "-o", "with.app.tar"])?;
    ensure!(done, "{error}");
    let (done, said, error) = run(&["inspect", "with.app.tar"])?;
    ensure!(done && said.contains("\nSBOM          CycloneDX, 1 component\n"), "{said}{error}");
    assert_eq!(run(&["inspect", "with.app.tar", "--sbom"])?.1, document);
    for (option, name) in [("--sbom", "SBOM"), ("--readme", "README")] {
        let (done, _, error) = run(&["inspect", "one-state-0.1.0.app.tar", option])?;
        ensure!(!done && error.contains(&format!("one-state-0.1.0.app.tar has no {name}")), "{error}");
    }
    fs::write(folder.join("sbom.json"), "<bom/>")?;
    let (done, _, error) = run(&["pack", "made.wasm", "--sbom", "sbom.json", "-o", "none.app.tar"])?;
    ensure!(!done && error.contains("sbom.json is not JSON"), "{error}");
    ensure!(!folder.join("none.app.tar").exists());
    let (done, _, error) = run(&["pack", "made.wasm", "--manifest", "app.toml", "-o", "out/again.tar"])?;
    ensure!(done, "{error}");
    assert!(fs::read(folder.join("out/again.tar"))? == packed, "the same input gives the same bytes");

    let server = setup.start()?;
    let url = server.client().url().to_owned();
    for (file, words) in [
        ("made.wasm", "made.wasm: this is a WebAssembly component and not a package yet; `ironloom pack"),
        ("core.wasm", "core.wasm: this is a WebAssembly module and not a package"),
    ] {
        for command in [&["packages", "add", file][..], &["install", file, "--id", "x"]] {
            let (done, _, error) = run(&[command, &["--url", &url]].concat())?;
            ensure!(!done && error.contains(words), "{command:?}: {error}");
        }
        let problem = post(server.client(), &fs::read(folder.join(file))?)?.problem(422)?;
        ensure!(problem.to_string().contains("ironloom pack"), "{problem}");
    }
    assert!(server.client().all("/v1/packages")?.is_empty());
    let (done, said, error) = run(&["packages", "add", "out/again.tar", "--url", &url])?;
    ensure!(done && said.contains(&expected.digest()), "{said}{error}");
    Ok(())
}

/// What is wrong, the bytes, and words that the refusal must have.
type Wrong = (&'static str, Vec<u8>, &'static str);

/// Files that aren't archives of the strict form.
fn wrong_archives(good: &Package) -> Result<Vec<Wrong>> {
    let tar_of_good = good.tar();
    let (whole, component) = (tar_of_good.len(), &good.layers[0].1);
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = tar_of_good.clone();
        change(&mut bytes);
        bytes
    };
    let middle = &component[component.len() / 2..component.len() / 2 + 64];
    let place =
        tar_of_good.windows(64).position(|bytes| bytes == middle).context("no component in the tar")?;
    Ok(vec![
        (
            "random bytes",
            (0..5_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect(),
            "magic",
        ),
        ("nothing", Vec::new(), "cut off"),
        ("cut in half", changed(&|bytes| bytes.truncate(whole / 2)), "the file ends earlier"),
        ("bytes behind the end", changed(&|bytes| bytes.extend_from_slice(b"more")), "after the end"),
        ("one zero block at the end", changed(&|bytes| bytes.truncate(whole - 512)), "cut off"),
        ("a flipped bit", changed(&|bytes| bytes[place] ^= 1), "different digest"),
        (
            "a link",
            changed(&|bytes| {
                bytes.truncate(whole - 1_024);
                bytes.extend_from_slice(&tar_header("blobs/sha256/link", 0, b'2'));
                bytes.resize(bytes.len() + 1_024, 0);
            }),
            "is a link",
        ),
    ])
}

/// Archives whose members aren't those of a package, or not in their places.
fn wrong_members(good: &Package) -> Vec<Wrong> {
    let members = |change: &dyn Fn(&mut Members)| {
        let mut members = good.members();
        change(&mut members);
        tar(&members)
    };
    let add = |name: &'static str| members(&|members| members.push((name.to_owned(), b"x".to_vec())));
    let twice_key =
        |text: &str| text.replacen("{\"schemaVersion\":2", "{\"schemaVersion\":2,\"schemaVersion\":2", 1);
    vec![
        ("a path with ..", add("blobs/sha256/../../../etc/passwd"), "blobs/sha256/../../../etc/passwd"),
        ("an absolute path", add("/etc/passwd"), "/etc/passwd"),
        (
            "a member twice",
            members(&|members| {
                let last = members[members.len() - 1].clone();
                members.push(last);
            }),
            "comes twice",
        ),
        (
            "members out of order",
            members(&|members| {
                let last = members.len() - 1;
                members.swap(last, last - 1);
            }),
            "is out of place",
        ),
        ("no oci-layout", members(&|members| drop(members.remove(0))), "oci-layout"),
        ("no index.json", members(&|members| drop(members.remove(1))), "index.json"),
        (
            "a key twice in index.json",
            members(&|members| {
                members[1].1 = twice_key(&String::from_utf8_lossy(&members[1].1)).into_bytes();
            }),
            "schemaVersion",
        ),
        (
            "a blob under another digest",
            members(&|members| {
                let last = members.len() - 1;
                members[last].1.push(b' ');
            }),
            "different digest",
        ),
    ]
}

/// Image layouts that aren't those of an app.
fn wrong_layouts(good: &Package) -> Vec<Wrong> {
    let with = |change: &dyn Fn(&mut Package)| {
        let mut package = good.clone();
        change(&mut package);
        package.tar()
    };
    let layer = |media_type: &str, bytes: &[u8]| {
        with(&|package| package.layers.push((media_type.to_owned(), bytes.to_vec())))
    };
    vec![
        ("two components", layer(WASM, &good.layers[0].1), "two layers of type application/wasm"),
        ("another second component", layer(WASM, CORE), "two layers of type application/wasm"),
        ("no component", with(&|package| package.layers.clear()), "no layer of type application/wasm"),
        ("a layer of an unknown type", layer("application/x-sh", b"rm"), "application/x-sh"),
        (
            "a blob that nothing names",
            with(&|package| package.stray.push(b"hidden".to_vec())),
            "nothing names it",
        ),
    ]
}

/// Packages whose code or manifest isn't one.
fn wrong_contents(good: &Package) -> Vec<Wrong> {
    let component = &good.layers[0].1;
    let code = |bytes: &[u8]| pack(&good.manifest, bytes).tar();
    let manifest = |text: &str| pack(text, component).tar();
    vec![
        ("a core module", code(CORE), "core module"),
        ("precompiled code", code(b"\x7fELF\x02\x01\x01precompiled"), "precompiled"),
        ("random code", code(&[7; 3_000]), "not WebAssembly"),
        (
            "a component that is cut off",
            code(&component[..component.len() / 2]),
            "the component is not valid",
        ),
        ("an empty component", code(b""), "not WebAssembly"),
        ("no TOML", manifest("manifest = "), "app.toml"),
        ("a later manifest", manifest(&good.manifest.replace("manifest = 1", "manifest = 99")), "99"),
        ("an unknown field", manifest(&format!("{}\nnonsense = 1\n", good.manifest)), "nonsense"),
        ("outgoing hosts", manifest(&format!("hosts = [\"evil.example\"]\n{}", good.manifest)), "hosts"),
    ]
}

/// A core module, where a component should be.
const CORE: &[u8] = b"\0asm\x01\0\0\0";

#[test]
fn wrong_packages_are_refused_with_the_reason() -> Result<()> {
    let mut server = Setup::new()?.start()?;
    let client = server.client().clone();
    let good = guests::package("one-state")?;
    let archives = wrong_archives(&good)?.into_iter().chain(wrong_members(&good));
    for (what, bytes, words) in archives.chain(wrong_layouts(&good)).chain(wrong_contents(&good)) {
        let answer = post(&client, &bytes).with_context(|| what.to_owned())?;
        ensure!(matches!(answer.status, 400 | 422), "{what}: {} {}", answer.status, answer.text());
        let status = answer.status;
        let problem = answer.problem(status).with_context(|| what.to_owned())?;
        ensure!(problem.to_string().contains(words), "{what}: no {words:?} in {problem}");
    }
    assert!(client.all("/v1/packages")?.is_empty(), "nothing of them stays");
    let large = vec![0; (64 << 20) + 512];
    post(&client, &large)?.problem(413)?;
    assert!(server.is_alive()?);
    Ok(())
}

#[test]
fn an_app_gets_only_what_it_declares() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    let text = manifest("hostile")?;
    let component = guests::package("hostile")?.layers[0].1.clone();
    let without = |section: &str| -> String {
        let start = text.find(section).unwrap_or(text.len());
        let end = text[start + 1..].find("\n[").map_or(text.len(), |end| start + 1 + end + 1);
        format!("{}{}", &text[..start], &text[end..])
    };
    // Where it is refused, at adding or at installing, is the server's choice; the words are not.
    let refused = |manifest: &str| -> Result<Value> {
        let answer = post(client, &pack(manifest, &component).tar())?;
        if answer.status >= 400 {
            return answer.problem(422);
        }
        let digest = answer.json()?["digest"].as_str().context("no digest")?.to_owned();
        let body = request("hostile", &digest, json!({"command": "cmd"}), json!({}));
        client.post("/v1/installations", &body)?.problem(422)
    };
    let cases = [
        (without("[alarms.noise]"), "ironloom:alarms"),
        (without("[outputs.echo]"), "ironloom:outputs"),
        (text.replace("schedule = true", "schedule = false"), "schedule"),
    ];
    for (manifest, word) in &cases {
        let problem = refused(manifest).with_context(|| manifest.clone())?;
        assert!(problem.to_string().contains(word), "no {word:?} in {problem}");
    }
    let inputs = text.find("[inputs.command]").context("no input")?;
    let outputs = text.find("[outputs.echo]").context("no output")?;
    let problem = refused(&format!("{}{}", &text[..inputs], &text[outputs..]))?;
    assert!(problem.to_string().contains("readings"), "the role without inputs: {problem}");
    assert!(client.all("/v1/installations")?.is_empty());
    Ok(())
}

/// What is wrong, the install, its status, and words that the refusal must have.
fn wrong_installs(digest: &str, value: &Value) -> Vec<(&'static str, Value, u16, &'static str)> {
    vec![
        ("an id with capitals", request("One", digest, value.clone(), json!({})), 400, "One"),
        (
            "an unknown package",
            request("one", &package::digest(b"other"), value.clone(), json!({})),
            422,
            "package",
        ),
        ("no binding", request("one", digest, json!({}), json!({})), 422, "value"),
        (
            "an unknown input",
            request("one", digest, json!({"value": ["a"], "other": ["b"]}), json!({})),
            422,
            "other",
        ),
        (
            "a pattern that is none",
            request("one", digest, json!({"value": ["a/{b"]}), json!({})),
            422,
            "a/{b",
        ),
        (
            "patterns with other names",
            request("one", digest, json!({"value": ["a/{b}", "c/{d}"]}), json!({})),
            422,
            "c/{d}",
        ),
        (
            "an unknown setting",
            request("one", digest, value.clone(), json!({"settings": {"colour": "red"}})),
            422,
            "colour",
        ),
        (
            "a setting of another type",
            request("one", digest, value.clone(), json!({"settings": {"publish": 7}})),
            422,
            "publish",
        ),
        (
            "too much memory",
            request("one", digest, value.clone(), json!({"limits": {"memory": "1 TiB"}})),
            422,
            "memory",
        ),
        (
            "an unknown time zone",
            request("one", digest, value.clone(), json!({"timezone": "Moon/Crater"})),
            422,
            "is not a time zone",
        ),
        (
            "a cycle",
            request("one", digest, json!({"value": ["apps/one/count/{point}"]}), json!({})),
            422,
            "round in a circle",
        ),
    ]
}

#[test]
fn wrong_installs_are_refused_all_errors_at_once() -> Result<()> {
    let server = Setup::new()?.start()?;
    let client = server.client();
    let package = guests::package("one-state")?;
    let digest = client.add_package(&package.tar())?;
    let value = json!({"value": ["load/{point}/value"]});
    for (what, body, status, words) in wrong_installs(&digest, &value) {
        let answer = client.post("/v1/installations", &body)?;
        let problem = answer.problem(status).with_context(|| what)?.to_string();
        ensure!(problem.contains(words), "{what}: no {words:?} in {problem}");
    }
    let both = request("one", &digest, json!({"other": ["b"]}), json!({"settings": {"colour": "red"}}));
    let problem = client.post("/v1/installations", &both)?.problem(422)?;
    let errors = problem["errors"].as_array().map_or(0, Vec::len);
    assert_eq!(errors, 3, "an unknown input, an unbound one and an unknown setting: {problem}");
    let once = request("one", &digest, value.clone(), json!({}));
    client.post("/v1/installations", &once)?.json()?;
    client.post("/v1/installations", &once)?.problem(409)?;
    Ok(())
}
