//! Reads an `app.toml` part by part.

use std::str::FromStr;
use std::sync::Arc;

use super::{
    Alarm, Input, MANIFEST_VERSION, MAX_MANIFEST_BYTES, MAX_SLOTS, Manifest, Output, OutputKind, Setting,
    Severity, Timer, ValueType,
};
use crate::allowance::PartialLimits;
use crate::cron::Cron;
use crate::problem::{Problem, Problems};
use crate::quantity::Span;
use crate::settings;
use crate::toml_section::{Field, Findings, Section};
use crate::unit;
use ironloom_types::ids::{AppId, InvalidName, SlotName};

/// The longest description of an app or of one of its parts, in bytes. Beyond: refused.
const MAX_DESCRIPTION: usize = 4096;
/// The longest name of an app, its publisher or licence, in bytes. Beyond: refused.
const MAX_LINE: usize = 200;

pub(super) fn parse(text: &str) -> Result<Manifest, Problems> {
    if text.len() > MAX_MANIFEST_BYTES {
        let message = format!("a manifest has at most {MAX_MANIFEST_BYTES} bytes, this one {}", text.len());
        return Err(Problem::whole(message).into());
    }
    let findings = Findings::new(text);
    let mut section = findings.root()?;
    check_version(&mut section);
    findings.check()?;

    let manifest = read(&mut section);
    section.finish();
    findings.check()?;
    // Whatever is missing has been noted as a problem.
    manifest.ok_or_else(|| Problem::of("manifest", "is not complete").into())
}

fn check_version(section: &mut Section<'_, '_>) {
    let Some(field) = section.require("manifest") else { return };
    let version = field.value.as_integer();
    match version.and_then(|number| i64::from_str_radix(number.as_str(), number.radix()).ok()) {
        Some(MANIFEST_VERSION) => {}
        Some(version) if version > MANIFEST_VERSION => field.refuse(format!(
            "is {version}, and this runtime reads only {MANIFEST_VERSION}; a newer runtime is needed"
        )),
        _ => field.refuse(format!("must be {MANIFEST_VERSION}, the version of the manifest's format")),
    }
}

fn read(section: &mut Section<'_, '_>) -> Option<Manifest> {
    let id = section
        .require("id")
        .and_then(|field| field.parsed(|text| AppId::new(text).map_err(|error| error.to_string())));
    let name = section.require("name").and_then(|field| line(&field, MAX_LINE));
    let version = section.require("version").and_then(|field| field.parsed(version_text));
    let mut optional_line = |name| match section.take(name) {
        Some(field) => line(&field, MAX_LINE).unwrap_or_default(),
        None => String::new(),
    };
    let (publisher, license) = (optional_line("publisher"), optional_line("license"));
    let description = description(section);
    let schedule = flag(section, "schedule");
    let inputs = parts(section, "inputs", &[], input);
    // A binding names its slot alone, so an input and an output can't share a name.
    let taken: Vec<&SlotName> = inputs.iter().map(|input| &input.name).collect();
    let outputs = parts(section, "outputs", &taken, output);
    let alarms = parts(section, "alarms", &[], alarm);
    let timers = parts(section, "timers", &[], timer);
    let settings = parts(section, "settings", &[], setting);
    let limits = PartialLimits::read(section.table("limits"));
    refuse_http(section);
    Some(Manifest {
        id: id?,
        name: name?,
        version: version?,
        publisher,
        description,
        license,
        schedule,
        inputs,
        outputs,
        alarms,
        timers,
        settings,
        limits,
    })
}

fn refuse_http(section: &mut Section<'_, '_>) {
    for (name, message) in [
        ("hosts", "outgoing HTTP isn't in 0.1.0: it can be neither rolled back nor replayed"),
        ("http", "HTTP isn't in 0.1.0: an app can neither serve requests nor send them"),
    ] {
        if let Some(field) = section.take_unlisted(name) {
            field.refuse_name(message, Some("remove it"));
        }
    }
}

/// Reads all sections of one kind, such as `[inputs.*]`.
fn parts<T>(
    section: &mut Section<'_, '_>,
    name: &'static str,
    taken: &[&SlotName],
    part: fn(SlotName, &mut Section<'_, '_>) -> Option<T>,
) -> Vec<T> {
    let mut section = section.table(name);
    let all = section.take_all();
    if all.len() > MAX_SLOTS {
        section.refuse(format!("has {} entries; at most {MAX_SLOTS} are allowed", all.len()));
    }
    let mut made = Vec::new();
    for field in all {
        let slot = check_name(&field);
        if slot.as_ref().is_some_and(|slot| taken.contains(&slot)) {
            field.refuse_name("has the name of an input", None);
        }
        let mut fields = field.section();
        // A part with a bad name is read all the same, for its other problems.
        let placeholder = || SlotName::new("unnamed").ok();
        if let Some(name) = slot.clone().or_else(placeholder)
            && let Some(part) = part(name, &mut fields)
            && slot.is_some()
        {
            made.push(part);
        }
        fields.finish();
    }
    made
}

