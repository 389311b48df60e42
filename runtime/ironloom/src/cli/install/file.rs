//! An installation as the file that `install --with` takes.

use std::fmt::Write as _;

use serde_json::Value as Json;

use crate::api::facade::Installation;
use ironloom_apps::allowance::LimitKind;
use ironloom_apps::grants::{Mode, Safe};

/// Writes what an install asked for, and what has been changed since.
pub(in crate::cli) fn write(of: &Installation) -> String {
    // Writing into a String doesn't fail.
    let mut out = String::new();
    let _ = writeln!(out, "# {} {}", of.app, of.version);
    let _ = writeln!(out, "id = {}", quoted(of.id.as_str()));
    let _ = writeln!(out, "package = {}", quoted(&of.package.to_string()));
    let _ = writeln!(out, "timezone = {}", quoted(&of.timezone));
    if of.keep_up {
        let _ = writeln!(out, "keep_up = true");
    }
    let _ = writeln!(out, "\n[bindings]");
    for (name, patterns) in &of.bindings {
        let all: Vec<String> = patterns.as_slice().iter().map(|pattern| quoted(pattern)).collect();
        let _ = writeln!(out, "{name} = [{}]", all.join(", "));
    }
    let _ = writeln!(out, "\n[settings]");
    for (name, value) in &of.settings {
        let value = match value {
            Json::String(text) => quoted(text),
            // Numbers and truth values are written alike in both.
            other => other.to_string(),
        };
        let _ = writeln!(out, "{name} = {value}");
    }
    let _ = writeln!(out, "\n[limits]");
    for kind in LimitKind::ALL {
        if let Some(value) = of.limits.get(kind) {
            let _ = writeln!(out, "{} = {}", kind.name(), quoted(&kind.show(value)));
        }
    }
    if of.grants.mode != Mode::default() {
        let _ = writeln!(out, "\n[grants]\nmode = {}", quoted(&of.grants.mode.to_string()));
    }
    for (name, grant) in &of.grants.outputs {
        let _ = writeln!(out, "\n[grants.outputs.{name}]\nallow = {}", quoted(&grant.allow.to_string()));
        let _ = writeln!(out, "toward = {}", quoted(&grant.toward.to_string()));
        if let Some(ttl) = grant.ttl {
            let _ = writeln!(out, "ttl = {}", quoted(&ttl.to_string()));
        }
        if let Some(every) = grant.every {
            let _ = writeln!(out, "every = {}", quoted(&every.to_string()));
        }
        let _ = match grant.safe {
            None => Ok(()),
            Some(Safe::Hold) => writeln!(out, "safe = \"hold\""),
            Some(Safe::Number(number)) => writeln!(out, "safe = {number:?}"),
            Some(Safe::Boolean(value)) => writeln!(out, "safe = {value}"),
        };
        if grant.strict {
            let _ = writeln!(out, "strict = true");
        }
    }
    out
}

