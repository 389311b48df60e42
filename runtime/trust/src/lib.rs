//! Who vouches for what: keys, signed envelopes, and catalogs of apps with what was seen of them before, and the chains of
//! an audit log.
//!
//! Everything here is pure: bytes in, checked data or a refusal out. What was signed can only be had from an
//! [`envelope`] by naming the keys that are believed, so nothing is parsed before its signature is checked.

pub mod audit;
pub mod catalog;
pub mod envelope;
pub mod key;
pub mod rotation;
pub mod strict;
