//! Files that may break a rule, each with its reason. The shorter, the better: an exception that is no longer
//! needed is a finding too.

use super::{Finding, Rule};

/// A file that may break one rule.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Exception {
    pub path: &'static str,
    pub rule: Rule,
    /// For readers of the list.
    #[allow(dead_code, reason = "the list is read by people")]
    pub reason: &'static str,
}

const fn may(path: &'static str, rule: Rule, reason: &'static str) -> Exception {
    Exception { path, rule, reason }
}

/// All that are allowed.
pub(super) const EXCEPTIONS: &[Exception] = &[
    may("runtime/ironloom/src/api/model.rs", Rule::FileLength, "one list of the types of answers"),
    may("runtime/ironloom/src/api/routes.rs", Rule::FileLength, "one table of routes"),
    may("runtime/ironloom/src/api/tests.rs", Rule::FileLength, "each route, against a node of its own"),
    may("runtime/ironloom/src/records/tests.rs", Rule::FunctionLength, "one record of each kind"),
    may(
        "runtime/ironloom/src/fold/tests/history.rs",
        Rule::FileLength,
        "one kind of history, with its model",
    ),
    may(
        "runtime/ironloom/src/fold/tests/history.rs",
        Rule::FunctionLength,
        "an input with the model's answer",
    ),
    may("tests/tests/api.rs", Rule::FunctionLength, "a table of requests"),
];

/// Takes out the findings that an exception allows. Returns the exceptions that allowed none.
pub(super) fn take_out<'a>(findings: &mut Vec<Finding>, exceptions: &'a [Exception]) -> Vec<&'a Exception> {
    let allows = |exception: &Exception, finding: &Finding| {
        exception.rule == finding.rule && exception.path == finding.path
    };
    let unused =
        exceptions.iter().filter(|exception| !findings.iter().any(|finding| allows(exception, finding)));
    let unused = unused.collect();
    findings.retain(|finding| !exceptions.iter().any(|exception| allows(exception, finding)));
    unused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_holds_for_its_rule_and_file_and_is_told_when_it_is_not_needed() {
        let finding =
            |path: &str, rule| Finding { path: path.to_owned(), line: 1, rule, text: String::new() };
        let mut findings =
            vec![finding("a.rs", Rule::Head), finding("a.rs", Rule::Size), finding("b.rs", Rule::Head)];
        let exceptions = [may("a.rs", Rule::Head, "generated"), may("c.rs", Rule::Head, "generated")];
        let unused = take_out(&mut findings, &exceptions);
        assert_eq!(unused, [&exceptions[1]]);
        assert_eq!(findings, [finding("a.rs", Rule::Size), finding("b.rs", Rule::Head)]);
    }
}
