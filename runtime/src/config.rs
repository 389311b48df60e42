//! The host's configuration, `ironloom.toml`.

pub mod quantity;

pub use quantity::{Bytes, Span};
