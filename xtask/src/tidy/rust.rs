//! Rules of a single Rust file: its length, its functions, its first sentence, its doc comments.

use syn::visit::Visit;

use super::{Finding, Rule};

const MAX_FILE: usize = 500;
const MAX_TEST_FILE: usize = 600;
const MAX_FUNCTION: usize = 70;
/// A doc comment of fewer words repeats a name.
const MIN_DOC_WORDS: usize = 3;

/// Sentences that fit anything and therefore say nothing.
const HOLLOW: &[&str] = &[
    "offers the functions.",
    "what it is about.",
    "what it is for.",
    "sets it up.",
    "makes a new one.",
    "creates a new instance.",
    "the same as above.",
    "see above.",
    "whose it is.",
    "what is wanted.",
];

/// A comment that begins so names no thing: its first noun comes after the clause that describes it.
const QUESTIONS: &[&str] = &["What", "Whether", "How", "Where"];

/// Whether a file holds tests rather than what is shipped.
pub(super) fn is_test(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let stem = name.strip_suffix(".rs").unwrap_or(name);
    let in_folder = ["tests/", "testing/"].iter().any(|folder| {
        // The platform for tests is what the SDK ships.
        (path.starts_with(folder) || path.contains(&format!("/{folder}")))
            && !path.starts_with("sdk/rust/src/")
    });
    in_folder || matches!(stem, "tests" | "testing") || stem.ends_with("_tests")
}

/// Checks one file.
pub(super) fn check(path: &str, text: &str) -> Vec<Finding> {
    let finding = |line, rule, text: String| Finding { path: path.to_owned(), line, rule, text };
    let mut findings = Vec::new();
    let lines = text.lines().count();
    let most = if is_test(path) { MAX_TEST_FILE } else { MAX_FILE };
    if lines > most {
        let text = format!("{lines} lines; a file has at most {most}, and beyond them is two things");
        findings.push(finding(0, Rule::FileLength, text));
    }
    let parsed = match syn::parse_file(text) {
        Ok(parsed) => parsed,
        Err(error) => {
            let text = format!("this isn't Rust: {error}");
            findings.push(finding(error.span().start().line, Rule::Head, text));
            return findings;
        }
    };
    let has_head =
        text.lines().find(|line| !line.trim().is_empty()).is_some_and(|line| line.starts_with("//!"));
    if !has_head {
        let text = "the file doesn't begin with //! and a sentence on what it is".to_owned();
        findings.push(finding(1, Rule::Head, text));
    }
    let mut visitor = Visitor::default();
    visitor.visit_file(&parsed);
    findings.extend(visitor.findings.into_iter().map(|(line, rule, text)| finding(line, rule, text)));
    findings
}

/// Returns the text without the doc comments of one line that say nothing.
pub(super) fn without_filler(path: &str, text: &str) -> String {
    let findings = check(path, text).into_iter().filter(|finding| finding.rule == Rule::FillerDoc);
    let filler: Vec<usize> = findings.map(|finding| finding.line).collect();
    let is_filler =
        |number: usize, line: &str| filler.contains(&number) && line.trim_start().starts_with("///");
    let lines = text.split_inclusive('\n').enumerate();
    lines.filter(|(index, line)| !is_filler(index + 1, line)).map(|(_, line)| line).collect()
}

#[derive(Default)]
struct Visitor {
    findings: Vec<(usize, Rule, String)>,
    /// Within a type whose doc comments clap prints as help.
    is_help: bool,
}

/// Whether clap makes an item's doc comments the help of a command or an option.
fn is_help(attributes: &[syn::Attribute]) -> bool {
    let derives = attributes.iter().filter(|attribute| attribute.path().is_ident("derive"));
    derives.into_iter().any(|attribute| {
        let mut found = false;
        // A derive that can't be parsed is the compiler's to refuse.
        let _ = attribute.parse_nested_meta(|meta| {
            found |= ["Args", "Parser", "Subcommand", "ValueEnum"]
                .iter()
                .any(|name| meta.path.segments.last().is_some_and(|last| last.ident == name));
            Ok(())
        });
        found
    })
}

impl Visitor {
    fn function(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let first = signature.fn_token.span.start().line;
        let lines = block.brace_token.span.close().end().line + 1 - first;
        if lines > MAX_FUNCTION {
            let text =
                format!("`{}` has {lines} lines; a function has at most {MAX_FUNCTION}", signature.ident);
            self.findings.push((first, Rule::FunctionLength, text));
        }
    }

