//! Texts that lie anywhere in their buffers, as polars writes them.

use super::*;
use arrow_array::builder::StringViewBuilder;
use ironloom_types::ids::MAX_PATH_BYTES;
use ironloom_types::limits::MAX_BODY;

const LONG: &str = "a/name/that/lies/in/a/buffer";

/// So many rows with one text, which all have in common.
fn shared(text: &str, rows: usize) -> ArrayRef {
    let mut texts = StringViewBuilder::new();
    let block = texts.append_block(text.as_bytes().to_vec().into());
    (0..rows).for_each(|_| texts.try_append_view(block, 0, text.len() as u32).unwrap());
    Arc::new(texts.finish())
}

#[test]
fn a_view_that_lies_outside_of_its_buffers_is_refused() {
    let names: ArrayRef =
        Arc::new(StringViewArray::from([&[LONG, "short", LONG][..], &["short"; 7]].concat()));
    let body = stream(vec![("point", names), ("value", reals(&[1.0; 10]))]);
    let parsed = good(&body);
    assert_eq!(parsed.columns.points[..3], [0, 1, 0].map(PointNumber::pending));
    let length = LONG.len() as i32;
    let view = |length: i32, buffer: i32, offset: i32| {
        [&words(&[length])[..], b"a/na", &words(&[buffer, offset])].concat()
    };
    let old = view(length, 0, length);
    for wrong in [
        view(length, 1, length),
        // The bytes of the next column.
        view(length, 2, 0),
        view(length, -1, length),
        view(length, 0, length + 1),
        view(length, 0, -1),
        view(length, 0, i32::MAX),
        view(i32::MAX, 0, 1),
        view(-1, 0, 0),
        view(i32::MIN, 0, 0),
    ] {
        let detail = refusal_of(&patched(&body, &old, &wrong));
        assert!(detail.ends_with("a view of a text doesn't lie within its buffers"), "{wrong:?}: {detail}");
    }
    // What a view says of a text's beginning counts for nothing.
    let other = [&words(&[length])[..], b"????", &words(&[0, length])].concat();
    assert_eq!(good(&patched(&body, &old, &other)).columns.points, parsed.columns.points);
}

#[test]
fn a_null_row_s_view_is_not_looked_at() {
    let texts: ArrayRef = Arc::new(StringViewArray::from(vec![Some(LONG), None]));
    let bad: ArrayRef = Arc::new(UInt8Array::from(vec![2, 2]));
    let body = stream(vec![("point", points(&["known"; 2])), ("value", texts), ("quality", bad)]);
    assert_eq!(values_of(&good(&body)), [Value::Text(LONG.into()), Value::Missing]);
}

#[test]
fn rows_may_have_a_long_text_in_common_and_its_bytes_count_for_each() {
    let text = "x".repeat(1_000);
    let of =
        |rows: usize| stream(vec![("point", points(&vec!["known"; rows])), ("value", shared(&text, rows))]);
    let body = of(1_000);
    assert!(body.len() < 100_000, "{}", body.len());
    let stream = Stream::open(body.clone().into()).unwrap();
    assert!(stream.memory() >= 1_000_000, "what it takes is known before it is read");
    let values = values_of(&good(&body));
    assert!(values.len() == 1_000 && values.iter().all(|value| *value == Value::Text(text.as_str().into())));
    assert_eq!(good(&of(MAX_BODY / 1_000)).columns.len(), MAX_BODY / 1_000);
    let detail = refusal_of(&of(MAX_BODY / 1_000 + 1));
    assert!(detail.ends_with("counted for each; send it in smaller parts"), "{detail}");
}

/// So many texts of the greatest length, each one byte further in a buffer than the one before.
fn overlapping(rows: usize) -> StringViewArray {
    let mut rng = 1_u32;
    let letters = (0..rows + MAX_PATH_BYTES).map(|_| {
        rng = rng.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b'a' + (rng >> 24) as u8 % 26
    });
    let mut texts = StringViewBuilder::new();
    let block = texts.append_block(letters.collect::<Vec<u8>>().into());
    for row in 0..rows as u32 {
        texts.try_append_view(block, row, MAX_PATH_BYTES as u32).unwrap();
    }
    texts.finish()
}

#[test]
fn new_points_have_no_more_bytes_than_the_body() {
    const ROWS: usize = 10_000;
    let rules = IngestRules { new_points: ROWS, ..RULES };
    let plain: ArrayRef = Arc::new(overlapping(ROWS));
    let keys = Int32Array::from_iter_values(0..ROWS as i32);
    let dictionary: ArrayRef = Arc::new(DictionaryArray::new(keys, Arc::new(overlapping(ROWS))));
    for names in [plain, dictionary] {
        let body = stream(vec![("point", names), ("value", reals(&[1.0; ROWS]))]);
        assert!(body.len() < ROWS * MAX_PATH_BYTES / 5, "{}", body.len());
        for mode in [Mode::WHOLE, Mode::PARTIAL] {
            let parsed = read_with(&body, rules, mode);
            assert!(parsed.is_unusable && parsed.new_points.is_empty());
            let detail = &parsed.bad[0].detail;
            assert!(detail.ends_with("its points have the same texts in common"), "{detail}");
        }
    }
    // Those that overlap are fine in a body that has as many bytes, and so are many rows of one.
    let rows = 100;
    let wide: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(MAX_PATH_BYTES); rows]));
    let parsed = good(&stream(vec![("point", Arc::new(overlapping(rows))), ("value", wide)]));
    assert_eq!(parsed.new_points.len(), rows);
    let parsed = good(&stream(vec![("point", shared(LONG, ROWS)), ("value", reals(&[1.0; ROWS]))]));
    assert_eq!((parsed.new_points.len(), parsed.columns.len()), (1, ROWS));
}
