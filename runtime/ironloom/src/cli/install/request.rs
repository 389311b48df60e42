//! The file of `ironloom install --with`: the request as TOML, checked as far as it can be here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use toml::de::DeValue;

use crate::api::facade::{Adopt, Grants, InstallRequest, PartialLimits, Patterns, Problem, StartFrom};
use crate::cli::failure::Failure;
use ironloom_apps::grants::{Mode, OutputGrant, Safe, Toward};
use ironloom_apps::pattern::Pattern;
use ironloom_apps::problem::Problems;
use ironloom_apps::quantity::Span;
use ironloom_apps::toml_section::{Field, Findings, Places, Section};
use ironloom_storage::small_files;
use ironloom_trust::key::PublicKey;
use ironloom_types::ids::{Digest, InstallationId, SlotName, TenantId};
use ironloom_types::limits::MIB;

/// The longest file in bytes: the request that is made of it has at most 1 MiB, and its comments may take more.
const MAX_FILE: u64 = 4 * MIB;

/// The request to install, as far as it was given.
#[derive(Debug, Default, PartialEq)]
pub(in crate::cli) struct Asked {
    pub(in crate::cli) package: Option<String>,
    pub(in crate::cli) id: Option<InstallationId>,
    pub(in crate::cli) publisher: Option<PublicKey>,
    pub(in crate::cli) from: Option<StartFrom>,
    pub(in crate::cli) adopt: Option<Adopt>,
    pub(in crate::cli) timezone: Option<String>,
    pub(in crate::cli) keep_up: Option<bool>,
    pub(in crate::cli) bindings: BTreeMap<SlotName, Patterns>,
    pub(in crate::cli) settings: BTreeMap<SlotName, Json>,
    pub(in crate::cli) limits: PartialLimits,
    pub(in crate::cli) grants: Grants,
    pub(in crate::cli) mode: Option<Mode>,
}

impl Asked {
    pub(in crate::cli) fn request(self, id: InstallationId, package: Digest) -> InstallRequest {
        InstallRequest {
            id,
            package,
            publisher: self.publisher,
            new_publisher: None,
            bindings: self.bindings,
            grants: Grants { mode: self.mode.unwrap_or_default(), ..self.grants },
            settings: self.settings,
            limits: self.limits,
            timezone: self.timezone,
            keep_up: self.keep_up.unwrap_or_default(),
            from: self.from,
            adopt: self.adopt,
            consent: None,
        }
    }
}

/// The installs that a file asks for.
#[derive(Debug, PartialEq)]
pub(in crate::cli) enum File {
    One(Box<Asked>),
    /// Several, each a section of `[[installations]]`.
    Many(Vec<Asked>),
}

/// The file of `--with` as errors name it; empty where there is none.
#[derive(Debug, Default)]
pub(in crate::cli) struct Origin {
    pub(super) path: PathBuf,
    pub(in crate::cli) places: Places,
}

impl Origin {
    /// Names the places in the file of what the server has refused. Only for answers to the request that the file
    /// asks for: places in the answer to an upload are those of the package's own manifest.
    pub(in crate::cli) fn locate(&self, failure: Failure) -> Failure {
        match failure {
            Failure::Refused(problem) => Failure::Refused(locate(problem, &self.path, &self.places)),
            failure => failure,
        }
    }
}

/// Reads the file, and where its fields stand. A package is meant from the file's folder.
pub(in crate::cli) fn read(path: &Path) -> Result<(File, Origin), Failure> {
    let text = small_files::read_text(path, MAX_FILE)?;
    let (mut file, places) = parse(&text).map_err(|problems| Failure::File(problems.of_file(path)))?;
    let all = match &mut file {
        File::One(asked) => std::slice::from_mut(&mut **asked),
        File::Many(all) => all.as_mut_slice(),
    };
    let named = all.iter_mut().filter_map(|asked| asked.package.as_mut());
    for package in named.filter(|package| !package.starts_with("sha256:")) {
        let folder = path.parent().unwrap_or(Path::new(""));
        *package = folder.join(&*package).display().to_string();
    }
    Ok((file, Origin { path: path.to_owned(), places }))
}

/// Names the places in the file of what the server has found wrong.
pub(super) fn locate(mut problem: Problem, path: &Path, places: &Places) -> Problem {
    let mut alone = None;
    for error in &mut problem.errors {
        let Some(place) = &error.place else { continue };
        let field = match (place.item, &place.field) {
            (Some(item), Some(field)) => format!("installations[{item}].{field}"),
            (None, Some(field)) => field.clone(),
            (_, None) => continue,
        };
        let Some((line, column)) = places.of(&field) else { continue };
        error.detail = format!("{}:{line}:{column}: {field}: {}", path.display(), error.detail);
        let of_list = if place.item.is_some() { "; none is installed" } else { "" };
        alone = Some(format!("{}{of_list}", error.detail));
        error.place = None;
    }
    // One alone is the whole sentence.
    if let (1, Some(alone)) = (problem.errors.len(), alone) {
        problem.detail = alone;
    }
    problem
}

