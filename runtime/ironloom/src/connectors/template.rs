//! Point paths with places for a line's own values: `farm/barn-{lap}/pig/{Pig}/weight`.

use ironloom_types::ids::PointPath;

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
        template.fill(&mut sample, |_| Some("x"));
        let path = PointPath::new(&sample)
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

    /// Appends the text with the names' values; a name without one leaves nothing.
    pub(crate) fn fill<'v>(&self, out: &mut String, value: impl Fn(&str) -> Option<&'v str>) {
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Name(name) => out.push_str(value(name).unwrap_or_default()),
            }
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
        template.fill(&mut out, |name| Some(if name == "lap" { "2" } else { "4601" }));
        assert_eq!(out, "farm/barn-2/4601");
        for wrong in ["", "a//b", "a/{", "a/{}", "a/{x", "a/}", "a/{x{y}}", "apps/{x}", "apps"] {
            assert!(Template::parse(wrong).is_err(), "{wrong}");
        }
    }
}
