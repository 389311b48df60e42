//! `ETag` and `If-Match` of RFC 9110: changes that are made only if nobody else has made one in between.

use std::fmt;

use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;

use super::facade::{Answer, Installation, Place, Problem};
use ironloom_types::ids::{Generation, InstallationId, Revision};
use ironloom_types::text::shorten;

/// Tags of a request that its refusal names, and the characters of each: a header may have thousands of any length.
const NAMED: usize = 8;
const TAG: usize = 60;

/// The entity tag of a revision. It has the generation, too: an installation that was removed and made again has its
/// first revision again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    pub generation: Generation,
    pub revision: Revision,
}

impl Tag {
    /// Gives it to an answer about this installation.
    pub(super) fn put(of: &Installation, mut answer: Response) -> Response {
        let tag = Self { generation: of.generation, revision: of.revision };
        // Digits, a point and quotes are what a header may have.
        if let Ok(value) = HeaderValue::try_from(tag.to_string()) {
            answer.headers_mut().insert(header::ETAG, value);
        }
        answer
    }

    /// Reads one as it was given out.
    fn read(text: &str) -> Option<Self> {
        let (generation, revision) = text.strip_prefix('"')?.strip_suffix('"')?.split_once('.')?;
        let tag = Self {
            generation: Generation(generation.parse().ok()?),
            revision: Revision(revision.parse().ok()?),
        };
        (tag.to_string() == text).then_some(tag)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}.{}\"", self.generation, self.revision)
    }
}

/// The header `If-Match`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IfMatch {
    /// `*`: whatever is there.
    Any,
    /// One of these tags, each as it was sent.
    OneOf(Vec<String>),
}

impl IfMatch {
    /// The header of a request, if there is one. Several lines are one list.
    pub(super) fn of(headers: &HeaderMap) -> Answer<Option<Self>> {
        let mut tags = Vec::new();
        let mut is_any = false;
        let lines = headers.get_all(header::IF_MATCH);
        if lines.iter().next().is_none() {
            return Ok(None);
        }
        for line in lines {
            let line = line.to_str().map_err(|_| malformed())?.trim();
            if line == "*" {
                is_any = true;
                continue;
            }
            read_tags(line, &mut tags).ok_or_else(malformed)?;
        }
        match (is_any, tags.is_empty()) {
            (true, true) => Ok(Some(Self::Any)),
            (false, false) => Ok(Some(Self::OneOf(tags))),
            _ => Err(malformed()),
        }
    }

    /// 412 where it names none that holds. By RFC 9110 a weak tag (`W/"…"`) never does.
    pub(crate) fn check(&self, id: &InstallationId, now: Tag) -> Answer<()> {
        let Self::OneOf(tags) = self else { return Ok(()) };
        if tags.iter().any(|tag| *tag == now.to_string()) {
            return Ok(());
        }
        let named = tags.iter().take(NAMED).map(|tag| match Tag::read(tag) {
            Some(tag) if tag.generation == now.generation => format!("revision {}", tag.revision),
            Some(tag) => format!("revision {} of generation {}", tag.revision, tag.generation),
            None => shorten(tag, TAG).into_owned(),
        });
        let (mut named, is) = (named.collect::<Vec<_>>().join(", "), now.revision);
        if let Some(others) = tags.len().checked_sub(NAMED).filter(|others| *others > 0) {
            named.push_str(&format!(" and {others} more"));
        }
        let detail = format!(
            "installation {id} has revision {is} (ETag {now}), and If-Match names {named}: \
             another change came in between"
        );
        Err(Problem::precondition("revision", detail).at(Place::field("If-Match")).hint(format!(
            "GET /v1/installations/{id} shows it as it is now; send the change again with its ETag if it still holds."
        )))
    }
}

