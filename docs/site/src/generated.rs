//! The parts of pages that the program itself, or the interfaces, give: a line `{{#generated NAME}}` stands for each.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use mdbook_driver::book::Book;
use mdbook_preprocessor::{Preprocessor, PreprocessorContext};

use crate::wit;

/// Puts the generated parts into pages.
pub(crate) struct Generated {
    wit: PathBuf,
    binary: PathBuf,
}

impl Generated {
    /// For a project and its program.
    pub(crate) fn new(root: &Path, binary: &Path) -> Self {
        Self { wit: root.join("wit"), binary: binary.to_owned() }
    }

    /// A page with its generated parts.
    fn page(&self, text: &str) -> Result<String> {
        let mut made = String::with_capacity(text.len());
        for line in text.lines() {
            let name = line.strip_prefix("{{#generated ").and_then(|rest| rest.strip_suffix("}}"));
            made.push_str(&match name {
                None => line.to_owned(),
                Some("wit") => wit::reference(&self.wit)?,
                Some("configuration") => {
                    format!("```toml\n{}```\n", self.ask(&["serve", "--print-default-config"])?)
                }
                Some("commands") => self.commands()?,
                Some(other) => bail!("{other:?} is not a part that is generated"),
            });
            made.push('\n');
        }
        Ok(made)
    }

    /// The help of the program and of each of its commands.
    fn commands(&self) -> Result<String> {
        let mut text = String::new();
        self.command(&mut Vec::new(), &mut text)?;
        Ok(text)
    }

    fn command(&self, path: &mut Vec<String>, text: &mut String) -> Result<()> {
        let mut arguments: Vec<&str> = path.iter().map(String::as_str).collect();
        arguments.push("--help");
        let help = self.ask(&arguments)?;
        text.push_str(&format!("## ironloom {}\n\n```text\n{help}```\n\n", path.join(" ")));
        for name in subcommands(&help) {
            path.push(name);
            self.command(path, text)?;
            path.pop();
        }
        Ok(())
    }

    /// Runs the program, and gives what it prints.
    fn ask(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.binary);
        // The same text on any machine.
        command.args(arguments).env("COLUMNS", "100").env_remove("IRONLOOM_URL");
        let output = command.output().with_context(|| format!("can't run {}", self.binary.display()))?;
        ensure!(output.status.success(), "ironloom {}: {}", arguments.join(" "), output.status);
        String::from_utf8(output.stdout).context("it doesn't print text")
    }
}

/// The names of the commands that a help text lists.
fn subcommands(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = lines.take_while(|line| !line.is_empty()).filter_map(|line| {
        // Lines that go on from the one before are further to the right.
        let rest = line.strip_prefix("  ").filter(|rest| !rest.starts_with(' '))?;
        rest.split_whitespace().next().map(str::to_owned)
    });
    names.filter(|name| name != "help").collect()
}

impl Preprocessor for Generated {
    fn name(&self) -> &str {
        "generated"
    }

    fn run(&self, _context: &PreprocessorContext, mut book: Book) -> Result<Book> {
        let mut outcome = Ok(());
        book.for_each_chapter_mut(|chapter| match self.page(&chapter.content) {
            Ok(page) => chapter.content = page,
            Err(error) if outcome.is_ok() => outcome = Err(error.context(chapter.name.clone())),
            Err(_) => {}
        });
        outcome.map(|()| book)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_of_a_help_text_are_found() {
        let help = "Runs apps\n\nUsage: ironloom <COMMAND>\n\nCommands:\n  capsule   Take the last ones along as one file, or \
                    run them\n            again\n  log-level  Show it\n  help      Print this\n\nOptions:\n  -h, --help  \
                    Print help\n";
        assert_eq!(subcommands(help), ["capsule", "log-level"]);
        assert!(subcommands("Shows it\n\nUsage: ironloom show <ID>\n").is_empty());
    }

    #[test]
    fn a_part_that_nothing_generates_is_an_error() {
        let generated = Generated::new(Path::new("/nowhere"), Path::new("/nowhere/ironloom"));
        assert_eq!(generated.page("# Words\n\ntext").unwrap(), "# Words\n\ntext\n");
        assert!(generated.page("{{#generated poems}}").unwrap_err().to_string().contains("poems"));
        assert!(generated.page("{{#generated configuration}}").is_err(), "there is no such program");
    }
}
