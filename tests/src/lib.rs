//! Helpers of end-to-end tests: the real server as a process, requests, guests, packages, load, and a
//! model of the app `one-state` that shares no code with the runtime.

pub mod amqtt;
pub mod apps;
pub mod auditing;
pub mod certificates;
pub mod chargers;
pub mod described;
pub mod docker_registry;
pub mod driving;
pub mod greeting;
pub mod guests;
pub mod herd;
pub mod http;
pub mod listener;
pub mod load;
pub mod model;
pub mod mosquitto;
pub mod package;
pub mod pages;
pub mod peer;
pub mod plant;
pub mod publishing;
pub mod python;
pub mod registries;
pub mod rehearsing;
pub mod sbom;
pub mod server;
pub mod steps;
pub mod wait;
pub mod web_files;

pub use http::{Answer, Client};
pub use server::{Server, Setup};
pub use wait::{wait_for, wait_until};
