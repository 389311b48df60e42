//! Patterns of point paths, with captures: `farm/{barn}/pig/{tag}/weight`.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use ironloom_types::ids::{MAX_PATH_SEGMENTS, PointPath, TenantId, check_segment, read_owned, write_owned};
use ironloom_types::text::shorten;

/// The longest pattern, in bytes.
const MAX_PATTERN_BYTES: usize = 512;
/// The longest name of a capture, in bytes.
const MAX_CAPTURE_BYTES: usize = 63;

/// The wildcards of other systems. Points may have a `*` in their names, and then match a capture; as a
/// literal it would be a wildcard that silently matches nothing.
const WILDCARDS: [char; 3] = ['*', '+', '#'];

/// One segment of a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Segment {
    Literal(Box<str>),
    /// Matches any one segment and gives it this name.
    Capture(Box<str>),
}

/// A pattern, of as many segments as the paths that it matches. It matches only those of its tenant. In JSON it stands
/// without that, as paths do.
#[derive(Clone)]
pub struct Pattern {
    tenant: TenantId,
    text: Arc<str>,
    segments: Arc<[Segment]>,
}

impl Pattern {
    /// Checks the text.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn new(tenant: TenantId, text: &str) -> Result<Self, String> {
        let refuse = |problem: &str| format!("{:?} {problem}", shorten(text, MAX_PATTERN_BYTES));
        if text.is_empty() {
            return Err(refuse("is empty; a pattern is a point path such as farm/{barn}/weight"));
        }
        if text.len() > MAX_PATTERN_BYTES {
            return Err(refuse("is longer than 512 bytes"));
        }
        if !unicode_normalization::is_nfc(text) {
            return Err(refuse("is not in Unicode normalization form C"));
        }
        let mut segments: Vec<Segment> = Vec::new();
        for part in text.split('/') {
            let segment = match part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
                Some(name) => {
                    check_capture(name).map_err(refuse)?;
                    if segments.iter().any(|one| matches!(one, Segment::Capture(taken) if **taken == *name)) {
                        return Err(refuse("has two captures of one name"));
                    }
                    Segment::Capture(name.into())
                }
                None if part.contains(['{', '}']) => {
                    return Err(refuse(
                        "has a capture that is not a whole segment; write {name} between two `/`",
                    ));
                }
                None if part.contains(WILDCARDS) => return Err(no_wildcards(text)),
                None => {
                    check_segment(part).map_err(refuse)?;
                    Segment::Literal(part.into())
                }
            };
            segments.push(segment);
        }
        if segments.len() > MAX_PATH_SEGMENTS {
            return Err(refuse("has more than 16 segments"));
        }
        Ok(Self { tenant, text: text.into(), segments: segments.into() })
    }

    /// The tenant whose points it matches.
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The text, shared.
    pub fn to_arc(&self) -> Arc<str> {
        Arc::clone(&self.text)
    }

    /// The segments, in order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The names of the captures, in order.
    pub fn captures(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Capture(name) => Some(&**name),
            Segment::Literal(_) => None,
        })
    }

    /// Returns whether it matches the path.
    pub fn matches(&self, path: &PointPath) -> bool {
        if path.tenant() != self.tenant {
            return false;
        }
        let mut parts = path.segments();
        for segment in self.segments.iter() {
            match (segment, parts.next()) {
                (_, None) => return false,
                (Segment::Literal(literal), Some(part)) if **literal != *part => return false,
                _ => {}
            }
        }
        parts.next().is_none()
    }

    /// The entity of a path that it matches: the captured segments joined by `/`, or the empty
    /// string where there are no captures. `None` where it doesn't match.
    pub fn entity(&self, path: &PointPath) -> Option<String> {
        if !self.matches(path) {
            return None;
        }
        let mut entity = String::new();
        self.write_entity(path, &mut entity);
        Some(entity)
    }

    /// Adds the entity of a path that it matches to a text.
    pub(crate) fn write_entity(&self, path: &PointPath, entity: &mut String) {
        let mut first = true;
        for (segment, part) in self.segments.iter().zip(path.segments()) {
            if let Segment::Capture(_) = segment {
                if !first {
                    entity.push('/');
                }
                first = false;
                entity.push_str(part);
            }
        }
    }

    /// Returns whether some path matches both.
    pub fn intersects(&self, other: &Self) -> bool {
        self.tenant == other.tenant
            && self.segments.len() == other.segments.len()
            && self.segments.iter().zip(other.segments.iter()).all(|pair| match pair {
                (Segment::Literal(one), Segment::Literal(other)) => one == other,
                _ => true,
            })
    }
}

/// Says what to write instead of the wildcards of other systems.
fn no_wildcards(text: &str) -> String {
    let mut names = (1..).map(|n| if n == 1 { "{name}".to_owned() } else { format!("{{name{n}}}") });
    let mut free = || names.find(|name| !text.contains(name.as_str())).unwrap_or_default();
    let parts = text.split('/').map(|part| if part.contains(WILDCARDS) { free() } else { part.to_owned() });
    let instead = parts.collect::<Vec<_>>().join("/");
    let wildcard = text.chars().find(|c| WILDCARDS.contains(c)).unwrap_or_default();
    format!(
        "{text:?} has `{wildcard}`; no pattern has the wildcards `*`, `+` and `#`: write a name in braces, such as \
         {instead}, which matches exactly one whole segment"
    )
}

