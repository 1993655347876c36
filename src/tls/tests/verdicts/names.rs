//! Names: what a subjectAltName covers, in each mode.

use rcgen::string::Ia5String;
use rcgen::{DnType, SanType};

use super::*;

fn dns(name: &str) -> SanType {
    SanType::DnsName(Ia5String::try_from(name).unwrap())
}

fn uri(name: &str) -> SanType {
    SanType::URI(Ia5String::try_from(name).unwrap())
}

fn ip(address: &str) -> SanType {
    SanType::IpAddress(address.parse().unwrap())
}

fn email(address: &str) -> SanType {
    SanType::Rfc822Name(Ia5String::try_from(address).unwrap())
}

/// Certificate names → verdicts: automatic, listed, both, chain only.
fn cases() -> Vec<(&'static str, Vec<SanType>, [&'static str; 4])> {
    let only_host = [OK, OK, MISMATCH, OK];
    let neither = [MISMATCH, MISMATCH, MISMATCH, OK];
    let only_listed = [MISMATCH, OK, MISMATCH, OK];
    vec![
        ("the host", vec![dns(HOST)], only_host),
        ("the host in capitals", vec![dns("API.Example.COM")], only_host),
        ("a wildcard over it", vec![dns("*.example.com")], only_host),
        ("a wildcard with the host", vec![dns("*.example.com"), dns(HOST)], only_host),
        ("the host among others", vec![dns("a.test"), dns("b.test"), dns(HOST)], only_host),
        ("the host and the URI", vec![dns(HOST), uri(SPIFFE)], [OK; 4]),
        ("a wildcard and the URI", vec![uri(SPIFFE), dns("*.example.com")], [OK; 4]),
        ("the host and another URI", vec![dns(HOST), uri("spiffe://td/ns/b")], only_host),
        ("the URI", vec![uri(SPIFFE)], only_listed),
        ("the URI in other case", vec![uri("spiffe://td/ns/A")], neither),
        ("the beginning of the URI", vec![uri("spiffe://td/ns")], neither),
        ("the URI as a DNS name", vec![dns(SPIFFE)], neither),
        ("the host as a URI", vec![uri(HOST)], neither),
        ("the address", vec![ip("192.0.2.1")], only_listed),
        ("another address", vec![ip("192.0.2.2")], neither),
        ("the address as a DNS name (C10)", vec![dns("192.0.2.1")], neither),
        ("another host", vec![dns("api.example.org")], neither),
        ("a host above", vec![dns("example.com")], neither),
        ("a host below", vec![dns("x.api.example.com")], neither),
        ("a wildcard below", vec![dns("*.api.example.com")], neither),
        ("a wildcard two labels up (C7)", vec![dns("*.com")], neither),
        ("a bare wildcard", vec![dns("*")], neither),
        ("a partial wildcard (C8)", vec![dns("a*.example.com")], neither),
        ("a wildcard inside", vec![dns("api.*.com")], neither),
        ("two wildcards", vec![dns("*.*.com")], neither),
        ("a NUL after the host (C9)", vec![dns("api.example.com\0.evil.test")], neither),
        ("a NUL before the suffix", vec![dns("evil.test\0.example.com")], neither),
        ("an empty name", vec![dns("")], neither),
        ("a space after the host", vec![dns("api.example.com ")], neither),
        ("an address of mail only", vec![email("api@example.com")], [NO_NAME, NO_NAME, NO_NAME, OK]),
        ("no name at all", vec![], [NO_NAME, NO_NAME, NO_NAME, OK]),
    ]
}

#[test]
fn names_of_a_certificate() {
    let root = Authority::new("root");
    let trust = trust(&[&root]);
    let cases = cases().into_iter().map(|(what, names, verdicts)| {
        // A CN that would match, in every one of them: it must never count (C6).
        let leaf = root.issue(&[], |params| {
            params.distinguished_name.push(DnType::CommonName, HOST);
            params.subject_alt_names = names;
        });
        Case::new(what, &[leaf.der()], &trust, Verdicts(verdicts))
    });
    check_all(&cases.collect::<Vec<_>>(), 30);
}

#[test]
fn a_host_that_is_an_address_must_be_in_the_certificate_as_an_address() {
    let root = Authority::new("root");
    let trust = trust(&[&root]);
    let neither = [MISMATCH, MISMATCH, MISMATCH, OK];
    let cases = [
        ("v4", "192.0.2.1", vec![ip("192.0.2.1")], [OK, OK, MISMATCH, OK]),
        ("v4 with URI", "192.0.2.1", vec![ip("192.0.2.1"), uri(SPIFFE)], [OK; 4]),
        ("v6", "2001:db8::1", vec![ip("2001:db8::1")], [OK, MISMATCH, MISMATCH, OK]),
        ("another v4", "192.0.2.1", vec![ip("192.0.2.9")], neither),
        ("v4 as a DNS name", "192.0.2.1", vec![dns("192.0.2.1")], neither),
        ("v4 under a wildcard", "192.0.2.1", vec![dns("*.0.2.1")], neither),
        ("v4 mapped into v6", "192.0.2.1", vec![ip("::ffff:192.0.2.1")], neither),
        ("a name", "192.0.2.1", vec![dns(HOST)], [MISMATCH, OK, MISMATCH, OK]),
    ];
    let cases = cases.into_iter().map(|(what, host, names, verdicts)| {
        let leaf = root.issue(&[], |params| params.subject_alt_names = names);
        Case::new(what, &[leaf.der()], &trust, Verdicts(verdicts)).asked_for(host)
    });
    check_all(&cases.collect::<Vec<_>>(), 8);
}

#[test]
fn thousands_of_names_are_read_or_refused() {
    let root = Authority::new("root");
    let trust = trust(&[&root]);
    for (count, readable) in [(1_000, true), (10_000, false)] {
        let leaf = root.issue(&[], |params| {
            params.subject_alt_names = (0..count).map(|n| dns(&format!("n{n}.example.org"))).collect();
            params.subject_alt_names.push(dns(HOST));
        });
        // webpki reads certificates up to 64 KiB, and so much fits into a TLS message.
        let verdicts = if readable { Verdicts([OK, OK, MISMATCH, OK]) } else { Verdicts::all("bad certificate") };
        Case::new("many names", &[leaf.der()], &trust, verdicts).check();
    }
}
