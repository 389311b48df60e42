//! Bindings for a feed that brings none: an input takes the points that end in its name.

use std::collections::{BTreeMap, BTreeSet};

use super::{Feed, FeedError};
use crate::api::facade::{PackageInfo, Patterns};
use ironloom_apps::binding::MAX_PATTERNS;
use ironloom_apps::pattern::Pattern;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{PointPath, SlotName, TenantId};

/// Steps that are looked at for points.
const LOOKED_AT: usize = 10_000;
/// Points that are remembered.
const MAX_SEEN: usize = 100_000;
/// Points that an error names.
const NAMED: usize = 3;

/// The beginning of a feed: the points in it, and its first time.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub first: Option<Timestamp>,
    points: BTreeSet<String>,
}

impl Seen {
    /// Looks at the beginning of a feed.
    pub(crate) async fn look(mut feed: Feed) -> Result<Self, FeedError> {
        let mut seen = Self::default();
        for _ in 0..LOOKED_AT {
            let Some(step) = feed.next().await? else { break };
            seen.first.get_or_insert(step.time);
            for point in step.push.new_points {
                if seen.points.len() < MAX_SEEN {
                    seen.points.insert(point.path.as_str().to_owned());
                }
            }
        }
        Ok(seen)
    }

    /// The beginning of a feed whose lines need no times.
    pub(crate) fn of_points(points: impl IntoIterator<Item = String>) -> Self {
        Self { first: None, points: points.into_iter().take(MAX_SEEN).collect() }
    }

    /// The inputs that none of its points go to, with their patterns in words.
    pub(crate) fn without_points(&self, bindings: &BTreeMap<SlotName, Patterns>) -> Vec<(SlotName, String)> {
        let points: Vec<PointPath> =
            self.points.iter().filter_map(|point| PointPath::new(TenantId::NOBODY, point).ok()).collect();
        let matches = |text: &String| {
            Pattern::new(TenantId::NOBODY, text)
                .is_ok_and(|pattern| points.iter().any(|point| pattern.matches(point)))
        };
        let left = bindings.iter().filter(|(_, patterns)| !patterns.as_slice().iter().any(matches));
        left.map(|(name, patterns)| (name.clone(), patterns.as_slice().join(", "))).collect()
    }
}

/// The bindings of an app's inputs: those that are given, and for each other one the points that end in its name.
///
/// # Errors
/// An input that must be bound and can't be by its name.
pub(crate) fn bindings(
    package: &PackageInfo,
    given: BTreeMap<SlotName, Patterns>,
    seen: &Seen,
) -> Result<BTreeMap<SlotName, Patterns>, Unbound> {
    let mut bindings = given;
    for (name, input) in &package.inputs {
        let Ok(slot) = SlotName::new(name) else { continue };
        if bindings.contains_key(&slot) {
            continue;
        }
        match guessed(name, seen.points.iter().map(String::as_str)) {
            Ok(patterns) => {
                bindings.insert(slot, Patterns::Many(patterns));
            }
            Err(Unclear::None) if input.optional == Some(true) => {}
            Err(unclear) => return Err(Unbound::new(name, unclear, seen)),
        }
    }
    Ok(bindings)
}

/// Why no pattern is guessed for an input.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Unclear {
    /// No point ends in its name.
    None,
    /// Those that do have different numbers of segments.
    Depths,
    /// The guess would take several of them for one entity.
    OneEntity,
    /// They begin with more texts than an input may have patterns.
    Many,
}

/// The patterns for the points that end in a name.
///
/// Each segment before the name goes into the entity, so that the inputs of one app meet. Points of four segments and more
/// keep their first one as text: in braces it would match `apps` as well, and the app's own outputs would go back into it.
fn guessed<'a>(name: &str, points: impl Iterator<Item = &'a str>) -> Result<Vec<String>, Unclear> {
    let split = points.map(|point| point.split('/').collect::<Vec<_>>());
    let points: Vec<Vec<&str>> = split.filter(|segments| segments.last() == Some(&name)).collect();
    let depth = points.first().ok_or(Unclear::None)?.len();
    if points.iter().any(|segments| segments.len() != depth) {
        return Err(Unclear::Depths);
    }
    let fixed = if depth < DEPTH_OF_OUTPUTS { 0 } else { 1 };
    let entities: BTreeSet<&[&str]> = points.iter().map(|point| &point[fixed..]).collect();
    if entities.len() < points.len() {
        return Err(Unclear::OneEntity);
    }
    let patterns: BTreeSet<String> =
        points.iter().map(|point| pattern(name, &point[..fixed], depth)).collect();
    if patterns.len() > MAX_PATTERNS {
        return Err(Unclear::Many);
    }
    Ok(patterns.into_iter().collect())
}

/// The fewest segments of derived readings' points, `apps/ID/OUTPUT/ENTITY`.
const DEPTH_OF_OUTPUTS: usize = 4;

/// A pattern of so many segments, which begins with a text.
fn pattern(name: &str, text: &[&str], depth: usize) -> String {
    let text_before = text.iter().map(|segment| format!("{segment}/"));
    let braces = (text.len() + 1..depth).map(|number| format!("{{s{number}}}/"));
    text_before.chain(braces).chain([name.to_owned()]).collect()
}

/// An input that must be bound and isn't.
#[derive(Debug)]
pub(crate) struct Unbound {
    input: String,
    /// The sentence about it.
    said: String,
    /// A pattern for one of the feed's points.
    example: String,
}

