//! What webpki gives up on: directory names in constraints, policies, CAs that certified themselves anew; and the purposes of
//! keys.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, GeneralSubtree, IsCa,
    KeyUsagePurpose, NameConstraints,
};

use super::*;

const POLICIES: u64 = 32;
const MAPPINGS: u64 = 33;
const POLICY_CONSTRAINTS: u64 = 36;
const INHIBIT_ANY: u64 = 54;

/// Policy 1.2.3.4, policy 1.2.3.5, anyPolicy.
const ONE: &[u8] = &[0x30, 7, 0x30, 5, 6, 3, 0x2a, 3, 4];
const TWO: &[u8] = &[0x30, 7, 0x30, 5, 6, 3, 0x2a, 3, 5];
const ANY: &[u8] = &[0x30, 8, 0x30, 6, 6, 4, 0x55, 0x1d, 0x20, 0];
/// From the first to the second.
const ONE_TO_TWO: &[u8] = &[0x30, 12, 0x30, 10, 6, 3, 0x2a, 3, 4, 6, 3, 0x2a, 3, 5];
/// requireExplicitPolicy 0, and 1.
const AT_ONCE: &[u8] = &[0x30, 3, 0x80, 1, 0];
const BELOW: &[u8] = &[0x30, 3, 0x80, 1, 1];
const ZERO: &[u8] = &[2, 1, 0];

type Change = Box<dyn Fn(&mut CertificateParams)>;

fn good() -> Verdicts {
    Verdicts([OK, OK, MISMATCH, OK])
}

/// With these extensions of 2.5.29, all critical.
fn critical(extensions: &[(u64, &[u8])]) -> Change {
    let made: Vec<_> = extensions
        .iter()
        .map(|(arc, der)| {
            let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, *arc], der.to_vec());
            extension.set_criticality(true);
            extension
        })
        .collect();
    Box::new(move |params| params.custom_extensions.extend(made.iter().cloned()))
}

fn directory(names: &[(DnType, &str)]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    names.iter().for_each(|(kind, value)| name.push(kind.clone(), *value));
    name
}

fn organization(name: &str, common: &str) -> DistinguishedName {
    directory(&[(DnType::OrganizationName, name), (DnType::CommonName, common)])
}

fn permitted(subtrees: Vec<GeneralSubtree>) -> NameConstraints {
    NameConstraints { permitted_subtrees: subtrees, excluded_subtrees: Vec::new() }
}

fn excluded(subtrees: Vec<GeneralSubtree>) -> NameConstraints {
    NameConstraints { permitted_subtrees: Vec::new(), excluded_subtrees: subtrees }
}

fn acme() -> GeneralSubtree {
    GeneralSubtree::DirectoryName(directory(&[(DnType::OrganizationName, "Acme")]))
}

/// A leaf of `issuer` whose subject is in this organization, and the chain above it.
fn of(issuer: &Authority, organization_name: &str, rest: &[&Authority]) -> Vec<CertificateDer<'static>> {
    let leaf = issuer.issue(&[HOST], |params| params.distinguished_name = organization(organization_name, "leaf"));
    std::iter::once(leaf.der()).chain(rest.iter().map(|ca| ca.der())).collect()
}

#[test]
fn directory_names_are_compared() {
    let root = Authority::new("root");
    let trusted = trust(&[&root]);
    let below =
        |constraints: &NameConstraints| root.below("one", |params| params.name_constraints = Some(constraints.clone()));
    let ours = below(&permitted(vec![acme()]));
    let mixed = below(&permitted(vec![acme(), GeneralSubtree::DnsName("example.com".to_owned())]));
    let elsewhere = below(&permitted(vec![acme(), GeneralSubtree::DnsName("example.org".to_owned())]));
    let not_ours = below(&excluded(vec![acme()]));
    let not_there = below(&excluded(vec![acme(), GeneralSubtree::DnsName("api.example.com".to_owned())]));
    let mail = below(&permitted(vec![acme(), GeneralSubtree::Rfc822Name("example.com".to_owned())]));
    let narrow = Authority::with("root", |params| params.name_constraints = Some(permitted(vec![acme()])));
    let two = ours.below("two", |_| {});
    let own_two = ours.below("two", |params| params.distinguished_name = organization("acme", "two"));
    let refused = || Verdicts::all("constraint");
    let cases = vec![
        Case::new("permitted", &of(&ours, "Acme", &[&ours]), &trusted, good()),
        Case::new("in another case", &of(&ours, " ACME ", &[&ours]), &trusted, good()),
        Case::new("not permitted", &of(&ours, "Other", &[&ours]), &trusted, refused()),
        Case::new("a longer name", &of(&ours, "Acme2", &[&ours]), &trusted, refused()),
        Case::new("with a DNS name that is permitted", &of(&mixed, "Acme", &[&mixed]), &trusted, good()),
        Case::new("with one that is not", &of(&elsewhere, "Acme", &[&elsewhere]), &trusted, refused()),
        Case::new("excluded", &of(&not_ours, "Acme", &[&not_ours]), &trusted, refused()),
        Case::new("not excluded", &of(&not_ours, "Other", &[&not_ours]), &trusted, good()),
        Case::new("with a DNS name that is excluded", &of(&not_there, "Other", &[&not_there]), &trusted, refused()),
        Case::new("with a kind that it has not", &of(&mail, "Acme", &[&mail]), &trusted, good()),
        Case::new("of the trusted CA", &of(&narrow, "Acme", &[]), &trust(&[&narrow]), good()),
        Case::new("not of the trusted CA", &of(&narrow, "Other", &[]), &trust(&[&narrow]), refused()),
        Case::new("a CA that is not permitted", &of(&two, "Acme", &[&two, &ours]), &trusted, refused()),
        Case::new("a CA that is permitted", &of(&own_two, "Acme", &[&own_two, &ours]), &trusted, good()),
        Case::new("nobody's", &of(&ours, "Acme", &[&ours]), &trust(&[&two]), Verdicts::all("untrusted issuer")),
    ];
    check_all(&cases, 15);
}

