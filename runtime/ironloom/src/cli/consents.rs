//! `ironloom consents`: upgrades that wait for somebody's consent.

use anyhow::Context as _;
use clap::{Args, Subcommand};

use super::client::segment;
use super::consent::{confirm, lines, warnings};
use super::failure::{Failure, Outcome};
use super::{Global, PageArgs, output, set};
use crate::api::JSON_TYPE;
use crate::api::facade::{ConsentGiven, PendingConsent, Revised};
use ironloom_types::ids::Digest;
use ironloom_types::text::clean;

/// Lists upgrades that wait for consent, since they ask for more than their installations have; shows, accepts or
/// refuses one.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Consents {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    page: PageArgs,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show all that an upgrade would change and give, and what of it is more than the installation has
    Show {
        /// The installation
        id: String,
    },
    /// Consent to an upgrade, which begins at once. Asks, unless --consent names what was shown
    Accept {
        /// The installation
        id: String,
        /// The digest of what was shown: refused where it would get anything else by now
        #[arg(long, value_name = "DIGEST")]
        consent: Option<Digest>,
    },
    /// Refuse an upgrade: the installation stays as it is
    Refuse {
        /// The installation
        id: String,
    },
}

fn path(id: &str) -> String {
    format!("/v1/consents/{}", segment(id))
}

impl Consents {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let client = global.client()?;
        match self.what {
            Some(What::Show { id }) => {
                let answer = client.get(&path(&id), &[])?;
                output::one(global, &answer, |waits: PendingConsent| text(&waits))
            }
            Some(What::Accept { id, consent }) => {
                let waits: PendingConsent = client.get(&path(&id), &[])?.read()?;
                if let Some(problem) = &waits.problem {
                    let problem = clean(problem);
                    return Err(Failure::Other(anyhow::anyhow!(
                        "the upgrade of {id} can't be made: {problem}"
                    )));
                }
                if consent.is_none() {
                    let otherwise = "--consent DIGEST names what `ironloom consents show` has shown";
                    confirm(&text(&waits), "Consent to it?", otherwise)?;
                }
                // The digest is of the package, too.
                let given =
                    ConsentGiven { package: waits.package, consent: consent.unwrap_or(waits.consent) };
                let body = serde_json::to_string(&given).context("it can't be written")?;
                let answer =
                    client.post(&format!("{}/accept", path(&id)), &[], JSON_TYPE, body.as_bytes())?;
                output::one(global, &answer, |revised: Revised| set::text(&revised, false))
            }
            Some(What::Refuse { id }) => {
                client.delete(&path(&id), &[])?;
                output::done(global, &format!("the upgrade of {id} is refused, and {id} stays as it is"))
            }
            None => {
                let query = [("after", self.page.after), ("limit", Some(self.page.limit.to_string()))];
                output::list(
                    global,
                    "/v1/consents",
                    &query,
                    &["installation", "app", "from", "to", "asked", "would also get"],
                    |item: PendingConsent| {
                        let wider = item.wider.join("; ");
                        let wider = output::shorten_last(&wider);
                        [
                            item.installation.to_string(),
                            item.app.to_string(),
                            item.before,
                            item.version,
                            item.asked.to_string(),
                            wider,
                        ]
                    },
                )
            }
        }
    }
}

fn text(waits: &PendingConsent) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: &str| out.push_str(&named(name, value));
    line("installation", waits.installation.as_str());
    line("app", waits.app.as_str());
    line("upgrade", &format!("from version {} to {}", waits.before, waits.version));
    line("package", &waits.package.to_string());
    line("publisher", &waits.publisher.to_string());
    line("asked", &waits.asked.to_string());
    waits.problem.iter().for_each(|text| line("problem", text));
    waits.gets.iter().for_each(|gets| out.push_str(&lines(gets)));
    out.push_str(&set::changed(&waits.changes));
    warnings(&waits.warnings).iter().for_each(|line| out.push_str(&format!("{line}\n")));
    waits.wider.iter().for_each(|text| out.push_str(&named("also", text)));
    out + &named("consent", &waits.consent.to_string())
}

fn named(name: &str, value: &str) -> String {
    format!("{name:<14}{}\n", clean(value))
}
