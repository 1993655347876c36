//! Enters `records::tls_records` with bytes that libFuzzer makes up.
#![no_main]

#[path = "../records.rs"]
mod records;

libfuzzer_sys::fuzz_target!(|input: &[u8]| records::tls_records(input));
