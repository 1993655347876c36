//! X.509 v1, made by the commands of the document and by others of their kind.

use super::*;
use crate::tls::tests::pki::OpensslFolder;

const DAY: u64 = 24 * 60 * 60;
/// A key that is made faster than the document's.
const EC: &str = "ec|-pkeyopt|ec_paramgen_curve:P-256";

/// Where only the chain counts it is fine, where a name counts the reason says what to do.
fn chain_only() -> Verdicts {
    Verdicts([NO_NAME, NO_NAME, NO_NAME, OK])
}

fn pem(folder: &OpensslFolder, name: &str) -> String {
    String::from_utf8(folder.read(name)).unwrap()
}

/// A v3 certificate by the folder's root, with `extensions`.
fn intermediate(folder: &OpensslFolder, name: &str, extensions: &str) {
    folder.write(&format!("{name}.ext"), extensions);
    folder.run(&format!("req|-out|{name}.csr|-newkey|{EC}|-nodes|-keyout|{name}.key|-subj|/CN={name}"));
    folder.run(&format!(
        "x509|-req|-days|365|-CA|example.com.crt|-CAkey|example.com.key|-set_serial|77|-in|{name}.csr|-out|{name}.crt|-extfile|{name}.ext"
    ));
}

fn v1_below(folder: &OpensslFolder, ca: &str, name: &str, key: &str, options: &str) -> CertificateDer<'static> {
    folder.run(&format!("req|-out|{name}.csr|-newkey|{key}|-nodes|-keyout|{name}.key|-subj|/CN={name}"));
    folder.run(&format!(
        "x509|-req|-days|365|-CA|{ca}.crt|-CAkey|{ca}.key|-set_serial|5|-in|{name}.csr|-out|{name}.crt{options}"
    ));
    folder.certificate(&format!("{name}.crt"))
}

#[test]
fn the_documents_certificates() {
    let folder = OpensslFolder::new();
    folder.document_pki();
    let trusted = trust_pem(&pem(&folder, "example.com.crt"), None);
    let server = folder.certificate("my-nginx.crt");
    let stranger = trust(&[&Authority::new("stranger")]);
    let now = UnixTime::now().as_secs();
    let mut altered = server.to_vec();
    *altered.last_mut().unwrap() ^= 1;
    let pinned = trust_pem(&pem(&folder, "my-nginx.crt"), None);
    let cases = vec![
        Case::new("server", std::slice::from_ref(&server), &trusted, chain_only()),
        Case::new("server with root", &[server.clone(), folder.certificate("example.com.crt")], &trusted, chain_only()),
        Case::new("client", &[folder.certificate("client.crt")], &trusted, chain_only()),
        Case::new("a stranger's", std::slice::from_ref(&server), &stranger, Verdicts::all("untrusted issuer")),
        Case::new("altered", &[altered.into()], &trusted, Verdicts::all("signature failure")),
        Case::new("after it expired", std::slice::from_ref(&server), &trusted, Verdicts::all("expired"))
            .at(now + 400 * DAY),
        Case::new("before it began", std::slice::from_ref(&server), &trusted, Verdicts::all("not yet valid"))
            .at(now - 2 * DAY),
        Case::new("listed as trusted", std::slice::from_ref(&server), &pinned, chain_only()),
        Case::new("listed and expired", std::slice::from_ref(&server), &pinned, Verdicts::all("expired"))
            .at(now + 400 * DAY),
    ];
    check_all(&cases, 9);
    let words = Refused::words(&server, &trusted);
    assert!(words.contains("X.509 v1, CN only") && words.contains("set `sni` without subjectAltNames"), "{words}");
}

struct Refused;

impl Refused {
    fn words(leaf: &CertificateDer<'static>, trust: &Arc<Trust>) -> String {
        let verifier = Verifier::Chain { trust: Arc::clone(trust), names: Names::new(&NameCheck::FromHost) };
        let host = ServerName::try_from("my-nginx.mesh-external.svc.cluster.local").unwrap();
        verifier.judge(leaf, &[], &host, UnixTime::now()).unwrap_err().to_string()
    }
}

/// Whatever an attacker changes in a certificate, it is refused and nothing panics.
#[test]
fn no_octet_of_a_certificate_can_be_changed() {
    let folder = OpensslFolder::new();
    folder.document_pki();
    let document = trust_pem(&pem(&folder, "example.com.crt"), None);
    let root = Authority::new("root");
    let version_3 = root.issue(&[HOST], |_| {}).der();
    for (good, trust) in [(folder.certificate("my-nginx.crt"), document), (version_3, trust(&[&root]))] {
        let verifier = Verifier::Chain { trust, names: Names::new(&NameCheck::ChainOnly) };
        let host = ServerName::try_from(HOST).unwrap();
        let judge = |der: Vec<u8>| verifier.judge(&der.into(), &[], &host, UnixTime::now());
        assert_eq!(judge(good.to_vec()), Ok(()));
        for at in 0..good.len() {
            for change in [1, 0x80, 0xff] {
                let mut changed = good.to_vec();
                changed[at] ^= change;
                assert!(judge(changed).is_err(), "octet {at} of {}, {change:#x}", good.len());
            }
            assert!(judge(good[..at].to_vec()).is_err(), "cut at {at}");
        }
    }
}

