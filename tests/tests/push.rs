//! `ironloom push` while its server is killed, stopped, slow or given up: nothing is lost, nothing taken twice.

use std::fs;
use std::io::{BufRead as _, BufReader, Lines, PipeWriter, Write as _};
use std::process::{Child, ChildStderr, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::server::binary;
use ironloom_tests::{Server, Setup, wait_until};

/// A push of what is written to its stdin.
struct Live {
    child: Child,
    to: PipeWriter,
    said: Lines<BufReader<ChildStderr>>,
}

fn live(url: &str, arguments: &[&str]) -> Result<Live> {
    let (read, to) = std::io::pipe()?;
    let mut command = Command::new(binary()?);
    command.arg("push").args(arguments).env("IRONLOOM_URL", url);
    let mut child = command.stdin(read).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let said = BufReader::new(child.stderr.take().context("no stderr")?).lines();
    Ok(Live { child, to, said })
}

impl Live {
    /// The next line on its stderr.
    fn says(&mut self) -> Result<String> {
        Ok(self.said.next().context("no more was said")??)
    }

    /// Ends its stdin; returns its last words and its exit code.
    fn end(mut self) -> Result<(String, i32)> {
        drop(self.to);
        let said = self.said.collect::<Result<Vec<_>, _>>()?;
        let code = self.child.wait()?.code().context("ended by a signal")?;
        Ok((said.join("\n"), code))
    }
}

fn line(number: u64) -> String {
    format!("{{\"point\":\"a\",\"value\":{number}}}\n")
}

fn lines(from: u64, to: u64) -> String {
    (from..to).map(line).collect()
}

/// The values in the journal, in its order.
fn values(server: &Server) -> Result<Vec<u64>> {
    let readings = server.client().journal(0, "")?;
    readings.iter().map(|reading| reading["value"].as_u64().with_context(|| format!("{reading}"))).collect()
}

fn port(url: &str) -> Result<u16> {
    Ok(url.rsplit(':').next().context("no port")?.parse()?)
}

#[test]
fn what_comes_by_a_pipe_is_taken_once_though_the_server_is_killed_again_and_again() -> Result<()> {
    const PART: u64 = 20_000;
    const PARTS: u64 = 6;
    let mut server = Setup::new()?.start()?;
    let url = server.client().url().to_owned();
    let setup = server.setup().clone().port(port(&url)?);
    let push = live(&url, &["-"])?;
    for part in 0..PARTS {
        let text = lines(part * PART, (part + 1) * PART);
        let writer = std::thread::spawn({
            let mut to = push.to.try_clone()?;
            move || to.write_all(text.as_bytes())
        });
        wait_until("some of it is taken", || Ok(!server.client().journal(part * PART, "")?.is_empty()))?;
        // With whatever is on its way.
        server.kill()?;
        server = setup.start()?;
        writer.join().map_err(|_| anyhow::anyhow!("the writer failed"))??;
    }
    let (said, code) = push.end()?;
    assert_eq!(code, 0, "{said}");
    ensure!(said.contains("trying again: the connection was lost"), "{said}");
    let total = PARTS * PART;
    ensure!(said.ends_with(&format!("{total} readings taken, the last as {total}")), "{said}");
    assert_eq!(values(&server)?, (0..total).collect::<Vec<_>>());
    ensure!(server.stop()?.success());
    Ok(())
}

#[test]
fn lines_of_a_live_feed_are_sent_as_they_come() -> Result<()> {
    let server = Setup::new()?.start()?;
    let mut push = live(server.client().url(), &[])?;
    for number in 0..3 {
        push.to.write_all(line(number).as_bytes())?;
        wait_until("it is there", || Ok(values(&server)?.len() as u64 == number + 1))?;
    }
    // Bad lines are counted from the first one.
    push.to.write_all(b"nonsense\n")?;
    let (said, code) = push.end()?;
    assert_eq!(code, 1);
    ensure!(said.starts_with("error: nothing from line 4 on was accepted; line 4, column "), "{said}");
    ensure!(said.contains("\nhint: The 3 lines before were taken (3 readings).\n"), "{said}");
    ensure!(server.stop()?.success());
    Ok(())
}

#[test]
fn the_same_lines_under_one_key_are_taken_once_whatever_ended_the_push_before() -> Result<()> {
    let mut server = Setup::new()?.start()?;
    let url = server.client().url().to_owned();
    let setup = server.setup().clone().port(port(&url)?);
    let file = setup.folder().join("readings");
    fs::write(&file, lines(0, 5_000))?;
    let file = file.to_str().context("an odd path")?.to_owned();

    let mut push = live(&url, &["--key", "k"])?;
    push.to.write_all(lines(0, 3_000).as_bytes())?;
    wait_until("some of it is taken", || Ok(!values(&server)?.is_empty()))?;
    push.child.kill()?;
    push.child.wait()?;
    // By a pipe or as a file.
    let done = server.cli(&["push", &file, "--key", "k"])?;
    ensure!(done.status.success(), "{done:?}");
    assert_eq!(values(&server)?, (0..5_000).collect::<Vec<_>>());
    server.kill()?;
    server = setup.start()?;
    let mut push = live(&url, &["--key", "k"])?;
    push.to.write_all(lines(0, 5_001).as_bytes())?;
    let (said, code) = push.end()?;
    assert_eq!(code, 0, "{said}");
    assert_eq!(
        said,
        "the first 5000 lines were taken before, and are skipped\n\
         5001 readings taken, 5000 of them before, the last as 5001"
    );

    // Other lines aren't passed over.
    let push = live(&url, &["--key", "k"])?;
    let mut to = push.to.try_clone()?;
    let _ = to.write_all(lines(1, 6_000).as_bytes());
    drop(to);
    let (said, code) = push.end()?;
    assert_eq!(code, 1);
    ensure!(
        said.contains("error: lines 1 to 5001 aren't those that were taken under this key\nhint: "),
        "{said}"
    );
    // Nor are those of which only the last one is the same.
    let push = live(&url, &["--key", "k"])?;
    let mut to = push.to.try_clone()?;
    let _ = to.write_all((lines(1, 5_001) + &line(5_000)).as_bytes());
    drop(to);
    let (said, code) = push.end()?;
    assert_eq!(code, 1);
    ensure!(said.contains("error: lines 1 to 5001 aren't those that were taken"), "{said}");
    assert_eq!(values(&server)?.len(), 5_001);
    ensure!(server.stop()?.success());
    Ok(())
}

#[test]
fn pushes_without_a_key_leave_nothing_behind() -> Result<()> {
    let server = Setup::new()?.start()?;
    for number in 0..3 {
        let mut push = live(server.client().url(), &[])?;
        push.to.write_all(line(number).as_bytes())?;
        let (said, code) = push.end()?;
        assert_eq!((said, code), (format!("1 reading taken, the last as {}", number + 1), 0));
    }
    let metrics = server.client().get("/metrics")?.text();
    ensure!(metrics.contains("\nironloom_streams 0\n"), "{metrics}");
    ensure!(server.stop()?.success());
    Ok(())
}

/// Sends a signal to a push.
fn signal(push: &Live, name: &str) -> Result<()> {
    let sent = Command::new("kill").args([name, &push.child.id().to_string()]).status()?;
    ensure!(sent.success(), "kill {name}");
    Ok(())
}

#[test]
fn a_push_that_is_interrupted_says_how_to_go_on() -> Result<()> {
    let mut server = Setup::new()?.start()?;
    // The others that end a push may be ignored where tests run, and then a push ignores them, too.
    for count in 1..=3 {
        let mut push = live(server.client().url(), &["--key", &format!("k{count}")])?;
        push.to.write_all(lines(0, count).as_bytes())?;
        wait_until("they are there", || {
            Ok(server.client().journal(0, "")?.len() as u64 == count * (count + 1) / 2)
        })?;
        signal(&push, "-TERM")?;
        let (code, said) = (push.child.wait()?.code(), push.said.collect::<Result<Vec<_>, _>>()?.join("\n"));
        assert_eq!(code, Some(130), "{said}");
        ensure!(said.starts_with("error: interrupted\nhint: The "), "{said}");
        ensure!(said.contains(&format!("with --key k{count}: nothing is taken twice")), "{said}");
    }
    // While it waits for a server that is gone.
    let url = server.client().url().to_owned();
    let setup = server.setup().clone().port(port(&url)?);
    let mut push = live(&url, &["--retry", "forever"])?;
    push.to.write_all(line(0).as_bytes())?;
    wait_until("it is there", || Ok(server.client().journal(6, "")?.len() == 1))?;
    server.kill()?;
    ensure!(push.says()?.contains("trying again"), "it waits");
    signal(&push, "-TERM")?;
    assert_eq!(push.end()?.1, 130);
    // One that isn't there yet is waited for, too.
    let mut push = live(&url, &["--retry", "forever"])?;
    ensure!(push.says()?.contains("trying again: no server answers"), "it waits");
    server = setup.start()?;
    push.to.write_all(line(1).as_bytes())?;
    let (said, code) = push.end()?;
    assert_eq!((said.as_str(), code), ("1 reading taken, the last as 8", 0));
    ensure!(server.stop()?.success());
    Ok(())
}

#[test]
fn only_one_push_at_a_time_has_a_key() -> Result<()> {
    let server = Setup::new()?.start()?;
    let mut first = live(server.client().url(), &["--key", "k"])?;
    first.to.write_all(line(0).as_bytes())?;
    wait_until("it is there", || Ok(values(&server)?.len() == 1))?;
    let mut second = live(server.client().url(), &["--key", "k"])?;
    ensure!(second.says()?.contains("the first line was"), "it has the stream");
    let said = first.says()?;
    ensure!(said.starts_with("error: another connection has taken this stream over"), "{said}");
    assert_eq!(first.end()?.1, 5);
    second.to.write_all(lines(0, 2).as_bytes())?;
    let (said, code) = second.end()?;
    assert_eq!((said.as_str(), code), ("2 readings taken, 1 of them before, the last as 2", 0));
    ensure!(server.stop()?.success());
    Ok(())
}

#[test]
fn a_server_that_was_never_there_is_not_waited_for() -> Result<()> {
    let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let (said, code) = live(&format!("http://{free}"), &[])?.end()?;
    assert_eq!(code, 3);
    ensure!(said.starts_with(&format!("error: no server answers at http://{free}: ")), "{said}");
    let server = Setup::new()?.start()?;
    let (said, code) = live(&format!("{}/elsewhere", server.client().url()), &[])?.end()?;
    assert_eq!(code, 4, "{said}");
    let folder = server.setup().folder().display().to_string();
    let (said, code) = live(server.client().url(), &[&folder])?.end()?;
    assert_eq!(code, 1, "{said}");
    ensure!(said.starts_with(&format!("error: {folder} can't be read: ")), "{said}");
    ensure!(server.stop()?.success());
    Ok(())
}

#[test]
fn a_push_that_lacks_the_time_of_a_feed_ends_at_once() -> Result<()> {
    let server = Setup::new()?.config("[site]\nclock = \"feed\"\n").start()?;
    let mut push = live(server.client().url(), &[])?;
    push.to.write_all(line(1).as_bytes())?;
    let (said, code) = push.end()?;
    assert_eq!(code, 1, "{said}");
    assert_eq!(said.matches("trying again").count(), 1, "{said}");
    ensure!(said.contains("`at` of their own") && said.contains("by a push of its own"), "{said}");
    ensure!(said.ends_with("hint: 1 line was read and not taken."), "{said}");

    // Whoever says how long waits for the time that another brings.
    let mut push = live(server.client().url(), &["--retry", "1 d"])?;
    push.to.write_all(line(2).as_bytes())?;
    ensure!(push.says()?.starts_with("trying again"), "it waits");
    let first = br#"{"point":"a","value":1,"at":"2026-01-01T00:00:00Z"}"#;
    server.client().push(first, None)?.json()?;
    let (said, code) = push.end()?;
    assert_eq!(code, 0, "{said}");
    assert_eq!(server.client().journal(0, "")?.len(), 2);
    Ok(())
}
