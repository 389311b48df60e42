//! Topics with places for their own levels: `sensors/{line}/{signal}`.

/// A pattern of topics, level by level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TopicPattern(Vec<Level>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Level {
    Text(String),
    Name(String),
}

/// The longest topic that there is, in bytes of UTF-8.
const MAX_TOPIC: usize = 65_535;

impl TopicPattern {
    /// Reads a pattern; the error ends a sentence that begins with its key.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > MAX_TOPIC || text.contains('\0') {
            return Err(format!("{text:?} is no topic"));
        }
        let levels: Vec<Level> = text.split('/').map(level).collect::<Result<_, _>>()?;
        let names: Vec<&str> = names(&levels).collect();
        if let Some(twice) =
            names.iter().enumerate().find_map(|(at, name)| names[..at].contains(name).then_some(name))
        {
            return Err(format!("{text:?} has the name {twice:?} twice"));
        }
        Ok(Self(levels))
    }

    /// The names between braces.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        names(&self.0)
    }

    /// The filter that a broker is asked for.
    pub(super) fn filter(&self) -> String {
        let level = |level: &Level| match level {
            Level::Text(text) => text.clone(),
            Level::Name(_) => "+".to_owned(),
        };
        self.0.iter().map(level).collect::<Vec<_>>().join("/")
    }

    /// The topic with these levels; `None` where one of them is missing, or would be read as more than a level.
    pub(super) fn fill<'v>(&self, level: impl Fn(&str) -> Option<&'v str>) -> Option<String> {
        let mut topic = String::new();
        for own in &self.0 {
            let text = match own {
                Level::Text(text) => text,
                Level::Name(name) => level(name).filter(|text| !text.contains(['/', '+', '#', '\0']))?,
            };
            if !topic.is_empty() {
                topic.push('/');
            }
            topic.push_str(text);
        }
        Some(topic)
    }

    /// The levels of a topic by the names that stand for them; `None` where it is another topic.
    pub(super) fn matches<'t>(&'t self, topic: &'t str) -> Option<Matched<'t>> {
        let mut levels = topic.split('/');
        for own in &self.0 {
            let level = levels.next()?;
            if matches!(own, Level::Text(text) if text != level) {
                return None;
            }
        }
        levels.next().is_none().then_some(Matched { pattern: self, topic })
    }
}

/// A topic that a pattern has matched.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matched<'t> {
    pattern: &'t TopicPattern,
    topic: &'t str,
}

impl<'t> Matched<'t> {
    /// The level that a name stands for.
    pub(super) fn level(self, name: &str) -> Option<&'t str> {
        let mut levels = self.pattern.0.iter().zip(self.topic.split('/'));
        levels.find_map(|(own, level)| matches!(own, Level::Name(own) if own == name).then_some(level))
    }
}

fn names(levels: &[Level]) -> impl Iterator<Item = &str> {
    levels.iter().filter_map(|level| match level {
        Level::Name(name) => Some(name.as_str()),
        Level::Text(_) => None,
    })
}

fn level(text: &str) -> Result<Level, String> {
    if let Some(name) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        if name.is_empty() || name.contains(['{', '}']) {
            return Err(format!("must name a level between {{ and }}, not {text:?}"));
        }
        return Ok(Level::Name(name.to_owned()));
    }
    if text.contains(['{', '}']) {
        return Err(format!(
            "{text:?} has more than a name in braces: a name stands for a whole level of the topic"
        ));
    }
    if text.contains(['+', '#']) {
        return Err(format!(
            "{text:?} is a wildcard: write a name in braces, such as {{line}}, for each level that varies"
        ));
    }
    Ok(Level::Text(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_gives_its_levels_to_the_names() {
        let pattern = TopicPattern::parse("sensors/{line}/{signal}").unwrap();
        assert_eq!(pattern.filter(), "sensors/+/+");
        assert_eq!(pattern.names().collect::<Vec<_>>(), ["line", "signal"]);
        let matched = pattern.matches("sensors/7/temp").unwrap();
        assert_eq!(
            (matched.level("line"), matched.level("signal"), matched.level("other")),
            (Some("7"), Some("temp"), None)
        );
        // As a broker matches them: a level may be empty.
        assert_eq!(pattern.matches("sensors//temp").unwrap().level("line"), Some(""));
        for other in ["sensors/7", "sensors/7/temp/raw", "actors/7/temp", "sensors"] {
            assert!(pattern.matches(other).is_none(), "{other}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "is no topic"),
            ("a/+/b", "is a wildcard"),
            ("a/#", "is a wildcard"),
            ("a/x{n}", "more than a name in braces"),
            ("a/{}", "must name a level"),
            ("a/{n}/{n}", "has the name \"n\" twice"),
        ] {
            let error = TopicPattern::parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
