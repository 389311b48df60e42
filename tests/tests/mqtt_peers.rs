//! The MQTT connector with a broker that shares no code with the first one, and over TLS: amqtt from PyPI.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::amqtt::{Amqtt, Message, anybody};
use ironloom_tests::certificates::{Authority, write_secret};
use ironloom_tests::greeting::{Doorkeeper, Greeting};
use ironloom_tests::mosquitto::Mosquitto;
use ironloom_tests::plant::{self, wait_until_connected};
use ironloom_tests::{Client, Setup, wait_until};
use serde_json::json;

const TOPICS: &str = "[connectors.plant.topics.\"q/{n}\"]\npoint = \"q/{n}\"\n";

fn config(url: &str, more: &str) -> String {
    plant::config(url, &format!("{more}{TOPICS}"))
}

fn values(client: &Client) -> Result<Vec<f64>> {
    Ok(client.journal(0, "")?.iter().filter_map(|reading| reading["value"].as_f64()).collect())
}

/// Waits until the connector names this as its error.
fn wait_until_said(client: &Client, part: &str) -> Result<()> {
    wait_until(part, || {
        Ok(plant::status(client)?["last_error"].as_str().is_some_and(|error| error.contains(part)))
    })
}

/// Tries a configuration that fails, and returns what is said.
fn refused(setup: &Setup, config: &str) -> Result<String> {
    let file = setup.folder().join("tried.toml");
    fs::write(&file, config)?;
    let path = file.to_str().context("no path")?;
    let tried =
        ironloom_tests::server::cli_at("", &["connector", "test", "plant", "--config", path, "--for", "1s"])?;
    ensure!(tried.status.code() == Some(1), "{}: {}", tried.status, String::from_utf8_lossy(&tried.stdout));
    Ok(String::from_utf8(tried.stderr)?)
}

#[test]
fn a_broker_of_311_is_spoken_to_in_311_with_all_qualities_of_service() -> Result<()> {
    let Some(mut broker) = Amqtt::start("the MQTT connector with a second broker")? else { return Ok(()) };
    let server = Setup::new()?.config(config(&broker.url(), "")).start_listening()?;
    let client = server.client();
    wait_until_connected(client)?;
    let status = plant::status(client)?;
    assert_eq!((&status["broker"]["version"], &status["broker"]["reported"]), (&json!("3.1.1"), &json!({})));
    let messages = [0, 1, 2].map(|qos| Message::new("q/a", qos.to_string()).qos(qos));
    broker.publish(&messages)?;
    broker.publish(&[Message::new("q/a", "hot"), Message::new("q/a", "3")])?;
    wait_until("all of it", || Ok(values(client)? == [0.0, 1.0, 2.0, 3.0]))?;
    assert_eq!(plant::status(client)?["dead_letters"], 1);
    // It forgets everything, and comes back.
    broker.kill()?;
    wait_until("the loss", || Ok(plant::status(client)?["state"] == "waiting"))?;
    broker.start_again()?;
    wait_until_connected(client)?;
    let status = plant::status(client)?;
    assert_eq!(
        (&status["broker"]["reconnects"], &status["broker"]["session_present"]),
        (&json!(1), &json!(false))
    );
    broker.publish(&[Message::new("q/a", "4"), Message::new("q/a", "5").qos(2)])?;
    wait_until("the rest", || Ok(values(client)? == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]))?;
    Ok(())
}

#[test]
fn what_comes_while_the_server_is_down_comes_later_in_311_too() -> Result<()> {
    let Some(broker) = Mosquitto::start("", "a session of 3.1.1")? else { return Ok(()) };
    let setup = Setup::new()?.config(config(&broker.url(), "version = \"3.1.1\"\n"));
    let server = setup.start_listening()?;
    wait_until_connected(server.client())?;
    broker.send(&Message::new("q/a", "1"))?;
    wait_until("the first", || Ok(values(server.client())? == [1.0]))?;
    ensure!(server.stop()?.success());
    broker.send(&Message::new("q/a", "2"))?;
    broker.send(&Message::new("q/b", "3"))?;
    let server = setup.start_listening()?;
    wait_until("what came meanwhile", || Ok(values(server.client())? == [1.0, 2.0, 3.0]))?;
    assert_eq!(plant::status(server.client())?["broker"]["session_present"], true);
    Ok(())
}

