//! Lists as people go through them: a page, the newest, all of it, or what comes from now on.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::client::Client;
use super::failure::{Failure, Outcome};
use super::{Global, follow, output};
use crate::api::CSV_TYPE;
use crate::api::facade::{ClockStatus, Page};
use ironloom_apps::quantity::Span;
use ironloom_types::clock::{Source, Timestamp};

/// The interval at which new items are asked for.
const EVERY: Duration = Duration::from_millis(500);
/// Items of one page where there are many.
const PAGE: usize = 1_000;
/// The most items of a page that there may be.
const MOST: usize = 10_000;
/// How many of the last items are shown before what comes is followed.
const BEFORE: usize = 10;
/// The most of them.
const MOST_BEFORE: usize = 10_000;

// The part of a list to show. No doc comment: clap would show it as what the command is about.
#[derive(Args, Clone, Debug)]
pub(super) struct Listing {
    /// The newest so many, the newest first; --json prints one object on each line here and with --since, --all and -f
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with_all = ["after", "limit", "all"])]
    last: Option<u64>,
    /// What is no older than this, the newest first: such as "1 h"
    #[arg(long, value_name = "SPAN", conflicts_with_all = ["after", "limit", "all", "follow"])]
    since: Option<Span>,
    /// All of it, page after page
    #[arg(long, conflicts_with_all = ["limit", "follow"])]
    all: bool,
    /// Show the last ones and go on with what is new, until interrupted
    #[arg(short, long, conflicts_with_all = ["after", "limit"])]
    follow: bool,
    /// Continue after this cursor (`next` of the previous page)
    #[arg(long, value_name = "NEXT")]
    after: Option<String>,
    /// How many at most, 1 to 10,000
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
}

