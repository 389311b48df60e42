//! The log lines that leave the process. Whatever foreign text stands in one, it is one line and steers no terminal:
//! no caller has to think of it.

use std::fmt;
use std::io;

use tracing::Subscriber;
use tracing::field::Field;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::format::{Writer, debug_fn};

use super::filter::{Apply, LogLines};
use ironloom_types::text::{clean, clean_json};

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// For people, and for files that people read.
    Text,
    /// For people at a terminal, in colours.
    Coloured,
    /// One JSON object on each line.
    Json,
}

/// Writes log lines of this form, and gives what puts another filter in the place of this one.
pub(super) fn subscriber<W: io::Write + 'static>(
    filter: &LogLines,
    form: Form,
    to: impl Fn() -> W + Send + Sync + 'static,
) -> (Box<dyn Subscriber + Send + Sync>, Apply) {
    let lines = tracing_subscriber::fmt().with_env_filter(filter.to_string());
    match form {
        Form::Json => {
            let lines = lines.json().with_writer(move || Json(to())).with_filter_reloading();
            let handle = lines.reload_handle();
            let apply = move |filter| handle.reload(filter).map_err(|error| error.to_string());
            (Box::new(lines.finish()), Box::new(apply))
        }
        Form::Text | Form::Coloured => {
            let fields = debug_fn(clean_field).delimited(" ");
            let lines = lines.with_ansi(form == Form::Coloured).fmt_fields(fields).with_writer(to);
            let lines = lines.with_filter_reloading();
            let handle = lines.reload_handle();
            let apply = move |filter| handle.reload(filter).map_err(|error| error.to_string());
            (Box::new(lines.finish()), Box::new(apply))
        }
    }
}

/// Writes a field; the message has no name. Its value is cleaned before there are any colours.
fn clean_field(line: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    let value = format!("{value:?}");
    let value = clean(&value);
    match (field.name(), line.has_ansi_escapes()) {
        ("message", _) => write!(line, "{value}"),
        (name, false) => write!(line, "{name}={value}"),
        // The name italic, the sign dim.
        (name, true) => write!(line, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m{value}"),
    }
}

/// Cleans JSON, a whole line with each call.
struct Json<W>(W);

impl<W: io::Write> io::Write for Json<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write_all(clean_json(&String::from_utf8_lossy(line)).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;
    use ironloom_types::text::misleads;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Right to left, a new line, an escape sequence that clears the screen, C1 and an invisible tag.
    const FOREIGN: &str = "a\u{202e}b\nc\u{1b}[2Jd\u{1b}[31me\u{9b}f\u{e0041}g";

    fn logged(form: Form) -> String {
        let kept = Kept::default();
        let to = kept.clone();
        let (subscriber, _) = subscriber(&LogLines::default(), form, move || to.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(plain = FOREIGN, shown = %FOREIGN, "said: {FOREIGN}");
            tracing::info!("Größe, 猪");
        });
        let written = kept.0.lock().clone();
        String::from_utf8(written).unwrap()
    }

    #[test]
    fn a_line_is_one_line_and_holds_nothing_that_misleads() {
        for form in [Form::Text, Form::Json] {
            let text = logged(form);
            assert_eq!(text.lines().count(), 2, "{text}");
            assert!(text.ends_with('\n') && text.contains("Größe, 猪"), "{text}");
            let misleading: Vec<char> = text.chars().filter(|c| *c != '\n' && misleads(*c)).collect();
            assert_eq!(misleading, [] as [char; 0], "{form:?}: {text}");
        }
        let text = logged(Form::Text);
        // Texts are quoted, and foreign characters look the same everywhere.
        assert!(text.contains(" said: a\\u{202e}b\\nc\\u{1b}[2Jd"), "{text}");
        assert!(text.contains(" plain=\"a\\u{202e}b\\nc\\u{1b}[2Jd"), "{text}");
        assert!(text.contains(" shown=a\\u{202e}b\\nc\\u{1b}[2Jd"), "{text}");
    }

    #[test]
    fn another_filter_holds_from_the_next_line_on() {
        for form in [Form::Text, Form::Json] {
            let kept = Kept::default();
            let to = kept.clone();
            let (subscriber, apply) = subscriber(&LogLines::default(), form, move || to.clone());
            tracing::subscriber::with_default(subscriber, || {
                for filter in ["debug", "off", "info"] {
                    tracing::debug!("before {filter}");
                    apply(filter.parse().unwrap()).unwrap();
                }
                tracing::info!("at the end");
            });
            let text = String::from_utf8(kept.0.lock().clone()).unwrap();
            let told =
                ["before debug", "before off", "before info", "at the end"].map(|line| text.contains(line));
            assert_eq!(told, [false, true, false, true], "{form:?}: {text}");
        }
    }

    #[test]
    fn json_says_the_same_as_before() {
        let text = logged(Form::Json);
        let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(line["fields"]["plain"], FOREIGN);
    }

    #[test]
    fn colours_stay_and_are_the_only_escape_sequences() {
        let text = logged(Form::Coloured);
        assert_eq!(text.lines().count(), 2, "{text:?}");
        let sequences: Vec<&str> = text.split('\u{1b}').skip(1).collect();
        assert!(!sequences.is_empty(), "the subscriber's own");
        for sequence in sequences {
            let end = sequence.find(|c: char| !"[0123456789;".contains(c));
            assert_eq!(end.map(|end| &sequence[end..=end]), Some("m"), "{sequence:?}");
        }
        assert!(!text.contains("\u{1b}[31m"), "a foreign colour is none of them: {text:?}");
        let others: Vec<char> =
            text.chars().filter(|c| !matches!(c, '\n' | '\u{1b}') && misleads(*c)).collect();
        assert_eq!(others, [] as [char; 0], "{text:?}");
    }
}
