//! Chains: who issued what, when, for what purpose and under which constraints.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyPair,
    NameConstraints, date_time_ymd,
};

use super::*;

const UNTRUSTED: &str = "untrusted issuer";

fn good() -> Verdicts {
    Verdicts([OK, OK, MISMATCH, OK])
}

fn expired(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(2001, 1, 1);
}

fn future(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(3000, 1, 1);
}

/// A leaf of one of `root`'s own kind, changed.
fn leaf(root: &Authority, change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
    root.issue(&[HOST], change).der()
}

#[test]
fn leaves() {
    let root = Authority::new("root");
    let trusted = trust(&[&root]);
    let stranger = Authority::new("stranger");
    // Same name, another key.
    let impostor = Authority::new("root");
    let usage = |purposes: Vec<ExtendedKeyUsagePurpose>| leaf(&root, |params| params.extended_key_usages = purposes);
    let (server, client) = (ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth);
    let mut critical = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
    critical.set_criticality(true);
    let harmless = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
    let mut altered = leaf(&root, |_| {}).to_vec();
    *altered.last_mut().unwrap() ^= 1;
    let mut longer = leaf(&root, |_| {}).to_vec();
    longer.push(0);
    let good_chain = leaf(&root, |_| {});
    let cases = vec![
        Case::new("plain (C1)", std::slice::from_ref(&good_chain), &trusted, good()),
        Case::new("with its root", &[good_chain.clone(), root.der()], &trusted, good()),
        Case::new("expired (C2)", &[leaf(&root, expired)], &trusted, Verdicts::all("CN=leaf was valid until 2001")),
        Case::new("not yet valid (C3)", &[leaf(&root, future)], &trusted, Verdicts::all("not yet valid")),
        Case::new("a stranger's (C4)", &[leaf(&stranger, |_| {})], &trusted, Verdicts::all(UNTRUSTED)),
        Case::new("with the stranger", &[leaf(&stranger, |_| {}), stranger.der()], &trusted, Verdicts::all(UNTRUSTED)),
        Case::new("an impostor's", &[leaf(&impostor, |_| {})], &trusted, Verdicts::all("signature")),
        Case::new("altered", &[altered.into()], &trusted, Verdicts::all("signature")),
        Case::new("with an octet more", &[longer.into()], &trusted, Verdicts::all("bad certificate")),
        Case::new("garbage", &[vec![0x30, 3, 1, 2, 3].into()], &trusted, Verdicts::all("bad certificate")),
        Case::new("nothing", &[Vec::new().into()], &trusted, Verdicts::all("bad certificate")),
        Case::new("for servers", &[usage(vec![server.clone()])], &trusted, good()),
        Case::new("for both", &[usage(vec![client.clone(), server])], &trusted, good()),
        Case::new("for clients (C11)", &[usage(vec![client])], &trusted, Verdicts::all("purpose")),
        Case::new(
            "with an unknown critical extension",
            &[leaf(&root, |params| params.custom_extensions = vec![critical])],
            &trusted,
            Verdicts::all("critical extension"),
        ),
        Case::new(
            "with an unknown extension",
            &[leaf(&root, |params| params.custom_extensions = vec![harmless])],
            &trusted,
            good(),
        ),
        Case::new("with serial 0", &[leaf(&root, |params| params.serial_number = Some(0u64.into()))], &trusted, good()),
        Case::new(
            "a CA as a server",
            &[leaf(&root, |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))],
            &trusted,
            Verdicts::all("bad certificate"),
        ),
        Case::new("garbage beside it", &[good_chain, vec![1, 2, 3].into()], &trusted, good()),
    ];
    check_all(&cases, 19);
}