/// A list of the API, and how its items are shown.
pub(super) struct List<'a, T, const N: usize> {
    pub path: &'a str,
    /// What is asked for besides order and place.
    pub query: Vec<(&'static str, Option<String>)>,
    pub header: [&'a str; N],
    /// The place of an item, which rises with each newer one; items of one first number may come one by one.
    pub place: fn(&T) -> (u64, u32),
    pub time: fn(&T) -> Timestamp,
    pub row: fn(T) -> [String; N],
}

/// The extent of a list that is printed.
#[derive(Default)]
struct Printed {
    /// Some of it is, and the header with it.
    any: bool,
    /// The widths of its columns so far.
    widths: Vec<u16>,
}

impl Listing {
    /// Shows the list.
    pub(super) fn show<T: DeserializeOwned + Serialize, const N: usize>(
        self,
        global: &Global,
        list: &List<'_, T, N>,
    ) -> Outcome {
        if self.follow {
            return self.follow(global, list);
        }
        if self.last.is_some() || self.since.is_some() {
            return self.newest(global, list);
        }
        if self.all {
            return all(global, list, self.after);
        }
        let mut query = list.query.clone();
        query.extend([("after", self.after), ("limit", Some(self.limit.to_string()))]);
        output::list(global, list.path, &query, &list.header, list.row)
    }

    /// Whether one page of the list is asked for, or all of it from its beginning.
    pub(super) fn is_page(&self) -> bool {
        self.last.is_none() && self.since.is_none() && !self.follow
    }

    /// Whether items are chosen by their age.
    pub(super) fn is_since(&self) -> bool {
        self.since.is_some()
    }

    /// Shows one page or all of a list as the server writes it in another form.
    pub(super) fn each_text(
        self,
        global: &Global,
        path: &str,
        mut query: Vec<(&'static str, Option<String>)>,
        form: &str,
        show: impl Fn(&str) -> Outcome,
    ) -> Outcome {
        if self.since.is_some() || self.follow {
            let refusal = "--csv goes with --last, --all, --after and --limit, not with --since and --follow";
            return Err(Failure::Misuse(refusal.to_owned()));
        }
        if let Some(last) = self.last {
            query.push(("order", Some("newest".to_owned())));
            return newest_text(global, path, &query, form, last, show);
        }
        let limit = if self.all { PAGE } else { self.limit };
        query.push(("limit", Some(limit.to_string())));
        each_text(global, path, &query, form, (self.after, self.all), show)
    }

    /// The newest first, until there are enough or they are too old.
    fn newest<T: DeserializeOwned + Serialize, const N: usize>(
        &self,
        global: &Global,
        list: &List<'_, T, N>,
    ) -> Outcome {
        let oldest = self.since.map(|span| ago(global, span)).transpose()?;
        let mut left = self.last.unwrap_or(u64::MAX);
        let client = global.client()?;
        let (mut after, mut printed, mut items) = (None, Printed::default(), Vec::new());
        loop {
            let limit = usize::try_from(left).unwrap_or(PAGE).min(PAGE);
            let mut page = fetch(&client, list, "newest", after, limit)?;
            let found = page.items.len();
            page.items.retain(|item| oldest.is_none_or(|oldest| (list.time)(item) >= oldest));
            page.items.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            let is_end = page.items.len() < found;
            left -= page.items.len() as u64;
            items.append(&mut page.items);
            after = page.next;
            let is_last = is_end || left == 0 || after.is_none();
            // The server's pages may be short, and their columns are to be in line.
            if is_last || items.len() >= PAGE {
                print(global, list, std::mem::take(&mut items), &mut printed)?;
            }
            if is_last {
                return nothing(&printed);
            }
        }
    }

    fn follow<T: DeserializeOwned + Serialize, const N: usize>(
        &self,
        global: &Global,
        list: &List<'_, T, N>,
    ) -> Outcome {
        let before = match self.last {
            None => BEFORE,
            Some(last) => {
                usize::try_from(last).ok().filter(|last| *last <= MOST_BEFORE).ok_or_else(|| {
                    Failure::Misuse(format!(
                        "--follow begins with the last {MOST_BEFORE} at most; --last {last} alone lists more"
                    ))
                })?
            }
        };
        let client = global.client()?;
        let (mut first, mut after) = (Vec::new(), None);
        while first.len() < before {
            let page = fetch(&client, list, "newest", after, (before - first.len()).min(PAGE))?;
            first.extend(page.items);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        first.truncate(before);
        first.reverse();
        let mut last = first.last().map_or((0, 0), list.place);
        let mut printed = Printed::default();
        print(global, list, first, &mut printed)?;
        loop {
            // Items of the last number may have come since.
            let after = last.0.saturating_sub(1).to_string();
            let (mut after, mut pause) = (Some(after), EVERY);
            while after.is_some() {
                let mut page = match fetch(&client, list, "oldest", after, PAGE) {
                    Ok(page) => page,
                    // It may be busy, or starting again: nothing is lost by that.
                    Err(failure) => {
                        pause = follow::pause(failure, EVERY)?;
                        break;
                    }
                };
                page.items.retain(|item| (list.place)(item) > last);
                last = page.items.last().map_or(last, list.place);
                print(global, list, page.items, &mut printed)?;
                after = page.next;
            }
            std::thread::sleep(pause);
        }
    }
}

/// A time so long ago by the site's clock: it may be that of a feed, and this machine's may be another one.
pub(super) fn ago(global: &Global, Span(span): Span) -> Result<Timestamp, Failure> {
    let clock: ClockStatus = global.client()?.get("/v1/clock", &[])?.read()?;
    let now = match clock.source {
        Source::Host => clock.machine.max(clock.journal),
        Source::Feed => clock.journal,
    };
    Ok(Timestamp(now.0.saturating_sub(span)))
}

/// Shows the newest so many as the server writes them in this form. A page may be shorter than what is asked for.
fn newest_text(
    global: &Global,
    path: &str,
    query: &[(&'static str, Option<String>)],
    form: &str,
    mut left: u64,
    show: impl Fn(&str) -> Outcome,
) -> Outcome {
    let client = global.client()?;
    let (mut after, mut is_first) = (None, true);
    loop {
        let limit = usize::try_from(left).unwrap_or(MOST).min(MOST);
        let mut query = query.to_vec();
        query.extend([("after", after), ("limit", Some(limit.to_string()))]);
        let answer = client.get_as(path, &query, form)?;
        show(&answer.text[header_of(&answer.text, form, is_first)..])?;
        is_first = false;
        left = left.saturating_sub(count(&answer.text, form));
        after = answer.next;
        if after.is_none() || left == 0 {
            return Ok(());
        }
    }
}

/// The items of a page in this form.
fn count(text: &str, form: &str) -> u64 {
    if form == CSV_TYPE {
        // A text in quotes may have several lines.
        csv::Reader::from_reader(text.as_bytes()).byte_records().count() as u64
    } else {
        text.lines().count() as u64
    }
}

/// Where a page begins that isn't the first: each page of CSV has the header.
fn header_of(text: &str, form: &str, is_first: bool) -> usize {
    match text.find('\n') {
        Some(end) if form == CSV_TYPE && !is_first => end + 1,
        _ => 0,
    }
}

/// Shows one page of a list from a place on, or all of them, as the server writes it in this form.
pub(super) fn each_text(
    global: &Global,
    path: &str,
    query: &[(&'static str, Option<String>)],
    form: &str,
    (mut after, all): (Option<String>, bool),
    show: impl Fn(&str) -> Outcome,
) -> Outcome {
    let client = global.client()?;
    let mut is_first = true;
    loop {
        let mut query = query.to_vec();
        query.push(("after", after));
        let answer = client.get_as(path, &query, form)?;
        show(&answer.text[header_of(&answer.text, form, is_first)..])?;
        is_first = false;
        after = answer.next;
        if after.is_none() || !all {
            break;
        }
    }
    if let Some(next) = after {
        output::note(&format!("there is more: --after {next}"));
    }
    Ok(())
}

/// Shows all pages of a list in one table.
pub(super) fn all_pages<T: DeserializeOwned, const N: usize>(
    global: &Global,
    path: &str,
    query: &[(&'static str, Option<String>)],
    after: Option<String>,
    header: &[&str; N],
    row: impl Fn(T) -> [String; N],
) -> Outcome {
    let mut printed = Printed::default();
    each_page(&global.client()?, path, query, after, |items: Vec<T>| {
        print_rows(items.into_iter().map(&row), header, &mut printed)
    })?;
    nothing(&printed)
}

/// Shows `take` all pages of a list, one after the other.
pub(super) fn each_page<T: DeserializeOwned>(
    client: &Client,
    path: &str,
    query: &[(&'static str, Option<String>)],
    mut after: Option<String>,
    mut take: impl FnMut(Vec<T>) -> Outcome,
) -> Outcome {
    loop {
        let mut query = query.to_vec();
        query.push(("after", after));
        let page: Page<T> = client.get(path, &query)?.read()?;
        take(page.items)?;
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

fn all<T: DeserializeOwned + Serialize, const N: usize>(
    global: &Global,
    list: &List<'_, T, N>,
    mut after: Option<String>,
) -> Outcome {
    let (client, mut printed) = (global.client()?, Printed::default());
    loop {
        let page = fetch(&client, list, "oldest", after, PAGE)?;
        print(global, list, page.items, &mut printed)?;
        after = page.next;
        if after.is_none() {
            return nothing(&printed);
        }
    }
}

fn fetch<T: DeserializeOwned, const N: usize>(
    client: &Client,
    list: &List<'_, T, N>,
    order: &str,
    after: Option<String>,
    limit: usize,
) -> Result<Page<T>, Failure> {
    let mut query = list.query.clone();
    query.extend([
        ("order", Some(order.to_owned())),
        ("after", after),
        ("limit", Some(limit.max(1).to_string())),
    ]);
    client.get(list.path, &query)?.read()
}

/// Prints items; the header only above the first ones.
fn print<T: Serialize, const N: usize>(
    global: &Global,
    list: &List<'_, T, N>,
    items: Vec<T>,
    printed: &mut Printed,
) -> Outcome {
    if items.is_empty() {
        return Ok(());
    }
    if global.json {
        let line = |item: &T| serde_json::to_string(item).map(|line| line + "\n");
        let lines: Result<String, _> = items.iter().map(line).collect();
        printed.any = true;
        return output::json_text(&lines.map_err(anyhow::Error::from)?);
    }
    print_rows(items.into_iter().map(list.row), &list.header, printed)
}

fn print_rows<const N: usize>(
    rows: impl Iterator<Item = [String; N]>,
    header: &[&str; N],
    printed: &mut Printed,
) -> Outcome {
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return Ok(());
    }
    let header = if std::mem::replace(&mut printed.any, true) { &[][..] } else { &header[..] };
    output::print(&output::part(header, rows, &mut printed.widths))
}

fn nothing(printed: &Printed) -> Outcome {
    if !printed.any {
        output::note("nothing found");
    }
    Ok(())
}
