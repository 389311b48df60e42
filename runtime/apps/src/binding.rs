//! Bindings: the points of the site that an installation's inputs read and its outputs write.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::manifest::{Input, Manifest, Output, OutputKind, ValueType};
use super::pattern::{Pattern, Segment};
use super::problem::{Cause, Problem, join_path};
use super::unit::{self, Conversion, NoConversion};
use ironloom_types::ids::{InstallationId, PointPath, RESERVED_SEGMENT, SlotName, TenantId, check_segment};

/// The most patterns of one input. Beyond: refused.
pub const MAX_PATTERNS: usize = 256;

/// One pattern, or several, as somebody asks for them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum Patterns {
    One(String),
    /// Several, in the order in which they are tried.
    Many(Vec<String>),
}

impl Patterns {
    /// The patterns in order.
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::One(pattern) => std::slice::from_ref(pattern),
            Self::Many(patterns) => patterns,
        }
    }
}

/// The way from a unit to an input's unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Known {
    /// The unit of points.
    pub unit: Arc<str>,
    /// To the input's unit.
    pub conversion: Conversion,
}

/// The binding of one input. Its number is its place in the manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InputBinding {
    /// Its name in the manifest.
    pub name: SlotName,
    /// The type of its values.
    pub value_type: ValueType,
    /// Its unit, a UCUM code. Points without one are taken to have it.
    pub unit: Option<Arc<str>>,
    /// The ways from other units to its own: of the units of its points when this was made. Those of points that
    /// came later are worked out anew.
    pub conversions: Vec<Known>,
    /// A reading comes in by the first of them that matches. All capture the same names in the same
    /// order. Empty: it is optional and not bound.
    pub patterns: Vec<Pattern>,
}

/// The binding of one output. Its number is its place in the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputBinding {
    /// Its name in the manifest.
    pub name: SlotName,
    /// The use of its values.
    pub kind: OutputKind,
    /// The type of its values.
    pub value_type: ValueType,
    /// Its unit, a UCUM code, and so that of the points it makes.
    pub unit: Option<Arc<str>>,
    pub target: Target,
}

impl InputBinding {
    /// Returns how readings of a point with this unit come in: as they are, or converted.
    ///
    /// # Errors
    /// They can't be converted.
    pub fn convert(&self, unit: Option<&str>) -> Result<Option<Conversion>, NoConversion> {
        convert(&self.conversions, unit, self.unit.as_deref())
    }
}

/// As the conversions that are known say, or else as units are converted.
pub(crate) fn convert(
    known: &[Known],
    point: Option<&str>,
    input: Option<&str>,
) -> Result<Option<Conversion>, NoConversion> {
    match known.iter().find(|known| Some(&*known.unit) == point) {
        Some(known) => Ok(Some(known.conversion)),
        None => unit::between(point, input),
    }
}

/// The target of an output's values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// Nowhere: a set-point output without a binding.
    Unbound,
    /// To `prefix/<entity>`, or `prefix` itself for the entity without a name. The prefix is
    /// `apps/<installation>/<output>`.
    Default {
        /// The first three segments of the points.
        prefix: PointPath,
    },
    /// To the point that the pattern gives for the entity.
    Pattern {
        /// It uses names that the inputs capture.
        pattern: Pattern,
        /// For each capture of the pattern, in order, the segment of the entity that takes its place.
        order: Vec<u8>,
    },
}

impl Target {
    /// Returns whether some entity's value goes to this point.
    pub fn writes(&self, path: &PointPath) -> bool {
        match self {
            Self::Unbound => false,
            Self::Pattern { pattern, .. } => pattern.matches(path),
            Self::Default { prefix } => {
                let rest =
                    path.as_str().strip_prefix(prefix.as_str()).filter(|_| path.tenant() == prefix.tenant());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
        }
    }

    /// Returns whether it can write a point that the pattern matches.
    pub fn feeds(&self, input: &Pattern) -> bool {
        match self {
            Self::Unbound => false,
            Self::Pattern { pattern, .. } => pattern.intersects(input),
            Self::Default { prefix } => {
                let mut segments = input.segments().iter();
                let is_own = prefix.tenant() == input.tenant();
                is_own
                    && prefix.segments().all(|part| match segments.next() {
                        Some(Segment::Literal(literal)) => **literal == *part,
                        Some(Segment::Capture(_)) => true,
                        None => false,
                    })
            }
        }
    }
}

/// The bindings of an installation, both lists in the order of its manifest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bindings {
    /// The bindings of its inputs.
    pub inputs: Vec<InputBinding>,
    /// The bindings of its outputs.
    pub outputs: Vec<OutputBinding>,
}

