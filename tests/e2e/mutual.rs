//! The mutual TLS section of Istio's egress page, by its own commands and YAML, and the cases of Istio's own tests.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::lab;
use crate::lab::client::HttpClient;
use crate::lab::credentials::{Issuing, Mounted, secrets_dir, tls_secret};
use crate::lab::documents::{service_entry, simple_tls};
use crate::lab::nginx::Nginx;
use crate::lab::pki::Pair;
use crate::lab::{Family, Lab, utf8};

const HOST: &str = "my-nginx.mesh-external.svc.cluster.local";
const URL: &str = "http://my-nginx.mesh-external.svc.cluster.local";

/// The page's YAML, of which the project's example is a copy.
const PAGE: &str = include_str!("../../config/examples/egress-tls-origination/mutual.yaml");

const ROOT: &str = "openssl req -x509 -sha256 -nodes -days 365 -newkey rsa:2048 -subj '/O=example Inc./CN=example.com' -keyout example.com.key -out example.com.crt";

const SERVER: &str = r#"
openssl req -out my-nginx.mesh-external.svc.cluster.local.csr -newkey rsa:2048 -nodes -keyout my-nginx.mesh-external.svc.cluster.local.key -subj "/CN=my-nginx.mesh-external.svc.cluster.local/O=some organization"
openssl x509 -req -sha256 -days 365 -CA example.com.crt -CAkey example.com.key -set_serial 0 -in my-nginx.mesh-external.svc.cluster.local.csr -out my-nginx.mesh-external.svc.cluster.local.crt
"#;

const SERVER_WITH_SAN: &str = r#"
cat > san.conf <<EOF
[req]
distinguished_name = req_distinguished_name
req_extensions = v3_req
x509_extensions = v3_req
prompt = no
[req_distinguished_name]
countryName = US
[v3_req]
keyUsage = critical, digitalSignature, keyEncipherment
extendedKeyUsage = serverAuth, clientAuth
basicConstraints = critical, CA:FALSE
subjectAltName = critical, @alt_names
[alt_names]
DNS = my-nginx.mesh-external.svc.cluster.local
EOF
openssl req -out my-nginx.mesh-external.svc.cluster.local.csr -newkey rsa:4096 -nodes -keyout my-nginx.mesh-external.svc.cluster.local.key -subj "/CN=my-nginx.mesh-external.svc.cluster.local/O=some organization" -config san.conf
openssl x509 -req -sha256 -days 365 -CA example.com.crt -CAkey example.com.key -set_serial 0 -in my-nginx.mesh-external.svc.cluster.local.csr -out my-nginx.mesh-external.svc.cluster.local.crt -extfile san.conf -extensions v3_req
"#;

const CLIENT: &str = r#"
openssl req -out client.example.com.csr -newkey rsa:2048 -nodes -keyout client.example.com.key -subj "/CN=client.example.com/O=client organization"
openssl x509 -req -sha256 -days 365 -CA example.com.crt -CAkey example.com.key -set_serial 1 -in client.example.com.csr -out client.example.com.crt
"#;

/// Runs steps of the page in a folder of the lab.
fn shell(lab: &Lab, steps: &[&str]) {
    let folder = lab.dir().join("page");
    fs::create_dir_all(&folder).unwrap();
    for step in steps {
        let mut bash = Command::new("bash");
        bash.args(["-e", "-c", step]).current_dir(&folder);
        lab::process::finish(bash).succeeded();
    }
}

fn made(lab: &Lab, name: &str) -> PathBuf {
    lab.dir().join("page").join(name)
}

fn text_of(lab: &Lab, name: &str) -> String {
    fs::read_to_string(made(lab, name)).unwrap()
}

/// `kubectl create secret generic client-credential --from-file=…`, mounted.
fn client_credential(lab: &Lab) -> Mounted {
    let pair =
        Pair { certificate: text_of(lab, "client.example.com.crt"), key: text_of(lab, "client.example.com.key") };
    Mounted::new(lab, "client-credential", &tls_secret(&pair, &text_of(lab, "example.com.crt")))
}

