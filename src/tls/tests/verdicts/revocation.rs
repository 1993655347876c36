//! Revocation lists: whom they speak for and what happens when they do not.

use rcgen::CertificateParams;

use super::*;
use crate::tls::material::MaterialError;

const NO_CRL: &str = "unable to get certificate CRL";

fn good() -> Verdicts {
    Verdicts([OK, OK, MISMATCH, OK])
}

fn serial(number: u64) -> impl Fn(&mut CertificateParams) {
    move |params| params.serial_number = Some(number.into())
}

#[test]
fn revocation() {
    let root = Authority::new("root");
    let one = root.below("one", serial(7));
    let impostor = Authority::new("root");
    let leaf = [root.issue(&[HOST], serial(42)).der()];
    let below = [one.issue(&[HOST], serial(42)).der(), one.der()];
    let with = |crls: &[String]| trust_pem(&root.pem(), Some(&crls.concat()));
    let pinned = root.issue(&[HOST], serial(42));
    let pinned_with = |crl: String| trust_pem(&(pinned.pem() + &root.pem()), Some(&crl));
    let cases = vec![
        Case::new("others revoked", &leaf, &with(&[root.crl(&[1, 43], false)]), good()),
        Case::new("nothing revoked", &leaf, &with(&[root.crl(&[], false)]), good()),
        Case::new("revoked (C13)", &leaf, &with(&[root.crl(&[1, 42], false)]), Verdicts::all("revoked")),
        Case::new("stale (C15)", &leaf, &with(&[root.crl(&[], true)]), Verdicts::all("CRL has expired")),
        Case::new("another issuer's (C15)", &leaf, &with(&[one.crl(&[], false)]), Verdicts::all(NO_CRL)),
        Case::new("an impostor's", &leaf, &with(&[impostor.crl(&[], false)]), Verdicts::all("CRL signature")),
        Case::new("both issuers'", &below, &with(&[root.crl(&[], false), one.crl(&[], false)]), good()),
        Case::new(
            "an intermediate revoked (C14)",
            &below,
            &with(&[one.crl(&[], false), root.crl(&[7], false)]),
            Verdicts::all("revoked"),
        ),
        Case::new(
            "a leaf below revoked",
            &below,
            &with(&[root.crl(&[], false), one.crl(&[42], false)]),
            Verdicts::all("revoked"),
        ),
        Case::new("none for the leaf", &below, &with(&[root.crl(&[], false)]), Verdicts::all(NO_CRL)),
        Case::new("none for the intermediate", &below, &with(&[one.crl(&[], false)]), Verdicts::all(NO_CRL)),
        Case::new(
            "the intermediate's is stale",
            &below,
            &with(&[root.crl(&[], true), one.crl(&[], false)]),
            Verdicts::all("CRL has expired"),
        ),
        Case::new("listed and fine", &[pinned.der()], &pinned_with(root.crl(&[1], false)), good()),
        Case::new(
            "listed and revoked",
            &[pinned.der()],
            &pinned_with(root.crl(&[42], false)),
            Verdicts::all("revoked"),
        ),
        Case::new("listed, no CRL", &[pinned.der()], &pinned_with(one.crl(&[], false)), Verdicts::all(NO_CRL)),
    ];
    check_all(&cases, 15);
}

#[test]
fn lists_that_cannot_be_used_are_refused_when_they_are_loaded() {
    let root = Authority::new("root");
    let ca = root.pem();
    let good = root.crl(&[], false);
    let cut = &good[..good.len() / 2];
    for (what, text, says) in [
        ("empty", String::new(), "no certificate revocation list in it"),
        ("a certificate", ca.clone(), "no certificate revocation list in it"),
        ("cut", cut.to_owned(), "not valid PEM"),
        ("good and cut", format!("{good}{cut}"), "not valid PEM"),
        ("garbage", "-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n".to_owned(), "unusable"),
    ] {
        let crl = Some((text.as_bytes(), "ca.crl"));
        let error: MaterialError = Trust::from_pem((ca.as_bytes(), "ca.crt"), crl, Strictness::Explicit).unwrap_err();
        assert!(error.to_string().contains(says) && error.to_string().contains("ca.crl"), "{what}: {error}");
    }
}