/// The reason why an output has no point for an entity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// No output has this number.
    #[error("the app has no such output")]
    UnknownOutput,
    /// The output is a set-point and not bound.
    #[error("the output {0} is not bound to a point")]
    Unbound(SlotName),
    /// The entity doesn't fit the binding.
    #[error("the output {output} has no point for the entity {entity:?}: {problem}")]
    UnknownEntity {
        output: SlotName,
        /// The entity, as the app gave it.
        entity: String,
        problem: String,
    },
}

impl Bindings {
    /// Checks what was asked for, slot by slot, against the manifest.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn new(
        manifest: &Manifest,
        installation: &InstallationId,
        asked: &BTreeMap<SlotName, Patterns>,
    ) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        for name in asked.keys() {
            if manifest.input(name.as_str()).is_none() && manifest.output(name.as_str()).is_none() {
                problems.push(unknown_slot(manifest, name.as_str()));
            }
        }
        let patterns = |name: &SlotName| asked.get(name).map_or(&[][..], Patterns::as_slice);
        let inputs: Vec<InputBinding> = manifest
            .inputs
            .iter()
            .map(|input| bind_input(input, installation.tenant(), patterns(&input.name), &mut problems))
            .collect();
        let names = CapturedNames::of(&inputs);
        let outputs: Vec<OutputBinding> = manifest
            .outputs
            .iter()
            .map(|output| bind_output(output, installation, &names, patterns(&output.name), &mut problems))
            .collect();
        check_overlaps(&outputs, &mut problems);
        if problems.is_empty() { Ok(Self { inputs, outputs }) } else { Err(problems) }
    }

    /// Takes names and units from the manifest where they are the same, so that they are in memory once.
    pub fn share_names(&mut self, manifest: &Manifest) {
        for (binding, input) in self.inputs.iter_mut().zip(&manifest.inputs) {
            share(&mut binding.name, &input.name);
            share(&mut binding.unit, &input.unit);
        }
        for (binding, output) in self.outputs.iter_mut().zip(&manifest.outputs) {
            share(&mut binding.name, &output.name);
            share(&mut binding.unit, &output.unit);
        }
    }

    /// The point that an output writes for an entity.
    ///
    /// # Errors
    /// An output that is not bound, and an entity that doesn't fit its binding.
    pub fn resolve(&self, output: u16, entity: &str) -> Result<PointPath, ResolveError> {
        let output = self.outputs.get(usize::from(output)).ok_or(ResolveError::UnknownOutput)?;
        let refuse = |problem: String| ResolveError::UnknownEntity {
            output: output.name.clone(),
            entity: entity.to_owned(),
            problem,
        };
        let parts: Vec<&str> = if entity.is_empty() { Vec::new() } else { entity.split('/').collect() };
        parts
            .iter()
            .try_for_each(|part| check_segment(part))
            .map_err(|problem| refuse(format!("it {problem}")))?;
        let (tenant, path) = match &output.target {
            Target::Unbound => return Err(ResolveError::Unbound(output.name.clone())),
            Target::Default { prefix } if parts.is_empty() => return Ok(prefix.clone()),
            Target::Default { prefix } => (prefix.tenant(), format!("{prefix}/{entity}")),
            Target::Pattern { pattern, order } => {
                if parts.len() != order.len() {
                    let (has, needs) = (parts.len(), order.len());
                    return Err(refuse(format!("it has {has} segments, and {pattern} needs {needs}")));
                }
                (pattern.tenant(), fill(pattern, order, &parts))
            }
        };
        let is_default = matches!(output.target, Target::Default { .. });
        match PointPath::new(tenant, &path) {
            Ok(path) if path.is_reserved() && !is_default => {
                Err(refuse(format!("{path} belongs to the runtime")))
            }
            Ok(path) => Ok(path),
            Err(error) => Err(refuse(error.to_string())),
        }
    }

    /// Takes the conversions of inputs that are bound as they were.
    pub fn keep_conversions(&mut self, before: &Self) {
        for input in &mut self.inputs {
            let is_the_same = |other: &&InputBinding| {
                (&other.name, other.value_type, &other.unit, &other.patterns)
                    == (&input.name, input.value_type, &input.unit, &input.patterns)
            };
            if let Some(other) = before.inputs.iter().find(is_the_same) {
                input.conversions.clone_from(&other.conversions);
            }
        }
    }

    /// Returns what was asked for, as the API shows it: every input that is bound, and every output whose
    /// binding is not the default.
    pub fn asked(&self) -> BTreeMap<SlotName, Patterns> {
        let all = |patterns: &[Pattern]| Patterns::Many(patterns.iter().map(Pattern::to_string).collect());
        let bound = self.inputs.iter().filter(|input| !input.patterns.is_empty());
        let inputs = bound.map(|input| (input.name.clone(), all(&input.patterns)));
        let outputs = self.outputs.iter().filter_map(|output| match &output.target {
            Target::Pattern { pattern, .. } => {
                Some((output.name.clone(), all(std::slice::from_ref(pattern))))
            }
            Target::Unbound | Target::Default { .. } => None,
        });
        inputs.chain(outputs).collect()
    }

    /// The input of this name, with its number.
    pub fn input(&self, name: &str) -> Option<(u16, &InputBinding)> {
        let index = self.inputs.iter().position(|input| input.name.as_str() == name)?;
        Some((u16::try_from(index).ok()?, &self.inputs[index]))
    }

    /// The output of this name, with its number.
    pub fn output(&self, name: &str) -> Option<(u16, &OutputBinding)> {
        let index = self.outputs.iter().position(|output| output.name.as_str() == name)?;
        Some((u16::try_from(index).ok()?, &self.outputs[index]))
    }
}

