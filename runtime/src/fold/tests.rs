//! The fold as a whole.