#[test]
fn passwords_come_from_a_file_or_the_environment_and_a_wrong_one_is_named() -> Result<()> {
    let setup = Setup::new()?;
    let folder = setup.folder().to_owned();
    let Some(broker) = Mosquitto::start_for("iron", "s3cret", "", "passwords of a broker")? else {
        return Ok(());
    };
    write_secret(&folder.join("good"), "s3cret\n")?;
    write_secret(&folder.join("bad"), "0ther\n")?;
    let with = |more: &str| config(&broker.url(), &format!("user = \"iron\"\n{more}"));
    for (env, more) in [("", "password_file = \"good\"\n"), ("s3cret", "password_env = \"IRON_PASSWORD\"\n")]
    {
        let setup = setup.clone().config(with(more)).env("IRON_PASSWORD", env);
        let server = setup.start_listening()?;
        wait_until_connected(server.client())?;
        ensure!(server.stop()?.success());
    }
    let setup = setup.config(with("password_file = \"bad\"\n"));
    let server = setup.start_listening()?;
    wait_until_said(server.client(), "look at `user`")?;
    ensure!(!setup.said().contains("s3cret") && !setup.said().contains("0ther"), "{}", setup.said());
    // Mended without a restart: the file is read anew for each connection.
    write_secret(&folder.join("bad"), "s3cret\n")?;
    wait_until_connected(server.client())?;
    write_secret(&folder.join("bad"), "0ther\n")?;
    for (more, reason) in [
        ("password_file = \"bad\"\nversion = \"5\"\n", "look at `user`"),
        ("password_file = \"bad\"\nversion = \"3.1.1\"\n", "look at `user`"),
        ("password_file = \"nowhere\"\n", "nowhere can't be read"),
        ("password_env = \"IRON_NOTHING\"\n", "the environment variable IRON_NOTHING"),
    ] {
        let said = refused(&setup, &with(more))?;
        ensure!(said.contains(reason), "{said}");
    }
    Ok(())
}

#[test]
fn certificates_are_held_against_the_authority_that_is_named() -> Result<()> {
    let setup = Setup::new()?;
    let folder = setup.folder().to_owned();
    let authority = Authority::new(&folder, "authority")?;
    let other = Authority::new(&folder, "other")?;
    let (certificate, key) = authority.sign("localhost")?;
    let listener = json!({"ssl": true, "certfile": certificate, "keyfile": key});
    let ca = authority.certificate();
    let Some(broker) = Amqtt::start_with(&listener, &anybody(), Some(&ca), "TLS to a broker")? else {
        return Ok(());
    };
    let with = |ca: &Path| config(&broker.url(), &format!("ca = {ca:?}\n"));
    let server = setup.clone().config(with(&ca)).start_listening()?;
    wait_until_connected(server.client())?;
    broker.publish(&[Message::new("q/a", "1")])?;
    wait_until("it", || Ok(values(server.client())? == [1.0]))?;
    for (config, reason) in [
        (with(&other.certificate()), "name its authority by `ca`"),
        (config(&broker.url(), ""), "name its authority by `ca`"),
        (with(&ca).replace("localhost", "127.0.0.1"), "the broker's certificate is for another name"),
        (config(&broker.url().replace("mqtts", "mqtt"), ""), "mqtts://"),
        (with(Path::new("nowhere.pem")), "nowhere.pem can't be read"),
        (config("mqtt://127.0.0.1:1", ""), "nothing listens there"),
    ] {
        let said = refused(&setup, &config)?;
        ensure!(said.contains(reason), "{config}: {said}");
    }
    Ok(())
}

