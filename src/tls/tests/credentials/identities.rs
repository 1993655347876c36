//! Client certificates and keys in the forms that tools write them.

use super::*;
use crate::tls::tests::pki::OpensslFolder;

fn load(chain: &[u8], key: &[u8]) -> Result<Identity, MaterialError> {
    Identity::from_pem((chain, "tls.crt"), (key, "tls.key"))
}

/// A v3 certificate for a key that openssl made with `options`.
fn pair(folder: &OpensslFolder, name: &str, options: &str) -> (Vec<u8>, Vec<u8>) {
    folder.run(&format!(
        "req|-x509|-nodes|-days|2|-newkey|{options}|-subj|/CN={name}|-keyout|{name}.key|-out|{name}.crt"
    ));
    (folder.read(&format!("{name}.crt")), folder.read(&format!("{name}.key")))
}

#[test]
fn keys_of_every_accepted_kind_and_form() {
    let folder = OpensslFolder::new();
    let curve = |name: &str| format!("ec|-pkeyopt|ec_paramgen_curve:{name}");
    let (rsa, rsa_key) = pair(&folder, "rsa", "rsa:2048");
    let (p256, p256_key) = pair(&folder, "p256", &curve("P-256"));
    let (p384, p384_key) = pair(&folder, "p384", &curve("P-384"));
    let (ed25519, ed25519_key) = pair(&folder, "ed25519", "ed25519");
    folder.run("rsa|-in|rsa.key|-traditional|-out|rsa.pkcs1");
    folder.run("ec|-in|p256.key|-out|p256.sec1");
    folder.run("ec|-in|p384.key|-out|p384.sec1");
    folder.run("ecparam|-name|prime256v1|-out|params.pem");
    let with_params = [folder.read("params.pem"), folder.read("p256.sec1")].concat();
    let both = [p256_key.clone(), p256.clone()].concat();
    let crlf = |text: &[u8]| String::from_utf8_lossy(text).replace('\n', "\r\n").into_bytes();
    let bom = |text: &[u8]| [b"\xef\xbb\xbf", text].concat();
    let noisy =
        |text: &[u8]| [b"Bag Attributes\n    friendlyName: x\nKey Attributes: <No Attributes>\n", text].concat();
    for (what, chain, key) in [
        ("RSA, PKCS#8", &rsa, &rsa_key),
        ("RSA, PKCS#1", &rsa, &folder.read("rsa.pkcs1")),
        ("P-256, PKCS#8", &p256, &p256_key),
        ("P-256, SEC1", &p256, &folder.read("p256.sec1")),
        ("P-256, SEC1 after its parameters", &p256, &with_params),
        ("P-384, PKCS#8", &p384, &p384_key),
        ("P-384, SEC1", &p384, &folder.read("p384.sec1")),
        ("Ed25519", &ed25519, &ed25519_key),
        ("CRLF", &crlf(&p256), &crlf(&p256_key)),
        ("BOM", &bom(&p256), &bom(&p256_key)),
        ("text before", &noisy(&p256), &noisy(&p256_key)),
        ("both in one file", &both, &both),
    ] {
        let identity = load(chain, key).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(identity.facts().subject.starts_with("CN="), "{what}");
    }
}

#[test]
fn what_cannot_be_used_is_said_with_its_place_and_its_remedy() {
    let folder = OpensslFolder::new();
    let (cert, key) = pair(&folder, "one", "ec|-pkeyopt|ec_paramgen_curve:P-256");
    let (other, _) = pair(&folder, "other", "ec|-pkeyopt|ec_paramgen_curve:P-256");
    let (weak, weak_key) = pair(&folder, "weak", "rsa:1024");
    let (odd, odd_key) = pair(&folder, "odd", "ec|-pkeyopt|ec_paramgen_curve:secp256k1");
    folder.run("pkcs8|-topk8|-in|one.key|-out|encrypted.key|-passout|pass:x");
    folder.run("ec|-in|one.key|-aes256|-passout|pass:x|-out|encrypted.sec1");
    let half = &key[..key.len() / 2];
    for (what, chain, key, says) in [
        ("another's key", &other[..], &key[..], "the private key tls.key does not belong to the certificate tls.crt"),
        ("no key", &cert, b"", "tls.key: no private key in it"),
        ("a certificate as key", &cert, &cert, "tls.key: no private key in it"),
        ("a key as certificate", &key, &key, "tls.crt: no certificate in it"),
        ("half a key", &cert, half, "tls.key: not valid PEM"),
        ("an encrypted key", &cert, &folder.read("encrypted.key"), "tls.key: the private key is encrypted"),
        ("an encrypted SEC1 key", &cert, &folder.read("encrypted.sec1"), "decrypt it with `openssl pkey"),
        ("RSA of 1024 bits", &weak, &weak_key, "tls.key: unusable private key"),
        ("secp256k1", &odd, &odd_key, "use RSA of 2048 bits or more, ECDSA P-256"),
    ] {
        let error = load(chain, key).err().unwrap_or_else(|| panic!("{what} was accepted")).to_string();
        assert!(error.contains(says), "{what}: {error}");
    }
}

#[test]
fn chains_are_put_in_order() {
    let root = Authority::new("root");
    let one = root.below("one", |_| {});
    let two = one.below("two", |_| {});
    let leaf = two.issue(&["client.example.com"], |_| {});
    let key = leaf.key_pem();
    let (l, t, o, r) = (leaf.pem(), two.pem(), one.pem(), root.pem());
    let wanted = [leaf.der(), two.der(), one.der(), root.der()];
    for order in [[&l, &t, &o, &r], [&r, &o, &t, &l], [&o, &l, &r, &t]] {
        let chain = order.map(String::as_str).concat();
        let identity = load(chain.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(identity.key.cert, wanted);
    }
    let stranger = Authority::new("stranger").pem();
    let chain = format!("{stranger}{l}");
    assert_eq!(load(chain.as_bytes(), key.as_bytes()).unwrap().key.cert[0], leaf.der());
}

/// rustls refuses these by itself since 0.23.23.
#[test]
fn the_documents_client_certificate_is_a_pair_with_its_key() {
    let folder = OpensslFolder::new();
    folder.document_pki();
    let identity = load(&folder.read("client.crt"), &folder.read("client.key")).unwrap();
    assert_eq!(identity.facts().serial, "00000000000000000000000000000001");
    assert!(load(&folder.read("client.crt"), &folder.read("my-nginx.key")).is_err());
}
