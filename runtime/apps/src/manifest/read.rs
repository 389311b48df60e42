//! Reads an `app.toml` part by part.

use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::{
    Alarm, Input, MANIFEST_VERSION, MAX_MANIFEST_BYTES, MAX_SLOTS, Manifest, Output, OutputKind, Setting,
    Severity, Timer, ValueType,
};
use crate::allowance::{self, PartialLimits};
use crate::cron::Cron;
use crate::problem::{Problem, Problems};
use crate::settings;
use crate::toml_section::{Field, Findings, Section};
use ironloom_types::ids::{AppId, InvalidName, SlotName};

/// The longest description of an app or of one of its parts, in bytes. Beyond: refused.
const MAX_DESCRIPTION: usize = 4096;
/// The longest name of an app, its publisher or licence, in bytes. Beyond: refused.
const MAX_LINE: usize = 200;
/// The longest unit, in bytes. Beyond: refused.
const MAX_UNIT: usize = 64;

pub(super) fn parse(text: &str) -> Result<Manifest, Problems> {
    let mut findings = Findings::new(text);
    if text.len() > MAX_MANIFEST_BYTES {
        let message = format!("a manifest has at most {MAX_MANIFEST_BYTES} bytes, this one {}", text.len());
        return Err(Problem { message, ..Problem::default() }.into());
    }
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let place = error.span().unwrap_or(0..0);
        let message = format!("is no TOML: {}", error.message().replace('\n', ", "));
        findings.add(&place, Problem { message, ..Problem::default() });
    }
    Problems::check(std::mem::take(&mut findings.problems))?;
    let mut section = Section::new(table.get_ref(), String::new(), 0..0);
    check_version(&mut section, &mut findings);
    Problems::check(std::mem::take(&mut findings.problems))?;

    let manifest = read(&mut section, &mut findings);
    section.finish(&mut findings);
    Problems::check(findings.problems)?;
    // Whatever is missing has been noted as a problem.
    manifest.ok_or_else(|| Problem::of("manifest", "is not complete").into())
}

fn check_version(section: &mut Section<'_, '_>, findings: &mut Findings<'_>) {
    let Some(field) = section.require(findings, "manifest") else { return };
    let version = match field.value {
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok(),
        _ => None,
    };
    match version {
        Some(MANIFEST_VERSION) => {}
        Some(version) if version > MANIFEST_VERSION => field.refuse(
            findings,
            format!(
                "is {version}, and this runtime reads only {MANIFEST_VERSION}; a newer runtime is needed"
            ),
        ),
        _ => field
            .refuse(findings, format!("must be {MANIFEST_VERSION}, the version of the manifest's format")),
    }
}

