//! Times of departure, as drivers' apps and cars write them.

use std::time::Duration;

use ironloom_sdk::Timestamp;

/// Reads an RFC 3339 time, in UTC or with an offset: `2026-03-01T16:30:00Z`, `2026-03-01T17:30:00+01:00`.
pub fn parse(text: &str) -> Result<Timestamp, String> {
    let text = text.trim();
    find(text).ok_or_else(|| {
        format!(
            "`{text}` is no time of departure: write it as 2026-03-01T17:30:00+01:00 or 2026-03-01T16:30:00Z"
        )
    })
}

fn find(text: &str) -> Option<Timestamp> {
    let start = text.len().checked_sub(6).filter(|&start| text.is_char_boundary(start))?;
    let (local, offset) = text.split_at(start);
    let (east, offset) = match (offset.strip_prefix('+'), offset.strip_prefix('-')) {
        (Some(offset), _) => (true, offset),
        (None, Some(offset)) => (false, offset),
        (None, None) => return text.parse().ok(),
    };
    let (hours, minutes) = offset.split_once(':')?;
    let (hours, minutes): (u64, u64) = (hours.parse().ok()?, minutes.parse().ok()?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    let local: Timestamp = format!("{local}Z").parse().ok()?;
    let offset = Duration::from_secs(hours * 3_600 + minutes * 60);
    // A clock in the east is ahead.
    Some(if east { local - offset } else { local + offset })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_offset() {
        let noon = "2019-05-06T19:00:00Z".parse().map_err(drop);
        for text in [
            "2019-05-06T19:00:00Z",
            " 2019-05-06T12:00:00-07:00 ",
            "2019-05-07T00:45:00+05:45",
            "2019-05-06T19:00:00+00:00",
        ] {
            assert_eq!(parse(text).map_err(drop), noon, "{text}");
        }
        for text in [
            "",
            "noon",
            "2019-05-06",
            "2019-05-06T12:00:00",
            "2019-05-06T12:00:00+25:00",
            "2019-05-06T12:00:00+0700",
            "ä12345",
            "-07:00",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
