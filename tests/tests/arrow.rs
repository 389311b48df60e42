//! Readings as Arrow streams that pyarrow and polars write.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::guests::workspace;
use ironloom_tests::http::Answer;
use ironloom_tests::python::{POLARS, PYARROW};
use ironloom_tests::{Client, Setup, python};
use serde_json::{Value, json};

const ARROW: &str = "application/vnd.apache.arrow.stream";

fn push(client: &Client, folder: &Path, name: &str, query: &str) -> Result<Answer> {
    let body = fs::read(folder.join(name)).with_context(|| format!("Python wrote no {name}"))?;
    client.send("POST", &format!("/v1/readings{query}"), &[("content-type", ARROW)], &body)
}

/// Point, value and quality of what came behind a sequence.
fn behind(client: &Client, sequence: u64) -> Result<Vec<Value>> {
    let readings = client.journal(sequence, "")?;
    let of = |reading: &Value| json!([reading["point"], reading["value"], reading["quality"]]);
    Ok(readings.iter().map(of).collect())
}

#[test]
fn what_pyarrow_writes_is_taken_as_it_says() -> Result<()> {
    let Some(python) = python::with(PYARROW, "streams that pyarrow writes")? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let script = workspace().join("tests/peers/arrow_bodies.py");
    python::run(Command::new(&python).arg(script).arg(folder.path()))?;
    let server = Setup::new()?.start()?;
    let client = server.client();
    let blob = json!({"base64": "AP8="});
    let mut through = 0;
    for (name, expected) in [
        (
            "dictionary",
            json!([["hall/1/t", 21.5, "good"], ["hall/2/t", 22.0, "uncertain"], ["hall/1/t", -0.25, "good"]]),
        ),
        ("chunks", json!([["a/x", 1, "good"], ["a/y", 2, "good"], ["a/y", 3, "good"], ["a/z", 4, "good"]])),
        (
            "deltas",
            json!([
                ["d/x", true, "good"],
                ["d/y", false, "good"],
                ["d/z", true, "good"],
                ["d/x", false, "good"]
            ]),
        ),
        ("slice", json!([["s/1", "on", "bad"], ["s/2", "ä", "uncertain"]])),
        (
            "sparse",
            json!([
                ["u/1", 1.5, "good"],
                ["u/2", "open", "good"],
                ["u/3", true, "good"],
                ["u/4", null, "bad"]
            ]),
        ),
        (
            "dense",
            json!([["v/1", 7, "good"], ["v/2", blob, "good"], ["v/3", false, "good"], ["v/4", 8, "good"]]),
        ),
    ] {
        let expected = expected.as_array().context("no list")?;
        let answer = push(client, folder.path(), name, "")?.json()?;
        let after = through + expected.len() as u64;
        ensure!(answer == json!({"accepted": expected.len(), "through": after}), "{name}: {answer}");
        ensure!(behind(client, through)? == *expected, "{name}: {:?}", behind(client, through)?);
        through = after;
    }
    let times: Vec<Value> =
        client.journal(0, "")?.iter().take(2).map(|reading| reading["at"].clone()).collect();
    ensure!(times == ["2025-03-01T12:00:01.000250000Z", "2025-03-01T12:00:02.000250000Z"], "{times:?}");

    refusals(client, folder.path())?;

    let answer = push(client, folder.path(), "many", "")?.json()?;
    ensure!(answer["accepted"] == 100_000, "{answer}");
    let last = client.journal(through + 1 + 99_999, "")?;
    ensure!(last.len() == 1 && last[0]["point"] == "m/999/v" && last[0]["value"] == 99_999.0, "{last:?}");
    ensure!(server.stop()?.success(), "the server didn't stop cleanly");
    Ok(())
}

