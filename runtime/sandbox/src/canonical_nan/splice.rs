//! A component with other bodies of its functions. All else is copied, byte for byte.

use wasm_encoder::{CodeSection, Encode as _, Section as _};
use wasmparser::{Chunk, Parser, Payload, Result};

/// The sections of a component that hold a module or a component.
const CORE_MODULE: u8 = 1;
const COMPONENT: u8 = 4;

/// Puts bodies into their places, in the order in which they stand; `None` leaves the one that is there.
pub fn splice(
    wasm: &[u8],
    mut parser: Parser,
    bodies: &mut impl Iterator<Item = Option<Vec<u8>>>,
) -> Result<Vec<u8>> {
    let begin = parser.offset();
    let bytes =
        |range: std::ops::Range<u64>| &wasm[(range.start - begin) as usize..(range.end - begin) as usize];
    let mut out = Vec::with_capacity(wasm.len() + wasm.len() / 8);
    let mut rest = wasm;
    let (mut code, mut missing) = (CodeSection::new(), 0);
    loop {
        let (consumed, payload) = match parser.parse(rest, true)? {
            Chunk::Parsed { consumed, payload } => (consumed, payload),
            // There is no more data than this: the parser was told so.
            Chunk::NeedMoreData(_) => return Ok(out),
        };
        rest = &rest[consumed..];
        match payload {
            Payload::Version { range, .. } => out.extend_from_slice(bytes(range)),
            Payload::ModuleSection { parser, unchecked_range } => {
                let inside = bytes(unchecked_range);
                rest = &rest[inside.len()..];
                out.push(CORE_MODULE);
                splice(inside, parser, bodies)?.as_slice().encode(&mut out);
            }
            Payload::ComponentSection { parser, unchecked_range } => {
                let inside = bytes(unchecked_range);
                rest = &rest[inside.len()..];
                out.push(COMPONENT);
                splice(inside, parser, bodies)?.as_slice().encode(&mut out);
            }
            Payload::CodeSectionStart { count, .. } => {
                (code, missing) = (CodeSection::new(), count);
                if missing == 0 {
                    code.append_to(&mut out);
                }
            }
            Payload::CodeSectionEntry(body) => {
                match bodies.next().flatten() {
                    Some(body) => code.raw(&body),
                    None => code.raw(body.as_bytes()),
                };
                missing -= 1;
                if missing == 0 {
                    code.append_to(&mut out);
                }
            }
            Payload::End(_) => return Ok(out),
            other => {
                if let Some((id, range)) = other.as_section() {
                    out.push(id);
                    bytes(range).encode(&mut out);
                }
            }
        }
    }
}
