//! Finds, in a list of paths or patterns in the order of their texts, those that a pattern has to do with. It skips
//! what lies between, so that it costs what is found and not what there is.

use crate::binding::Target;
use crate::pattern::{Pattern, Segment};
use ironloom_types::ids::TenantId;

/// A list of texts in their order, each tenant's apart.
pub trait Ordered {
    type Item;

    /// The first text of a tenant that isn't before this one.
    fn seek(&self, tenant: TenantId, text: &str) -> Option<&str>;

    /// Shows all items of this text of a tenant.
    fn each(&self, tenant: TenantId, text: &str, see: &mut dyn FnMut(&Self::Item));
}

/// Shows the items whose paths the pattern matches; where the list has patterns, those that match a path which this
/// one matches too.
pub fn each_of<L: Ordered>(list: &L, pattern: &Pattern, see: impl FnMut(&L::Item)) {
    let parts: Vec<Part<'_>> = parts(pattern).collect();
    Search { list, tenant: pattern.tenant(), below: false, see, prefix: String::new() }.visit(&parts);
}

/// Shows the items whose paths an output may write; where the list has patterns, those that match such a path.
pub fn each_written<L: Ordered>(list: &L, target: &Target, see: impl FnMut(&L::Item)) {
    match target {
        Target::Unbound => {}
        Target::Pattern { pattern, .. } => each_of(list, pattern, see),
        Target::Default { prefix } => {
            let parts: Vec<Part<'_>> = prefix.segments().map(Part::Literal).collect();
            Search { list, tenant: prefix.tenant(), below: true, see, prefix: String::new() }.visit(&parts);
        }
    }
}

/// One segment of what is looked for.
#[derive(Clone, Copy, Debug)]
enum Part<'a> {
    Literal(&'a str),
    Any,
}

fn parts(pattern: &Pattern) -> impl Iterator<Item = Part<'_>> {
    pattern.segments().iter().map(|segment| match segment {
        Segment::Literal(literal) => Part::Literal(literal),
        Segment::Capture(_) => Part::Any,
    })
}

struct Search<'a, L, F> {
    list: &'a L,
    tenant: TenantId,
    /// Also what lies below the last part.
    below: bool,
    see: F,
    /// Empty, or the segments so far with a `/` behind each.
    prefix: String,
}