#[test]
fn policies_count_where_a_ca_demands_them() {
    let root = Authority::new("root");
    let trusted = trust(&[&root]);
    let refused = || Verdicts::all("certificate policy");
    let demanding = [(POLICIES, ONE), (POLICY_CONSTRAINTS, AT_ONCE)];
    let mapping = [(POLICIES, ONE), (MAPPINGS, ONE_TO_TWO), (POLICY_CONSTRAINTS, AT_ONCE)];
    let no_mapping: &[u8] = &[0x30, 6, 0x80, 1, 0, 0x81, 1, 0];
    let inhibited = [(POLICIES, ANY), (POLICY_CONSTRAINTS, AT_ONCE), (INHIBIT_ANY, ZERO)];
    let mut cases = Vec::new();
    for (what, ca, leaf, verdicts) in [
        ("nothing demanded", &[(POLICIES, ONE)][..], &[][..], good()),
        ("nothing demanded, another policy", &[(POLICIES, ONE)], &[(POLICIES, TWO)], good()),
        ("critical in the leaf", &[], &[(POLICIES, ONE)], good()),
        ("mappings", &[(POLICIES, ONE), (MAPPINGS, ONE_TO_TWO)], &[], good()),
        ("anyPolicy inhibited", &[(INHIBIT_ANY, ZERO)], &[(POLICIES, ANY)], good()),
        ("demanded and kept", &demanding, &[(POLICIES, ONE)], good()),
        ("demanded and kept by anyPolicy", &demanding, &[(POLICIES, ANY)], good()),
        ("demanded and not kept", &demanding, &[], refused()),
        ("demanded and another", &demanding, &[(POLICIES, TWO)], refused()),
        ("demanded from the next on", &[(POLICIES, ONE), (POLICY_CONSTRAINTS, BELOW)], &[], refused()),
        ("mapped", &mapping, &[(POLICIES, TWO)], good()),
        ("mapped away", &mapping, &[(POLICIES, ONE)], refused()),
        ("demanded without any", &[(POLICY_CONSTRAINTS, AT_ONCE)], &[(POLICIES, ONE)], refused()),
        ("any demanded, any inhibited", &inhibited, &[(POLICIES, ANY)], refused()),
        ("any demanded, one kept", &inhibited, &[(POLICIES, ONE)], good()),
        (
            "a demand that forbids mappings",
            &[(POLICIES, ONE), (POLICY_CONSTRAINTS, no_mapping)],
            &[(POLICIES, ONE)],
            good(),
        ),
    ] {
        let one = root.below("one", |params| critical(ca)(params));
        let server = one.issue(&[HOST], |params| critical(leaf)(params));
        cases.push(Case::new(what, &[server.der(), one.der()], &trusted, verdicts));
    }
    check_all(&cases, 16);
}

