//! Replays the corpus of the fuzz targets: whatever they once found, or began with, stays found.

#[path = "../../fuzz/http2.rs"]
mod http2;
#[path = "../../fuzz/properties.rs"]
mod properties;
#[path = "../../fuzz/records.rs"]
mod records;

use std::fs;
use std::path::Path;

fn replay(target: &str, enter: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut count = 0;
    for entry in entries {
        let path = entry.unwrap().path();
        let input = fs::read(&path).unwrap();
        let kept = std::panic::catch_unwind(|| enter(&input)).is_ok();
        assert!(kept, "{} breaks a property", path.display());
        // Half an input, and an input twice, are as good.
        enter(&input[..input.len() / 2]);
        enter(&input.repeat(2));
        count += 1;
    }
    assert!(count >= 8, "{target}: {count} inputs");
}

#[test]
fn request_head() {
    replay("request_head", properties::request_head);
}

#[test]
fn response_head() {
    replay("response_head", properties::response_head);
}

#[test]
fn chunked_body() {
    replay("chunked_body", properties::chunked_body);
}

#[test]
fn sniff() {
    replay("sniff", properties::sniff);
}

#[test]
fn tls_records() {
    replay("tls_records", records::tls_records);
}

#[test]
fn http2_frames() {
    replay("http2_frames", http2::http2_frames);
}
