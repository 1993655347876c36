//! Credentials replaced a hundred times while requests run: none fails, and once the change has been reported none
//! travels over a connection of the old identity.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::lab;
use crate::lab::client::HttpClient;
use crate::lab::credentials::{Issuing, Mounted, secrets_dir, tls_secret};
use crate::lab::documents::{service_entry, simple_tls};
use crate::lab::pki::Pair;
use crate::lab::proxy::Egret;
use crate::lab::server::{HttpServer, Server, TlsStream};
use crate::lab::tls_server::{Shows, accept, client_serial};
use crate::lab::{Family, Lab, utf8};

/// From the moment at which the files are in place to the report that they are in use; held by most rounds, since a
/// busy machine may delay one.
const LIMIT: Duration = Duration::from_secs(2);
/// Of each way of replacing files; there are three.
const ROUNDS: u64 = 34;

/// Answers every request with the serial number of the certificate that its connection was made with.
fn mirror(lab: &Lab, at: SocketAddr, shows: &Shows) -> Server {
    let config = Arc::new(shows.config());
    Server::start(lab, at, move |socket| {
        let stream = accept(&config, socket)?;
        let serial = client_serial(&stream).unwrap_or(0).to_string();
        let mut http: HttpServer<TlsStream> = HttpServer::new(stream);
        while http.request()?.is_some() {
            http.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{serial}", serial.len()).as_bytes())?;
        }
        Ok(())
    })
}

/// Puts the files of a secret, by key, into place.
type Replace<'l> = Box<dyn FnMut(&[(&str, &str)]) + 'l>;

/// One way of replacing a client certificate, its key and the CA beside them.
struct Rotated<'l> {
    host: &'static str,
    /// Its name in `egret secrets`.
    resource: String,
    replace: Replace<'l>,
}

fn in_place(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        fs::write(folder.join(name), text).unwrap();
    }
}

fn renamed(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        fs::write(folder.join("fresh"), text).unwrap();
        fs::rename(folder.join("fresh"), folder.join(name)).unwrap();
    }
}

fn by_files(host: &str, folder: &Path) -> String {
    let at = |name: &str| utf8(&folder.join(name)).to_owned();
    let mutual = format!(
        "mode: MUTUAL\n        clientCertificate: {}\n        privateKey: {}\n       ",
        at("tls.crt"),
        at("tls.key")
    );
    let rule = simple_tls(host, 80, Some(&folder.join("ca.crt"))).replace("mode: SIMPLE", &mutual);
    format!("{}---\n{rule}", service_entry(host, &[(80, "HTTP", Some(443))]))
}

fn by_credential(host: &str, credential: &str) -> String {
    let rule = simple_tls(host, 80, None)
        .replace("mode: SIMPLE", &format!("mode: MUTUAL\n        credentialName: {credential}\n       "))
        .replace("spec:\n", "spec:\n  workloadSelector:\n    matchLabels:\n      app: sleep\n");
    format!("{}---\n{rule}", service_entry(host, &[(80, "HTTP", Some(443))]))
}

fn rotated_files<'l>(
    lab: &'l Lab,
    host: &'static str,
    first: &[(&str, &str)],
    way: fn(&Path, &[(&str, &str)]),
) -> Rotated<'l> {
    let folder: PathBuf = lab.dir().join(host);
    fs::create_dir(&folder).unwrap();
    way(&folder, first);
    lab.configure(&format!("{host}.yaml"), &by_files(host, &folder));
    let resource = format!("file-cert:{}~{}", utf8(&folder.join("tls.crt")), utf8(&folder.join("tls.key")));
    Rotated { host, resource, replace: Box::new(move |files| way(&folder, files)) }
}

/// The serial number that the process reports for a credential, and the problem with it.
fn reported(egret: &Egret<'_>, resource: &str) -> (u64, Option<String>) {
    let (_, text) = egret.get(15000, "/certs").expect("the admin endpoint answers");
    let rows: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let row = rows.as_array().into_iter().flatten().find(|row| row["resource_name"] == resource);
    let row = row.unwrap_or_else(|| panic!("no {resource} in {text}"));
    let serial = row["serial_number"].as_str().and_then(|hex| u64::from_str_radix(hex, 16).ok());
    (serial.unwrap_or(0), row["problem"].as_str().map(str::to_owned))
}