#[test]
fn a_client_shows_its_own_certificate_to_a_broker_that_asks_for_one() -> Result<()> {
    let setup = Setup::new()?;
    let folder = setup.folder().to_owned();
    let what = "certificates of clients";
    let authority = Authority::new(&folder, "authority")?;
    let other = Authority::new(&folder, "other")?;
    let (certificate, key) = authority.sign("localhost")?;
    let (own, own_key) = authority.sign("ironloom")?;
    let (strange, strange_key) = other.sign("stranger")?;
    let ca = authority.certificate();
    let broker = Mosquitto::start(
        &format!(
            "cafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\nuser root\n",
            ca.display(),
            certificate.display(),
            key.display()
        ),
        what,
    )?;
    let Some(broker) = broker else { return Ok(()) };
    let url = format!("mqtts://localhost:{}", broker.port());
    let with = |own: &Path, key: &Path| {
        config(&url, &format!("ca = {ca:?}\ncertificate = {own:?}\nkey = {key:?}\n"))
    };
    for version in ["5", "3.1.1"] {
        let more = with(&own, &own_key).replace("client_id", &format!("version = {version:?}\nclient_id"));
        let server = setup.clone().config(more).start_listening()?;
        wait_until_connected(server.client())?;
        assert_eq!(plant::status(server.client())?["broker"]["version"], version);
        ensure!(server.stop()?.success());
    }
    let without = refused(&setup, &config(&url, &format!("ca = {ca:?}\n")))?;
    ensure!(without.contains("name it by `certificate` and `key`"), "{without}");
    let strange = refused(&setup, &with(&strange, &strange_key))?;
    ensure!(strange.contains("doesn't trust the authority of `certificate`"), "{strange}");
    Ok(())
}

#[test]
fn a_broker_is_told_of_the_session_and_of_how_much_it_may_send() -> Result<()> {
    const WEEK: u32 = 7 * 86_400;
    let door = Doorkeeper::open()?;
    let of_five = |receive_maximum: u16, session_expiry: u32, keep_alive: u16| Greeting {
        level: 5,
        is_clean: false,
        keep_alive,
        session_expiry: Some(session_expiry),
        receive_maximum: Some(receive_maximum),
        client_id: "ironloom-test".to_owned(),
    };
    let of_311 = Greeting {
        level: 4,
        is_clean: false,
        keep_alive: 30,
        client_id: "ironloom-test".to_owned(),
        ..Greeting::default()
    };
    for (more, expected) in [
        ("", of_five(10_000, WEEK, 30)),
        ("receive_maximum = 7\nsession_expiry = \"2 h\"\nkeep_alive = \"10 s\"\n", of_five(7, 7_200, 10)),
        // It has no word for these.
        ("version = \"3.1.1\"\nreceive_maximum = 7\n", of_311),
    ] {
        let server = Setup::new()?.config(config(&door.url()?, more)).start_listening()?;
        assert_eq!(door.next()?, expected, "{more}");
        server.kill()?;
    }
    Ok(())
}

#[test]
fn one_message_at_a_time_brings_all_of_them() -> Result<()> {
    let settings = "max_queued_messages 0\nlog_type all\n";
    let Some(broker) = Mosquitto::start(settings, "a receive maximum of 1")? else { return Ok(()) };
    let server = Setup::new()?.config(config(&broker.url(), "receive_maximum = 1\n")).start_listening()?;
    let client = server.client();
    wait_until_connected(client)?;
    let lines: Vec<String> = (0..200).map(|n: u8| n.to_string()).collect();
    broker.publish("q/a", &lines)?;
    let all: Vec<f64> = (0..200).map(f64::from).collect();
    wait_until("all of them", || Ok(values(client)? == all))?;
    wait_until("the last acknowledgement", || {
        Ok(plant::status(client)?["broker"]["messages_acknowledged"] == all.len())
    })?;
    // The broker sends none before it has the acknowledgement of the one before.
    let (sent, answered) = ("Sending PUBLISH to ironloom-test ", "Received PUBACK from ironloom-test ");
    let log = broker.log()?;
    let mut turns: Vec<&String> =
        log.iter().filter(|line| line.starts_with(sent) || line.starts_with(answered)).collect();
    assert_eq!(turns.len(), 2 * all.len());
    turns.retain({
        let mut is_to_send = false;
        move |line| {
            is_to_send = !is_to_send;
            line.starts_with(if is_to_send { answered } else { sent })
        }
    });
    ensure!(turns.is_empty(), "out of turn: {:?}", turns.first());
    Ok(())
}