fn read(section: &mut Section<'_, '_>, findings: &mut Findings<'_>) -> Option<Manifest> {
    let id = section
        .require(findings, "id")
        .and_then(|field| field.parsed(findings, |text| AppId::new(text).map_err(|error| error.to_string())));
    let name = section.require(findings, "name").and_then(|field| line(&field, findings, MAX_LINE));
    let version = section.require(findings, "version").and_then(|field| field.parsed(findings, version_text));
    let mut optional_line = |name| match section.take(name) {
        Some(field) => line(&field, findings, MAX_LINE).unwrap_or_default(),
        None => String::new(),
    };
    let (publisher, license) = (optional_line("publisher"), optional_line("license"));
    let description = description(section, findings);
    let schedule = flag(section, findings, "schedule");
    let inputs = parts(section, findings, "inputs", &[], input);
    // A binding names its slot alone, so an input and an output can't share a name.
    let taken: Vec<&SlotName> = inputs.iter().map(|input| &input.name).collect();
    let outputs = parts(section, findings, "outputs", &taken, output);
    let alarms = parts(section, findings, "alarms", &[], alarm);
    let timers = parts(section, findings, "timers", &[], timer);
    let settings = parts(section, findings, "settings", &[], setting);
    let limits = section.take("limits").map(|field| limits(&field, findings)).unwrap_or_default();
    refuse_http(section, findings);
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

fn refuse_http(section: &mut Section<'_, '_>, findings: &mut Findings<'_>) {
    for (name, place, field) in section.take_named(&["hosts", "http"]) {
        let message = match name {
            "hosts" => "outgoing HTTP isn't in 0.1.0: it can be neither rolled back nor replayed",
            _ => "HTTP isn't in 0.1.0: an app can neither serve requests nor send them",
        };
        findings.add(&place, Problem::of(field.path, message).hint("remove it"));
    }
}

/// All of one kind, such as `[inputs.*]`.
fn parts<T>(
    section: &mut Section<'_, '_>,
    findings: &mut Findings<'_>,
    name: &'static str,
    taken: &[&SlotName],
    part: fn(SlotName, &mut Section<'_, '_>, &mut Findings<'_>) -> Option<T>,
) -> Vec<T> {
    let Some(field) = section.take(name) else { return Vec::new() };
    let Some(mut all) = field.section(findings) else { return Vec::new() };
    let all = all.take_all();
    if all.len() > MAX_SLOTS {
        field.refuse(findings, format!("has {} entries; at most {MAX_SLOTS} are allowed", all.len()));
    }
    let mut made = Vec::new();
    for (name, place, field) in all {
        let slot = check_name(name, &place, &field, findings);
        if slot.as_ref().is_some_and(|slot| taken.contains(&slot)) {
            findings.add(&place, Problem::of(&field.path, "has the name of an input"));
        }
        let Some(mut fields) = field.section(findings) else { continue };
        // A part with a bad name is read all the same, for its other problems.
        let placeholder = || SlotName::new("unnamed").ok();
        if let Some(name) = slot.clone().or_else(placeholder)
            && let Some(part) = part(name, &mut fields, findings)
            && slot.is_some()
        {
            made.push(part);
        }
        fields.finish(findings);
    }
    made
}

fn check_name(
    name: &str,
    place: &Range<usize>,
    field: &Field<'_, '_>,
    findings: &mut Findings<'_>,
) -> Option<SlotName> {
    match SlotName::new(name) {
        Ok(slot) => Some(slot),
        Err(InvalidName { problem, .. }) => {
            findings.add(place, Problem::of(&field.path, format!("the name {problem}")));
            None
        }
    }
}

fn input(name: SlotName, section: &mut Section<'_, '_>, findings: &mut Findings<'_>) -> Option<Input> {
    let value_type = value_type(section, findings);
    let unit = unit(section, findings, value_type);
    let optional = flag(section, findings, "optional");
    let description = description(section, findings);
    Some(Input { name, value_type: value_type?, unit, optional, description })
}

fn output(name: SlotName, section: &mut Section<'_, '_>, findings: &mut Findings<'_>) -> Option<Output> {
    let kind =
        section.require(findings, "kind").and_then(|field| field.parsed(findings, OutputKind::from_str));
    let value_type = value_type(section, findings);
    let unit = unit(section, findings, value_type);
    let description = description(section, findings);
    Some(Output { name, kind: kind?, value_type: value_type?, unit, description })
}

fn alarm(name: SlotName, section: &mut Section<'_, '_>, findings: &mut Findings<'_>) -> Option<Alarm> {
    let severity =
        section.require(findings, "severity").and_then(|field| field.parsed(findings, Severity::from_str));
    let description = description(section, findings);
    Some(Alarm { name, severity: severity?, description })
}

fn timer(name: SlotName, section: &mut Section<'_, '_>, findings: &mut Findings<'_>) -> Option<Timer> {
    let cron = section.require(findings, "cron").and_then(|field| field.parsed(findings, Cron::from_str));
    let description = description(section, findings);
    Some(Timer { name, cron: cron?, description })
}

fn setting(name: SlotName, section: &mut Section<'_, '_>, findings: &mut Findings<'_>) -> Option<Setting> {
    let type_field = section.require(findings, "type");
    let value_type = type_field.and_then(|field| {
        field.parsed(findings, |text| match text.parse::<ValueType>() {
            Ok(ValueType::Blob) | Err(_) => {
                Err(format!("{text:?} is no type of a setting; they are text, integer, real, boolean"))
            }
            Ok(value_type) => Ok(value_type),
        })
    });
    let default = section.take("default").and_then(|field| {
        let value_type = value_type?;
        let given = settings::Given::from_toml(field.value);
        match given.and_then(|given| settings::to_text(value_type, &given)) {
            Ok(text) => Some(text),
            Err(message) => {
                field.refuse(findings, message);
                None
            }
        }
    });
    let description = description(section, findings);
    Some(Setting { name, value_type: value_type?, default, description })
}

fn value_type(section: &mut Section<'_, '_>, findings: &mut Findings<'_>) -> Option<ValueType> {
    let field = section.require(findings, "type")?;
    field.parsed(findings, ValueType::from_str)
}

fn unit(
    section: &mut Section<'_, '_>,
    findings: &mut Findings<'_>,
    value_type: Option<ValueType>,
) -> Option<Arc<str>> {
    let field = section.take("unit")?;
    let unit = field.parsed(findings, check_unit)?;
    if let Some(value_type) = value_type.filter(|value_type| !value_type.is_number()) {
        field.refuse(findings, format!("only integers and reals have a unit, and the type is {value_type}"));
    }
    Some(unit)
}

/// Checks that a text can be a unit: UCUM codes have no spaces. One that UCUM doesn't know fits only
/// itself.
pub fn check_unit(text: &str) -> Result<Arc<str>, String> {
    if text.is_empty() || text.len() > MAX_UNIT || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(format!(
            "{text:?} is no unit; write a UCUM code of 1 to {MAX_UNIT} bytes without spaces, such as \"kg/d\""
        ));
    }
    Ok(text.into())
}

fn limits(field: &Field<'_, '_>, findings: &mut Findings<'_>) -> PartialLimits {
    let Some(mut section) = field.section(findings) else { return PartialLimits::default() };
    let mut limit =
        |kind: allowance::Kind| section.take(kind.name())?.parsed(findings, |text| kind.parse(text));
    let limits = PartialLimits {
        memory: limit(allowance::Kind::Memory),
        cpu: limit(allowance::Kind::Cpu),
        state: limit(allowance::Kind::State),
        share: limit(allowance::Kind::Share),
    };
    section.finish(findings);
    limits
}

fn flag(section: &mut Section<'_, '_>, findings: &mut Findings<'_>, name: &'static str) -> bool {
    section.take(name).and_then(|field| field.boolean(findings)).unwrap_or_default()
}

fn description(section: &mut Section<'_, '_>, findings: &mut Findings<'_>) -> String {
    let Some(field) = section.take("description") else { return String::new() };
    let Some(text) = field.text(findings) else { return String::new() };
    if text.len() > MAX_DESCRIPTION || text.chars().any(|c| c.is_control() && c != '\n') {
        field
            .refuse(findings, format!("must have at most {MAX_DESCRIPTION} bytes and no control characters"));
    }
    text.trim().to_owned()
}

fn line(field: &Field<'_, '_>, findings: &mut Findings<'_>, longest: usize) -> Option<String> {
    let text = field.text(findings)?;
    if text.trim().is_empty() || text.len() > longest || text.chars().any(char::is_control) {
        field.refuse(findings, format!("must be one line of 1 to {longest} bytes"));
    }
    Some(text.trim().to_owned())
}

fn version_text(text: &str) -> Result<String, String> {
    match semver::Version::parse(text) {
        Ok(version) if text.len() <= 64 => Ok(version.to_string()),
        Ok(_) => Err(format!("{text:?} is longer than 64 bytes")),
        Err(error) => Err(format!("{text:?} is no version such as \"1.2.3\": {error}")),
    }
}