/// The page's nginx: client certificates are required.
fn nginx(lab: &Lab, certificate: &Path, key: &Path, ca: &Path) -> Nginx {
    let at = SocketAddr::new(Lab::address(Family::V4, 1), 443);
    let root = lab.dir().join("html");
    fs::create_dir_all(&root).unwrap();
    lab.write("html/index.html", "<!DOCTYPE html>\n<html>\n<head>\n<title>Welcome to nginx!</title>\n");
    let server = format!(
        "server {{
        listen {at} ssl;
        root {};
        index index.html;
        server_name my-nginx.mesh-external.svc.cluster.local;
        ssl_certificate {};
        ssl_certificate_key {};
        ssl_client_certificate {};
        ssl_verify_client on;
      }}\n",
        utf8(&root),
        utf8(certificate),
        utf8(key),
        utf8(ca)
    );
    Nginx::start(lab, &server, at)
}

fn pages_nginx(lab: &Lab) -> Nginx {
    lab.names.set(HOST, &[Lab::address(Family::V4, 1)]);
    let file = |suffix: &str| made(lab, &format!("{HOST}.{suffix}"));
    nginx(lab, &file("crt"), &file("key"), &made(lab, "example.com.crt"))
}

fn without_sni() -> String {
    PAGE.split_inclusive('\n').filter(|line| !line.trim_start().starts_with("sni:")).collect()
}

/// Status and body that the application gets.
fn asked(lab: &Lab, url: &str) -> (String, String) {
    let said = lab.curl(&["-w", "\n%{http_code}", url]).succeeded().stdout;
    let (body, status) = said.rsplit_once('\n').unwrap();
    (status.to_owned(), body.to_owned())
}

#[test]
fn the_page() {
    let lab = Lab::new();
    shell(&lab, &[ROOT, SERVER, CLIENT]);
    let leaf = made(&lab, &format!("{HOST}.crt"));
    let shown = lab::process::run("openssl", &["x509", "-noout", "-text", "-in", utf8(&leaf)]);
    assert!(shown.contains("Version: 1 (0x0)"), "the page's commands make a certificate of version 1: {shown}");
    let nginx = pages_nginx(&lab);

    // S4: nginx by itself, with the client's certificate and without.
    lab::process::run("chmod", &["644", utf8(&made(&lab, "client.example.com.key"))]);
    let [ca, cert, key] =
        ["example.com.crt", "client.example.com.crt", "client.example.com.key"].map(|name| made(&lab, name));
    let tls_url = format!("https://{HOST}");
    let direct = lab.curl(&["--cacert", utf8(&ca), "--cert", utf8(&cert), "--key", utf8(&key), &tls_url]).succeeded();
    assert!(direct.stdout.contains("Welcome to nginx!"), "{}", direct.stdout);
    let anonymous = lab.curl(&["--cacert", utf8(&ca), &tls_url]).succeeded();
    assert!(anonymous.stdout.contains("No required SSL certificate was sent"), "{}", anonymous.stdout);

    // S5, S6.
    let _secret = client_credential(&lab);
    lab.configure("page.yaml", PAGE);
    let egret = lab.egret(&["--labels", "app=sleep", "--secrets", utf8(&secrets_dir(&lab))]);
    let capture = lab.capture();
    let (status, body) = asked(&lab, URL);
    assert!(status == "200" && body.contains("Welcome to nginx!"), "{status} {body}");
    let captured = capture.finish();
    captured.assert_only_tls_to(443);
    assert!(!captured.contains("Welcome to nginx!"));
    lab::eventually("nginx logs the request", || {
        nginx.seen().iter().any(|seen| seen.request == "GET / HTTP/1.1" && seen.status == 200 && seen.host == HOST)
    });

    // S7: serial 1 of the client's certificate, and the CA's row.
    let table = lab.egret_command(&["secrets"]).succeeded().stdout;
    let row = |name: &str| {
        let found = table.lines().find(|line| line.split_whitespace().next() == Some(name));
        found.unwrap_or_else(|| panic!("no {name} in:\n{table}")).split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let own = row("kubernetes://client-credential");
    let wanted = "kubernetes://client-credential Cert Chain ACTIVE true 00000000000000000000000000000001 20";
    assert!(own.starts_with(wanted), "{own}");
    let ca = row("kubernetes://client-credential-cacert");
    assert!(ca.starts_with("kubernetes://client-credential-cacert CA ACTIVE true "), "{ca}");
    let json = lab.egret_command(&["secrets", "-o", "json"]).succeeded().stdout;
    assert!(json.contains("\"serial_number\": \"00000000000000000000000000000001\""), "{json}");
    assert!(egret.metric("egret_certificate_expiry_timestamp_seconds").is_some_and(|sum| sum > 1e9));

    // S8.
    let line = format!("outbound|80||{HOST}");
    egret.log_line(&["\"GET / HTTP/1.1\" 200 - via_upstream", &line, "\"203.0.113.1:443\""]);
    for said in [json, egret.stderr(), egret.access_log().join("\n")] {
        assert!(!said.contains("PRIVATE KEY"), "keys are never said");
    }
}

#[test]
fn without_sni_the_name_counts() {
    for (server, wanted) in [(SERVER, "503"), (SERVER_WITH_SAN, "200")] {
        let lab = Lab::new();
        shell(&lab, &[ROOT, server, CLIENT]);
        let _nginx = pages_nginx(&lab);
        let _secret = client_credential(&lab);
        lab.configure("page.yaml", &without_sni());
        let egret = lab.egret(&["--labels", "app=sleep", "--secrets", utf8(&secrets_dir(&lab))]);
        let (status, body) = asked(&lab, URL);
        assert_eq!(status, wanted, "{body}");
        if wanted == "503" {
            assert!(body.contains("CERTIFICATE_VERIFY_FAILED") && body.contains("X.509 v1, CN only"), "{body}");
            egret.log_line(&["\"GET / HTTP/1.1\" 503 ", "UF", "CERTIFICATE_VERIFY_FAILED"]);
        } else {
            assert!(body.contains("Welcome to nginx!"), "{body}");
        }
    }
}

#[test]
fn a_secret_may_be_a_document() {
    let lab = Lab::new();
    shell(&lab, &[ROOT, SERVER_WITH_SAN, CLIENT]);
    let _nginx = pages_nginx(&lab);
    let encoded = |name: &str| lab::process::run("base64", &["-w0", utf8(&made(&lab, name))]);
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: client-credential\ndata:\n  tls.key: {}\n  tls.crt: {}\n  ca.crt: {}\n",
        encoded("client.example.com.key"),
        encoded("client.example.com.crt"),
        encoded("example.com.crt")
    );
    lab.configure("page.yaml", PAGE);
    lab.configure("secret.yaml", &secret);
    let egret = lab.egret(&["--labels", "app=sleep"]);
    assert_eq!(asked(&lab, URL).0, "200");

    // Another pod's labels: the rule is not for it, and nothing is encrypted by it; nginx says so itself.
    drop(egret);
    let _egret = lab.start_egret(&["--labels", "app=awake"]);
    let (status, body) = asked(&lab, URL);
    assert!(status == "400" && body.contains("plain HTTP request was sent to HTTPS port"), "{status} {body}");
}

