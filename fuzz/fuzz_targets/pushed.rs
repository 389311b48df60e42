//! Calls `ironloom::fuzzing::pushed` with whatever bytes libFuzzer finds.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ironloom::fuzzing::pushed(bytes));
