//! What must hold for any bytes a peer sends. Entered by the fuzz targets, and by `tests/e2e/fuzz_corpus.rs` with the
//! committed corpus; a violation panics.

use egret::http::{
    Answer, AnswerBody, BodyError, BodyLength, BodyScanner, ClientContext, HeadLimits, Method, Parsed, Passed,
    RequestContext, Version, parse_answer, parse_request, parse_response,
};
use egret::sniff::{Detection, detect};

const LIMITS: HeadLimits = HeadLimits { max_bytes: 2048, max_fields: 20 };

/// Longer inputs are not cut everywhere: that is quadratic.
const CUT_UP_TO: usize = 512;

/// The verdict does not depend on how the bytes were cut, and what is sent on is a request that means the same.
pub fn request_head(input: &[u8]) {
    let whole = parse_request(input, LIMITS);
    for end in 0..input.len().min(CUT_UP_TO) {
        match (parse_request(&input[..end], LIMITS), &whole) {
            (Ok(Parsed::Partial), _) => {}
            (Err(early), Err(late)) => assert_eq!(early.status(), late.status(), "cut at {end}"),
            (early, late) => assert_eq!(&early, late, "cut at {end}"),
        }
    }
    let Ok(Parsed::Complete { head, length }) = whole else { return };
    assert!(length <= input.len());
    let mut sent = Vec::new();
    head.write_to(&input[..length], &mut sent);
    let room = HeadLimits { max_bytes: sent.len(), ..LIMITS };
    let again = match parse_request(&sent, room) {
        Ok(Parsed::Complete { head, length }) if length == sent.len() => head,
        other => panic!("{:?} was sent on as {:?}: {other:?}", input.escape_ascii(), sent.escape_ascii()),
    };
    assert_eq!((again.method, again.body, &again.authority), (head.method, head.body, &head.authority));
    assert_eq!(again.upgrade.is_some(), head.upgrade.is_some());
    if !head.is_connect() {
        let mut twice = Vec::new();
        again.write_to(&sent, &mut twice);
        assert_eq!(sent, twice, "sending on changes nothing more");
    }
}

/// As [`request_head`], for each kind of request that a response may answer; the first byte chooses.
pub fn response_head(input: &[u8]) {
    let Some((choice, input)) = input.split_first() else { return };
    let method = [Method::Get, Method::Head, Method::Post, Method::Connect][usize::from(choice & 3)];
    let version = if choice & 4 == 0 { Version::Http11 } else { Version::Http10 };
    let asked = RequestContext { method, version: Version::Http11, upgrade: choice & 8 != 0 };
    let whole = parse_response(input, asked, LIMITS);
    for end in 0..input.len().min(CUT_UP_TO) {
        match (parse_response(&input[..end], asked, LIMITS), &whole) {
            (Ok(Parsed::Partial) | Err(_), Err(_)) | (Ok(Parsed::Partial), _) => {}
            (early, late) => assert_eq!(&early, late, "cut at {end}"),
        }
    }
    if let Ok(Answer::Rewritten { bytes, .. }) = parse_answer(input, asked, LIMITS) {
        let strict = parse_response(&bytes, asked, LIMITS);
        assert!(matches!(strict, Ok(Parsed::Complete { length, .. }) if length == bytes.len()), "{strict:?}");
    }
    let Ok(Parsed::Complete { head, length }) = whole else { return };
    let client = ClientContext { version, keep_alive: choice & 16 != 0 };
    let mut sent = Vec::new();
    head.write_to(&input[..length], &mut sent, client);
    let room = HeadLimits { max_bytes: sent.len(), max_fields: LIMITS.max_fields + 1 };
    let again = match parse_response(&sent, asked, room) {
        Ok(Parsed::Complete { head, length }) if length == sent.len() => head,
        other => panic!("{:?} was sent on as {:?}: {other:?}", input.escape_ascii(), sent.escape_ascii()),
    };
    assert_eq!((again.status, again.is_interim, again.is_upgrade), (head.status, head.is_interim, head.is_upgrade));
    if !head.delivery(client).dechunk {
        assert_eq!(again.body, head.body);
    }
    if !head.is_interim && !head.is_upgrade {
        assert!(!again.keep_alive || head.delivery(client).keep_alive, "the client is told no more than is true");
    }
}

/// A chunked body ends in the same place however it is cut, and both readers of it agree. The first byte cuts.
pub fn chunked_body(input: &[u8]) {
    let Some((cut, input)) = input.split_first() else { return };
    let cut = usize::from(*cut).min(input.len());
    let whole = scan(&[input]);
    assert_eq!(scan(&[&input[..cut], &input[cut..]]), whole, "cut at {cut}");
    if input.len() <= CUT_UP_TO {
        let single: Vec<_> = input.chunks(1).collect();
        assert_eq!(scan(&single), whole, "in single bytes");
    }
    rewritten(input, false);
    rewritten(input, true);
}

/// What goes on of an answer's body is what the strict reader takes, in the same place.
fn rewritten(input: &[u8], lf_ends_lines: bool) {
    let mut body = AnswerBody::new(BodyLength::Chunked, lf_ends_lines);
    let passed = match body.advance(input) {
        Ok(Passed::Rewritten { bytes, .. }) => bytes,
        Ok(Passed::AsWritten(used)) => input[..used].to_vec(),
        Err(_) => return,
    };
    let mut strict = BodyScanner::new(BodyLength::Chunked);
    assert_eq!(strict.advance(&passed), Ok(passed.len()));
    assert_eq!(strict.is_complete(), body.is_complete());
}

/// Bytes used, the data in them, and whether the body is complete.
fn scan(pieces: &[&[u8]]) -> Result<(usize, Vec<u8>, bool), BodyError> {
    let (mut scanner, mut chunks) = (BodyScanner::new(BodyLength::Chunked), BodyScanner::new(BodyLength::Chunked));
    let (mut used, mut data) = (0, Vec::new());
    for piece in pieces {
        let here = scanner.advance(piece)?;
        used += here;
        let mut rest = &piece[..here];
        while !rest.is_empty() {
            let chunk = chunks.next_chunk(rest).expect("what one reader takes, the other takes");
            data.extend_from_slice(&rest[chunk.data.clone()]);
            rest = &rest[chunk.consumed..];
        }
        if scanner.is_complete() {
            break;
        }
        assert_eq!(here, piece.len());
    }
    assert_eq!(scanner.is_complete(), chunks.is_complete());
    Ok((used, data, scanner.is_complete()))
}

/// A verdict, once given, is the same for any longer input.
pub fn sniff(input: &[u8]) {
    let whole = detect(input);
    for end in 0..input.len().min(CUT_UP_TO) {
        match detect(&input[..end]) {
            Detection::NeedMore => {}
            early => assert_eq!(early, whole, "cut at {end}"),
        }
    }
}