pub(in crate::cli) fn parse(text: &str) -> Result<(File, Places), Problems> {
    let findings = Findings::new(text);
    let mut root = findings.root()?;
    let file = match root.take("installations") {
        Some(list) => {
            root.finish();
            File::Many(list.sections().into_iter().map(installation).collect())
        }
        None => File::One(Box::new(installation(root))),
    };
    let places = findings.places();
    findings.check()?;
    Ok((file, places))
}

fn installation(mut root: Section<'_, '_>) -> Asked {
    let mut asked = Asked {
        package: root.take("package").and_then(|field| field.text().map(str::to_owned)),
        id: root.take("id").and_then(|field| field.parsed(|id| InstallationId::new(TenantId::NOBODY, id))),
        publisher: root.take("publisher").and_then(|field| field.parsed(str::parse)),
        from: root.take("from").and_then(|field| from(&field)),
        adopt: root.take("adopt").and_then(|field| adopt(&field)),
        timezone: root.take("timezone").and_then(|field| field.text().map(str::to_owned)),
        keep_up: root.take("keep_up").and_then(|field| field.boolean()),
        bindings: named(root.table("bindings"), |field| patterns(&field)),
        settings: named(root.table("settings"), |field| scalar(&field)),
        limits: PartialLimits::read(root.table("limits")),
        grants: Grants::default(),
        mode: None,
    };
    (asked.grants, asked.mode) = grants(root.table("grants"));
    root.finish();
    asked
}

/// All of a section, by names of the manifest.
fn named<'f, 't, T>(
    mut section: Section<'f, 't>,
    read: impl Fn(Field<'f, 't>) -> Option<T>,
) -> BTreeMap<SlotName, T> {
    let mut all = BTreeMap::new();
    for field in section.take_all() {
        let name = SlotName::new(&field.name);
        if let Err(error) = &name {
            field.refuse_name(format!("the name {}", error.problem), None);
        }
        all.extend(name.ok().zip(read(field)));
    }
    all
}

/// `now`, `beginning` or a time, as text or as TOML's own.
fn from(field: &Field<'_, '_>) -> Option<StartFrom> {
    match &field.value {
        DeValue::Datetime(time) => field.checked(time.to_string().parse()),
        _ => field.parsed(str::parse),
    }
}

/// `newest` or the number of a generation, as text or as TOML's own.
fn adopt(field: &Field<'_, '_>) -> Option<Adopt> {
    match &field.value {
        DeValue::Integer(number) => field.checked(number.to_string().parse()),
        _ => field.parsed(str::parse),
    }
}

fn patterns(field: &Field<'_, '_>) -> Option<Patterns> {
    let patterns = match &field.value {
        DeValue::String(pattern) => vec![pattern.to_string()],
        _ => field.texts()?,
    };
    for pattern in &patterns {
        field.checked(Pattern::new(TenantId::NOBODY, pattern))?;
    }
    Some(Patterns::Many(patterns))
}

fn scalar(field: &Field<'_, '_>) -> Option<Json> {
    match &field.value {
        DeValue::Boolean(value) => Some(Json::from(*value)),
        DeValue::Integer(_) => field.integer().map(Json::from),
        DeValue::Float(_) => {
            let real = field.number()?;
            field.checked(serde_json::Number::from_f64(real).map(Json::Number).ok_or("must be finite"))
        }
        DeValue::Datetime(time) => Some(Json::from(time.to_string())),
        _ => field.text().map(Json::from),
    }
}

fn grants(mut section: Section<'_, '_>) -> (Grants, Option<Mode>) {
    let mode = section.take("mode").and_then(|field| field.parsed(str::parse));
    let outputs = named(section.table("outputs"), |field| grant(field.section()));
    section.finish();
    (Grants { outputs, ..Grants::default() }, mode)
}

fn grant(mut section: Section<'_, '_>) -> Option<OutputGrant> {
    let allow = section.require("allow").and_then(|field| field.parsed(str::parse));
    let toward = section.take("toward").and_then(|field| field.parsed(str::parse::<Toward>));
    let ttl = section.take("ttl").and_then(|field| field.parsed(str::parse::<Span>));
    let every = section.take("every").and_then(|field| field.parsed(str::parse::<Span>));
    let safe = section.take("safe").and_then(|field| match &field.value {
        DeValue::Boolean(value) => Some(Safe::Boolean(*value)),
        DeValue::String(_) => field.parsed(str::parse),
        _ => field.number().map(Safe::Number),
    });
    let strict = section.take("strict").and_then(|field| field.boolean());
    section.finish();
    let grant = OutputGrant::of(allow?);
    Some(OutputGrant {
        toward: toward.unwrap_or_default(),
        ttl,
        safe,
        strict: strict.unwrap_or_default(),
        every,
        ..grant
    })
}
