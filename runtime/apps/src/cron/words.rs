//! The usual cron expressions in words.

use std::fmt::Write as _;

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Returns the meaning of an expression that was parsed; `None` where no short sentence says it.
pub(super) fn words(text: &str) -> Option<String> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = fields[..] else { return None };
    let time = time(minute, hour)?;
    let mut out = match (day, weekday) {
        ("*", "*") if time.is_clock => "every day".to_owned(),
        ("*", "*") => String::new(),
        ("*", weekday) => weekdays(weekday)?,
        (day, "*") => format!("on day {} of the month", number(day, 1, 31)?),
        // Either of them is enough: nobody reads that out of a short sentence.
        _ => return None,
    };
    if let (Some(day), Some(month)) = (number(day, 1, 31), name(month, &MONTHS, 1)) {
        out = format!("on {day} {month}");
    } else if month != "*" {
        let month = names(month, &MONTHS, 1)?;
        let _ = write!(out, "{}in {month}", if out.is_empty() { "" } else { " " });
    }
    // "every day at 06:00", but "every 15 minutes on Monday".
    Some(match (out.is_empty(), time.is_clock) {
        (true, _) => time.text,
        (false, true) => format!("{out} {}", time.text),
        (false, false) => format!("{} {out}", time.text),
    })
}

struct Time {
    text: String,
    /// It names times of the day.
    is_clock: bool,
}

fn time(minute: &str, hour: &str) -> Option<Time> {
    let elapsed = |text: String| Some(Time { text, is_clock: false });
    match (minute, hour) {
        ("*", "*") => return elapsed("every minute".to_owned()),
        (minute, "*") => {
            if let Some(step) = step(minute, 60) {
                return elapsed(format!("every {step} minutes"));
            }
            let minute = number(minute, 0, 59)?;
            return elapsed(match minute {
                0 => "every hour".to_owned(),
                minute => format!("every hour at minute {minute}"),
            });
        }
        ("0", hour) => {
            if let Some(step) = step(hour, 24) {
                return elapsed(format!("every {step} hours"));
            }
        }
        _ => {}
    }
    let minute = number(minute, 0, 59)?;
    let hours: Option<Vec<String>> =
        hour.split(',').map(|hour| Some(format!("{:02}:{minute:02}", number(hour, 0, 23)?))).collect();
    Some(Time { text: format!("at {}", listed(&hours?)), is_clock: true })
}

/// The `n` of `*/n`, if it divides the whole: else the last step would be shorter.
fn step(field: &str, whole: u32) -> Option<u32> {
    let step: u32 = field.strip_prefix("*/")?.parse().ok()?;
    (step > 1 && whole.is_multiple_of(step)).then_some(step)
}

fn number(field: &str, least: u32, most: u32) -> Option<u32> {
    field.parse().ok().filter(|number| (least..=most).contains(number))
}

fn weekdays(field: &str) -> Option<String> {
    if let Some((from, to)) = field.split_once('-') {
        return Some(format!("from {} to {}", name(from, &DAYS, 0)?, name(to, &DAYS, 0)?));
    }
    Some(format!("every {}", names(field, &DAYS, 0)?))
}

fn names(field: &str, all: &[&str], first: usize) -> Option<String> {
    let found: Option<Vec<String>> =
        field.split(',').map(|one| name(one, all, first).map(str::to_owned)).collect();
    Some(listed(&found?))
}

/// A name by its number or its first three letters. Sunday is 0 and 7.
fn name<'a>(field: &str, all: &[&'a str], first: usize) -> Option<&'a str> {
    let by_letters = || all.iter().position(|name| field.len() == 3 && name[..3].eq_ignore_ascii_case(field));
    let index = match field.parse::<usize>() {
        Ok(7) if all.len() == 7 => 0,
        Ok(number) => number.checked_sub(first)?,
        Err(_) => by_letters()?,
    };
    all.get(index).copied()
}

fn listed(all: &[String]) -> String {
    match all {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn the_usual_expressions_have_words_and_others_none() {
        for (text, meaning) in [
            ("* * * * *", "every minute"),
            ("*/15 * * * *", "every 15 minutes"),
            ("0 * * * *", "every hour"),
            ("20 * * * *", "every hour at minute 20"),
            ("0 */6 * * *", "every 6 hours"),
            ("0 6 * * *", "every day at 06:00"),
            ("30 6,14,22 * * *", "every day at 06:30, 14:30 and 22:30"),
            ("0 6 * * 1-5", "from Monday to Friday at 06:00"),
            ("5 7 * * MON,7", "every Monday and Sunday at 07:05"),
            ("0 0 1 * *", "on day 1 of the month at 00:00"),
            ("0 0 29 2 *", "on 29 February at 00:00"),
            ("0 0 1 1,7 *", "on day 1 of the month in January and July at 00:00"),
            ("0 0 * 12 *", "every day in December at 00:00"),
            ("*/5 * * * 1", "every 5 minutes every Monday"),
        ] {
            assert_eq!(words(text).as_deref(), Some(meaning), "{text}");
        }
        for text in ["*/7 * * * *", "1-5 * * * *", "0 6 1 * 1", "0 6 L * *", "0 6 * * 1#2", "0 8-17 * * *"] {
            assert_eq!(words(text), None, "{text}");
        }
    }
}
