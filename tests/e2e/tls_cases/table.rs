//! The servers of the table: what each shows or says, and what must become of a request to it. Asserts nothing itself.

use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;

use rcgen::{ExtendedKeyUsagePurpose, GeneralSubtree, NameConstraints, SanType, date_time_ymd};
use rustls::ServerConnection;

use crate::lab::credentials::Issuing;
use crate::lab::pki::Pair;
use crate::lab::server::{HttpServer, TlsStream};
use crate::lab::tls_server::{BareServer, Shows, accept};
use crate::lab::{Family, Lab, utf8};

/// In the path and a header of every request: must never cross the link in plain text.
pub const SECRET: &str = "never-in-plain-text";
pub const CERTIFICATE: &str = "CERTIFICATE_VERIFY_FAILED";

pub type Handler = Box<dyn Fn(TcpStream) -> io::Result<()> + Send + Sync>;

/// A server of its own port and host, and what becomes of a request to it.
pub struct Case {
    pub host: &'static str,
    pub serve: Handler,
    /// `tls` fields besides mode and caCertificates.
    pub tls: String,
    pub status: u16,
    /// In the answer and in the log line.
    pub reason: &'static str,
}

fn case(host: &'static str, status: u16, reason: &'static str, serve: Handler) -> Case {
    Case { host, serve, tls: String::new(), status, reason }
}

pub fn address(number: usize) -> SocketAddr {
    SocketAddr::new(Lab::address(Family::V4, 1), 20_000 + u16::try_from(number).unwrap())
}

pub fn ok(stream: TlsStream) -> io::Result<()> {
    let mut http = HttpServer::new(stream);
    while http.request()?.is_some() {
        http.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
    }
    Ok(())
}

/// A proper server with this certificate.
pub fn proper(shows: &Shows) -> Handler {
    let config = Arc::new(shows.config());
    Box::new(move |socket| ok(accept(&config, socket)?))
}

pub fn showing(pair: &Pair) -> Handler {
    proper(&Shows::pair(pair))
}

/// Sends these bytes as soon as a connection is there, and nothing afterwards.
fn says_first(bytes: &'static [u8]) -> Handler {
    Box::new(move |mut socket| {
        socket.write_all(bytes)?;
        io::copy(&mut socket, &mut io::sink()).map(drop)
    })
}

/// Handshakes, reads the beginning of a request, then sends records that no TLS library would.
fn bare(shows: Shows, then: fn(&mut BareServer) -> io::Result<()>) -> Handler {
    Box::new(move |socket| {
        let mut server = BareServer::accept(&shows, socket)?;
        then(&mut server)?;
        server.linger()
    })
}

const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const ALERT: u8 = 21;
pub const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// C1 to C12: what a certificate must be.
fn certificates(ca: &Issuing) -> Vec<Case> {
    let san = |name: &'static str| {
        move |params: &mut rcgen::CertificateParams| {
            params.subject_alt_names = vec![SanType::DnsName(name.try_into().expect("ASCII"))];
        }
    };
    let refused = |host, reason, pair: Pair| case(host, 503, reason, showing(&pair));
    let constrained = ca.below("constrained", |params| {
        let permitted_subtrees = vec![GeneralSubtree::DnsName("elsewhere.example".to_owned())];
        params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
    });
    let leaf = constrained.issue(&["c12.example"], |_| {});
    let below = Pair { certificate: leaf.certificate.clone() + &constrained.pem(), key: leaf.key };
    let stranger = Issuing::new("a root that nobody trusts");
    vec![
        case("c1.example", 200, "", showing(&ca.issue(&["c1.example"], |_| {}))),
        refused("c2.example", "expired", ca.issue(&["c2.example"], |p| p.not_after = date_time_ymd(2001, 1, 1))),
        refused("c3.example", CERTIFICATE, ca.issue(&["c3.example"], |p| p.not_before = date_time_ymd(4000, 1, 1))),
        refused("c4.example", CERTIFICATE, stranger.issue(&["c4.example"], |_| {})),
        refused("c5.example", "other.example", ca.issue(&["other.example"], |_| {})),
        refused("c6.example", "no subjectAltName", ca.issue(&[], |_| {})),
        refused("a.b.c7.example", "name mismatch", ca.issue(&["*.c7.example"], |_| {})),
        case("b.c7.example", 200, "", showing(&ca.issue(&["*.c7.example"], |_| {}))),
        refused("foo.c8.example", CERTIFICATE, ca.issue(&[], san("f*.c8.example"))),
        refused("c9.example", CERTIFICATE, ca.issue(&[], san("c9.example\0.evil.example"))),
        refused("c10.example", CERTIFICATE, ca.issue(&["203.0.113.1"], |_| {})),
        refused(
            "c11.example",
            CERTIFICATE,
            ca.issue(&["c11.example"], |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
        ),
        refused("c12.example", CERTIFICATE, below),
    ]
}

