//! Makes foreign text safe to show to people.

use std::borrow::Cow;

/// Whether a character can steer a terminal, or make a text read otherwise than it stands: control
/// characters, and the invisible ones that change direction or join what looks apart.
pub fn misleads(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Escapes what could steer a terminal or deceive a reader, as `\u{1b}`. The result is one line.
pub fn clean(text: &str) -> Cow<'_, str> {
    escape(text, misleads)
}

/// As [`clean`], for a text of several lines: line feeds and tabs stay.
pub fn clean_lines(text: &str) -> Cow<'_, str> {
    escape(text, |c| misleads(c) && !matches!(c, '\n' | '\t'))
}

/// JSON that says the same, with what could mislead escaped as JSON does: it stands only within strings. Line feeds
/// stay.
pub fn clean_json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' || !misleads(c) {
            out.push(c);
        } else {
            out.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    out
}

fn escape(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_escaped(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// All of them in one line, with commas.
pub fn listed<T: std::fmt::Display>(all: impl IntoIterator<Item = T>) -> String {
    all.into_iter().map(|one| one.to_string()).collect::<Vec<_>>().join(", ")
}

/// At most this many characters, with an ellipsis where some were cut off.
pub fn shorten(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_or_deceives_is_escaped() {
        assert_eq!(clean("plain, Größe, 猪"), "plain, Größe, 猪");
        assert_eq!(clean("a\u{1b}[2J\nb"), "a\\u{1b}[2J\\nb");
        // C1 controls, right to left, zero width, tags.
        for c in ['\u{9b}', '\u{202e}', '\u{2066}', '\u{200b}', '\u{200f}', '\u{feff}', '\u{e0041}'] {
            assert_eq!(clean(&format!("x{c}y")), format!("x{}y", c.escape_default()));
        }
        assert_eq!(clean_lines("a\n\tb\r\u{7}"), "a\n\tb\\r\\u{7}");
    }

    #[test]
    fn json_is_escaped_as_json_does() {
        let cleaned = clean_json("{\"a\u{9b}2J\": \"\u{202e}b\u{e0041} ä\"}\n");
        // U+E0041 in UTF-16: 0xd800 + (0xd0041 >> 10), 0xdc00 + (0xd0041 & 0x3ff).
        assert_eq!(cleaned, "{\"a\\u009b2J\": \"\\u202eb\\udb40\\udc41 ä\"}\n");
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(shorten("äöü", 3), "äöü");
        assert_eq!(shorten("äöüß", 3), "äöü…");
    }
}
