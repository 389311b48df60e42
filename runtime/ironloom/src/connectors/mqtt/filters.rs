//! Filters of topics, as a SUBSCRIBE has them. There are no wildcards but `+`.

/// Returns true where some topic matches both filters.
pub(super) fn overlap(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.split('/'), other.split('/'));
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (Some(one), Some(other)) if one == "+" || other == "+" || one == other => {}
            _ => return false,
        }
    }
}

/// The filters without those that match only what another one matches: a broker may send a message once for each filter that
/// it matches.
pub(super) fn without_covered(filters: Vec<String>) -> Vec<String> {
    let is_covered = |at: usize| {
        let others = filters.iter().enumerate().filter(|(other, _)| *other != at);
        // Of two that match the same, the first stays.
        others
            .into_iter()
            .any(|(other, wide)| covers(wide, &filters[at]) && (other < at || !covers(&filters[at], wide)))
    };
    let kept: Vec<bool> = (0..filters.len()).map(|at| !is_covered(at)).collect();
    filters.into_iter().zip(kept).filter_map(|(filter, is_kept)| is_kept.then_some(filter)).collect()
}

/// Returns true where a filter matches all topics that the other one matches.
fn covers(wide: &str, narrow: &str) -> bool {
    let (mut wide, mut narrow) = (wide.split('/'), narrow.split('/'));
    let mut is_first = true;
    loop {
        match (wide.next(), narrow.next()) {
            (None, None) => return true,
            // A wildcard in the first level doesn't match what the broker says of itself.
            (Some("+"), Some(level)) if !(is_first && level.starts_with('$')) => {}
            (Some(wide), Some(narrow)) if wide == narrow => {}
            _ => return false,
        }
        is_first = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_overlap_where_a_topic_matches_both() {
        for (one, other, expected) in [
            ("a/+", "+/b", true),
            ("a/+/c", "a/b/+", true),
            ("a/+", "b/+", false),
            ("a/+", "a/+/c", false),
            ("a", "a", true),
        ] {
            assert_eq!((overlap(one, other), overlap(other, one)), (expected, expected), "{one} {other}");
        }
    }

    #[test]
    fn a_filter_that_another_covers_is_not_asked_for() {
        for (filters, expected) in [
            (&["a/b", "a/+"][..], &["a/+"][..]),
            (&["a/+", "a/b", "a/b/c"], &["a/+", "a/b/c"]),
            (&["a/+/c", "a/b/+"], &["a/+/c", "a/b/+"]),
            (&["+/+", "a/+", "+/b", "a/b"], &["+/+"]),
            (&["a", "a"], &["a"]),
            (&["$SYS/x", "+/x"], &["$SYS/x", "+/x"]),
            (&["$SYS/x", "$SYS/+"], &["$SYS/+"]),
        ] {
            let filters = filters.iter().map(|filter| (*filter).to_owned()).collect();
            assert_eq!(without_covered(filters), expected);
        }
    }
}
