//! Enters `http2::http2_frames` with bytes that libFuzzer makes up.
#![no_main]

#[path = "../http2.rs"]
mod http2;

libfuzzer_sys::fuzz_target!(|input: &[u8]| http2::http2_frames(input));