/// Returns whether an output can write a point: the units are equal, or one of them is not known.
pub fn unit_fits(point: Option<&str>, output: Option<&str>) -> bool {
    match (point, output) {
        (Some(point), Some(output)) => point == output,
        _ => true,
    }
}

fn share<T: Clone + PartialEq>(own: &mut T, known: &T) {
    if own == known {
        own.clone_from(known);
    }
}

fn fill(pattern: &Pattern, order: &[u8], parts: &[&str]) -> String {
    let mut path = String::new();
    let mut order = order.iter();
    for segment in pattern.segments() {
        if !path.is_empty() {
            path.push('/');
        }
        match segment {
            Segment::Literal(literal) => path.push_str(literal),
            // `order` has one number for each capture, each below the number of parts.
            Segment::Capture(_) => path.push_str(order.next().map_or("", |&part| parts[usize::from(part)])),
        }
    }
    path
}

fn unknown_slot(manifest: &Manifest, name: &str) -> Problem {
    let inputs = manifest.inputs.iter().map(|input| input.name.as_str());
    let known: Vec<&str> = inputs.chain(manifest.outputs.iter().map(|output| output.name.as_str())).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    let message = format!("is neither an input nor an output of {}, which has {known}", manifest.id);
    Problem::of(join_path("bindings", name), message)
}

fn parse(tenant: TenantId, field: &str, patterns: &[String], problems: &mut Vec<Problem>) -> Vec<Pattern> {
    let mut parsed = Vec::with_capacity(patterns.len());
    for text in patterns {
        match Pattern::new(tenant, text) {
            Ok(pattern) => parsed.push(pattern),
            Err(message) => problems.push(Problem::of(field, message)),
        }
    }
    parsed
}

fn bind_input(
    input: &Input,
    tenant: TenantId,
    asked: &[String],
    problems: &mut Vec<Problem>,
) -> InputBinding {
    let field = format!("bindings.{}", input.name);
    let patterns = parse(tenant, &field, asked, problems);
    if asked.is_empty() && !input.optional {
        let what =
            if input.description.is_empty() { String::new() } else { format!(" ({})", input.description) };
        let hint = format!("add a pattern, such as --bind {0}='site/{{machine}}/{0}'", input.name);
        let message = format!("the input {}{what} must be bound", input.name);
        problems.push(Problem::of(&field, message).because(Cause::Unbound).hint(hint));
    }
    if asked.len() > MAX_PATTERNS {
        let message = format!("has {} patterns; at most {MAX_PATTERNS} are allowed", asked.len());
        problems.push(Problem::of(&field, message));
    }
    if let Some((first, others)) = patterns.split_first() {
        for other in others.iter().filter(|other| !other.captures().eq(first.captures())) {
            let message = format!("{first} and {other} don't capture the same names in the same order");
            problems.push(Problem::of(&field, message));
        }
    }
    InputBinding {
        name: input.name.clone(),
        value_type: input.value_type,
        unit: input.unit.clone(),
        conversions: Vec::new(),
        patterns,
    }
}

