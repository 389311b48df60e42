//! Secrets that a server is given: none of them is in what it says, whoever asks.

use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ironloom_tests::certificates::{Authority, write_secret};
use ironloom_tests::server::{Setup, binary};
use ironloom_tests::{Client, Server, wait_until};
use serde_json::json;

const PASSWORD_IN_FILE: &str = "pw-correct-horse-battery";
const PASSWORD_IN_ENV: &str = "pw-staple-tr0ub4dor";
const LOGIN: &str = "me:pw-of-the-registry";

/// A broker that takes what it is sent and hangs up. Returns its port.
fn broker() -> Result<(u16, std::sync::mpsc::Receiver<Vec<u8>>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let (to, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let mut buffer = vec![0; 4_096];
            let read = socket.read(&mut buffer).unwrap_or(0);
            buffer.truncate(read);
            if to.send(buffer).is_err() {
                break;
            }
        }
    });
    Ok((port, heard))
}

fn config(port: u16) -> String {
    let connector = |name: &str, password: &str| {
        format!(
            "[connectors.{name}]\nkind = \"mqtt\"\nbroker = \"mqtt://127.0.0.1:{port}\"\nclient_id = \"{name}\"\n\
             user = \"ironloom\"\n{password}\n[connectors.{name}.topics.\"{name}/#\"]\npoint = \"{name}/{{topic}}\"\n"
        )
        .replace("/#", "/{topic}")
    };
    format!(
        "[server]\ntokens = \"required\"\n[server.tls]\ncertificate = \"127.0.0.1.pem\"\nkey = \"127.0.0.1.key\"\n\
         [catalogs]\nlogins = \"auth.json\"\n{}{}",
        connector("filed", "password_file = \"broker.password\""),
        connector("given", "password_env = \"BROKER_PASSWORD\"")
    )
}

/// A server with secrets of all kinds.
struct Keeper {
    server: Server,
    admin: Client,
    token: String,
    port: u16,
    secrets: Vec<String>,
}

impl Keeper {
    /// Starts it, and waits until it has used them: else there would be nothing to hide.
    fn start() -> Result<Self> {
        let setup = Setup::new()?;
        let folder = setup.folder().to_owned();
        let authority = Authority::new(&folder, "plant-ca")?;
        let (_, key) = authority.sign("127.0.0.1")?;
        write_secret(&folder.join("broker.password"), PASSWORD_IN_FILE)?;
        let login = STANDARD.encode(LOGIN);
        let logins = json!({"auths": {"127.0.0.1:1": {"auth": login}}});
        write_secret(&folder.join("auth.json"), &logins.to_string())?;
        let (port, heard) = broker()?;
        let setup = setup.trusting(authority.certificate()).config(config(port));
        // All that it can say.
        let setup = setup.env("BROKER_PASSWORD", PASSWORD_IN_ENV).env("IRONLOOM_LOG", "trace");
        // Not ready, with a broker that hangs up.
        let server = setup.start_listening()?;
        let token = fs::read_to_string(setup.data().join("admin-token"))?.trim().to_owned();
        let admin = server.client().with_token(&token);
        let made = admin.post("/v1/tokens", &json!({"name": "anna", "role": "viewer"}))?.json()?;
        let anna = made["token"].as_str().context("no token")?.to_owned();
        server.client().with_token(&anna).get("/v1/points")?.json()?;
        let mut told = Vec::new();
        wait_until("both passwords to be sent", || {
            told.extend(heard.try_iter().flatten());
            let text = String::from_utf8_lossy(&told);
            Ok(text.contains(PASSWORD_IN_FILE) && text.contains(PASSWORD_IN_ENV))
        })?;
        let secrets = [PASSWORD_IN_FILE, PASSWORD_IN_ENV, &login, &token, &anna, LOGIN];
        let mut secrets: Vec<String> = secrets.map(str::to_owned).into();
        let key = fs::read_to_string(key)?;
        secrets.extend(key.lines().filter(|line| !line.starts_with("-----")).map(str::to_owned));
        Ok(Self { server, admin, token, port, secrets })
    }

    fn is_clean(&self, what: &str, text: &str) -> Result<()> {
        for secret in &self.secrets {
            // Not the secret itself: the message of a test is a log, too.
            ensure!(!text.contains(secret), "{what} has a secret that begins with {:?}", secret.get(..4));
        }
        Ok(())
    }