/// Warned of in the last third of its life, where the rule names it: a certificate of a day is not, all day.
#[test]
fn an_end_that_comes_near_is_said() {
    const DAY: u64 = 24 * 3600;
    let lab = Lab::new();
    let ca = Issuing::new("root");
    let client = |begun_before: u64, ends_after: u64, serial: u64| {
        ca.issue(&["client.example.com"], |params| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
            params.not_before =
                rcgen::date_time_ymd(1970, 1, 1) + (now.saturating_sub(Duration::from_secs(begun_before)));
            params.not_after = rcgen::date_time_ymd(1970, 1, 1) + (now + Duration::from_secs(ends_after));
            params.serial_number = Some(rcgen::SerialNumber::from(serial));
        })
    };
    let mut secret = Mounted::new(&lab, "client-credential", &tls_secret(&client(3600, DAY - 3600, 1), &ca.pem()));
    lab.names.set(HOST, &[Lab::address(Family::V4, 1)]);
    lab.configure("page.yaml", PAGE);
    let secrets = secrets_dir(&lab);
    let check = || lab.egret_command(&["check", "--secrets", utf8(&secrets), utf8(&lab.config_dir())]);
    let egret = lab.egret(&["--labels", "app=sleep", "--secrets", utf8(&secrets)]);
    let checked = check();
    assert!(!checked.stderr.contains("client-credential (serial"), "{}", checked.stderr);

    secret.swap(&tls_secret(&client(20 * DAY, 9 * DAY + 3600, 7), &ca.pem()));
    let warning = "kubernetes://client-credential (serial 00000000000000000000000000000007) expires in 9 days";
    lab::eventually("the warning is in the log", || egret.stderr().contains(warning));
    assert_eq!(egret.stderr().matches("client-credential (serial").count(), 1, "{}", egret.stderr());
    let (_, metrics) = egret.get(15090, "/stats/prometheus").unwrap();
    let days = "egret_certificate_days_until_expiry{name=\"kubernetes://client-credential\",type=\"Cert Chain\"} ";
    assert_eq!(metrics.lines().find_map(|line| line.strip_prefix(days)), Some("9"), "{metrics}");
    let checked = check();
    let rule = format!("{}:33:7: warning: {warning}", utf8(&lab.config_dir().join("page.yaml")));
    let file = format!(": replace it in {}", utf8(&secrets.join("client-credential")));
    for said in [&rule, &file] {
        assert!(checked.stderr.contains(said), "{said} is not in {}", checked.stderr);
    }
}

