//! Topics with places for their own levels: `sensors/{line}/{signal}`.

/// A pattern of topics, level by level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TopicPattern(Vec<Level>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Level {
    Text(String),
    Name(String),
    /// The last one, for any number of levels, as `#` is: `{entity...}`.
    Rest(String),
}

/// The longest topic that there is, in bytes of UTF-8.
const MAX_TOPIC: usize = 65_535;

impl TopicPattern {
    /// Reads a pattern; the error ends a sentence that begins with its key.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let pattern = Self::parse_path(text)?;
        if matches!(pattern.0.last(), Some(Level::Rest(_))) {
            return Err(format!("{text:?} has a name for more than one level: here each stands for one"));
        }
        Ok(pattern)
    }

    /// The same, of which the last name may stand for more than one level.
    pub(super) fn parse_path(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > MAX_TOPIC || text.contains('\0') {
            return Err(format!("{text:?} is no topic"));
        }
        let levels: Vec<Level> = text.split('/').map(level).collect::<Result<_, _>>()?;
        if levels.iter().rev().skip(1).any(|level| matches!(level, Level::Rest(_))) {
            return Err(format!("{text:?} has more behind a name for all of the rest"));
        }
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

    /// The text of the first level; `None` where it is a name.
    pub(super) fn first(&self) -> Option<&str> {
        match self.0.first() {
            Some(Level::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Returns true where a topic may match both.
    pub(super) fn meets(&self, other: &Self) -> bool {
        let (mut own, mut others) = (self.0.iter(), other.0.iter());
        loop {
            match (own.next(), others.next()) {
                (None, None) | (Some(Level::Rest(_)), _) | (_, Some(Level::Rest(_))) => return true,
                (Some(Level::Text(one)), Some(Level::Text(other))) if one != other => return false,
                (Some(_), Some(_)) => {}
                _ => return false,
            }
        }
    }

    /// The first name of another pattern that this one doesn't have.
    pub(super) fn lacks<'o>(&self, other: &'o Self) -> Option<&'o str> {
        other.names().find(|name| !self.names().any(|own| own == *name))
    }

    /// The filter that a broker is asked for.
    pub(super) fn filter(&self) -> String {
        let level = |level: &Level| match level {
            Level::Text(text) => text.clone(),
            Level::Name(_) => "+".to_owned(),
            Level::Rest(_) => "#".to_owned(),
        };
        self.0.iter().map(level).collect::<Vec<_>>().join("/")
    }

    /// The topic with these levels; `None` where one of them is missing, or would be read as more than a level.
    pub(super) fn fill<'v>(&self, level: impl Fn(&str) -> Option<&'v str>) -> Option<String> {
        let mut topic = String::new();
        for (index, own) in self.0.iter().enumerate() {
            let text = match own {
                Level::Text(text) => text,
                Level::Name(name) => level(name).filter(|text| !text.contains(['/', '+', '#', '\0']))?,
                Level::Rest(name) => match level(name).filter(|text| !text.contains(['+', '#', '\0']))? {
                    "" => continue,
                    rest => rest,
                },
            };
            if index > 0 {
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
            if matches!(own, Level::Rest(_)) {
                return Some(Matched { pattern: self, topic });
            }
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
        let mut rest = Some(self.topic);
        for own in &self.pattern.0 {
            let Some(all) = rest else {
                return matches!(own, Level::Rest(own) if own == name).then_some("");
            };
            let (level, behind) =
                all.split_once('/').map_or((all, None), |(level, behind)| (level, Some(behind)));
            match own {
                Level::Name(own) if own == name => return Some(level),
                Level::Rest(own) if own == name => return Some(all),
                _ => rest = behind,
            }
        }
        None
    }
}

fn names(levels: &[Level]) -> impl Iterator<Item = &str> {
    levels.iter().filter_map(|level| match level {
        Level::Name(name) | Level::Rest(name) => Some(name.as_str()),
        Level::Text(_) => None,
    })
}

fn level(text: &str) -> Result<Level, String> {
    if let Some(name) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        if name.is_empty() || name.contains(['{', '}']) {
            return Err(format!("must name a level between {{ and }}, not {text:?}"));
        }
        return Ok(match name.strip_suffix("...") {
            Some("") => return Err(format!("must name the rest between {{ and }}, not {text:?}")),
            Some(name) => Level::Rest(name.to_owned()),
            None => Level::Name(name.to_owned()),
        });
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
    fn the_last_name_may_stand_for_all_of_the_rest() {
        let pattern = TopicPattern::parse_path("apps/{app}/{entity...}").unwrap();
        let matched = pattern.matches("apps/pigs/barn-2/pig-7").unwrap();
        assert_eq!((matched.level("app"), matched.level("entity")), (Some("pigs"), Some("barn-2/pig-7")));
        assert!(pattern.matches("apps").is_none());
        let topic = TopicPattern::parse_path("out/{app}/{entity...}").unwrap();
        let whole = pattern.matches("apps/pigs").unwrap();
        assert_eq!(whole.level("entity"), Some(""));
        assert_eq!(topic.fill(|name| whole.level(name)).unwrap(), "out/pigs");
        // The first level of this one is empty, and stays.
        let rooted = TopicPattern::parse_path("/out/{app}").unwrap();
        assert_eq!(rooted.fill(|name| whole.level(name)).unwrap(), "/out/pigs");
        assert_eq!(topic.fill(|name| matched.level(name)).unwrap(), "out/pigs/barn-2/pig-7");
        // It would be read as a wildcard.
        assert_eq!(topic.fill(|_| Some("a/+")), None);
        for wrong in ["a/{n...}/b", "a/{...}"] {
            TopicPattern::parse_path(wrong).unwrap_err();
        }
        TopicPattern::parse("a/{n...}").unwrap_err();
    }

    #[test]
    fn patterns_meet_where_one_topic_matches_both() {
        let meet = |one: &str, other: &str| {
            let [one, other] = [one, other].map(|text| TopicPattern::parse_path(text).unwrap());
            assert_eq!(one.meets(&other), other.meets(&one));
            one.meets(&other)
        };
        assert!(
            meet("a/{n}", "{m}/b")
                && meet("a/b", "a/{n...}")
                && meet("{n...}", "a/b/c")
                && meet("a", "a/{n...}")
        );
        assert!(!meet("a/b", "a/c") && !meet("a/{n}", "a/b/c"));
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