impl<L: Ordered, F: FnMut(&L::Item)> Search<'_, L, F> {
    /// Shows what these parts match behind the prefix.
    fn visit(&mut self, parts: &[Part<'_>]) {
        match parts.split_first() {
            None => self.all(),
            Some((Part::Any, rest)) => self.children("", rest),
            Some((Part::Literal(literal), rest)) => {
                let begin = self.prefix.len();
                self.prefix.push_str(literal);
                if rest.is_empty() {
                    self.list.each(self.tenant, &self.prefix, &mut self.see);
                }
                self.descend(rest);
                self.prefix.truncate(begin);
                // A capture of a pattern in the list; no path has one.
                self.children("{", rest);
            }
        }
    }

    /// Goes below the segment that the prefix ends with.
    fn descend(&mut self, rest: &[Part<'_>]) {
        if !rest.is_empty() || self.below {
            self.prefix.push('/');
            self.visit(rest);
        }
    }

    /// Visits each segment behind the prefix that begins so.
    fn children(&mut self, begins: &str, rest: &[Part<'_>]) {
        let begin = self.prefix.len();
        let first = format!("{}{begins}", self.prefix);
        let mut from = first.clone();
        while let Some(text) = self.list.seek(self.tenant, &from).filter(|text| text.starts_with(&first)) {
            from.clear();
            match text[begin..].find('/') {
                None => {
                    if rest.is_empty() {
                        self.list.each(self.tenant, text, &mut self.see);
                    }
                    from.extend([text, "\0"]);
                }
                Some(length) => {
                    let segment = &text[..begin + length];
                    self.prefix.push_str(&segment[begin..]);
                    self.descend(rest);
                    self.prefix.truncate(begin);
                    // Behind all that begins with the segment and a `/`.
                    from.extend([segment, "0"]);
                }
            }
        }
    }

    /// Shows all behind the prefix.
    fn all(&mut self) {
        let mut from = self.prefix.clone();
        while let Some(text) =
            self.list.seek(self.tenant, &from).filter(|text| text.starts_with(&self.prefix))
        {
            self.list.each(self.tenant, text, &mut self.see);
            from.clear();
            from.extend([text, "\0"]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeSet;
    use std::ops::Bound;

    use proptest::prelude::*;

    use super::*;
    use ironloom_types::ids::PointPath;

    #[derive(Default)]
    struct Texts {
        texts: BTreeSet<String>,
        sought: Cell<usize>,
    }

    impl Ordered for Texts {
        type Item = String;

        fn seek(&self, tenant: TenantId, text: &str) -> Option<&str> {
            assert_eq!(tenant, TenantId::MAIN);
            self.sought.set(self.sought.get() + 1);
            self.texts.range::<str, _>((Bound::Included(text), Bound::Unbounded)).next().map(String::as_str)
        }

        fn each(&self, _: TenantId, text: &str, see: &mut dyn FnMut(&String)) {
            self.texts.get(text).into_iter().for_each(see);
        }
    }

    fn found(list: &Texts, search: impl FnOnce(&Texts, &mut dyn FnMut(&String))) -> Vec<String> {
        let mut found = Vec::new();
        search(list, &mut |text| found.push(text.clone()));
        found.sort();
        found
    }

    /// Segments with the characters around `/` in them.
    fn path() -> impl Strategy<Value = String> {
        prop::collection::vec("[ab]([.0-]|\u{1})?".prop_map(|text| text.replace('\u{1}', "")), 1..5)
            .prop_map(|segments| segments.join("/"))
    }

    fn pattern() -> impl Strategy<Value = String> {
        let segment = prop_oneof![3 => "[ab][.0-]?", 2 => Just("{".to_owned())];
        prop::collection::vec(segment, 1..5).prop_map(|segments| {
            let named = segments.iter().enumerate();
            let named = named.map(|(at, one)| if one == "{" { format!("{{x{at}}}") } else { one.clone() });
            named.collect::<Vec<_>>().join("/")
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn a_pattern_finds_the_paths_that_it_matches(
            paths in prop::collection::btree_set(path(), 0..40),
            wanted in pattern(),
        ) {
            let wanted = Pattern::new(TenantId::MAIN, &wanted).unwrap();
            let expected: Vec<String> =
                paths.iter().filter(|path| wanted.matches(&PointPath::new(TenantId::MAIN, path).unwrap())).cloned().collect();
            let list = Texts { texts: paths, ..Texts::default() };
            prop_assert_eq!(found(&list, |list, see| each_of(list, &wanted, see)), expected);
        }

        #[test]
        fn an_output_finds_the_patterns_that_it_feeds(
            patterns in prop::collection::btree_set(pattern(), 0..40),
            wanted in pattern(),
            prefix in "[ab][.0-]?/[ab]/[ab]",
        ) {
            let prefix = PointPath::new(TenantId::MAIN, &prefix).unwrap();
            let wanted = Pattern::new(TenantId::MAIN, &wanted).unwrap();
            let targets = [Target::Pattern { pattern: wanted, order: Vec::new() }, Target::Default { prefix }];
            let list = Texts { texts: patterns, ..Texts::default() };
            for target in targets {
                let feeds = |text: &&String| target.feeds(&Pattern::new(TenantId::MAIN, text).unwrap());
                let expected: Vec<String> = list.texts.iter().filter(feeds).cloned().collect();
                prop_assert_eq!(found(&list, |list, see| each_written(list, &target, see)), expected);
            }
        }
    }

    #[test]
    fn it_costs_what_is_found() {
        let texts = (0..10_000).map(|n| format!("plant/line-{n}/{}/value", n % 7)).collect();
        let list = Texts { texts, ..Texts::default() };
        let pattern = Pattern::new(TenantId::MAIN, "plant/line-77/{machine}/value").unwrap();
        assert_eq!(found(&list, |list, see| each_of(list, &pattern, see)), ["plant/line-77/0/value"]);
        assert!(list.sought.get() < 10, "{}", list.sought.get());
    }
}