#[test]
fn what_polars_writes_is_taken_as_it_says() -> Result<()> {
    let Some(python) = python::with(POLARS, "streams that polars writes")? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let script = workspace().join("tests/peers/polars_bodies.py");
    python::run(Command::new(&python).arg(script).arg(folder.path()))?;
    let server = Setup::new()?.start()?;
    let client = server.client();
    let texts = json!([["door/of/the/north/hall", "open since this morning", "good"], ["d/2", "on", "good"]]);
    let mut through = 0;
    for (name, expected) in [
        ("polars", json!([["hall/1/temperature", 21.5, "good"], ["h/2", -0.25, "uncertain"]])),
        ("polars-texts", texts.clone()),
        ("polars-oldest", texts.clone()),
        ("polars-categories", texts),
        (
            "polars-blobs",
            json!([
                ["b/1", {"base64": "AP8="}, "good"],
                ["b/2", {"base64": "bW9yZSB0aGFuIHR3ZWx2ZQ=="}, "good"]
            ]),
        ),
    ] {
        let expected = expected.as_array().context("no list")?;
        let answer = push(client, folder.path(), name, "")?.json()?;
        let after = through + expected.len() as u64;
        ensure!(answer == json!({"accepted": expected.len(), "through": after}), "{name}: {answer}");
        ensure!(behind(client, through)? == *expected, "{name}: {:?}", behind(client, through)?);
        through = after;
    }
    let first = &client.journal(0, "")?[0];
    ensure!(first["at"] == "2025-03-01T12:00:01.000250000Z", "{first}");
    let answer = push(client, folder.path(), "polars-common", "")?.json()?;
    ensure!(answer["accepted"] == 1_000, "{answer}");
    let last = client.journal(through + 999, "")?;
    let text = "a long text that all rows share ".repeat(10);
    ensure!(last.len() == 1 && last[0]["point"] == "line/7/state" && last[0]["value"] == text, "{last:?}");
    let answer = push(client, folder.path(), "polars-many", "")?.json()?;
    ensure!(answer["accepted"] == 100_000, "{answer}");
    let last = client.journal(through + 1_000 + 99_999, "")?;
    ensure!(last.len() == 1 && last[0]["point"] == "plant/line-999/value", "{last:?}");
    ensure!(server.stop()?.success(), "the server didn't stop cleanly");
    Ok(())
}

/// What is refused says why; one reading is taken.
fn refusals(client: &Client, folder: &Path) -> Result<()> {
    for (name, said) in
        [("compressed", "write the stream without compression"), ("local", "without a time zone")]
    {
        for query in ["", "?partial=true"] {
            let problem = push(client, folder, name, query)?.problem(400)?;
            ensure!(problem["detail"].as_str().is_some_and(|detail| detail.contains(said)), "{problem}");
        }
    }
    let problem = push(client, folder, "bad-rows", "")?.problem(400)?;
    ensure!(problem["where"] == json!({"batch": 1, "row": 2, "field": "point"}), "{problem}");
    let answer = push(client, folder, "bad-rows", "?partial=true")?.json()?;
    ensure!((&answer["accepted"], &answer["refused"]) == (&json!(1), &json!(3)), "{answer}");
    let rows: Vec<_> = answer["errors"]
        .as_array()
        .context("no errors")?
        .iter()
        .map(|error| &error["where"]["row"])
        .collect();
    ensure!(rows == [2, 3, 4], "{answer}");
    Ok(())
}

#[test]
fn the_example_of_the_docs_runs() -> Result<()> {
    let Some(python) = python::with(PYARROW, "the docs' example of pyarrow")? else { return Ok(()) };
    let page = fs::read_to_string(workspace().join("docs/src/integrate/readings.md"))?;
    let example = page.split("```python\n").nth(1).and_then(|rest| rest.split("```").next());
    let example = example.context("the page has no example in Python")?;
    let server = Setup::new()?.start()?;
    let example = example.replace("http://127.0.0.1:7420", server.client().url());
    python::run(Command::new(&python).args(["-c", &example]))?;
    let expected = [json!(["hall/1/temperature", 21.5, "good"]), json!(["hall/2/temperature", 22.0, "good"])];
    ensure!(behind(server.client(), 0)? == expected, "{:?}", behind(server.client(), 0)?);
    ensure!(server.stop()?.success(), "the server didn't stop cleanly");
    Ok(())
}