fn check_capture(name: &str) -> Result<(), &'static str> {
    let mut bytes = name.bytes();
    let begins = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic());
    if !begins || !bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
        return Err("has a capture whose name is not a letter followed by letters, digits, `-` or `_`");
    }
    if name.len() > MAX_CAPTURE_BYTES {
        return Err("has a capture whose name is longer than 63 bytes");
    }
    Ok(())
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.tenant == other.tenant && self.text == other.text
    }
}

impl Eq for Pattern {}

impl std::hash::Hash for Pattern {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.tenant, &self.text).hash(state);
    }
}

impl Serialize for Pattern {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        write_owned(self.tenant, &self.text, serializer)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (tenant, text) = read_owned(deserializer)?;
        Self::new(tenant, &text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::new(TenantId::MAIN, text).unwrap()
    }

    fn path(text: &str) -> PointPath {
        PointPath::new(TenantId::MAIN, text).unwrap()
    }

    #[test]
    fn a_capture_matches_exactly_one_segment() {
        let weight = pattern("farm/{barn}/pig/{tag}/weight");
        assert_eq!(weight.captures().collect::<Vec<_>>(), ["barn", "tag"]);
        assert_eq!(weight.entity(&path("farm/barn-2/pig/0042/weight")).as_deref(), Some("barn-2/0042"));
        for other in [
            "farm/barn-2/pig/0042",
            "farm/barn-2/pig/0042/weight/x",
            "farm/barn-2/pig/weight",
            "Farm/a/pig/b/weight",
        ] {
            assert_eq!(weight.entity(&path(other)), None, "{other}");
        }
        assert_eq!(pattern("site/power").entity(&path("site/power")).as_deref(), Some(""));
    }

    #[test]
    fn bad_patterns_are_refused_with_the_reason() {
        for (bad, reason) in [
            ("", "empty"),
            ("a//b", "empty segment"),
            ("pig-{tag}/weight", "whole segment"),
            ("{tag", "whole segment"),
            ("{a}/{a}", "two captures"),
            ("{}/x", "name"),
            ("{1a}", "name"),
            ("{a b}", "name"),
            ("{{a}}", "name"),
            ("a\u{7}/b", "control character"),
            ("../a", "`..`"),
            ("Gro\u{308}sse/{a}", "normalization"),
            ("a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a", "16 segments"),
        ] {
            let error = Pattern::new(TenantId::MAIN, bad).unwrap_err();
            assert!(error.contains(reason), "{bad}: {error}");
        }
    }

    #[test]
    fn wildcards_of_other_systems_are_refused_with_what_to_write_instead() {
        for (bad, wildcard, instead) in [
            ("barn/*/weight", "`*`", "barn/{name}/weight"),
            ("a/+/b", "`+`", "a/{name}/b"),
            ("a/#", "`#`", "a/{name}"),
            ("**", "`*`", "{name}"),
            ("pig-*/weight", "`*`", "{name}/weight"),
            ("{name}/*/+", "`*`", "{name}/{name2}/{name3}"),
        ] {
            let error = Pattern::new(TenantId::MAIN, bad).unwrap_err();
            let expected = format!(
                "{bad:?} has {wildcard}; no pattern has the wildcards `*`, `+` and `#`: write a name in braces, such as \
                 {instead}, which matches exactly one whole segment"
            );
            assert_eq!(error, expected);
            assert!(Pattern::new(TenantId::MAIN, instead).is_ok(), "{instead}");
        }
        // A point may have one in its name: a capture matches it.
        assert_eq!(pattern("a/{x}").entity(&path("a/b*")).as_deref(), Some("b*"));
    }

    #[test]
    fn patterns_intersect_where_one_path_can_match_both() {
        assert!(pattern("a/{x}/c").intersects(&pattern("{y}/b/c")));
        assert!(!pattern("a/{x}/c").intersects(&pattern("a/{x}/d")));
        assert!(!pattern("a/{x}").intersects(&pattern("a/{x}/d")));
    }

    fn any_pattern() -> impl Strategy<Value = Pattern> {
        let segment = prop_oneof!["[ab]", Just("{x}".to_owned())];
        prop::collection::vec(segment, 1..5).prop_map(|segments| {
            let named: Vec<String> = segments
                .iter()
                .enumerate()
                .map(|(at, segment)| if segment == "{x}" { format!("{{x{at}}}") } else { segment.clone() })
                .collect();
            pattern(&named.join("/"))
        })
    }

    proptest! {
        #[test]
        fn intersection_agrees_with_the_paths_over_a_small_alphabet(one in any_pattern(), other in any_pattern()) {
            // Two letters are enough: a common path, if any, takes its letters from the literals.
            let mut paths = vec![String::new()];
            let mut found = false;
            for _ in 0..4 {
                paths = paths
                    .iter()
                    .flat_map(|path| ["a", "b"].map(|s| if path.is_empty() { s.to_owned() } else { format!("{path}/{s}") }))
                    .collect();
                found |= paths.iter().any(|text| one.matches(&path(text)) && other.matches(&path(text)));
            }
            prop_assert_eq!(one.intersects(&other), found);
            prop_assert_eq!(other.intersects(&one), found);
        }
    }
}
