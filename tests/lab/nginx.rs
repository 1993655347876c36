//! A real nginx outside, with a log that tells which connection carried which request.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::pki::PairFiles;
use super::process::Kept;
use super::{Lab, eventually, utf8};

pub struct Nginx {
    process: Kept,
    log: PathBuf,
    errors: PathBuf,
}

/// One request as nginx saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// nginx's number of the connection.
    pub connection: u64,
    pub request: String,
    pub status: u16,
    /// `TLSv1.3`, or `-` for plain HTTP.
    pub tls: String,
    pub sni: String,
    pub host: String,
}

impl Nginx {
    /// Starts nginx with these `server` blocks and waits until it accepts connections on `ready`.
    pub fn start(lab: &Lab, servers: &str, ready: SocketAddr) -> Nginx {
        let log = lab.dir().join("nginx.access");
        let errors = lab.dir().join("nginx.error");
        let config = lab.write("nginx.conf", &configuration(lab.dir(), servers));
        let arguments = ["--pdeathsig=TERM", "--", "nginx", "-e", utf8(&errors), "-c", utf8(&config)];
        let mut process = Kept::start(lab.outside.command("setpriv", &arguments), lab.dir(), "nginx");
        eventually("nginx accepts connections", || {
            assert!(process.ended().is_none(), "nginx ended: {}", fs::read_to_string(&errors).unwrap_or_default());
            lab.outside.enter(|| std::net::TcpStream::connect(ready)).is_ok()
        });
        Nginx { process, log, errors }
    }

    /// Every request so far, in the order in which they ended.
    pub fn seen(&self) -> Vec<Seen> {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        // The last line may be half written.
        let whole = log.rsplit_once('\n').map_or("", |(lines, _)| lines);
        whole.lines().map(parse_line).collect()
    }

    /// Requests carried by each connection.
    pub fn connections(&self) -> BTreeMap<u64, usize> {
        let mut count = BTreeMap::new();
        for seen in self.seen() {
            *count.entry(seen.connection).or_default() += 1;
        }
        count
    }

    pub fn errors(&self) -> String {
        fs::read_to_string(&self.errors).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // SIGTERM, not SIGKILL: the master takes its workers with it.
        self.process.end_with_children();
    }
}

/// A site over TLS on `address`:443 (HTTP/1.1 and h2) and, on port 80, the redirect to it.
pub fn site(address: std::net::IpAddr, pair: &PairFiles, protocols: &str) -> String {
    let at = |port: u16| SocketAddr::new(address, port);
    format!(
        "server {{ listen {}; location / {{ return 301 https://$host$request_uri; }} }}\n{}",
        at(80),
        secure(at(443), pair, protocols, r#"location / { return 200 "secure $uri $host\n"; }"#),
    )
}

/// A TLS `server` block of its own contents.
pub fn secure(at: SocketAddr, pair: &PairFiles, protocols: &str, contents: &str) -> String {
    let (certificate, key) = (utf8(&pair.certificate), utf8(&pair.key));
    format!(
        "server {{ listen {at} ssl http2; ssl_protocols {protocols}; ssl_certificate {certificate}; \
         ssl_certificate_key {key}; {contents} }}\n"
    )
}

fn configuration(folder: &Path, servers: &str) -> String {
    let folder = utf8(folder);
    format!(
        "user root; daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.error;
events {{ worker_connections 8192; }}
worker_rlimit_nofile 20000;
http {{
  log_format lab '$connection\t$request\t$status\t$ssl_protocol\t$ssl_server_name\t$http_host';
  access_log {folder}/nginx.access lab;
  default_type text/plain;
  keepalive_requests 10000000;
  keepalive_timeout 3600;
  client_body_temp_path {folder}/nginx-body; proxy_temp_path {folder}/nginx-proxy;
  fastcgi_temp_path {folder}/nginx-fastcgi; uwsgi_temp_path {folder}/nginx-uwsgi; scgi_temp_path {folder}/nginx-scgi;
{servers}}}
"
    )
}

fn parse_line(line: &str) -> Seen {
    let fields: Vec<&str> = line.split('\t').collect();
    let [connection, request, status, tls, sni, host] = fields[..] else {
        panic!("not a line of the lab's nginx log: {line:?}")
    };
    let owned = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    Seen {
        connection: connection.parse().expect("nginx numbers its connections"),
        request: request.to_owned(),
        status: status.parse().expect("a status code"),
        tls: owned(tls),
        sni: owned(sni),
        host: owned(host),
    }
}