/// The page's documents for another host and credential, with the server's own name as SNI.
fn istios(host: &str, credential: &str, selector: bool) -> String {
    let page = PAGE.replace("originate-mtls-for-nginx", &host.replace('.', "-"));
    let page = page.replace(HOST, host).replace("client-credential", credential);
    let page = page.replace(&format!("sni: {host}"), "sni: server.default.svc");
    if selector { page } else { page.replace("  workloadSelector:\n    matchLabels:\n      app: sleep\n", "") }
}

/// Istio's TestSidecarMutualTlsOrigination and the MUTUAL cases of its gateway's tests: credential, status, reason.
const ISTIOS: [(&str, &str, &str); 8] = [
    ("authorized", "200", ""),
    ("unauthorized", "503", "secret default/unauthorized not found"),
    ("invalid-client-cert", "503", "does not belong to the certificate"),
    ("revoking-crl", "503", "CERTIFICATE_VERIFY_FAILED"),
    ("unrelated-crl", "200", ""),
    ("only-ca", "503", "secret default/only-ca not found"),
    ("fake-root", "503", "CERTIFICATE_VERIFY_FAILED"),
    ("no-selector", "503", "workloadSelector"),
];

/// The secret of a case, if it has one.
fn istios_secret(lab: &Lab, credential: &str, authority: &Issuing) {
    let (client, other) = (authority.client(7), authority.client(8));
    let mixed = Pair { certificate: client.certificate.clone(), key: other.key };
    let (root, fake) = (authority.pem(), Issuing::new("a fake root").pem());
    let revoking = authority.crl(&[0x21FD], 2100);
    let unrelated = authority.crl(&[0x4511], 2100);
    let plain = tls_secret(&client, &root);
    let files = match credential {
        "authorized" | "no-selector" => plain.to_vec(),
        "invalid-client-cert" => tls_secret(&mixed, &root).to_vec(),
        "revoking-crl" => [&plain[..], &[("ca.crl", &revoking)]].concat(),
        "unrelated-crl" => [&plain[..], &[("ca.crl", &unrelated)]].concat(),
        "only-ca" => return drop(Mounted::new(lab, "only-ca-cacert", &[("ca.crt", &root)])),
        "fake-root" => tls_secret(&client, &fake).to_vec(),
        _ => return,
    };
    drop(Mounted::new(lab, credential, &files));
}