/// The names that the inputs capture, each list once.
struct CapturedNames(Vec<Vec<String>>);

impl CapturedNames {
    fn of(inputs: &[InputBinding]) -> Self {
        let mut lists: Vec<Vec<String>> = Vec::new();
        for pattern in inputs.iter().filter_map(|input| input.patterns.first()) {
            let names: Vec<String> = pattern.captures().map(str::to_owned).collect();
            if !lists.contains(&names) {
                lists.push(names);
            }
        }
        Self(lists)
    }

    /// The places that the captures of an output have in its entity: as the inputs have them.
    fn order(&self, pattern: &Pattern) -> Result<Vec<u8>, String> {
        let used: Vec<&str> = pattern.captures().collect();
        let mut entity: Vec<&str> = Vec::with_capacity(used.len());
        for list in &self.0 {
            let wanted = list.iter().map(String::as_str).filter(|name| used.contains(name));
            let mut last = None;
            for name in wanted {
                match entity.iter().position(|one| *one == name) {
                    Some(at) if last.is_some_and(|last| at < last) => {
                        return Err(format!(
                            "{pattern} uses {{{name}}} and {{{}}}, which the inputs capture in different orders",
                            entity[last.unwrap_or_default()]
                        ));
                    }
                    Some(at) => last = Some(at),
                    None => {
                        entity.push(name);
                        last = Some(entity.len() - 1);
                    }
                }
            }
        }
        used.iter()
            .map(|name| {
                let place = entity.iter().position(|one| one == name);
                place.and_then(|place| u8::try_from(place).ok()).ok_or_else(|| {
                    let known: Vec<String> =
                        self.0.iter().flatten().map(|name| format!("{{{name}}}")).collect();
                    let known = if known.is_empty() { "nothing".to_owned() } else { known.join(", ") };
                    format!("{pattern} uses {{{name}}}, and the inputs capture {known}")
                })
            })
            .collect()
    }
}

fn bind_output(
    output: &Output,
    installation: &InstallationId,
    names: &CapturedNames,
    asked: &[String],
    problems: &mut Vec<Problem>,
) -> OutputBinding {
    let field = format!("bindings.{}", output.name);
    let tenant = installation.tenant();
    let mut patterns = parse(tenant, &field, asked, problems);
    if asked.len() > 1 {
        problems.push(Problem::of(&field, "an output is bound to one pattern"));
    }
    let target = match (patterns.pop(), output.kind) {
        (None, OutputKind::SetPoint) => Target::Unbound,
        (None, OutputKind::Derived) => {
            match PointPath::new(tenant, &format!("{RESERVED_SEGMENT}/{installation}/{}", output.name)) {
                Ok(prefix) => Target::Default { prefix },
                Err(error) => {
                    problems.push(Problem::of(&field, error.to_string()));
                    Target::Unbound
                }
            }
        }
        (Some(pattern), _) => {
            if matches!(pattern.segments().first(), Some(Segment::Literal(first)) if **first == *RESERVED_SEGMENT)
            {
                let message =
                    format!("{pattern} lies in `{RESERVED_SEGMENT}/`, which belongs to the runtime");
                problems
                    .push(Problem::of(&field, message).hint("leave this binding out for the default one"));
            }
            let order = names.order(&pattern).unwrap_or_else(|message| {
                problems.push(Problem::of(&field, message));
                Vec::new()
            });
            Target::Pattern { pattern, order }
        }
    };
    OutputBinding {
        name: output.name.clone(),
        kind: output.kind,
        value_type: output.value_type,
        unit: output.unit.clone(),
        target,
    }
}

/// Two outputs of one app that can write the same point are always a mistake.
fn check_overlaps(outputs: &[OutputBinding], problems: &mut Vec<Problem>) {
    for (index, output) in outputs.iter().enumerate() {
        let Target::Pattern { pattern, .. } = &output.target else { continue };
        for earlier in &outputs[..index] {
            if matches!(&earlier.target, Target::Pattern { pattern: other, .. } if other.intersects(pattern))
            {
                let message = format!("can write the same points as the output {}", earlier.name);
                problems.push(Problem::of(format!("bindings.{}", output.name), message));
            }
        }
    }
}
