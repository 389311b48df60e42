//! Makes a NaN the same on every machine, where anybody could tell the difference.
//!
//! WebAssembly leaves open which NaN an operation makes: its sign and payload differ between processors. The
//! compiler can make each the canonical one right after each operation, which takes more time than the
//! arithmetic itself. But that bits differ matters only where bits are looked at: when a number is stored,
//! passed, returned or taken for an integer. Arithmetic and comparisons see that a number is none, and not
//! which. So before it is compiled a component is rewritten: numbers are made canonical on their way from
//! arithmetic to such a place, and nowhere else. What enters or leaves a function, a memory or a global is
//! thus always canonical, which is why each function can be looked at alone.
//!
//! [`flow`] finds out where in a function that has to be, [`operators`] knows what each operator does with
//! its numbers, [`splice`] puts the changed functions back in their places.

mod flow;
mod operators;
mod splice;
#[cfg(test)]
mod tests;

use wasmparser::{Parser, ValidPayload, Validator};

/// Changes with each change of what is written: code that was compiled from another is not loaded.
pub(crate) const VERSION: u8 = 2;

/// The reason why a component can't be rewritten.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    /// It isn't valid.
    #[error(transparent)]
    Invalid(#[from] wasmparser::Error),
    /// It has an operator with unknown effects on floating-point numbers.
    #[error("at byte {0:#x} it has an operator of an unknown proposal")]
    Operator(u64),
    /// The inserted code takes a function past the limits of the format.
    #[error(
        "the function at byte {0:#x} is too large: what makes its NaNs the same on every machine takes it past \
         50,000 variables or 7,654,321 bytes; split it"
    )]
    Function(u64),
    /// The same for a section.
    #[error("it has more than 4 GiB")]
    TooLarge,
}

/// Rewrites a component.
pub(crate) fn rewrite(wasm: &[u8]) -> Result<Vec<u8>, Problem> {
    let mut validator = Validator::new();
    let mut allocations = wasmparser::FuncValidatorAllocations::default();
    let mut bodies = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        if let ValidPayload::Func(function, body) = validator.payload(&payload?)? {
            let mut function = function.into_validator(allocations);
            bodies.push(flow::rewrite(&mut function, &body)?);
            allocations = function.into_allocations();
        }
    }
    if bodies.iter().all(Option::is_none) {
        return Ok(wasm.to_vec());
    }
    let mut out = Vec::with_capacity(wasm.len() + wasm.len() / 8);
    splice::splice(wasm, Parser::new(0), &mut bodies.into_iter(), &mut out)?;
    Ok(out)
}
