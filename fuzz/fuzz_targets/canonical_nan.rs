//! Calls `ironloom_sandbox::fuzzing::canonical_nan` with whatever bytes libFuzzer finds.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ironloom_sandbox::fuzzing::canonical_nan(bytes));