fn check_name(field: &Field<'_, '_>) -> Option<SlotName> {
    match SlotName::new(&field.name) {
        Ok(slot) => Some(slot),
        Err(InvalidName { problem, .. }) => {
            field.refuse_name(format!("the name {problem}"), None);
            None
        }
    }
}

fn input(name: SlotName, section: &mut Section<'_, '_>) -> Option<Input> {
    let value_type = value_type(section);
    let unit = unit(section, value_type);
    let optional = flag(section, "optional");
    let description = description(section);
    Some(Input { name, value_type: value_type?, unit, optional, description })
}

fn output(name: SlotName, section: &mut Section<'_, '_>) -> Option<Output> {
    let kind = section.require("kind").and_then(|field| field.parsed(OutputKind::from_str));
    let value_type = value_type(section);
    let unit = unit(section, value_type);
    let every = section.take("every").and_then(|field| {
        let every = field.parsed(Span::from_str)?;
        if every.0 == 0 {
            field.refuse("must be longer than 0 s");
        }
        if kind == Some(OutputKind::Derived) {
            field.refuse("is for set-points alone");
        }
        Some(every)
    });
    let description = description(section);
    Some(Output { name, kind: kind?, value_type: value_type?, unit, every, description })
}

fn alarm(name: SlotName, section: &mut Section<'_, '_>) -> Option<Alarm> {
    let severity = section.require("severity").and_then(|field| field.parsed(Severity::from_str));
    let description = description(section);
    Some(Alarm { name, severity: severity?, description })
}

fn timer(name: SlotName, section: &mut Section<'_, '_>) -> Option<Timer> {
    let cron = section.require("cron").and_then(|field| field.parsed(Cron::from_str));
    let description = description(section);
    Some(Timer { name, cron: cron?, description })
}

fn setting(name: SlotName, section: &mut Section<'_, '_>) -> Option<Setting> {
    let type_field = section.require("type");
    let value_type = type_field.and_then(|field| {
        field.parsed(|text| match text.parse::<ValueType>() {
            Ok(ValueType::Blob) | Err(_) => {
                Err(format!("{text:?} is not a type of setting; the types are text, integer, real, boolean"))
            }
            Ok(value_type) => Ok(value_type),
        })
    });
    let default = section.take("default").and_then(|field| {
        let value_type = value_type?;
        let given = settings::Given::from_toml(&field.value);
        field.checked(given.and_then(|given| settings::to_text(value_type, &given)))
    });
    let description = description(section);
    Some(Setting { name, value_type: value_type?, default, description })
}

fn value_type(section: &mut Section<'_, '_>) -> Option<ValueType> {
    let field = section.require("type")?;
    field.parsed(ValueType::from_str)
}

fn unit(section: &mut Section<'_, '_>, value_type: Option<ValueType>) -> Option<Arc<str>> {
    let field = section.take("unit")?;
    let unit = field.parsed(unit::check)?;
    if let Some(value_type) = value_type.filter(|value_type| !value_type.is_number()) {
        field.refuse(format!("only integers and reals have a unit, and the type is {value_type}"));
    }
    Some(unit)
}

fn flag(section: &mut Section<'_, '_>, name: &'static str) -> bool {
    section.take(name).and_then(|field| field.boolean()).unwrap_or_default()
}

fn description(section: &mut Section<'_, '_>) -> String {
    let Some(field) = section.take("description") else { return String::new() };
    let Some(text) = field.text() else { return String::new() };
    if text.len() > MAX_DESCRIPTION || text.chars().any(|c| c.is_control() && c != '\n') {
        field.refuse(format!("must have at most {MAX_DESCRIPTION} bytes and no control characters"));
    }
    text.trim().to_owned()
}

fn line(field: &Field<'_, '_>, longest: usize) -> Option<String> {
    let text = field.text()?;
    if text.trim().is_empty() || text.len() > longest || text.chars().any(char::is_control) {
        field.refuse(format!("must be one line of 1 to {longest} bytes"));
    }
    Some(text.trim().to_owned())
}

fn version_text(text: &str) -> Result<String, String> {
    match semver::Version::parse(text) {
        Ok(version) if text.len() <= 64 => Ok(version.to_string()),
        Ok(_) => Err(format!("{text:?} is longer than 64 bytes")),
        Err(error) => Err(format!("{text:?} is not a version such as \"1.2.3\": {error}")),
    }
}
