//! Enters `properties::request_head` with bytes that libFuzzer makes up.
#![no_main]

#[path = "../properties.rs"]
#[allow(dead_code, reason = "each target uses one of them")]
mod properties;

libfuzzer_sys::fuzz_target!(|input: &[u8]| properties::request_head(input));
