//! Long texts, and names that many rows have in common: looked at once.

use std::cell::{Cell, RefCell};

use super::*;
use ironloom_types::limits::MAX_READING_BYTES;

/// A dictionary of one entry that so many rows have.
fn shared(entry: &str, rows: usize) -> ArrayRef {
    Arc::new(DictionaryArray::new(Int8Array::from(vec![0; rows]), Arc::new(StringArray::from(vec![entry]))))
}

fn details(parsed: &Parsed) -> Vec<(&str, &str)> {
    parsed.bad.iter().map(|bad| (bad.kind.as_str(), bad.detail.as_str())).collect()
}

#[test]
fn what_is_too_long_is_refused_by_its_length() {
    let (plain, reserved) = ("x".repeat(256), format!("apps/{}", "x".repeat(251)));
    let told = ("bad-point", "a point may have 255 bytes, and this one has 256");
    for name in [&plain, &reserved] {
        for point in [shared(name, 3), Arc::new(StringArray::from(vec![name.as_str(); 3])) as ArrayRef] {
            let body = stream(vec![("point", point), ("value", reals(&[1.0; 3]))]);
            let parsed = read_with(&body, RULES, Mode::PARTIAL);
            assert_eq!(details(&parsed), [told; 3]);
        }
    }
    let body = stream(vec![
        ("point", points(&["known"])),
        ("value", reals(&[1.0])),
        ("quality", shared(&"good".repeat(5), 1)),
    ]);
    let told = "`quality` must be `good`, `uncertain` or `bad`, or 0, 1 or 2, not a text of 20 bytes";
    assert_eq!(details(&read_all(&body)), [("bad-quality", told)]);
    // Not UTF-8 at its end: nobody looks so far.
    let long = "x".repeat(MAX_READING_BYTES) + "@";
    let texts: ArrayRef = Arc::new(StringArray::from(vec![long.as_str()]));
    let body = patched(&stream(vec![("point", points(&["known"])), ("value", texts)]), b"x@", b"x\xff");
    let told = format!("a text or blob may have {MAX_READING_BYTES} bytes, and this one has {}", long.len());
    assert_eq!(details(&read_all(&body)), [("value-too-long", told.as_str())]);
}

#[test]
fn a_bad_name_is_looked_at_once_for_all_its_rows() {
    let body = stream(vec![("point", shared("not//a/path", 5)), ("value", reals(&[1.0; 5]))]);
    let stream = Stream::open(body.into()).unwrap();
    let asked = RefCell::new(Vec::new());
    let lookup = |path: &str| {
        asked.borrow_mut().push(path.to_owned());
        known(path)
    };
    let parsed = read(&stream, RULES, || lookup, Mode::PARTIAL);
    assert_eq!(*asked.borrow(), ["not//a/path"]);
    let rows: Vec<_> = parsed.bad.iter().map(|bad| bad.place.clone().unwrap().row.unwrap()).collect();
    assert_eq!(rows, [1, 2, 3, 4, 5]);
}

#[test]
fn no_text_is_read_twice_behind_a_null_row_either() {
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("abc"), None, Some("ij")]));
    let body =
        stream(vec![("point", points(&["known"; 3])), ("value", texts), ("quality", shared("bad", 3))]);
    assert_eq!(good(&body).columns.len(), 3);
    // Backwards in the null row, and one that leaves out what is null, as some writers do.
    let back = patched(&body, &words(&[0, 3, 3, 5]), &words(&[0, 3, 0, 2]));
    assert!(refusal_of(&back).ends_with("don't lie within it in order"));
    let ahead = patched(&body, &words(&[0, 3, 3, 5]), &words(&[0, 2, 3, 5]));
    let values = [Value::Text("ab".into()), Value::Missing, Value::Text("ij".into())];
    assert_eq!(values_of(&good(&ahead)), values);
}

#[test]
fn the_names_are_let_go_while_long_texts_are_read() {
    let text = "x".repeat(40_000);
    let (names, texts) =
        (StringArray::from(vec!["a/b", "c", "d", "e"]), StringArray::from(vec![text.as_str(); 4]));
    let body = stream(vec![("point", Arc::new(names)), ("value", Arc::new(texts))]);
    let looks = Cell::new(0);
    let lookups = || {
        looks.set(looks.get() + 1);
        known
    };
    let parsed = read(&Stream::open(body.into()).unwrap(), RULES, lookups, Mode::WHOLE);
    assert_eq!(parsed.columns.len(), 4);
    // Each has 64 KiB: the third row begins with new ones.
    assert_eq!(looks.get(), 2);
}
