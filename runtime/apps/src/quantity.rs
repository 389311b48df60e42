//! Sizes and times as people write them: `32 MiB`, `200 ms`.

use bytesize::ByteSize;

/// Reads a size such as `32 MiB`, `500 kB` or `1024` and gives its bytes.
pub fn parse_size(text: &str) -> Result<u64, String> {
    match text.trim().parse::<ByteSize>() {
        // The crate saturates instead of failing.
        Ok(size) if size.as_u64() < u64::MAX => Ok(size.as_u64()),
        _ => Err(format!("{text:?} is no size; write one such as \"32 MiB\"")),
    }
}

/// Reads a length of time such as `200 ms` or `1.5 s` and gives its nanoseconds.
pub fn parse_duration(text: &str) -> Result<u64, String> {
    let duration = text.trim().parse::<jiff::SignedDuration>().ok();
    duration
        .and_then(|duration| u64::try_from(duration.as_nanos()).ok())
        .ok_or_else(|| format!("{text:?} is no length of time; write one such as \"200 ms\""))
}

/// Shows a size in the largest unit that divides it.
pub fn show_size(bytes: u64) -> String {
    for (unit, factor) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes >= factor && bytes.is_multiple_of(factor) {
            return format!("{} {unit}", bytes / factor);
        }
    }
    format!("{bytes} B")
}

/// Shows a length of time in the largest unit that divides it.
pub fn show_duration(nanoseconds: u64) -> String {
    for (unit, factor) in [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000)] {
        if nanoseconds >= factor && nanoseconds.is_multiple_of(factor) {
            return format!("{} {unit}", nanoseconds / factor);
        }
    }
    format!("{nanoseconds} ns")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_binary_and_decimal_units() {
        assert_eq!(parse_size("32 MiB"), Ok(33_554_432));
        assert_eq!(parse_size("32MiB"), Ok(33_554_432));
        assert_eq!(parse_size("500 kB"), Ok(500_000));
        assert_eq!(parse_size("1024"), Ok(1024));
        for bad in ["", "MiB", "-1 MiB", "32 MiX", "99999999999999999999 GiB", "1e3 KiB"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lengths_of_time_are_read_in_any_unit() {
        assert_eq!(parse_duration("200 ms"), Ok(200_000_000));
        assert_eq!(parse_duration("200ms"), Ok(200_000_000));
        assert_eq!(parse_duration("1.5 s"), Ok(1_500_000_000));
        assert_eq!(parse_duration("2m"), Ok(120_000_000_000));
        for bad in ["", "200", "-1 s", "ms", "1 fortnight"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for bytes in [0, 1, 1023, 1 << 20, 3 << 30, (1 << 20) + 1] {
            assert_eq!(parse_size(&show_size(bytes)), Ok(bytes));
        }
        for nanoseconds in [0, 1, 200_000_000, 1_000_000_000, 1_500_000_000] {
            assert_eq!(parse_duration(&show_duration(nanoseconds)), Ok(nanoseconds));
        }
        assert_eq!(show_size(33_554_432), "32 MiB");
        assert_eq!(show_duration(200_000_000), "200 ms");
    }
}
