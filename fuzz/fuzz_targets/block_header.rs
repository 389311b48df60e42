//! Calls `ironloom_storage::fuzzing::block_header` with whatever bytes libFuzzer finds.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ironloom_storage::fuzzing::block_header(bytes));