/// C13 to C15: revocation lists.
fn revocation(lab: &Lab, ca: &Issuing) -> Vec<Case> {
    let middle = ca.below("middle", |params| params.serial_number = Some(77.into()));
    let leaf = |host: &str| ca.issue(&[host], |params| params.serial_number = Some(42.into()));
    let chained = {
        let leaf = middle.issue(&["c14.example"], |_| {});
        Pair { certificate: leaf.certificate.clone() + &middle.pem(), key: leaf.key }
    };
    let with = |host: &'static str, status, reason, list: &str, pair: Pair| Case {
        tls: format!("caCrl: {}", utf8(&lab.write(&format!("{host}.crl"), list))),
        ..case(host, status, reason, showing(&pair))
    };
    let both = middle.crl(&[], 2100) + &ca.crl(&[77], 2100);
    vec![
        with("c13.example", 503, "revoked", &ca.crl(&[42], 2100), leaf("c13.example")),
        with("c13-other.example", 200, "", &ca.crl(&[43], 2100), leaf("c13-other.example")),
        with("c14.example", 503, "revoked", &both, chained),
        with("c15-old.example", 503, CERTIFICATE, &ca.crl(&[], 2001), leaf("c15-old.example")),
        with("c15-issuer.example", 503, CERTIFICATE, &Issuing::new("x").crl(&[], 2100), leaf("c15-issuer.example")),
        with("c15-garbage.example", 503, "revocation list", "garbage", leaf("c15-garbage.example")),
    ]
}

/// C16, C17, C31, C32: what happens before or instead of a handshake.
fn handshakes(ca: &Issuing) -> Vec<Case> {
    let early = Arc::new(Shows::pair(&ca.issue(&["c17.example"], |_| {})).config());
    let stalled = Arc::new(Shows::pair(&ca.issue(&["c31.example"], |_| {})).config());
    vec![
        case("c16.example", 503, "plain HTTP, not TLS", says_first(ANSWER)),
        // CVE-2026-1642: an answer in plain text, then TLS as it should be.
        case(
            "c17.example",
            503,
            "plain HTTP, not TLS",
            Box::new(move |mut socket| {
                socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nplanted")?;
                ok(accept(&early, socket)?)
            }),
        ),
        // The beginning of the server's first flight, and nothing more.
        case(
            "c31.example",
            503,
            "not finished within",
            Box::new(move |mut socket| {
                let mut connection = ServerConnection::new(Arc::clone(&stalled)).map_err(io::Error::other)?;
                let mut flight = Vec::new();
                while flight.is_empty() {
                    connection.read_tls(&mut socket)?;
                    connection.process_new_packets().map_err(io::Error::other)?;
                    while connection.wants_write() {
                        connection.write_tls(&mut flight)?;
                    }
                }
                socket.write_all(&flight[..flight.len().min(150)])?;
                io::copy(&mut socket, &mut io::sink()).map(drop)
            }),
        ),
        case("c32-fatal.example", 503, "SSLV3_ALERT_HANDSHAKE_FAILURE", says_first(&[21, 3, 3, 0, 2, 2, 40])),
        case("c32-close.example", 503, "not finished within", says_first(&[21, 3, 3, 0, 2, 1, 0])),
        case("c32-unknown.example", 503, "alert 199", says_first(&[21, 3, 3, 0, 2, 2, 199])),
        case(
            "c32-fin.example",
            503,
            "closed the connection during the TLS handshake",
            Box::new(|mut socket| {
                socket.shutdown(Shutdown::Write)?;
                io::copy(&mut socket, &mut io::sink()).map(drop)
            }),
        ),
        case("c32-ssh.example", 503, "SSH", says_first(b"SSH-2.0-OpenSSH_9.6\r\n")),
    ]
}

