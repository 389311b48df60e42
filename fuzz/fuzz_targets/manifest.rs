//! Calls `ironloom_apps::fuzzing::manifest` with whatever bytes libFuzzer finds.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ironloom_apps::fuzzing::manifest(bytes));