#[test]
fn version_1_of_other_kinds() {
    let folder = OpensslFolder::new();
    folder.document_pki();
    intermediate(&folder, "ca", "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n");
    intermediate(&folder, "plain", "basicConstraints=CA:FALSE\n");
    intermediate(&folder, "nosign", "basicConstraints=CA:TRUE\nkeyUsage=digitalSignature\n");
    intermediate(&folder, "clients", "basicConstraints=CA:TRUE\nextendedKeyUsage=clientAuth\n");
    intermediate(&folder, "named", "basicConstraints=CA:TRUE\nnameConstraints=permitted;DNS:example.com\n");
    folder.document_leaf("v1ca", "/CN=v1ca", "9");
    folder.run("req|-x509|-newkey|rsa:1024|-nodes|-days|365|-keyout|weak.key|-out|weak.crt|-subj|/CN=weak");
    let trusted = trust_pem(&pem(&folder, "example.com.crt"), None);
    let below = |ca: &str, name: &str| {
        let leaf = v1_below(&folder, ca, name, EC, "");
        [leaf, folder.certificate(&format!("{ca}.crt"))]
    };
    let direct = |name: &str, key: &str, options: &str| [v1_below(&folder, "example.com", name, key, options)];
    let refused = || Verdicts::all("constraint");
    let cases = vec![
        Case::new("below a CA", &below("ca", "a"), &trusted, chain_only()),
        Case::new("below a CA that is not shown", &below("ca", "b")[..1], &trusted, Verdicts::all("untrusted issuer")),
        Case::new("below a leaf", &below("plain", "c"), &trusted, refused()),
        Case::new("below a CA that may not sign", &below("nosign", "d"), &trusted, refused()),
        Case::new("below a CA for clients", &below("clients", "e"), &trusted, refused()),
        Case::new("below a CA for certain names", &below("named", "f"), &trusted, refused()),
        Case::new("below another of version 1", &below("v1ca", "g"), &trusted, refused()),
        Case::new("P-256", &direct("h", EC, ""), &trusted, chain_only()),
        Case::new("Ed25519", &direct("i", "ed25519", ""), &trusted, chain_only()),
        Case::new("SHA-384", &direct("j", EC, "|-sha384"), &trusted, chain_only()),
        Case::new(
            "SHA-1",
            &direct("k", EC, "|-sha1"),
            &trusted,
            Verdicts::all("CN=k is signed with SHA-1; ask its owner"),
        ),
        Case::new(
            "by RSA of 1024 bits",
            &[v1_below(&folder, "weak", "l", EC, "")],
            &trust_pem(&pem(&folder, "weak.crt"), None),
            Verdicts::all("is signed by a CA with an RSA key of 1024 bits"),
        ),
        Case::new(
            "by a root of version 1",
            &[v1_below(&folder, "v1ca", "m", EC, "")],
            &trust_pem(&pem(&folder, "v1ca.crt"), None),
            chain_only(),
        ),
    ];
    check_all(&cases, 13);
}

#[test]
fn revocation_counts_for_version_1_too() {
    let folder = OpensslFolder::new();
    folder.document_pki();
    let authority = |revoked: &str| {
        folder.write("index.txt", revoked);
        folder.write("crlnumber", "01\n");
        folder.write(
            "ca.cnf",
            "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ncrlnumber=crlnumber\ndefault_md=sha256\ndefault_crl_days=30\n",
        );
        folder.run("ca|-config|ca.cnf|-gencrl|-keyfile|example.com.key|-cert|example.com.crt|-out|ca.crl");
        pem(&folder, "ca.crl")
    };
    let root = pem(&folder, "example.com.crt");
    let server = folder.certificate("my-nginx.crt");
    let with = |crl: &str| trust_pem(&root, Some(crl));
    let revoked = "R\t300101000000Z\t250101000000Z\t00\tunknown\t/CN=x\n";
    let unrelated = "R\t300101000000Z\t250101000000Z\t45119E6B\tunknown\t/CN=x\n";
    let none = authority("");
    let month = UnixTime::now().as_secs() + 60 * DAY;
    let others = Authority::new("other").crl(&[], false);
    let chain = std::slice::from_ref(&server);
    let cases = vec![
        Case::new("nothing revoked", chain, &with(&none), chain_only()),
        Case::new("others revoked", chain, &with(&authority(unrelated)), chain_only()),
        Case::new("serial 0 revoked", chain, &with(&authority(revoked)), Verdicts::all("revoked")),
        Case::new("stale", chain, &with(&none), Verdicts::all("CRL has expired")).at(month),
        Case::new("another issuer's", chain, &with(&others), Verdicts::all("unable to get certificate CRL")),
    ];
    check_all(&cases, 5);
}
