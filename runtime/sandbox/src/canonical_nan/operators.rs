//! What operators do with floating-point numbers that may be a NaN of any kind.

use wasmparser::Operator;

/// The size of a number: of a scalar (`f32`, `f64`), or of each in a vector (`f32x4`, `f64x2`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    Single = 1,
    Double = 2,
}

/// What an operator does with its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Computes numbers of one width from those of another or the same: which NaN comes out is open, and which went
    /// in doesn't matter otherwise.
    Makes { from: Width, to: Width },
    /// Makes a number that is no NaN, also where it is taken for one of the other width.
    MakesNone,
    /// Answers with something else, which depends on whether a number is a NaN, but not on which.
    Asks(Width),
    /// The result is one of the operands, unchanged.
    Moves(Width),
    /// One of two values of any type.
    Selects,
    /// The lanes of two vectors, in parts of so many bytes.
    Shuffles(u8),
    /// Reads a variable.
    Gets(u32),
    /// Sets a variable.
    Sets(u32),
    /// Sets a variable, and leaves the value.
    Tees(u32),
    /// Anything else: takes its operands bit by bit, and makes nothing that is open. A changed sign is
    /// among it: the sign of a NaN is one of its bits.
    Other,
}

use Width::{Double, Single};

/// Tells what an operator does. What isn't named here takes the bits, which is always safe.
pub(super) fn effect(operator: &Operator<'_>) -> Effect {
    use Operator::*;
    match operator {
        F32Ceil | F32Floor | F32Trunc | F32Nearest | F32Sqrt | F32Add | F32Sub | F32Mul | F32Div | F32Min
        | F32Max | F32x4Ceil | F32x4Floor | F32x4Trunc | F32x4Nearest | F32x4Sqrt | F32x4Add | F32x4Sub
        | F32x4Mul | F32x4Div | F32x4Min | F32x4Max | F32x4RelaxedMadd | F32x4RelaxedNmadd
        | F32x4RelaxedMin | F32x4RelaxedMax => Effect::Makes { from: Single, to: Single },
        F64Ceil | F64Floor | F64Trunc | F64Nearest | F64Sqrt | F64Add | F64Sub | F64Mul | F64Div | F64Min
        | F64Max | F64x2Ceil | F64x2Floor | F64x2Trunc | F64x2Nearest | F64x2Sqrt | F64x2Add | F64x2Sub
        | F64x2Mul | F64x2Div | F64x2Min | F64x2Max | F64x2RelaxedMadd | F64x2RelaxedNmadd
        | F64x2RelaxedMin | F64x2RelaxedMax => Effect::Makes { from: Double, to: Double },
        F32DemoteF64 | F32x4DemoteF64x2Zero => Effect::Makes { from: Double, to: Single },
        F64PromoteF32 | F64x2PromoteLowF32x4 => Effect::Makes { from: Single, to: Double },

        F32ConvertI32S | F32ConvertI32U | F32ConvertI64S | F32ConvertI64U => Effect::MakesNone,
        F32Const { value } if !f32::from_bits(value.bits()).is_nan() => Effect::MakesNone,
        F64Const { value } if holds_no_nan(&value.bits().to_le_bytes()) => Effect::MakesNone,
        V128Const { value } if holds_no_nan(value.bytes()) => Effect::MakesNone,

        F32Eq | F32Ne | F32Lt | F32Gt | F32Le | F32Ge | F32x4Eq | F32x4Ne | F32x4Lt | F32x4Gt | F32x4Le
        | F32x4Ge | I32TruncF32S | I32TruncF32U | I64TruncF32S | I64TruncF32U | I32TruncSatF32S
        | I32TruncSatF32U | I64TruncSatF32S | I64TruncSatF32U | I32x4TruncSatF32x4S | I32x4TruncSatF32x4U => {
            Effect::Asks(Single)
        }
        F64Eq
        | F64Ne
        | F64Lt
        | F64Gt
        | F64Le
        | F64Ge
        | F64x2Eq
        | F64x2Ne
        | F64x2Lt
        | F64x2Gt
        | F64x2Le
        | F64x2Ge
        | I32TruncF64S
        | I32TruncF64U
        | I64TruncF64S
        | I64TruncF64U
        | I32TruncSatF64S
        | I32TruncSatF64U
        | I64TruncSatF64S
        | I64TruncSatF64U
        | I32x4TruncSatF64x2SZero
        | I32x4TruncSatF64x2UZero => Effect::Asks(Double),

        F32x4PMin | F32x4PMax | F32x4Splat | F32x4ExtractLane { .. } | F32x4ReplaceLane { .. } => {
            Effect::Moves(Single)
        }
        F64x2PMin | F64x2PMax | F64x2Splat | F64x2ExtractLane { .. } | F64x2ReplaceLane { .. } => {
            Effect::Moves(Double)
        }

        Select | TypedSelect { .. } => Effect::Selects,
        I8x16Shuffle { lanes } => Effect::Shuffles(part(lanes)),
        LocalGet { local_index } => Effect::Gets(*local_index),
        LocalSet { local_index } => Effect::Sets(*local_index),
        LocalTee { local_index } => Effect::Tees(*local_index),
        _ => Effect::Other,
    }
}

/// The proposals whose operators [`effect`] was written for.
const KNOWN: [&str; 8] = [
    "mvp",
    "sign_extension",
    "saturating_float_to_int",
    "bulk_memory",
    "reference_types",
    "tail_call",
    "simd",
    "relaxed_simd",
];

const fn is_listed(proposal: &str) -> bool {
    let mut place = 0;
    while place < KNOWN.len() {
        if equal(KNOWN[place].as_bytes(), proposal.as_bytes()) {
            return true;
        }
        place += 1;
    }
    false
}

const fn equal(a: &[u8], b: &[u8]) -> bool {
    let mut place = 0;
    while place < a.len() && place < b.len() {
        if a[place] != b[place] {
            return false;
        }
        place += 1;
    }
    a.len() == b.len()
}

/// Whether an operator's proposal has been looked through here. One of another proposal may make numbers without
/// being on the list above, so it is refused whatever the engine allows.
pub(super) fn is_known(operator: &Operator<'_>) -> bool {
    macro_rules! proposal {
        ($(@$proposal:ident $op:ident $({ $($field:ident: $type:ty),* })? => $visit:ident ($($arity:tt)*))*) => {
            match operator {
                $(Operator::$op { .. } => const { is_listed(stringify!($proposal)) },)*
                // A later wasmparser's.
                _ => false,
            }
        };
    }
    wasmparser::for_each_operator!(proposal)
}

/// Whether no number is a NaN, of whichever width they are: half of a double in a vector may be one as a
/// single. (Two singles that are none make no double that is.)
fn holds_no_nan(bytes: &[u8]) -> bool {
    bytes.as_chunks().0.iter().all(|lane| !f32::from_le_bytes(*lane).is_nan())
        && bytes.as_chunks().0.iter().all(|lane| !f64::from_le_bytes(*lane).is_nan())
}

/// The largest parts that a shuffle leaves whole: 8 or 4 bytes, or 1.
fn part(lanes: &[u8; 16]) -> u8 {
    let whole = |size: usize| {
        lanes.chunks(size).all(|part| {
            usize::from(part[0]).is_multiple_of(size)
                && part.iter().zip(part[0]..).all(|(lane, expected)| *lane == expected)
        })
    };
    if whole(8) {
        8
    } else if whole(4) {
        4
    } else {
        1
    }
}
