//! TLS sessions against `openssl s_server` over loopback: another implementation, the document's own certificates
//! (X.509 v1), client certificates, key types, key updates. Needs the `openssl` command and fails without it.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use egret::flow::Host;
use egret::io::{ConnectOptions, Engine, EngineKind, EngineOptions, Lease, Socket};
use egret::tls::{
    Alpn, ClientProfile, IdentitySource, NameCheck, ProfileMode, ProfileRequest, Session, SniSource, Store,
    StoreOptions, TlsError, TrustSource,
};
use egret::upstream::Stream;

const HOST: &str = "my-nginx.mesh-external.svc.cluster.local";
const EC: &str = "ec|-pkeyopt|ec_paramgen_curve:P-256";

/// A folder with certificates; `openssl` runs in it.
struct Pki(tempfile::TempDir);

impl Pki {
    /// The document's root: `example.com.crt`, `example.com.key`.
    fn new() -> Self {
        let pki = Self(tempfile::tempdir().unwrap());
        pki.openssl("req|-x509|-sha256|-nodes|-days|365|-newkey|rsa:2048|-subj|/O=example Inc./CN=example.com|-keyout|example.com.key|-out|example.com.crt");
        pki
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl").args(arguments.split('|')).current_dir(self.0.path()).output();
        let output = output.expect("the openssl command is needed here");
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A leaf by the document's commands: version 1 unless `extensions` make it version 3.
    fn leaf(&self, name: &str, common_name: &str, key: &str, extensions: &str) {
        self.openssl(&format!(
            "req|-out|{name}.csr|-newkey|{key}|-nodes|-keyout|{name}.key|-subj|/CN={common_name}/O=some organization"
        ));
        let sign = format!(
            "x509|-req|-sha256|-days|365|-CA|example.com.crt|-CAkey|example.com.key|-set_serial|0|-in|{name}.csr|-out|{name}.crt"
        );
        if extensions.is_empty() {
            return self.openssl(&sign);
        }
        std::fs::write(self.path("san.ext"), extensions).unwrap();
        self.openssl(&format!("{sign}|-extfile|san.ext"));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// `openssl s_server` on a free port; ends with the test.
struct Server {
    child: Child,
    input: ChildStdin,
    addr: SocketAddr,
}

impl Server {
    fn start(folder: &Path, leaf: &str, options: &str) -> Self {
        let mut command = Command::new("openssl");
        command.args([
            "s_server",
            "-accept",
            "127.0.0.1:0",
            "-cert",
            &format!("{leaf}.crt"),
            "-key",
            &format!("{leaf}.key"),
        ]);
        command.args(options.split_whitespace()).current_dir(folder);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the openssl command is needed here");
        let input = child.stdin.take().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let accept = output.by_ref().map_while(Result::ok).find(|line| line.starts_with("ACCEPT"));
        let accept = accept.unwrap_or_else(|| panic!("s_server {options} did not start"));
        // Nobody may block it by not reading what it prints.
        std::thread::spawn(move || output.for_each(drop));
        let addr = accept.rsplit(' ').next().unwrap().parse().unwrap();
        Self { child, input, addr }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A session over a blocking socket.
struct Client {
    stream: TcpStream,
    session: Session,
    received: Vec<u8>,
}

impl Client {
    fn connect(addr: SocketAddr, profile: &ClientProfile) -> Result<Self, TlsError> {
        Self::with(addr, profile, &profile.client_config())
    }

    fn with(addr: SocketAddr, profile: &ClientProfile, config: &Arc<rustls::ClientConfig>) -> Result<Self, TlsError> {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let name = profile.server_name(&Host::Name(HOST.parse().unwrap())).unwrap();
        let session = Session::new(config, name)?;
        let mut client = Self { stream, session, received: Vec::new() };
        while client.session.is_handshaking() {
            client.turn()?;
        }
        client.flush();
        Ok(client)
    }

    /// Sends what waits, then takes in what arrives next.
    fn turn(&mut self) -> Result<(), TlsError> {
        self.flush();
        let mut wire = [0; 3000];
        let length = match self.stream.read(&mut wire) {
            Ok(0) => return self.session.end().and(Err(TlsError::Truncated)),
            Ok(length) => length,
            Err(error) => panic!("the server neither answers nor closes: {error}"),
        };
        let mut plaintext = VecDeque::new();
        let result = self.session.open(Lease::from_vec(wire[..length].to_vec()), &mut plaintext);
        for lease in &plaintext {
            self.received.extend_from_slice(lease);
        }
        self.flush();
        result
    }

    fn flush(&mut self) {
        let mut out = Vec::new();
        self.session.take_output(&mut out);
        // A server that is gone shows in what is read next.
        let _ = self.stream.write_all(&out);
    }

    fn send(&mut self, data: &[u8]) -> Result<(), TlsError> {
        let mut out = Vec::new();
        self.session.seal(&[data], &mut out)?;
        let _ = self.stream.write_all(&out);
        Ok(())
    }

    fn read_until(&mut self, end: &[u8]) -> Result<Vec<u8>, TlsError> {
        while !self.received.ends_with(end) {
            self.turn()?;
        }
        Ok(std::mem::take(&mut self.received))
    }

    /// A line there and, from `s_server -rev`, back to front again.
    fn echo(&mut self) -> Result<(), TlsError> {
        self.send(b"hello\n")?;
        let answer = self.read_until(b"\n")?;
        assert_eq!(answer, b"olleh\n");
        Ok(())
    }
}

fn request(pki: &Pki, names: NameCheck) -> ProfileRequest {
    ProfileRequest {
        mode: ProfileMode::Simple,
        trust: TrustSource::File { ca: pki.path("example.com.crt"), crl: None },
        identity: None,
        names,
        sni: SniSource::FromHost,
        alpn: Alpn::HTTP1,
    }
}

fn mutual(pki: &Pki, leaf: &str) -> ProfileRequest {
    let files = IdentitySource::Files { cert: pki.path(&format!("{leaf}.crt")), key: pki.path(&format!("{leaf}.key")) };
    ProfileRequest { mode: ProfileMode::Mutual, identity: Some(files), ..request(pki, NameCheck::ChainOnly) }
}

fn profile(request: &ProfileRequest) -> Arc<ClientProfile> {
    Store::new(StoreOptions::default(), &[]).profile(request).unwrap()
}

fn reason(result: Result<(), TlsError>) -> String {
    result.expect_err("the session was accepted").to_string()
}

#[test]
fn the_documents_server_is_accepted_where_only_the_chain_counts() {
    let pki = Pki::new();
    pki.leaf("server", HOST, "rsa:2048", "");
    for version in ["-tls1_3", "-tls1_2"] {
        let server = Server::start(pki.0.path(), "server", &format!("-rev {version}"));
        let mut client = Client::connect(server.addr, &profile(&request(&pki, NameCheck::ChainOnly))).unwrap();
        client.echo().unwrap();
        // s_server serves one connection at a time.
        drop(client);
        let refused = Client::connect(server.addr, &profile(&request(&pki, NameCheck::FromHost))).map(drop);
        let reason = reason(refused);
        assert!(reason.contains("CERTIFICATE_VERIFY_FAILED") && reason.contains("X.509 v1, CN only"), "{reason}");
    }
}

#[test]
fn every_kind_of_server_key_works_in_version_1_and_3() {
    let pki = Pki::new();
    let san = format!("subjectAltName=DNS:{HOST}\n");
    for (name, key) in
        [("p256", EC), ("p384", "ec|-pkeyopt|ec_paramgen_curve:P-384"), ("ed25519", "ed25519"), ("rsa", "rsa:3072")]
    {
        for (extensions, names) in [("", NameCheck::ChainOnly), (san.as_str(), NameCheck::FromHost)] {
            pki.leaf(name, HOST, key, extensions);
            for version in ["-tls1_3", "-tls1_2"] {
                let server = Server::start(pki.0.path(), name, &format!("-rev {version}"));
                let echo =
                    Client::connect(server.addr, &profile(&request(&pki, names.clone()))).and_then(|mut c| c.echo());
                assert_eq!(echo, Ok(()), "{name} {version} {names:?}");
            }
        }
    }
}

#[test]
fn client_certificates_of_version_1_and_every_key_are_accepted_and_a_missing_one_is_explained() {
    let pki = Pki::new();
    pki.leaf("server", HOST, EC, "");
    for (name, key) in
        [("rsa", "rsa:2048"), ("p256", EC), ("p384", "ec|-pkeyopt|ec_paramgen_curve:P-384"), ("ed25519", "ed25519")]
    {
        pki.leaf(name, "client.example.com", key, "");
        for version in ["-tls1_3", "-tls1_2"] {
            let options = format!("-rev {version} -Verify 2 -verify_return_error -CAfile example.com.crt");
            let server = Server::start(pki.0.path(), "server", &options);
            let echo = Client::connect(server.addr, &profile(&mutual(&pki, name))).and_then(|mut c| c.echo());
            assert_eq!(echo, Ok(()), "{name} {version}");
            let none = profile(&request(&pki, NameCheck::ChainOnly));
            let reason = reason(Client::connect(server.addr, &none).and_then(|mut c| c.echo()));
            assert!(reason.contains("asked for a client certificate and none is configured"), "{version}: {reason}");
        }
    }
}

#[test]
fn key_updates_asked_for_by_openssl_are_answered() {
    let pki = Pki::new();
    pki.leaf("server", HOST, EC, "");
    let mut server = Server::start(pki.0.path(), "server", "-tls1_3");
    let mut client = Client::connect(server.addr, &profile(&request(&pki, NameCheck::ChainOnly))).unwrap();
    let mut say = |line: &str| server.input.write_all(line.as_bytes()).and_then(|()| server.input.flush()).unwrap();
    for round in 0..40 {
        let line = format!("line {round}\n");
        say(&line);
        assert_eq!(client.read_until(b"\n").unwrap(), line.as_bytes());
        // `K` asks for an update of both directions, `k` announces one; s_server takes one command at a read.
        say(if round % 2 == 0 { "K\n" } else { "k\n" });
        client.turn().unwrap();
        assert!(client.received.is_empty(), "a key update is no data");
        client.send(b"x\n").unwrap();
    }
}

#[test]
fn every_cipher_of_openssl_that_is_offered_carries_data() {
    let pki = Pki::new();
    pki.leaf("ec", HOST, EC, "");
    pki.leaf("rsa", HOST, "rsa:2048", "");
    let suites = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];
    let ciphers = ["AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305"];
    let new = suites.map(|suite| ("ec", format!("-tls1_3 -ciphersuites {suite}")));
    let ec = ciphers.map(|cipher| ("ec", format!("-tls1_2 -cipher ECDHE-ECDSA-{cipher}")));
    let rsa = ciphers.map(|cipher| ("rsa", format!("-tls1_2 -cipher ECDHE-RSA-{cipher}")));
    let line: Vec<u8> = (0..15_000).map(|index| b'a' + (index % 26) as u8).collect();
    for (leaf, options) in [new, ec, rsa].concat() {
        let server = Server::start(pki.0.path(), leaf, &format!("-rev {options}"));
        let mut client = Client::connect(server.addr, &profile(&request(&pki, NameCheck::ChainOnly))).unwrap();
        for _ in 0..4 {
            client.send(&[&line[..], b"\n"].concat()).unwrap();
            let answer = client.read_until(b"\n").unwrap();
            assert!(answer[..line.len()].iter().eq(line.iter().rev()), "{options}");
        }
        client.echo().unwrap();
    }
}

#[test]
fn sessions_resume_with_openssl_under_one_configuration() {
    let pki = Pki::new();
    pki.leaf("server", HOST, EC, "");
    for version in ["-tls1_3", "-tls1_2"] {
        let server = Server::start(pki.0.path(), "server", &format!("-rev {version}"));
        let profile = profile(&request(&pki, NameCheck::ChainOnly));
        let config = profile.client_config();
        for resumed in [false, true, true] {
            let mut client = Client::with(server.addr, &profile, &config).unwrap();
            client.echo().unwrap();
            assert_eq!(client.session.negotiated().resumed, resumed, "{version}");
        }
        assert!(!Client::connect(server.addr, &profile).unwrap().session.negotiated().resumed);
    }
}

#[test]
fn servers_that_are_too_old_or_refuse_us_are_named_so() {
    let pki = Pki::new();
    pki.leaf("server", HOST, "rsa:2048", "");
    pki.leaf("client", "client.example.com", EC, "");
    pki.openssl(&format!("req|-x509|-nodes|-days|2|-newkey|{EC}|-subj|/CN=other|-keyout|other.key|-out|other.crt"));
    for (options, wanted) in [
        ("-tls1_1 -cipher ALL:@SECLEVEL=0", "PROTOCOL_VERSION"),
        ("-tls1_2 -cipher AES128-SHA:@SECLEVEL=0", "SSLV3_ALERT_HANDSHAKE_FAILURE"),
        ("-Verify 2 -verify_return_error -CAfile other.crt", "TLSV1_ALERT_UNKNOWN_CA"),
    ] {
        let server = Server::start(pki.0.path(), "server", &format!("-rev {options}"));
        let reason = reason(Client::connect(server.addr, &profile(&mutual(&pki, "client"))).and_then(|mut c| c.echo()));
        assert!(reason.contains(wanted), "{options}: {reason}");
    }
}

/// IIS asks so for the client certificates of some paths: the log must not say that it merely closed.
#[test]
fn a_server_that_wants_another_handshake_and_ends_is_named_so() {
    let pki = Pki::new();
    pki.leaf("server", HOST, EC, "");
    let mut server = Server::start(pki.0.path(), "server", "-tls1_2");
    let profile = profile(&request(&pki, NameCheck::ChainOnly));
    let (addr, config) = (server.addr, profile.client_config());
    let name = profile.server_name(&Host::Name(HOST.parse().unwrap())).unwrap();
    let mut say = |line: &str| server.input.write_all(line.as_bytes()).and_then(|()| server.input.flush()).unwrap();
    let mut engine = Engine::new(EngineOptions { kind: EngineKind::Epoll, ..EngineOptions::default() }).unwrap();
    let error = engine.run(async {
        let socket = Socket::connect(addr, &ConnectOptions::default()).await.unwrap();
        let stream = Stream::handshake(socket, &config, name).await.unwrap();
        stream.send(b"hello\n".to_vec()).unwrap().await.unwrap();
        // It is answered, and so nothing is amiss.
        say("hello\n");
        assert_eq!(&*stream.recv().await.unwrap().unwrap(), b"hello\n");
        // `r` asks for another handshake; without one the server ends the connection, by itself or because it is told to.
        say("r\n");
        let ended = async { stream.recv().await.map(|bytes| bytes.is_none()) };
        let told = async {
            egret::io::sleep(Duration::from_millis(500)).await;
            say("Q\n");
            std::future::pending().await
        };
        futures_lite::future::or(ended, told).await.expect_err("it says why").to_string()
    });
    assert!(error.contains("NO_RENEGOTIATION") && error.contains("client certificate"), "{error}");
}
