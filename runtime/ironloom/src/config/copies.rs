//! `[copies]`: copies of installations' state, to go back to.

use super::off::{unless_off, within};
use super::{Bytes, Span, key, number};
use ironloom_apps::toml_section::Section;

/// The most copies of an installation: their list is one answer.
const MOST: u32 = 100;
/// A copy takes its time.
const LEAST_EVERY: Span = Span(60_000_000_000);
/// Looked for once a second.
const LEAST_COMMIT_AFTER: Span = Span(1_000_000_000);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Copies {
    /// The interval of those that are made for no other reason.
    pub every: Option<Span>,
    /// The most that are kept of an installation.
    pub number: u32,
    /// Bytes of state that those of all installations may have together.
    pub bytes: Bytes,
    /// The time after an upgrade in which it may be rolled back.
    pub commit_after: Span,
}

pub(super) fn read(mut section: Section<'_, '_>) -> Option<Copies> {
    let every = key(&mut section, "copies", "every");
    let number = number(key(&mut section, "copies", "number"), 0..=MOST);
    let bytes = key(&mut section, "copies", "bytes");
    let commit_after = key(&mut section, "copies", "commit_after");
    section.finish();
    let every =
        every.and_then(|field| field.parsed(|text| unless_off(text, |span| within(span, LEAST_EVERY, None))));
    let bytes = bytes.and_then(|field| field.parsed(str::parse));
    let commit_after = commit_after.and_then(|field| {
        field.parsed(|text| {
            let after: Span = text.parse()?;
            if after < LEAST_COMMIT_AFTER {
                return Err(format!("must be at least {LEAST_COMMIT_AFTER}"));
            }
            Ok(after)
        })
    });
    Some(Copies { every: every?, number: number?, bytes: bytes?, commit_after: commit_after? })
}