/// Adds the tags of a list such as `"1.2", W/"3"`. Empty elements count for nothing, as in every list of HTTP.
fn read_tags(mut rest: &str, tags: &mut Vec<String>) -> Option<()> {
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return Some(());
        }
        let opened = rest.strip_prefix("W/").unwrap_or(rest).strip_prefix('"')?;
        let inner = opened.find('"')?;
        if opened[..inner].bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return None;
        }
        let end = rest.len() - opened.len() + inner + 1;
        tags.push(rest[..end].to_owned());
        rest = rest[end..].trim_start_matches([' ', '\t']);
        if !rest.is_empty() && !rest.starts_with(',') {
            return None;
        }
    }
}

fn malformed() -> Problem {
    let detail = "If-Match must be * or a list of entity tags, each in quotes, such as \"1.4\"";
    Problem::malformed("malformed", detail)
        .at(Place::field("If-Match"))
        .hint("The header ETag of an installation's answer has one.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ironloom_types::ids::TenantId;

    fn of(lines: &[&str]) -> Answer<Option<IfMatch>> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::IF_MATCH, line.parse().unwrap());
        }
        IfMatch::of(&headers)
    }

    fn tags(lines: &[&str]) -> Vec<String> {
        match of(lines).unwrap().unwrap() {
            IfMatch::OneOf(tags) => tags,
            IfMatch::Any => panic!("any"),
        }
    }

    #[test]
    fn lists_are_read_as_http_writes_them() {
        assert_eq!(of(&[]).unwrap(), None);
        assert_eq!(of(&["*"]).unwrap(), Some(IfMatch::Any));
        assert_eq!(tags(&["\"1.2\""]), ["\"1.2\""]);
        assert_eq!(tags(&[" , \"a,b\" ,W/\"1.2\",, ", "\"\""]), ["\"a,b\"", "W/\"1.2\"", "\"\""]);
        for wrong in ["", ",", "1.2", "\"1.2", "\"a\" \"b\"", "\"a b\"", "w/\"1\"", "*, \"1.2\"", "\"1\", *"]
        {
            let problem = of(&[wrong]).unwrap_err();
            assert_eq!((problem.status, problem.kind.as_str()), (400, "malformed"), "{wrong}");
        }
        assert_eq!(of(&["*", "\"1.2\""]).unwrap_err().status, 400);
    }

    #[test]
    fn only_the_very_revision_matches() {
        let id = InstallationId::new(TenantId::MAIN, "pigs").unwrap();
        let now = Tag { generation: Generation(7), revision: Revision(4) };
        let check = |line| of(&[line]).unwrap().unwrap().check(&id, now);
        for holds in ["*", "\"7.4\"", "\"7.3\", \"7.4\""] {
            assert_eq!(check(holds), Ok(()), "{holds}");
        }
        let problem = check("\"7.3\", \"6.4\", W/\"7.4\", \"07.4\"").unwrap_err();
        assert_eq!((problem.status, problem.kind.as_str()), (412, "revision"));
        assert_eq!(
            problem.detail,
            "installation pigs has revision 4 (ETag \"7.4\"), and If-Match names revision 3, \
             revision 4 of generation 6, W/\"7.4\", \"07.4\": another change came in between"
        );
    }

    #[test]
    fn a_refusal_names_some_of_many_tags_and_says_the_rest_of_its_sentence() {
        let id = InstallationId::new(TenantId::MAIN, "pigs").unwrap();
        let now = Tag { generation: Generation(7), revision: Revision(4) };
        let refused = |line: &str| of(&[line]).unwrap().unwrap().check(&id, now).unwrap_err().detail.clone();
        let long = refused(&format!("\"{}\"", "x".repeat(60_000)));
        let expected = format!("names \"{}…: another change came in between", "x".repeat(59));
        assert!(long.ends_with(&expected), "{long}");
        let many = refused(&["\"7.3\""; 10_000].join(","));
        let expected =
            format!("names {} and 9992 more: another change came in between", ["revision 3"; 8].join(", "));
        assert!(many.ends_with(&expected), "{many}");
    }
}
