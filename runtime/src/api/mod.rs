//! The HTTP API: routes, guards, and the forms in which answers are written.

mod explain;
pub mod facade;
pub mod model;
pub mod problem;
pub mod readings;
pub mod value;