    fn configure(&self, more: &str) -> Result<()> {
        Ok(fs::write(self.server.setup().folder().join("ironloom.toml"), config(self.port) + more)?)
    }

    fn check(&self) -> Result<Output> {
        let folder = self.server.setup().folder();
        let mut check = Command::new(binary()?);
        check.args(["serve", "--check", "--config"]).arg(folder.join("ironloom.toml"));
        check.arg("--data").arg(folder.join("new"));
        Ok(check.env("BROKER_PASSWORD", PASSWORD_IN_ENV).output()?)
    }

    fn command(&self, arguments: &[&str]) -> Result<Output> {
        let ca = self.server.setup().folder().join("plant-ca.pem");
        let mut command = Command::new(binary()?);
        command.args(arguments).env("IRONLOOM_TOKEN", &self.token).env("IRONLOOM_CA", ca);
        if !arguments.contains(&"--url") {
            command.env("IRONLOOM_URL", self.server.client().url());
        }
        Ok(command.env("RUST_BACKTRACE", "1").stdin(Stdio::null()).output()?)
    }
}

/// Paths whose answers tell about what has secrets.
const PATHS: [&str; 12] = [
    "/v1/status",
    "/readyz",
    "/v1/connectors",
    "/v1/connectors/filed",
    "/v1/connectors/given",
    "/v1/tokens",
    "/v1/me",
    "/metrics",
    "/openapi.json",
    "/v1/catalogs",
    "/v1/usage",
    "/v1/log-level",
];

#[test]
fn no_secret_is_in_a_log_an_answer_or_an_error() -> Result<()> {
    let keeper = Keeper::start()?;
    let admin = &keeper.admin;
    let trust = format!("ed25519:{}", "A".repeat(43));
    let refused =
        admin.post("/v1/catalogs", &json!({"source": "oci://127.0.0.1:1/apps", "trust": [trust]}))?;
    keeper.is_clean("an answer about a catalog", &refused.text())?;
    for path in PATHS {
        keeper.is_clean(path, &admin.get(path)?.text())?;
    }
    for wrong in [
        format!("[connectors.wrong]\npassword = \"{PASSWORD_IN_FILE}\"\n"),
        format!("[connectors.wrong]\nkind = \"mqtt\"\npassword = \"{PASSWORD_IN_FILE}\"\n"),
        format!("[connectors.wrong]\nkind = \"mqtt\"\npassword_file = \"{PASSWORD_IN_ENV}\\n\"\n"),
        format!("password = '{PASSWORD_IN_ENV}"),
    ] {
        keeper.configure(&wrong)?;
        let refused = admin.post("/v1/reload", &json!({}))?;
        ensure!(refused.status == 422, "{}", refused.status);
        keeper.is_clean("an answer to a reload", &refused.text())?;
        let checked = keeper.check()?;
        ensure!(!checked.status.success());
        keeper.is_clean("a check", &format!("{checked:?}"))?;
    }
    keeper.configure("")?;
    admin.post("/v1/reload", &json!({}))?.json()?;
    keeper.server.hang_up()?;
    let setup = keeper.server.setup().clone();
    wait_until("a reload", || Ok(setup.said().contains("SIGHUP: the configuration was read again")))?;
    for arguments in [
        &["status"][..],
        &["connectors", "list"],
        &["connectors", "show", "filed"],
        &["token", "list"],
        &["status", "--url", "https://localhost:1"],
    ] {
        let output = keeper.command(arguments)?;
        keeper.is_clean(&arguments.join(" "), &format!("{output:?}"))?;
    }
    keeper.server.terminate()?;
    wait_until("the end", || Ok(setup.said().contains("stops")))?;
    let said = setup.said();
    ensure!(said.contains("connector=\"given\""), "little was said");
    keeper.is_clean("the log", &said)
}

#[test]
fn secrets_that_anybody_may_read_arent_read() -> Result<()> {
    let keeper = Keeper::start()?;
    let files = ["127.0.0.1.key", "broker.password"];
    let told = String::from_utf8(keeper.check()?.stderr)?;
    ensure!(!told.contains("has a secret"), "{told}");
    for file in files {
        let path = keeper.server.setup().folder().join(file);
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    }
    let told = String::from_utf8(keeper.check()?.stderr)?;
    for file in files {
        let words = format!("{file} has a secret and may be read or changed by everybody");
        ensure!(told.contains(&words), "{told}");
    }
    Ok(())
}