/// Requests over keep-alive connections until told to stop; each must be answered by what was reported before it.
fn load(lab: &Lab, host: &str, known: &AtomicU64, stop: &AtomicBool) -> Result<u64, String> {
    let to = SocketAddr::new(Lab::address(Family::V4, 1), 80);
    let mut client = HttpClient::new(lab.connect(to).map_err(|e| e.to_string())?);
    let mut count = 0;
    while !stop.load(Ordering::SeqCst) {
        let least = known.load(Ordering::SeqCst);
        let response = client.get(host, "/").map_err(|error| format!("{host}, request {count}: {error}"))?;
        let body = String::from_utf8_lossy(&response.body).into_owned();
        if response.head.status != 200 {
            return Err(format!("{host}, request {count}: {} {body}", response.head.status));
        }
        match body.parse::<u64>() {
            Ok(serial) if serial >= least => {}
            _ => return Err(format!("{host}, request {count}: identity {body} after {least} was reported")),
        }
        count += 1;
        // The machine has other work; some hundred requests a second are load enough.
        std::thread::park_timeout(Duration::from_millis(3));
    }
    Ok(count)
}

#[test]
fn a_hundred_rotations_under_load() {
    let lab = Lab::new();
    // The server's certificate is of `old`; trust alternates between that root and it with another one.
    let (old, clients, spare) = (Issuing::new("servers"), Issuing::new("clients"), Issuing::new("spare"));
    let hosts = ["swapped.example", "renamed.example", "in-place.example"];
    let server = old.issue(&hosts, |_| {});
    let at = SocketAddr::new(Lab::address(Family::V4, 1), 443);
    let _server = mirror(&lab, at, &Shows { clients: Some(clients.pem()), ..Shows::pair(&server) });
    for host in hosts {
        lab.names.set(host, &[at.ip()]);
    }
    let bundles = [old.pem(), old.pem() + &spare.pem()];
    let first = clients.client(1);
    let first = tls_secret(&first, &bundles[1]);
    let mut mounted = Mounted::new(&lab, "client", &first);
    lab.configure("swapped.yaml", &by_credential(hosts[0], "client"));
    let mut ways = [
        Rotated {
            host: hosts[0],
            resource: "kubernetes://client".to_owned(),
            replace: Box::new(move |files| mounted.swap(files)),
        },
        rotated_files(&lab, hosts[1], &first, renamed),
        rotated_files(&lab, hosts[2], &first, in_place),
    ];
    let egret = lab.egret(&["--labels", "app=sleep", "--secrets", utf8(&secrets_dir(&lab))]);
    let stop = AtomicBool::new(false);
    let known: [AtomicU64; 3] = std::array::from_fn(|_| AtomicU64::new(1));
    let mut waits = Vec::new();
    let requests = std::thread::scope(|scope| {
        let running: Vec<_> = hosts
            .iter()
            .zip(&known)
            .map(|(host, known)| {
                let (lab, stop) = (&lab, &stop);
                scope.spawn(move || load(lab, host, known, stop))
            })
            .collect();
        // Loads end with the rotations, however those end.
        let _end = StopOnDrop(&stop);
        for serial in 2..=ROUNDS + 1 {
            let pair: Pair = clients.client(serial);
            let files = tls_secret(&pair, &bundles[usize::from(serial % 2 == 0)]);
            for way in &mut ways {
                (way.replace)(&files);
            }
            let replaced = Instant::now();
            for (way, known) in ways.iter().zip(&known) {
                let what = format!("{} shows serial {serial}", way.host);
                lab::eventually(&what, || reported(&egret, &way.resource).0 == serial);
                known.store(serial, Ordering::SeqCst);
            }
            waits.push(replaced.elapsed());
        }
        stop.store(true, Ordering::SeqCst);
        running.into_iter().map(|thread| thread.join().expect("no panic").unwrap()).sum::<u64>()
    });
    waits.sort();
    assert!(waits[waits.len() * 3 / 4] < LIMIT, "from files to use: {waits:?}");
    assert!(requests > 10 * ROUNDS, "only {requests} requests ran meanwhile");
    assert_eq!(egret.metric("egret_requests_total"), Some(requests as f64), "each was answered");
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn ask(lab: &Lab, host: &str) -> (u16, String) {
    let to = SocketAddr::new(Lab::address(Family::V4, 1), 80);
    let response = HttpClient::new(lab.connect(to).unwrap()).get(host, "/").unwrap();
    (response.head.status, String::from_utf8_lossy(&response.body).into_owned())
}

/// Two hosts with files of their own, each of serial 1; `egret` runs.
fn two_hosts(lab: &Lab, clients: &Issuing) -> (Server, Issuing, [PathBuf; 2]) {
    let root = Issuing::new("servers");
    let server = root.issue(&["a.example", "b.example"], |_| {});
    let at = SocketAddr::new(Lab::address(Family::V4, 1), 443);
    let mirror = mirror(lab, at, &Shows { clients: Some(clients.pem()), ..Shows::pair(&server) });
    let folders = ["a.example", "b.example"].map(|host| {
        lab.names.set(host, &[at.ip()]);
        let first = clients.client(1);
        rotated_files(lab, host, &tls_secret(&first, &root.pem()), in_place);
        lab.dir().join(host)
    });
    (mirror, root, folders)
}

#[test]
fn a_broken_pair_keeps_the_last_good_one_and_concerns_nobody_else() {
    let lab = Lab::new();
    let clients = Issuing::new("clients");
    let (_server, _, [folder, _]) = two_hosts(&lab, &clients);
    let egret = lab.egret(&[]);
    let resource = format!("file-cert:{}~{}", utf8(&folder.join("tls.crt")), utf8(&folder.join("tls.key")));
    let mismatched = clients.client(2);
    let broken: [(&str, &str); 3] = [("tls.crt", &mismatched.certificate), ("tls.key", "half a k"), ("ca.crt", "")];
    for (serial, (name, text)) in (3..).zip(broken) {
        fs::write(folder.join(name), text).unwrap();
        lab::eventually(name, || egret.get(15000, "/certs").is_some_and(|(_, all)| all.contains("\"problem\"")));
        assert_eq!(ask(&lab, "b.example"), (200, (serial - 2).min(1).to_string()), "another destination");
        let (status, _) = ask(&lab, "a.example");
        assert_eq!(status, 200, "{name}: the last good pair");
        assert_eq!(egret.get(15021, "/healthz/ready").map(|(status, _)| status), Some(200));
        let problems = lab.egret_command(&["secrets", "-o", "json"]).succeeded().stdout;
        assert!(problems.contains(utf8(&folder.join(name))), "{name}: {problems}");
        let fresh = clients.client(serial);
        let root = fs::read_to_string(lab.dir().join("b.example/ca.crt")).unwrap();
        in_place(&folder, &tls_secret(&fresh, &root));
        lab::eventually("the repaired pair is in use", || reported(&egret, &resource) == (serial, None));
        assert_eq!(ask(&lab, "a.example"), (200, serial.to_string()));
    }
    assert!(egret.stderr().contains("the last good credentials stay in use"), "{}", egret.stderr());
}

#[test]
fn credentials_rotate_while_another_file_is_broken() {
    let lab = Lab::new();
    let clients = Issuing::new("clients");
    let (_server, root, [folder, _]) = two_hosts(&lab, &clients);
    let egret = lab.egret(&[]);
    lab.configure("typing-error.yaml", "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nspec: oops\n");
    lab::eventually("the error is reported", || egret.stderr().contains("typing-error.yaml"));
    let fresh = clients.client(2);
    in_place(&folder, &tls_secret(&fresh, &root.pem()));
    lab::eventually("the new pair is in use", || ask(&lab, "a.example") == (200, "2".to_owned()));
    assert_eq!(ask(&lab, "b.example"), (200, "1".to_owned()));
}

/// C24: a session made under one trust is not resumed under another.
#[test]
fn a_ticket_does_not_outlive_the_trust_it_was_given_under() {
    let lab = Lab::new();
    let root = Issuing::new("servers");
    let server = root.issue(&["a.example"], |_| {});
    let config = Arc::new(Shows::pair(&server).config());
    let at = SocketAddr::new(Lab::address(Family::V4, 1), 443);
    // Ends each connection after its answer, so that each request needs a handshake.
    let _server = Server::start(&lab, at, move |socket| {
        let mut http = HttpServer::new(accept(&config, socket)?);
        http.request()?;
        http.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    });
    lab.names.set("a.example", &[at.ip()]);
    let ca = lab.write("a.pem", &root.pem());
    let entry = service_entry("a.example", &[(80, "HTTP", Some(443))]);
    lab.configure("a.yaml", &format!("{entry}---\n{}", simple_tls("a.example", 80, Some(&ca))));
    let egret = lab.egret(&["--workers", "1"]);
    for _ in 0..3 {
        assert_eq!(ask(&lab, "a.example").0, 200);
    }
    let resumed = egret.metric("egret_upstream_tls_resumptions_total");
    assert_eq!(resumed, Some(2.0), "sessions are resumed under one trust");
    lab.write("a.pem", &Issuing::new("strangers").pem());
    lab::eventually("the new trust is in use", || ask(&lab, "a.example").0 == 503);
    let before = egret.metric("egret_upstream_tls_resumptions_total");
    for _ in 0..3 {
        let (status, body) = ask(&lab, "a.example");
        assert!(status == 503 && body.contains("CERTIFICATE_VERIFY_FAILED"), "{status} {body}");
    }
    assert_eq!(egret.metric("egret_upstream_tls_resumptions_total"), before);
}
