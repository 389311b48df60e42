//! The name of compiled code.

use serde::{Deserialize, Serialize};

use crate::ids::Digest;

/// Names compiled code. It stands in the log and in the store; the code lies in the host's own cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CompiledRef {
    /// The component that it was made from.
    pub wasm: Digest,
    /// The engine that it was made for: version, settings, CPU features.
    pub engine: Digest,
    /// Its own bytes.
    pub code: Digest,
}
