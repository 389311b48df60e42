//! Point paths with places for a line's own values: `farm/barn-{lap}/pig/{Pig}/weight`.

use crate::connectors::TENANT;
use ironloom_types::ids::PointPath;
use ironloom_types::text::shorten;

/// A template, split at its braces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Name(String),
}

impl Template {
    /// Reads a template; the error ends a sentence that begins with its key.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            let close = rest[open..].find('}').ok_or_else(|| format!("has a {{ without its }}: {text:?}"))?;
            let name = &rest[open + 1..open + close];
            if name.is_empty() || name.contains('{') {
                return Err(format!("must name a column between {{ and }}: {text:?}"));
            }
            if open > 0 {
                parts.push(Part::Text(rest[..open].to_owned()));
            }
            parts.push(Part::Name(name.to_owned()));
            rest = &rest[open + close + 1..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        let template = Self(parts);
        // Any value would do: it is checked again with what the lines hold.
        let mut sample = String::new();
        template.fill(&mut sample, |_| Some("x"))?;
        let path = PointPath::new(TENANT, &sample)
            .map_err(|error| format!("{text:?} doesn't give a point path: {error}"))?;
        if path.is_reserved() {
            return Err(format!("{text:?} lies under `apps/`, which belongs to the runtime"));
        }
        Ok(template)
    }

    /// The names between braces.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Name(name) => Some(name.as_str()),
            Part::Text(_) => None,
        })
    }

    /// Returns true where values could give this text.
    pub(crate) fn may_give(&self, text: &str) -> bool {
        may_give(&self.0, text, self.takes_path())
    }

    /// Returns true where its last name may stand for more than one segment.
    fn takes_path(&self) -> bool {
        match &self.0[..] {
            [Part::Name(_)] => true,
            [.., Part::Text(before), Part::Name(_)] => before.ends_with('/'),
            _ => false,
        }
    }

    /// Appends the text with the names' values. A value is one segment or a part of one, or the point would come
    /// under the patterns of others; only a name that is all of the last segment takes a path, as `copy/{point}`.
    ///
    /// # Errors
    /// A sentence about a value that is empty or has a `/`.
    pub(crate) fn fill<'v>(
        &self,
        out: &mut String,
        value: impl Fn(&str) -> Option<&'v str>,
    ) -> Result<(), String> {
        let takes_path = self.takes_path();
        for (place, part) in (1..).zip(&self.0) {
            let name = match part {
                Part::Text(text) => {
                    out.push_str(text);
                    continue;
                }
                Part::Name(name) => name,
            };
            let value = value(name).unwrap_or_default();
            if value.is_empty() {
                return Err(format!("{name} is empty and makes no point path"));
            }
            if value.contains('/') && !(takes_path && place == self.0.len()) {
                let value = shorten(value, 60);
                return Err(format!(
                    "{name} is {value:?}, and a / would make further segments of the point path"
                ));
            }
            out.push_str(value);
        }
        Ok(())
    }
}

fn may_give(parts: &[Part], text: &str, takes_path: bool) -> bool {
    match parts {
        [] => text.is_empty(),
        [Part::Text(own), rest @ ..] => {
            text.strip_prefix(own.as_str()).is_some_and(|text| may_give(rest, text, takes_path))
        }
        [Part::Name(_)] => !text.is_empty() && (takes_path || !text.contains('/')),
        // What follows a value is looked for where the next text stands.
        [Part::Name(_), rest @ ..] => {
            let segment = &text[..text.find('/').unwrap_or(text.len())];
            let ends = segment.char_indices().map(|(at, char)| at + char.len_utf8());
            ends.into_iter().any(|end| may_give(rest, &text[end..], takes_path))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled_and_wrong_ones_refused() {
        let template = Template::parse("farm/barn-{lap}/{Pig}").unwrap();
        assert_eq!(template.names().collect::<Vec<_>>(), ["lap", "Pig"]);
        let mut out = String::new();
        template.fill(&mut out, |name| Some(if name == "lap" { "2" } else { "4601" })).unwrap();
        assert_eq!(out, "farm/barn-2/4601");
        for wrong in ["", "a//b", "a/{", "a/{}", "a/{x", "a/}", "a/{x{y}}", "apps/{x}", "apps"] {
            assert!(Template::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_value_is_no_more_than_a_segment_unless_it_is_the_end_of_the_path() {
        let fill = |template: &str, value: &str| {
            let mut out = String::new();
            Template::parse(template).unwrap().fill(&mut out, |_| Some(value)).map(|()| out)
        };
        assert_eq!(fill("{point}", "farm/barn-2/co2"), Ok("farm/barn-2/co2".to_owned()));
        assert_eq!(fill("copy/{point}", "farm/co2"), Ok("copy/farm/co2".to_owned()));
        for template in ["m/{s}/v", "m/x-{s}", "{s}/v", "{s}{s}", "{s}/{s}"] {
            let error = fill(template, "b/c").unwrap_err();
            assert!(error.starts_with("s is \"b/c\", and a / would make further segments"), "{error}");
        }
        for template in ["{s}", "m/{s}", "m/barn-{s}"] {
            assert_eq!(fill(template, "").unwrap_err(), "s is empty and makes no point path");
        }
    }

    #[test]
    fn what_a_template_may_give_is_known() {
        for (template, text, expected) in [
            ("farm/{pig}/weight", "farm/7/weight", true),
            ("farm/{pig}/weight", "farm/7/8/weight", false),
            ("farm/{pig}/weight", "farm//weight", false),
            ("farm/barn-{lap}-{pig}", "farm/barn-1-2-3", true),
            ("farm/barn-{lap}-{pig}", "farm/barn-1", false),
            ("copy/{point}", "copy/farm/7/weight", true),
            ("copy/{point}", "copy", false),
            ("plain", "plain", true),
            ("plain", "plainer", false),
        ] {
            assert_eq!(Template::parse(template).unwrap().may_give(text), expected, "{template} {text}");
        }
    }
}
