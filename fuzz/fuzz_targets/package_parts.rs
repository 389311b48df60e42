//! Calls `ironloom_apps::fuzzing::packed` with whatever parts libFuzzer finds.

#![no_main]

libfuzzer_sys::fuzz_target!(|parts: (&[u8], &[u8], &[u8])| {
    let (manifest, component, extra) = parts;
    ironloom_apps::fuzzing::packed(manifest, component, extra);
});
