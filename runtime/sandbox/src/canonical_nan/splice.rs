//! A component with other bodies of its functions. All else is copied, byte for byte.

use wasm_encoder::Encode as _;
use wasmparser::{Chunk, Parser, Payload};

use super::Problem;

/// The sections of a component that hold a module or a component, and the one of a module that holds functions.
const CORE_MODULE: u8 = 1;
const COMPONENT: u8 = 4;
const CODE: u8 = 10;
/// The bytes that a length takes where it is written before it is known: as many as any may have.
const LENGTH: usize = 5;

/// Puts bodies into their places, in the order in which they stand; `None` leaves the one that is there.
///
/// All goes into one buffer: copying each level's inside into the level around it would multiply the work by the
/// depth. The caller has bounded that depth, for this calls itself for each level.
pub(super) fn splice(
    wasm: &[u8],
    parser: Parser,
    bodies: &mut impl Iterator<Item = Option<Vec<u8>>>,
    out: &mut Vec<u8>,
) -> Result<(), Problem> {
    let begin = parser.offset();
    let bytes =
        |range: std::ops::Range<u64>| &wasm[(range.start - begin) as usize..(range.end - begin) as usize];
    let mut parser = parser;
    let mut rest = wasm;
    // Where the code section's length stands, and how many bodies it still lacks.
    let (mut code, mut missing) = (0, 0);
    loop {
        let (consumed, payload) = match parser.parse(rest, true)? {
            Chunk::Parsed { consumed, payload } => (consumed, payload),
            // There is no more data than this: the parser was told so.
            Chunk::NeedMoreData(_) => return Ok(()),
        };
        rest = &rest[consumed..];
        match payload {
            Payload::Version { range, .. } => out.extend_from_slice(bytes(range)),
            Payload::ModuleSection { parser, unchecked_range } => {
                let inside = bytes(unchecked_range);
                rest = &rest[inside.len()..];
                let at = open(CORE_MODULE, out);
                splice(inside, parser, bodies, out)?;
                close(at, out)?;
            }
            Payload::ComponentSection { parser, unchecked_range } => {
                let inside = bytes(unchecked_range);
                rest = &rest[inside.len()..];
                let at = open(COMPONENT, out);
                splice(inside, parser, bodies, out)?;
                close(at, out)?;
            }
            Payload::CodeSectionStart { count, .. } => {
                (code, missing) = (open(CODE, out), count);
                count.encode(out);
                if missing == 0 {
                    close(code, out)?;
                }
            }
            Payload::CodeSectionEntry(body) => {
                match bodies.next().flatten() {
                    Some(body) => body.as_slice().encode(out),
                    None => body.as_bytes().encode(out),
                }
                missing -= 1;
                if missing == 0 {
                    close(code, out)?;
                }
            }
            Payload::End(_) => return Ok(()),
            other => {
                if let Some((id, range)) = other.as_section() {
                    out.push(id);
                    bytes(range).encode(out);
                }
            }
        }
    }
}

/// Begins a section whose length isn't known yet; returns where it goes.
fn open(section: u8, out: &mut Vec<u8>) -> usize {
    out.push(section);
    out.extend_from_slice(&[0; LENGTH]);
    out.len()
}

/// Writes the length of a section that ends here, with as many bytes as were left for it.
fn close(begin: usize, out: &mut [u8]) -> Result<(), Problem> {
    let mut length = u32::try_from(out.len() - begin).map_err(|_| Problem::TooLarge)?;
    for (place, byte) in out[begin - LENGTH..begin].iter_mut().enumerate() {
        *byte = (length & 0x7f) as u8 | if place < LENGTH - 1 { 0x80 } else { 0 };
        length >>= 7;
    }
    Ok(())
}
