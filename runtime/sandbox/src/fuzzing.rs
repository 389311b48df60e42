//! Invariants for any component whose numbers are made canonical. The fuzz target and the property test call this.

use wasmparser::{Validator, WasmFeatures};

use crate::canonical_nan;

/// Rewrites a component or module. What was valid is valid afterwards; what wasn't is refused.
pub fn canonical_nan(bytes: &[u8]) {
    let is_valid =
        |wasm: &[u8]| Validator::new_with_features(WasmFeatures::default()).validate_all(wasm).is_ok();
    match canonical_nan::rewrite(bytes) {
        Ok(rewritten) => assert!(!is_valid(bytes) || is_valid(&rewritten), "valid code is valid no longer"),
        Err(canonical_nan::Problem::Invalid(_)) => assert!(!is_valid(bytes), "valid code is refused"),
        // It is of a proposal that this host doesn't run.
        Err(_) => {}
    }
}