#[test]
fn cas_that_certified_themselves_anew_count_for_nothing() {
    let root = Authority::new("root");
    let trusted = trust(&[&root]);
    let narrow = root.below("one", |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let anew = narrow.below("one", |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let two = anew.below("two", |_| {});
    let no_ca = narrow.below("one", |params| params.is_ca = IsCa::ExplicitNoCa);
    let ours = root.below("ours", |params| params.name_constraints = Some(permitted(vec![acme()])));
    let ours_anew = ours.below("ours", |_| {});
    let impostor = Authority::new("one");
    let cases = vec![
        Case::new("path length kept", &of(&anew, "x", &[&anew, &narrow]), &trusted, good()),
        Case::new(
            "path length broken",
            &of(&two, "x", &[&two, &anew, &narrow]),
            &trusted,
            Verdicts::all("path length"),
        ),
        Case::new("no CA", &of(&no_ca, "x", &[&no_ca, &narrow]), &trusted, Verdicts::all("constraint")),
        Case::new("its own name", &of(&ours_anew, "Acme", &[&ours_anew, &ours]), &trusted, good()),
        Case::new("the leaf's name", &of(&ours_anew, "x", &[&ours_anew, &ours]), &trusted, Verdicts::all("constraint")),
        Case::new(
            "the same name alone",
            &of(&impostor, "x", &[&impostor, &narrow]),
            &trusted,
            Verdicts::all("signature"),
        ),
    ];
    check_all(&cases, 6);
}

/// What is asked again is asked in full.
#[test]
fn nothing_else_is_forgiven() {
    let root = Authority::new("root");
    let trusted = trust(&[&root]);
    let policies: &[(u64, &[u8])] = &[(POLICIES, ONE)];
    let with = |change: fn(&mut CertificateParams)| {
        let one = root.below("one", |params| critical(policies)(params));
        let server = one.issue(&[HOST], |params| {
            critical(policies)(params);
            change(params);
        });
        (server, one)
    };
    let expired: fn(&mut CertificateParams) = |params| {
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    };
    let mut cases = Vec::new();
    for (what, change, verdict) in [
        ("good", (|_| {}) as fn(&mut CertificateParams), OK),
        ("expired", expired, "has expired"),
        (
            "for clients",
            |params| params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth],
            "purpose",
        ),
        ("a CA", |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained), "used as a server's"),
        (
            "an unknown critical extension",
            |params| {
                let mut unknown = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
                unknown.set_criticality(true);
                params.custom_extensions.push(unknown);
            },
            "1.2.3.4",
        ),
        ("an encrypting key", |params| params.key_usages = vec![KeyUsagePurpose::KeyEncipherment], "digitalSignature"),
    ] {
        let (server, one) = with(change);
        let verdicts = if verdict == OK { good() } else { Verdicts::all(verdict) };
        cases.push(Case::new(what, &[server.der(), one.der()], &trusted, verdicts));
    }
    let (server, one) = with(|_| {});
    let mut altered = server.der().to_vec();
    *altered.last_mut().unwrap() ^= 1;
    cases.push(Case::new("altered", &[altered.into(), one.der()], &trusted, Verdicts::all("signature")));
    cases.push(
        Case::new("another host", &[server.der(), one.der()], &trusted, Verdicts([MISMATCH, OK, MISMATCH, OK]))
            .asked_for("other.example.com"),
    );
    let revoked = |serial: u64, crls: &str| {
        let one = root.below("one", |params| {
            critical(policies)(params);
            params.serial_number = Some(7u64.into());
        });
        let server = one.issue(&[HOST], |params| params.serial_number = Some(serial.into()));
        let lists = one.crl(&[43], false) + &root.crl(if crls == "ca" { &[7] } else { &[] }, false);
        ([server.der(), one.der()], trust_pem(&root.pem(), Some(&lists)))
    };
    for (what, serial, crls, verdicts) in [
        ("not revoked", 42, "", good()),
        ("revoked", 43, "", Verdicts::all("revoked")),
        ("its CA revoked", 42, "ca", Verdicts::all("revoked")),
    ] {
        let (chain, trusted) = revoked(serial, crls);
        cases.push(Case::new(what, &chain, &trusted, verdicts));
    }
    check_all(&cases, 11);
}

#[test]
fn a_servers_key_must_be_for_signing() {
    let root = Authority::new("root");
    let trusted = trust(&[&root]);
    let with = |usages: &[KeyUsagePurpose]| [root.issue(&[HOST], |params| params.key_usages = usages.to_vec()).der()];
    let (sign, encrypt) = (KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment);
    let refused = || Verdicts::all("digitalSignature");
    let cases = vec![
        Case::new("any", &with(&[]), &trusted, good()),
        Case::new("signing", &with(std::slice::from_ref(&sign)), &trusted, good()),
        Case::new("both", &with(&[sign, encrypt.clone()]), &trusted, good()),
        Case::new("encrypting", &with(std::slice::from_ref(&encrypt)), &trusted, refused()),
        Case::new("agreeing", &with(&[KeyUsagePurpose::KeyAgreement]), &trusted, refused()),
    ];
    check_all(&cases, 5);
}
