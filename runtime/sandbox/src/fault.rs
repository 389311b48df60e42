//! What is the host's fault.

/// The host itself failed; the app is not to blame, and the invocation is run again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HostFault(pub String);