    fn docs(&mut self, attributes: &[syn::Attribute]) {
        let mut first = None;
        let mut doc = String::new();
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("doc")) {
            let syn::Meta::NameValue(pair) = &attribute.meta else { continue };
            let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(line), .. }) = &pair.value else { continue };
            first.get_or_insert(line.span().start().line);
            doc.push_str(&line.value());
            doc.push('\n');
        }
        let Some(line) = first.filter(|_| !self.is_help) else { return };
        let doc = doc.trim();
        let first_word = doc.split(|c: char| !c.is_alphabetic()).next().unwrap_or_default();
        if QUESTIONS.contains(&first_word) {
            let text = format!("the comment begins with {first_word:?}; begin with a noun, or a verb");
            self.findings.push((line, Rule::Question, text));
        }
        let words = doc.split_whitespace().count();
        if words < MIN_DOC_WORDS || HOLLOW.contains(&doc.to_lowercase().as_str()) {
            let text =
                format!("the comment {doc:?} says nothing that the name doesn't; say more, or nothing");
            self.findings.push((line, Rule::FillerDoc, text));
        }
    }
}

/// The macros of `tracing` that write a line.
const LINES: [&str; 6] = ["error", "warn", "info", "debug", "trace", "event"];

/// Where a line of `tracing` has a field called `message`: whoever gave it its value writes the line's own text.
fn field_message(call: &syn::Macro) -> Option<usize> {
    let names: Vec<String> = call.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
    let is_line = matches!(&names[..], [krate, name] if krate == "tracing" && LINES.contains(&name.as_str()));
    let tokens: Vec<_> = call.tokens.clone().into_iter().filter(|_| is_line).collect();
    let is_field = |index: usize| {
        let text = |index: usize| tokens.get(index).map(ToString::to_string).unwrap_or_default();
        let before = |steps: usize| index.checked_sub(steps).map_or(",".to_owned(), text);
        let begins = before(1) == "," || (["%", "?"].contains(&before(1).as_str()) && before(2) == ",");
        text(index) == "message" && begins && [",", "="].contains(&text(index + 1).as_str())
    };
    (0..tokens.len()).find(|&index| is_field(index)).map(|index| tokens[index].span().start().line)
}