/// A text as TOML's basic string. JSON's has the same escapes, but leaves DEL as it is.
fn quoted(text: &str) -> String {
    Json::from(text).to_string().replace('\u{7f}', "\\u007f")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::api::facade::{Grants, PartialLimits, Patterns};
    use crate::cli::install::request::{Asked, File, parse};
    use ironloom_apps::grants::{OutputGrant, Toward};
    use ironloom_apps::quantity::Span;
    use ironloom_types::ids::SlotName;
    use std::collections::BTreeMap;

    fn setting() -> impl Strategy<Value = Json> {
        prop_oneof![
            any::<bool>().prop_map(Json::from),
            any::<i64>().prop_map(Json::from),
            any::<f64>().prop_filter("JSON has no others", |real| real.is_finite()).prop_map(Json::from),
            any::<String>().prop_map(Json::from),
            "[\u{0}-\u{1f}\"\\\\\u{7f}]{0,6}".prop_map(Json::from),
        ]
    }

    fn limits() -> impl Strategy<Value = PartialLimits> {
        let of = |kind: LimitKind| kind.range().0..=kind.range().1;
        let [memory, cpu, state, share, points] = LimitKind::ALL.map(of);
        (memory, cpu, state, share, points).prop_map(|(memory, cpu, state, share, points)| {
            let mut limits = PartialLimits::default();
            let all = LimitKind::ALL.into_iter().zip([memory, cpu, state, share, points]);
            all.for_each(|(kind, value)| limits.set(kind, value));
            limits
        })
    }

    fn grant() -> impl Strategy<Value = OutputGrant> {
        let safe = prop_oneof![
            Just(None),
            Just(Some(Safe::Hold)),
            (-1e9..1e9).prop_map(|number| Some(Safe::Number(number))),
            any::<bool>().prop_map(|value| Some(Safe::Boolean(value))),
        ];
        let allow = (-1e6..1e6, 0.0..1e6).prop_map(|(low, more)| format!("{low}..{}", low + more));
        let span = || prop::option::of(0..u64::MAX / 2);
        (allow, any::<bool>(), span(), safe, any::<bool>(), span()).prop_map(
            |(allow, high, ttl, safe, strict, every)| OutputGrant {
                every: every.map(Span),
                toward: if high { Toward::High } else { Toward::Low },
                ttl: ttl.map(Span),
                safe,
                strict,
                ..OutputGrant::of(allow.parse().unwrap())
            },
        )
    }

    fn name() -> impl Strategy<Value = SlotName> {
        "[a-z][a-z0-9-]{0,8}[a-z0-9]".prop_filter_map("no name", |text| SlotName::new(&text).ok())
    }

    proptest! {
        #![proptest_config(ironloom_mutate::cases(512))]

        #[test]
        fn what_is_written_is_read_again(
            bindings in prop::collection::btree_map(name(), prop::collection::vec("[a-z\"\u{e4} ]{1,5}/\\{x\\}", 1..3), 0..3),
            settings in prop::collection::btree_map(name(), setting(), 0..4),
            limits in limits(),
            outputs in prop::collection::btree_map(name(), grant(), 0..2),
            keep_up in any::<bool>(),
            mode in prop::sample::select(vec![Mode::Shadow, Mode::Advise, Mode::Act]),
        ) {
            let bindings: BTreeMap<_, _> =
                bindings.into_iter().map(|(name, all)| (name, Patterns::Many(all))).collect();
            let grants = Grants { mode, outputs };
            let digest = format!("sha256:{}", "07".repeat(32));
            let shown = json!({
                "id": "pigs", "app": "com.example.pigs", "version": "0.1.0", "package": digest, "state": "running",
                "revision": 4, "generation": 1, "cursor": 9,
                "lag": {"readings": 0, "seconds": 0.0, "oldest": null}, "last_error": null,
                "counters": ironloom_types::work::Counters::default(),
                "bindings": bindings, "grants": grants, "settings": settings, "limits": limits,
                "timezone": "Europe/Berlin", "keep_up": keep_up,
            });
            let shown: Installation = serde_json::from_value(shown).unwrap();
            // Grants are read from JSON there: what that can't say is no matter here.
            let shown = Installation { grants: grants.clone(), ..shown };
            let text = write(&shown);
            let (file, _) = parse(&text).map_err(|problems| TestCaseError::fail(format!("{problems}\n{text}")))?;
            let expected = Asked {
                package: Some(digest),
                id: Some(shown.id.clone()),
                publisher: None,
                adopt: None,
                from: None,
                timezone: Some("Europe/Berlin".to_owned()),
                keep_up: keep_up.then_some(true),
                bindings,
                settings,
                limits,
                grants: Grants { mode: Mode::default(), ..grants },
                mode: (mode != Mode::default()).then_some(mode),
            };
            prop_assert_eq!(file, File::One(Box::new(expected)), "{}", text);
        }
    }
}
