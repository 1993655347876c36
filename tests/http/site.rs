//! One host behind one DestinationRule, and the servers that a test makes for it.

use std::io;
use std::net::{SocketAddr, TcpStream};

use crate::lab::client::HttpClient;
use crate::lab::documents::service_entry;
use crate::lab::server::{HttpServer, Server};
use crate::lab::{Family, Lab};

pub const HOST: &str = "site.example";

#[allow(dead_code, reason = "not every test looks at the server")]
pub struct Site {
    pub lab: Lab,
    pub server: Server,
}

impl Site {
    /// `pool` is the content of `connectionPool` in YAML's flow form, such as `{tcp: {maxConnections: 1}}`; `{}` for none.
    pub fn new<H>(pool: &str, handler: H) -> Site
    where
        H: Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
    {
        let lab = Lab::new();
        lab.names.set(HOST, &[Lab::address(Family::V4, 1)]);
        lab.configure("site.yaml", &service_entry(HOST, &[(80, "HTTP", None)]));
        if pool != "{}" {
            lab.configure("rule.yaml", &rule(pool));
        }
        let server = Server::start(&lab, SocketAddr::new(Lab::address(Family::V4, 1), 80), handler);
        Site { lab, server }
    }

    pub fn open(&self) -> HttpClient {
        HttpClient::new(self.lab.connect(SocketAddr::new(Lab::address(Family::V4, 9), 80)).unwrap())
    }
}

pub fn rule(pool: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: site
spec:
  host: {HOST}
  trafficPolicy:
    connectionPool: {pool}
"
    )
}

/// Answers every request with 200 and `fields`.
pub fn answering(fields: &'static str) -> impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static {
    move |stream| {
        let mut server = HttpServer::new(stream);
        while server.request()?.is_some() {
            server.send(format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok").as_bytes())?;
        }
        Ok(())
    }
}
