//! Keys of a state as people read and write them: what could mislead is escaped, and taken back.

use ironloom_types::text::clean;

/// A key that [`given`] takes back. A backslash is two.
pub(super) fn shown(key: &str) -> String {
    clean(&key.replace('\\', "\\\\")).into_owned()
}

/// The key that is meant.
pub(super) fn given(text: &str) -> Result<String, String> {
    let (mut key, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, escaped)) = rest.split_once('\\') {
        key.push_str(before);
        let (meant, length) = meant(escaped).ok_or_else(|| {
            format!("\\{escaped} is none of \\t, \\n, \\r, \\u{{…}} and \\\\; a backslash of the key is written as two")
        })?;
        key.push(meant);
        rest = &escaped[length..];
    }
    key.push_str(rest);
    Ok(key)
}

/// The character that stands behind a backslash, and the bytes that it takes there.
fn meant(escaped: &str) -> Option<(char, usize)> {
    Some(match escaped.chars().next()? {
        't' => ('\t', 1),
        'n' => ('\n', 1),
        'r' => ('\r', 1),
        '\\' => ('\\', 1),
        'u' => {
            let (hex, _) = escaped.strip_prefix("u{")?.split_once('}')?;
            (char::from_u32(u32::from_str_radix(hex, 16).ok()?)?, "u{}".len() + hex.len())
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_shown_is_taken_back(key in "[\\PC\t\n\r\\\\\u{202e}\u{1b}]{0,20}") {
            let shown = shown(&key);
            prop_assert_eq!(given(&shown), Ok(key));
            prop_assert_eq!(clean(&shown), shown.as_str());
        }
    }

    #[test]
    fn a_key_of_two_parts_is_written_with_its_tab() {
        assert_eq!(shown("day/7\tpigs"), "day/7\\tpigs");
        assert_eq!(given("day/7\\tpigs"), Ok("day/7\tpigs".to_owned()));
        assert_eq!(given("C:\\\\pigs"), Ok("C:\\pigs".to_owned()));
        for wrong in ["a\\", "a\\x", "a\\u{}", "a\\u{d800}", "a\\u{1"] {
            assert!(
                given(wrong).unwrap_err().contains("a backslash of the key is written as two"),
                "{wrong}"
            );
        }
    }
}