impl Visit<'_> for Visitor {
    fn visit_macro(&mut self, call: &syn::Macro) {
        if let Some(line) = field_message(call) {
            let text =
                "a field called `message` takes the place of the line's text; call it `reason`".to_owned();
            self.findings.push((line, Rule::Message, text));
        }
        syn::visit::visit_macro(self, call);
    }

    fn visit_item_fn(&mut self, item: &syn::ItemFn) {
        self.function(&item.sig, &item.block);
        self.docs(&item.attrs);
        syn::visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &syn::ImplItemFn) {
        self.function(&item.sig, &item.block);
        self.docs(&item.attrs);
        syn::visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.sig, block);
        }
        self.docs(&item.attrs);
        syn::visit::visit_trait_item_fn(self, item);
    }

    fn visit_item(&mut self, item: &syn::Item) {
        self.is_help = match item {
            syn::Item::Enum(item) => is_help(&item.attrs),
            syn::Item::Struct(item) => is_help(&item.attrs),
            _ => false,
        };
        match item {
            syn::Item::Const(item) => self.docs(&item.attrs),
            syn::Item::Enum(item) => self.docs(&item.attrs),
            syn::Item::Static(item) => self.docs(&item.attrs),
            syn::Item::Struct(item) => self.docs(&item.attrs),
            syn::Item::Trait(item) => self.docs(&item.attrs),
            syn::Item::Type(item) => self.docs(&item.attrs),
            _ => {}
        }
        syn::visit::visit_item(self, item);
        self.is_help = false;
    }

    fn visit_field(&mut self, field: &syn::Field) {
        self.docs(&field.attrs);
        syn::visit::visit_field(self, field);
    }

    fn visit_variant(&mut self, variant: &syn::Variant) {
        self.docs(&variant.attrs);
        syn::visit::visit_variant(self, variant);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, text: &str) -> Vec<(usize, Rule)> {
        check(path, text).into_iter().map(|finding| (finding.line, finding.rule)).collect()
    }

    #[test]
    fn a_tidy_file_has_no_findings() {
        let text = "//! Counts things.\n\n/// Returns how many there are.\nfn count() -> u8 {\n    1\n}\n";
        assert_eq!(rules("a.rs", text), []);
    }

    #[test]
    fn a_file_without_a_head_is_found() {
        assert_eq!(rules("a.rs", "use std::fs;\n\n//! Too late.\n").len(), 1);
        assert_eq!(rules("a.rs", "\nuse std::fs;\n"), [(1, Rule::Head)]);
    }

    #[test]
    fn a_long_file_is_found_and_tests_may_be_longer() {
        let text = format!("//! Much of it.\n{}", "// a line\n".repeat(MAX_FILE));
        assert_eq!(rules("a.rs", &text), [(0, Rule::FileLength)]);
        assert_eq!(rules("runtime/storage/src/log/tests.rs", &text), []);
        let text = format!("//! Much of it.\n{}", "// a line\n".repeat(MAX_TEST_FILE));
        assert_eq!(rules("runtime/storage/src/log/tests.rs", &text), [(0, Rule::FileLength)]);
    }

    #[test]
    fn what_clap_prints_as_help_may_be_short() {
        let text = "//! Options.\n\n/// Acknowledges.\n#[derive(Debug, clap::Args)]\nstruct Ack {\n    /// Ids\n    ids: u8,\n}\n\n/// Acks.\nstruct Other;\n";
        assert_eq!(rules("a.rs", text), [(10, Rule::FillerDoc)]);
    }

    #[test]
    fn a_long_function_is_found_wherever_it_stands() {
        let body = "    let _ = 1;\n".repeat(MAX_FUNCTION - 1);
        let fits = format!("//! A function.\nfn f() {{\n{}}}\n", "    let _ = 1;\n".repeat(MAX_FUNCTION - 2));
        assert_eq!(rules("a.rs", &fits), []);
        assert_eq!(
            rules("a.rs", &format!("//! A function.\nfn f() {{\n{body}}}\n")),
            [(2, Rule::FunctionLength)]
        );
        let method = format!("//! A method.\nimpl S {{\nfn f() {{\n{body}}}\n}}\n");
        assert_eq!(rules("a.rs", &method), [(3, Rule::FunctionLength)]);
        let default = format!("//! A trait.\ntrait T {{\nfn f() {{\n{body}}}\n}}\n");
        assert_eq!(rules("a.rs", &default), [(3, Rule::FunctionLength)]);
    }

    #[test]
    fn a_log_line_whose_text_is_somebody_elses_is_found() {
        let rules_of = |call: &str| rules("a.rs", &format!("//! A line.\nfn f() {{\n    {call};\n}}\n"));
        for call in [
            "tracing::warn!(message, \"text\")",
            "tracing::warn!(id = %id, message, \"text\")",
            "tracing::error!(%message, \"text\")",
            "tracing::info!(message = words, \"text\")",
        ] {
            assert_eq!(rules_of(call), [(3, Rule::Message)], "{call}");
        }
        for call in ["tracing::warn!(reason = ?message, \"text\")", "format!(\"{}\", message, )"] {
            assert_eq!(rules_of(call), [], "{call}");
        }
    }

    #[test]
    fn comments_that_say_nothing_are_found() {
        let text = "//! A type.\n\n/// Its name.\nstruct S {\n    /// The digest.\n    digest: u8,\n}\n";
        assert_eq!(rules("a.rs", text), [(3, Rule::FillerDoc), (5, Rule::FillerDoc)]);
        assert_eq!(rules("a.rs", "//! A function.\n\n/// Sets it up.\nfn f() {}\n"), [(3, Rule::FillerDoc)]);
        assert_eq!(
            rules("a.rs", "//! An enum.\n\nenum E {\n    /// Bytes.\n    Bytes,\n}\n"),
            [(4, Rule::FillerDoc)]
        );
    }

    #[test]
    fn comments_that_begin_with_a_question_are_found() {
        let of = |doc: &str| rules("a.rs", &format!("//! A type.\n\n/// {doc}\nstruct S;\n"));
        for doc in ["What a lane has used.", "Whether it may run.", "How many there are.", "Where it stands."]
        {
            assert_eq!(of(doc), [(3, Rule::Question)], "{doc}");
        }
        for doc in ["The number of lanes.", "Whatever a lane has used.", "Returns what it is."] {
            assert_eq!(of(doc), [], "{doc}");
        }
    }

    #[test]
    fn comments_that_say_nothing_can_be_taken_out() {
        let text =
            "//! A type.\n\n/// A type that counts.\nstruct S {\n    /// The digest.\n    digest: u8,\n}\n";
        assert_eq!(without_filler("a.rs", text), text.replace("    /// The digest.\n", ""));
    }

    #[test]
    fn tests_are_told_from_sources() {
        for path in [
            "tests/tests/api.rs",
            "runtime/a/src/log/tests.rs",
            "runtime/a/src/store/tests/full.rs",
            "runtime/a/src/testing/sim.rs",
            "runtime/a/src/fold/testing.rs",
            "runtime/a/src/api/readings_tests.rs",
        ] {
            assert!(is_test(path), "{path}");
        }
        for path in ["runtime/a/src/log/mod.rs", "sdk/rust/src/testing/world.rs", "xtask/src/main.rs"] {
            assert!(!is_test(path), "{path}");
        }
    }
}
