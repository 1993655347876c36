//! What is too weak is refused with the reason, and with what to ask its owner for.

use super::*;
use crate::tls::tests::pki::OpensslFolder;
use crate::tls::verify::weakness;

#[test]
fn what_is_weak_is_named() {
    let folder = OpensslFolder::new();
    folder.document_pki();
    folder.write("leaf.ext", "subjectAltName=DNS:api.example.com\n");
    folder.write("ca.ext", "basicConstraints=critical,CA:TRUE\n");
    let issue = |name: &str, key: &str, ca: &str, options: &str| {
        folder.run(&format!("req|-out|{name}.csr|-newkey|{key}|-nodes|-keyout|{name}.key|-subj|/CN={name}"));
        folder.run(&format!(
            "x509|-req|-days|365|-CA|{ca}.crt|-CAkey|{ca}.key|-set_serial|7|-in|{name}.csr|-out|{name}.crt|{options}"
        ));
        folder.certificate(&format!("{name}.crt"))
    };
    let trusted = trust_pem(&String::from_utf8(folder.read("example.com.crt")).unwrap(), None);
    let good = "ec|-pkeyopt|ec_paramgen_curve:P-256";
    let sha1 = issue("sha1", good, "example.com", "-sha1|-extfile|leaf.ext");
    let md5 = issue("md5", good, "example.com", "-md5|-extfile|leaf.ext");
    let small = issue("small", "rsa:1024", "example.com", "-extfile|ca.ext");
    let below = issue("below", good, "small", "-extfile|leaf.ext");
    let sound = issue("sound", "rsa:2048", "example.com", "-extfile|leaf.ext");
    for case in [
        Case::new("SHA-1", &[sha1], &trusted, Verdicts::all("CN=sha1 is signed with SHA-1; ask its owner")),
        Case::new("MD5", &[md5], &trusted, Verdicts::all("CN=md5 is signed with MD5; ask its owner")),
        Case::new(
            "below a small CA",
            &[below, small.clone()],
            &trusted,
            Verdicts::all("CN=small has an RSA key of 1024 bits; ask its owner"),
        ),
    ] {
        case.check();
    }
    // A handshake that is signed with such a key is refused in the same words.
    let named = weakness::of_key(&small).expect("it is weak").to_string();
    assert!(named.contains("CN=small has an RSA key of 1024 bits; ask its owner"), "{named}");
    assert_eq!(weakness::of_key(&sound), None);
}