/// C34 to C36: what is negotiated, and how much a certificate may hold.
fn negotiation(ca: &Issuing) -> Vec<Case> {
    let pair = |host: &str| Shows::pair(&ca.issue(&[host], |_| {}));
    let wanting = |host| Shows { clients: Some(Issuing::new("clients").pem()), ..pair(host) };
    let alpn = |host, alpn: &[&'static str]| Shows { alpn: alpn.to_vec(), ..pair(host) };
    let many = |host: &str, count: usize| {
        let names: Vec<String> = (0..count).map(|n| format!("n{n}.example")).chain([host.to_owned()]).collect();
        ca.issue(&names.iter().map(String::as_str).collect::<Vec<_>>(), |_| {})
    };
    let no_client = "asked for a client certificate and none is configured";
    vec![
        case("c34.example", 503, no_client, proper(&wanting("c34.example"))),
        case("c34-12.example", 503, no_client, proper(&Shows { tls12_only: true, ..wanting("c34-12.example") })),
        case("c35-none.example", 200, "", proper(&alpn("c35-none.example", &[]))),
        case("c35-h1.example", 200, "", proper(&alpn("c35-h1.example", &["h2", "http/1.1"]))),
        case("c35-h2.example", 503, "NO_APPLICATION_PROTOCOL", proper(&alpn("c35-h2.example", &["h2"]))),
        case("c36-large.example", 200, "", showing(&many("c36-large.example", 2000))),
        case("c36-huge.example", 503, "EXCESSIVE_MESSAGE_SIZE", showing(&many("c36-huge.example", 10_000))),
    ]
}

/// C28, C29: floods after the handshake.
fn floods(ca: &Issuing) -> Vec<Case> {
    let pair = |host: &str| Shows::pair(&ca.issue(&[host], |_| {}));
    let tickets = |host: &str, count| -> Handler {
        let mut config = pair(host).config();
        config.send_tls13_tickets = count;
        let config = Arc::new(config);
        Box::new(move |socket| ok(accept(&config, socket)?))
    };
    vec![
        case("c28-tickets.example", 200, "", tickets("c28-tickets.example", 64)),
        case("c28-flood.example", 503, "EXCESSIVE_MESSAGE_SIZE", tickets("c28-flood.example", 2000)),
        // A CertificateRequest, which was not offered (RFC 8446 §4.6.2).
        case(
            "c28-request.example",
            503,
            "UNEXPECTED_MESSAGE",
            bare(pair("c28-request.example"), |server| {
                let record = server.record(HANDSHAKE, &[13, 0, 0, 3, 0, 0, 0]);
                server.send(&record)
            }),
        ),
        case(
            "c29.example",
            503,
            "TLS_error",
            bare(pair("c29.example"), |server| {
                for _ in 0..100_000 {
                    let record = server.record(APPLICATION_DATA, b"");
                    server.send(&record)?;
                }
                Ok(())
            }),
        ),
    ]
}

/// C30 and its kin: single records.
fn records(ca: &Issuing) -> Vec<Case> {
    let pair = |host: &str| Shows::pair(&ca.issue(&[host], |_| {}));
    vec![
        case(
            "c30.example",
            503,
            "DATA_LENGTH_TOO_LONG",
            bare(pair("c30.example"), |server| server.send(&[&[23, 3, 3, 0x48, 0x01][..], &[0; 0x4801]].concat())),
        ),
        case(
            "bad-record.example",
            503,
            "DECRYPTION_FAILED_OR_BAD_RECORD_MAC",
            bare(pair("bad-record.example"), |server| {
                let mut record = server.record(APPLICATION_DATA, ANSWER);
                record[9] ^= 1;
                server.send(&record)
            }),
        ),
        case(
            "alert-after.example",
            503,
            "TLSV1_ALERT_ACCESS_DENIED",
            bare(pair("alert-after.example"), |server| {
                let record = server.record(ALERT, &[2, 49]);
                server.send(&record)
            }),
        ),
        // Records of one byte each are unusual, no more.
        case(
            "tiny-records.example",
            200,
            "",
            bare(pair("tiny-records.example"), |server| {
                let records: Vec<u8> =
                    ANSWER.iter().flat_map(|byte| server.record(APPLICATION_DATA, &[*byte])).collect();
                server.send(&records)
            }),
        ),
    ]
}

/// Every case, with certificates of `ca`.
pub fn all(lab: &Lab, ca: &Issuing) -> Vec<Case> {
    let cases = [certificates(ca), revocation(lab, ca), handshakes(ca), negotiation(ca), floods(ca), records(ca)];
    cases.into_iter().flatten().collect()
}