impl Unbound {
    fn new(name: &str, unclear: Unclear, seen: &Seen) -> Self {
        let points: Vec<&str> = seen.points.iter().take(NAMED).map(String::as_str).collect();
        let why = match unclear {
            Unclear::None => format!("no point of the feed ends in /{name}"),
            Unclear::Depths => {
                format!("the feed's points that end in /{name} differ in the number of their segments")
            }
            Unclear::OneEntity => {
                format!("some of the feed's points that end in /{name} differ in their first segment only")
            }
            Unclear::Many => {
                format!(
                    "the feed's points that end in /{name} have more than {MAX_PATTERNS} different first segments"
                )
            }
        };
        let own = seen.points.iter().find(|point| point.rsplit('/').next() == Some(name));
        let example = match (unclear, own.map(String::as_str).or(points.first().copied())) {
            (_, None) => "site/{unit}/value".to_owned(),
            (Unclear::OneEntity, Some(point)) => braced(point, 0),
            // Of its own segments, so that one binding has all of them.
            (Unclear::Many, Some(point)) => pattern(name, &[], point.split('/').count()),
            (Unclear::None | Unclear::Depths, Some(point)) => {
                braced(point, point.split('/').count().saturating_sub(2))
            }
        };
        let has =
            if points.is_empty() { String::new() } else { format!("; the feed has {}", points.join(", ")) };
        Self {
            input: name.to_owned(),
            said: format!("the input {name} isn't bound, and {why}{has}"),
            example,
        }
    }

    /// The whole, for a command with flags for it.
    pub(crate) fn for_flags(&self) -> String {
        let Self { input, said, example } = self;
        format!("{said}. Bind it, such as --bind {input}='{example}'")
    }

    /// The whole, where only the feed itself says how the app is installed.
    pub(crate) fn for_header(&self) -> String {
        let Self { input, said, example } = self;
        let header = serde_json::json!({"feed": 1, "bindings": {input: [example]}});
        format!("{said}. Bind it in the feed's first line, such as {header}")
    }
}

/// A point with one of its segments in braces.
fn braced(point: &str, at: usize) -> String {
    let segments = point.split('/').enumerate();
    segments
        .map(|(index, segment)| if index == at { "{unit}" } else { segment })
        .collect::<Vec<_>>()
        .join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(points: &[&str]) -> Seen {
        Seen { first: None, points: points.iter().map(|point| (*point).to_owned()).collect() }
    }

    #[test]
    fn an_error_names_the_input_the_points_and_a_way_out() {
        let unbound = Unbound::new("weight", Unclear::None, &seen(&["farm/pig-7/mass", "farm/pig-8/mass"]));
        assert_eq!(
            unbound.for_flags(),
            "the input weight isn't bound, and no point of the feed ends in /weight; the feed has farm/pig-7/mass, \
             farm/pig-8/mass. Bind it, such as --bind weight='farm/{unit}/mass'"
        );
        let of_header = r#"Bind it in the feed's first line, such as {"bindings":{"weight":["farm/{unit}/mass"]},"feed":1}"#;
        assert!(unbound.for_header().ends_with(of_header), "{}", unbound.for_header());
        let differ = Unbound::new("weight", Unclear::Depths, &seen(&[]));
        assert!(differ.for_flags().contains("differ in the number of their segments"));
        let seen = seen(&["a/b/mass", "m-1/line/x/temp", "m-2/line/x/temp"]);
        let one = Unbound::new("temp", Unclear::OneEntity, &seen).for_flags();
        assert!(one.ends_with("--bind temp='{unit}/line/x/temp'"), "{one}");
        let many = Unbound::new("temp", Unclear::Many, &seen).for_flags();
        assert!(many.ends_with("--bind temp='{s1}/{s2}/{s3}/temp'"), "{many}");
    }

    #[test]
    fn all_segments_before_the_name_are_the_entity() {
        let guessed = |points: &[&str]| guessed("weight", points.iter().copied());
        assert_eq!(guessed(&["weight", "other"]), Ok(vec!["weight".to_owned()]));
        assert_eq!(guessed(&["farm/pig-7/weight"]), Ok(vec!["{s1}/{s2}/weight".to_owned()]));
        assert_eq!(guessed(&["farm/pig-7/mass"]), Err(Unclear::None));
        assert_eq!(guessed(&["farm/weight", "farm/pig-7/weight"]), Err(Unclear::Depths));
    }

    #[test]
    fn no_guess_matches_the_outputs_of_the_app() {
        let guessed = |points: &[&str]| guessed("weight", points.iter().copied());
        let patterns =
            guessed(&["north/barn/7/weight", "north/barn/8/weight", "south/shed/1/weight"]).unwrap();
        assert_eq!(patterns, ["north/{s2}/{s3}/weight", "south/{s2}/{s3}/weight"]);
        let output = PointPath::new(TenantId::MAIN, "apps/try/smoothed/weight").unwrap();
        assert!(
            patterns.iter().all(|pattern| !Pattern::new(TenantId::MAIN, pattern).unwrap().matches(&output))
        );
        let many: Vec<String> = (0..257).map(|n| format!("m-{n}/line/{n}/weight")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(guessed(&many[1..]).map(|patterns| patterns.len()), Ok(256));
        assert_eq!(guessed(&many), Err(Unclear::Many));
        // The entity would be `barn/7` for both.
        assert_eq!(guessed(&["north/barn/7/weight", "south/barn/7/weight"]), Err(Unclear::OneEntity));
    }
}
