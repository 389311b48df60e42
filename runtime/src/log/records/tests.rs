//! Golden bytes and round trips of the bodies.
