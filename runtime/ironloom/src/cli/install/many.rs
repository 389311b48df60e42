//! Many installations by one file: one request, so that all are installed or none is.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::request::Asked;
use super::{Install, Origin, misuse, upload_by};
use crate::api::facade::{AllInstalled, InstallRequest, Installed, MAX_INSTALLS};
use crate::cli::client::Client;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::{Global, output};
use ironloom_types::ids::InstallationId;
use ironloom_types::text::clean;

impl Install {
    /// Installs what a file lists.
    pub(super) fn install_all(
        &self,
        global: &Global,
        client: &Client,
        all: Vec<Asked>,
        origin: &Origin,
    ) -> Outcome {
        self.check_flags()?;
        self.check_package(&all, &origin.path)?;
        if all.is_empty() || all.len() > MAX_INSTALLS {
            let text =
                format!("the file lists {} installations; 1 to {MAX_INSTALLS} are possible", all.len());
            return Err(misuse(text));
        }
        let named = self.named(all)?;
        let mut sent = BTreeMap::new();
        let mut requests: Vec<InstallRequest> = Vec::with_capacity(named.len());
        for Named { id, package, asked } in named {
            // Each package is sent once.
            let key = (package, asked.publisher);
            let digest = match sent.get(&key) {
                Some(digest) => *digest,
                None => upload_by(client, &key.0, key.1)?.info.digest,
            };
            sent.insert(key, digest);
            requests.push(asked.request(id, digest));
        }
        let answer = self.post(client, &requests, origin, true)?;
        let shown: AllInstalled = answer.read()?;
        let consents =
            || shown.items.iter().filter_map(|one| Some((&one.installation.id, one.consent.as_ref()?)));
        if self.dry_run {
            self.consenting.keep(consents())?;
            return output::one(global, &answer, |all: AllInstalled| text(&all.items, true));
        }
        let all: Vec<_> = consents().collect();
        self.consenting.ask(&all, &told(&shown.items), "Install all of them?")?;
        for (request, one) in requests.iter_mut().zip(&shown.items) {
            request.consent = one.consent.as_ref().map(|consent| consent.digest);
        }
        let answer = self.post(client, &requests, origin, false)?;
        output::one(global, &answer, |all: AllInstalled| text(&all.items, false))
    }

    /// Refuses flags about one installation: they can't be meant for many.
    pub(super) fn check_flags(&self) -> Result<(), Failure> {
        let given = [
            ("--id", self.id.is_some()),
            ("--new-publisher", self.new_publisher.is_some()),
            ("--bind", !self.given.bind.is_empty()),
            ("--set", !self.given.set.is_empty()),
            ("--grant", !self.given.grant.is_empty()),
            ("--limit", !self.given.limit.is_empty()),
            ("--from", self.from.is_some()),
            ("--adopt", self.adopt.is_some()),
            ("--timezone", self.given.timezone.is_some()),
            ("--mode", self.given.mode.is_some()),
            ("--keep-up", self.keep_up),
        ];
        match given.into_iter().find(|(_, is_given)| *is_given) {
            None => Ok(()),
            Some((flag, _)) => Err(misuse(format!(
                "{flag} goes with one installation, and the file lists many; write it there"
            ))),
        }
    }

    /// Refuses a package as an argument beside one that the file names: which of the two is meant isn't clear.
    pub(super) fn check_package(&self, all: &[Asked], file: &Path) -> Result<(), Failure> {
        let named = (1..).zip(all).find(|(_, asked)| asked.package.is_some());
        match (&self.package, named) {
            (Some(package), Some((number, asked))) => {
                let id = asked.id.as_ref().map_or(String::new(), |id| format!(" ({id})"));
                Err(misuse(format!(
                    "{}: installation {number} of the file{id} names a package of its own, and the argument {package} \
                     would be the package of all; leave the argument out, or take `package` out of the file",
                    file.display()
                )))
            }
            _ => Ok(()),
        }
    }

