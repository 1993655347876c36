//! The lab without a proxy: everything that the other tests take for granted about it.

use std::net::SocketAddr;
use std::path::Path;

use crate::lab;
use crate::lab::nginx::{self, Nginx};
use crate::lab::pki::{Leaf, documents_leaf};
use crate::lab::server::Pattern;
use crate::lab::{Family, Lab};

const HOST: &str = "edition.cnn.com";

#[test]
fn curl_reaches_a_site_by_name_and_nginx_and_the_capture_see_it() {
    for family in [Family::V4, Family::V6] {
        let lab = Lab::new();
        let address = Lab::address(family, 1);
        lab.names.set(HOST, &[address]);
        let pair = lab.authority.issue(HOST, Leaf::Good).write(lab.dir(), HOST);
        let site = nginx::site(address, &pair, "TLSv1.3");
        let nginx = Nginx::start(&lab, &site, SocketAddr::new(address, 443));
        let capture = lab.capture();
        let said = lab.curl(&["-L", "-o", "/dev/null", "-D", "-", "http://edition.cnn.com/politics"]).succeeded();
        assert!(said.stdout.starts_with("HTTP/1.1 301"), "{}", said.stdout);
        assert!(said.stdout.contains("\nHTTP/2 200"), "{}", said.stdout);
        lab.curl(&["https://edition.cnn.com/hidden-in-tls"]).succeeded();
        let captured = capture.finish();
        assert!(captured.contains("/politics"), "a plain request must be seen");
        assert!(!captured.contains("/hidden-in-tls"));
        captured.assert_only_tls_to(443);
        let plain = captured.streams().into_iter().find(|stream| stream.from_pod && stream.to_port == 80).unwrap();
        assert!(plain.bytes.starts_with(b"GET /politics HTTP/1.1\r\n"), "{plain:?}");
        lab::eventually("nginx logs", || nginx.seen().len() >= 3);
        let last = nginx.seen().pop().unwrap();
        assert_eq!((last.status, last.tls.as_str(), last.sni.as_str()), (200, "TLSv1.3", HOST));
    }
}

#[test]
fn names_change_and_vanish() {
    let lab = Lab::new();
    let ask = |lab: &Lab| lab.curl(&["-o", "/dev/null", "http://a.example/"]);
    assert_eq!(ask(&lab).code(), Some(6), "curl's code for a name that does not resolve");
    lab.names.set("a.example", &[Lab::address(Family::V4, 3)]);
    assert_eq!(ask(&lab).code(), Some(7), "curl's code for a refused connection");
    assert!(lab.names.queries() >= 2);
}

#[test]
fn the_documents_commands_make_what_the_page_needs() {
    let lab = Lab::new();
    let files = documents_leaf(lab.dir(), "my-nginx.mesh-external.svc.cluster.local");
    let text = lab::process::run("openssl", &["x509", "-noout", "-text", "-in", lab::utf8(&files.certificate)]);
    assert!(text.contains("Version: 1 (0x0)") && !text.contains("Alternative Name"), "{text}");
}

#[test]
fn a_lab_leaves_nothing_behind() {
    let lab = Lab::new();
    let (name, folder) = (lab.pod.name().to_owned(), lab.dir().to_owned());
    assert!(Path::new("/run/netns").join(&name).exists());
    drop(lab);
    for path in [Path::new("/run/netns").join(&name), Path::new("/etc/netns").join(&name), folder] {
        assert!(!path.exists(), "{}", path.display());
    }
}

#[test]
fn the_pattern_shows_what_is_lost_doubled_or_moved() {
    let pattern = Pattern::new();
    let mut bytes = pattern.take(3 * Pattern::PERIOD);
    assert!(pattern.matches(0, &bytes));
    assert!(pattern.matches(5000, &bytes[5000..]));
    bytes.drain(16_384..32_768);
    assert!(!pattern.matches(0, &bytes));
}