#[test]
fn intermediates() {
    let root = Authority::new("root");
    let trusted = trust(&[&root]);
    let one = root.below("one", |_| {});
    let two = one.below("two", |_| {});
    let late = root.below("late", expired);
    let narrow = root.below("narrow", |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let below_narrow = narrow.below("below", |_| {});
    let no_ca = root.below("no ca", |params| params.is_ca = IsCa::ExplicitNoCa);
    let clients =
        root.below("clients", |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
    let only = |names: &str| {
        let subtree = vec![GeneralSubtree::DnsName(names.to_owned())];
        NameConstraints { permitted_subtrees: subtree, excluded_subtrees: Vec::new() }
    };
    let ours = root.below("ours", |params| params.name_constraints = Some(only("example.com")));
    let theirs = root.below("theirs", |params| params.name_constraints = Some(only("example.org")));
    let other_root = Authority::new("other root");
    let crossed = other_root.cross_signed_by(&root, "other root");
    let deep = (0..8).fold(vec![Authority::new("deep root")], |mut chain, n| {
        chain.push(chain[chain.len() - 1].below(&format!("deep {n}"), |_| {}));
        chain
    });
    let deep_chain: Vec<_> = deep[1..].iter().rev().map(Authority::der).collect();
    let of = |issuer: &Authority, rest: &[CertificateDer<'static>]| {
        let mut chain = vec![leaf(issuer, |_| {})];
        chain.extend_from_slice(rest);
        chain
    };
    let cases = vec![
        Case::new("one", &of(&one, &[one.der()]), &trusted, good()),
        Case::new("two", &of(&two, &[two.der(), one.der()]), &trusted, good()),
        Case::new("two in the wrong order", &of(&two, &[one.der(), two.der()]), &trusted, good()),
        Case::new(
            "two with strangers between",
            &of(&two, &[crossed.clone(), two.der(), late.der(), one.der()]),
            &trusted,
            good(),
        ),
        Case::new("the same twice", &of(&one, &[one.der(), one.der()]), &trusted, good()),
        Case::new("missing", &of(&one, &[]), &trusted, Verdicts::all(UNTRUSTED)),
        Case::new("the upper one missing", &of(&two, &[two.der()]), &trusted, Verdicts::all(UNTRUSTED)),
        Case::new("expired", &of(&late, &[late.der()]), &trusted, Verdicts::all("expired")),
        Case::new("no CA", &of(&no_ca, &[no_ca.der()]), &trusted, Verdicts::all("constraint")),
        Case::new("path length kept", &of(&narrow, &[narrow.der()]), &trusted, good()),
        Case::new(
            "path length broken",
            &of(&below_narrow, &[below_narrow.der(), narrow.der()]),
            &trusted,
            Verdicts::all("constraint"),
        ),
        Case::new("for clients", &of(&clients, &[clients.der()]), &trusted, Verdicts::all("purpose")),
        Case::new("names allowed (C12)", &of(&ours, &[ours.der()]), &trusted, good()),
        Case::new("names not allowed (C12)", &of(&theirs, &[theirs.der()]), &trusted, Verdicts::all("constraint")),
        Case::new("cross-signed", &of(&other_root, std::slice::from_ref(&crossed)), &trusted, good()),
        Case::new("cross-signed, the other root", &of(&other_root, &[crossed]), &trust(&[&other_root]), good()),
        Case::new("too deep", &of(&deep[8], &deep_chain), &trust(&[&deep[0]]), Verdicts::all("bad certificate")),
        Case::new("deep", &of(&deep[5], &deep_chain), &trust(&[&deep[0]]), good()),
    ];
    check_all(&cases, 18);
}

#[test]
fn anchors() {
    let root = Authority::new("root");
    let one = root.below("one", |_| {});
    let old = Authority::with("old", expired);
    let coming = Authority::with("coming", future);
    let stranger = Authority::new("stranger");
    let cases = vec![
        Case::new("two roots", &[leaf(&root, |_| {})], &trust(&[&stranger, &root]), good()),
        Case::new("an intermediate trusted by itself", &[leaf(&one, |_| {})], &trust(&[&one]), good()),
        Case::new(
            "an expired root",
            &[leaf(&old, |_| {})],
            &trust(&[&old]),
            Verdicts::all("a CA above CN=leaf was valid until 2001"),
        ),
        Case::new("a root not yet valid", &[leaf(&coming, |_| {})], &trust(&[&coming]), Verdicts::all("not yet valid")),
    ];
    check_all(&cases, 4);
}

/// `openssl req -x509` makes a certificate that is CA and server in one; listed as CA it is trusted, as in Envoy.
#[test]
fn certificates_that_are_trusted_by_themselves() {
    let own = |change: fn(&mut CertificateParams)| {
        let mut params = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
        change(&mut params);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap()
    };
    let ca: fn(&mut CertificateParams) = |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let for_clients: fn(&mut CertificateParams) =
        |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let root = Authority::new("root");
    let issued = root.issue(&[HOST], |_| {});
    let stranger = trust(&[&root]);
    let mut cases = vec![Case::new("issued and listed", &[issued.der()], &trust_pem(&issued.pem(), None), good())];
    let plain: fn(&mut CertificateParams) = |_| {};
    for (what, change, listed, unlisted) in [
        ("plain", plain, good(), "self-signed"),
        ("a CA", ca, good(), "self-signed"),
        ("expired", expired, Verdicts::all("has expired"), "has expired"),
        ("not yet valid", future, Verdicts::all("not yet valid"), "not yet valid"),
        ("for clients", for_clients, Verdicts::all("purpose"), "purpose"),
    ] {
        let certificate = own(change);
        let chain = [certificate.der().clone()];
        cases.push(Case::new(what, &chain, &trust_pem(&certificate.pem(), None), listed));
        cases.push(Case::new(what, &chain, &stranger, Verdicts::all(unlisted)));
    }
    check_all(&cases, 11);
}