    /// The installations with their ids and packages, or all that lack one: before anything is sent.
    pub(super) fn named(&self, all: Vec<Asked>) -> Result<Vec<Named>, Failure> {
        let (mut named, mut lacking) = (Vec::with_capacity(all.len()), Vec::new());
        for (number, mut asked) in (1..).zip(all) {
            let package = asked.package.take().or_else(|| self.package.clone());
            match (asked.id.take(), package) {
                (Some(id), Some(package)) => named.push(Named { id, package, asked }),
                (None, _) => lacking.push(format!("installation {number} of the file has no id")),
                (Some(id), None) => lacking.push(format!(
                    "installation {number} of the file ({id}) names no package, and none is named as an argument"
                )),
            }
        }
        if lacking.len() > MOST_TOLD {
            let more = lacking.len() - MOST_TOLD;
            lacking.truncate(MOST_TOLD);
            lacking.push(format!("and {more} more"));
        }
        if lacking.is_empty() { Ok(named) } else { Err(misuse(lacking.join("\n"))) }
    }
}

/// An installation of the file, with what each must have.
pub(super) struct Named {
    id: InstallationId,
    package: String,
    asked: Asked,
}

/// Installations that a warning names, and lines of one kind; the rest is counted.
const MOST_NAMED: usize = 3;
const MOST_TOLD: usize = 20;

/// Each warning once, with the installations that it is about.
fn warnings<'a>(all: impl Iterator<Item = (&'a InstallationId, &'a [String])>) -> Vec<String> {
    let mut about: Vec<(&str, Vec<&InstallationId>)> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (id, warnings) in all {
        for warning in warnings {
            let place = *places.entry(warning).or_insert(about.len());
            if place == about.len() {
                about.push((warning, Vec::new()));
            }
            about[place].1.push(id);
        }
    }
    let more = about.len().saturating_sub(MOST_TOLD);
    let line = |(warning, ids): &(&str, Vec<&InstallationId>)| {
        let named = ids.iter().take(MOST_NAMED).map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let others = match ids.len().saturating_sub(MOST_NAMED) {
            0 => String::new(),
            others => format!(" and {others} more"),
        };
        format!("warning: {named}{others}: {}", clean(warning))
    };
    let mut lines: Vec<String> = about.iter().take(MOST_TOLD).map(line).collect();
    if more > 0 {
        lines.push(format!("{}: --json has them all", output::counted(more as u64, "more warning")));
    }
    lines
}

fn told(all: &[Installed]) -> Vec<String> {
    warnings(all.iter().map(|one| (&one.installation.id, one.warnings.as_slice())))
}

fn text(all: &[Installed], dry_run: bool) -> String {
    let rows = all.iter().map(|one| {
        let points: u64 = one.matches.iter().map(|matched| matched.points).sum();
        let at_least = if one.backlog_at_least { ">= " } else { "" };
        let installation = &one.installation;
        [
            installation.id.to_string(),
            installation.app.to_string(),
            installation.version.clone(),
            points.to_string(),
            format!("{at_least}{}", one.backlog),
        ]
    });
    let mut out = output::table(&["id", "app", "version", "points", "behind"], rows);
    told(all).iter().for_each(|line| out.push_str(&format!("{line}\n")));
    let count = output::counted(all.len() as u64, "installation");
    out.push_str(&if dry_run {
        format!("nothing is installed; {count} would be added\n")
    } else {
        format!("added {count}\n")
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use ironloom_types::ids::TenantId;

    fn lines(all: &[(usize, Vec<String>)]) -> Vec<String> {
        let all: Vec<_> = all
            .iter()
            .map(|(n, told)| (InstallationId::new(TenantId::MAIN, &format!("i{n}")).unwrap(), told))
            .collect();
        warnings(all.iter().map(|(id, told)| (id, told.as_slice())))
    }

    #[test]
    fn a_warning_about_many_is_told_once() {
        let told = |n: usize| (n, vec!["no point".to_owned(), format!("odd {}", n / 999)]);
        let all: Vec<_> = (0..1_000).map(told).collect();
        let expected = [
            "warning: i0, i1, i2 and 997 more: no point",
            "warning: i0, i1, i2 and 996 more: odd 0",
            "warning: i999: odd 1",
        ];
        assert_eq!(lines(&all), expected);
    }

    #[test]
    fn warnings_that_all_differ_are_counted() {
        let all: Vec<_> = (0..1_000).map(|n| (n, vec![format!("odd {n}")])).collect();
        let lines = lines(&all);
        assert_eq!((lines.len(), lines[19].as_str()), (MOST_TOLD + 1, "warning: i19: odd 19"));
        assert_eq!(lines[20], "980 more warnings: --json has them all");
    }
}
