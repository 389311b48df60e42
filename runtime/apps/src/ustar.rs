//! Headers of tars: strict ustar, regular files alone, and no field that could mean two things.
//!
//! The crate `tar` writes them. It isn't what reads them, since it takes every kind of tar there is
//! (pax and GNU headers, links, numbers in binary); here one kind is taken, and each field is checked.

/// The bytes of a header; members fill a multiple of it, and two of zeros end the tar.
pub const BLOCK: usize = 512;

/// The header of a file with a name of up to 100 bytes.
pub fn header(name: &str, size: u64) -> [u8; BLOCK] {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    *header.as_bytes()
}

/// Checks all of a header and gives name and size.
///
/// # Errors
/// Every other kind of tar, in words that go on behind a name.
pub fn read_header(header: &[u8; BLOCK]) -> Result<(String, u64), String> {
    match &header[257..265] {
        b"ustar\x0000" => {}
        b"ustar  \0" => return Err("is in GNU tar's format; write it with --format=ustar".to_owned()),
        _ => return Err("doesn't have the magic `ustar` and version 00".to_owned()),
    }
    let sum: u64 = (header.iter().enumerate())
        .map(|(at, byte)| if (148..156).contains(&at) { u64::from(b' ') } else { u64::from(*byte) })
        .sum();
    if number(&header[148..156], "checksum")? != sum {
        return Err("has a wrong checksum".to_owned());
    }
    match header[156] {
        b'0' => {}
        b'1' | b'2' => return Err("is a link; only regular files are accepted".to_owned()),
        b'5' => return Err("is a folder; only regular files are accepted".to_owned()),
        b'x' | b'g' => return Err("is a pax header; write it with --format=ustar".to_owned()),
        other => return Err(format!("is of type {:?}; only regular files are accepted", char::from(other))),
    }
    for (field, place, expected) in [
        ("mode", 100..108, 0o644),
        ("user id", 108..116, 0),
        ("group id", 116..124, 0),
        ("time", 136..148, 0),
    ] {
        let found = number(&header[place], field)?;
        if found != expected {
            return Err(format!("has the {field} {found:o}, and it must be {expected:o}"));
        }
    }
    // GNU tar writes zeros where others leave the numbers of a device out.
    for (field, place) in [("device", 329..337), ("device", 337..345)] {
        let bytes = &header[place];
        if bytes.iter().any(|byte| *byte != 0) && number(bytes, field)? != 0 {
            return Err(format!("has a {field}"));
        }
    }
    for (field, place) in
        [("link target", 157..257), ("user name", 265..297), ("group name", 297..329), ("prefix", 345..512)]
    {
        if header[place].iter().any(|byte| *byte != 0) {
            return Err(format!("has a {field}, and it must be empty"));
        }
    }
    let (name, rest) =
        header[..100].split_at(header[..100].iter().position(|byte| *byte == 0).unwrap_or(100));
    if rest.iter().any(|byte| *byte != 0) {
        return Err("has bytes after its name".to_owned());
    }
    let name = std::str::from_utf8(name).map_err(|_| "has a name that is not UTF-8".to_owned())?;
    Ok((name.to_owned(), number(&header[124..136], "size")?))
}

/// An octal number: digits, then a space or a zero byte or both.
fn number(field: &[u8], what: &str) -> Result<u64, String> {
    let digits = field.iter().take_while(|byte| matches!(byte, b'0'..=b'7')).count();
    let well_ended =
        !field[digits..].is_empty() && field[digits..].iter().all(|byte| matches!(byte, b' ' | 0));
    let text = std::str::from_utf8(&field[..digits]).unwrap_or_default();
    match u64::from_str_radix(text, 8) {
        Ok(number) if well_ended => Ok(number),
        _ => Err(format!("has a {what} that is not an octal number")),
    }
}