#[test]
fn istios_own_cases() {
    let lab = Lab::new();
    let authority = Issuing::new("root");
    let server = authority.issue(&["server.default.svc"], |params| params.serial_number = Some(0x21FD.into()));
    let files = server.write(lab.dir(), "server");
    let ca = lab.write("root-cert.pem", &authority.pem());
    let _nginx = nginx(&lab, &files.certificate, &files.key, &ca);
    for (credential, ..) in ISTIOS {
        istios_secret(&lab, credential, &authority);
        let host = format!("{credential}.example");
        lab.names.set(&host, &[Lab::address(Family::V4, 1)]);
        lab.configure(&format!("{credential}.yaml"), &istios(&host, credential, credential != "no-selector"));
    }
    let secrets = secrets_dir(&lab);
    let egret = lab.egret(&["--labels", "app=sleep", "--secrets", utf8(&secrets)]);
    let capture = lab.capture();
    for (credential, wanted, reason) in ISTIOS {
        let (status, body) = asked(&lab, &format!("http://{credential}.example/?never-in-plain-text"));
        assert_eq!(status, wanted, "{credential}: {body}");
        if wanted == "503" {
            assert!(body.contains(reason), "{credential}: {body}");
            let host = format!("\"{credential}.example\"");
            let line = egret.log_line(&["\"GET /?never-in-plain-text HTTP/1.1\" 503 U", &host]);
            assert!(line.contains(reason), "{credential}: {line}");
        }
    }
    let captured = capture.finish();
    assert!(!captured.contains("never-in-plain-text"), "a request left in plain text");
    captured.assert_only_tls_to(443);
    assert_eq!(egret.get(15021, "/healthz/ready").map(|(status, _)| status), Some(200), "readiness is not concerned");

    let checked = lab.egret_command(&["check", "--secrets", utf8(&secrets), utf8(&lab.config_dir())]);
    assert_eq!(checked.code(), Some(0), "warnings alone are no failure");
    for (credential, status, reason) in ISTIOS.iter().filter(|(_, _, reason)| !reason.contains("VERIFY_FAILED")) {
        let said = |line: &str| {
            line.contains(&format!("/{credential}.yaml:"))
                && line.contains("is refused on port 80")
                && line.contains(reason)
        };
        assert_eq!(checked.stderr.lines().any(said), *status == "503", "{credential}: {}", checked.stderr);
    }
}

/// TestDestinationRuleTlsSecretRotation: files, replaced by those of another CA, and back.
#[test]
fn files_rotate_to_a_wrong_ca_and_back() {
    let lab = Lab::new();
    let (right, wrong) = (Issuing::new("root"), Issuing::new("another root"));
    let server = right.issue(&["server.example"], |_| {}).write(lab.dir(), "server");
    let ca = lab.write("root-cert.pem", &right.pem());
    let _nginx = nginx(&lab, &server.certificate, &server.key, &ca);
    lab.names.set("server.example", &[Lab::address(Family::V4, 1)]);
    let (pair, stranger) = (right.client(1), wrong.client(2));
    let mut mounted = Mounted::new(&lab, "certs", &tls_secret(&pair, &right.pem()));
    let [certificate, key] = ["tls.crt", "tls.key"].map(|name| mounted.path(name));
    let mutual = format!(
        "mode: MUTUAL\n        clientCertificate: {}\n        privateKey: {}\n       ",
        utf8(&certificate),
        utf8(&key)
    );
    let rule = simple_tls("server.example", 80, Some(&mounted.path("ca.crt"))).replace("mode: SIMPLE", &mutual);
    // Bytes that nobody reads: of them no host is known that could be the server name.
    let bytes = format!(
        "    - port: {{number: 9443}}\n      tls: {{mode: MUTUAL, clientCertificate: {}, privateKey: {}, caCertificates: {}, \
         sni: server.example, subjectAltNames: [server.example]}}\n",
        utf8(&certificate),
        utf8(&key),
        utf8(&mounted.path("ca.crt"))
    );
    let entry = service_entry("server.example", &[(80, "HTTP", Some(443)), (9443, "TCP", Some(443))]);
    lab.configure("server.yaml", &format!("{entry}---\n{rule}{bytes}"));
    let egret = lab.egret(&[]);
    let to = SocketAddr::new(Lab::address(Family::V4, 9), 9443);
    let mut client = HttpClient::new(lab.connect(to).unwrap());
    assert_eq!(client.get("server.example", "/").unwrap().head.status, 200, "the server wants a certificate");
    drop(client);
    egret.log_line(&["\"- - -\" 0 ", "outbound|9443||server.example"]);
    let status = || asked(&lab, "http://server.example/").0;
    assert_eq!(status(), "200");
    // The third time is where others fail.
    for round in 0..3 {
        mounted.swap(&tls_secret(&stranger, &wrong.pem()));
        lab::within(Duration::from_secs(10), &format!("round {round}: refused"), || status() == "503");
        mounted.swap(&tls_secret(&pair, &right.pem()));
        lab::within(Duration::from_secs(10), &format!("round {round}: accepted"), || status() == "200");
    }
    egret.log_line(&["\"GET / HTTP/1.1\" 503 ", "UF", "CERTIFICATE_VERIFY_FAILED"]);
}
