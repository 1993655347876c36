//! The configuration of Istio's egress pages as the tests use it: the page's own YAML, with the host, and the lab's
//! root certificate where the page trusts the operating system.

use std::fmt::Write;
use std::path::Path;

/// A ServiceEntry port: number, protocol, targetPort.
pub type Port<'a> = (u16, &'a str, Option<u16>);

/// Access to a host on 80 and 443, the page's first step.
pub fn access(host: &str) -> String {
    service_entry(host, &[(80, "HTTP", None), (443, "HTTPS", None)])
}

/// TLS origination for port 80, the page's second step. `ca: None` trusts the operating system's roots.
pub fn origination(host: &str, ca: Option<&Path>) -> String {
    let entry = service_entry(host, &[(80, "HTTP", Some(443)), (443, "HTTPS", None)]);
    format!("{entry}---\n{}", simple_tls(host, 80, ca))
}

pub fn service_entry(host: &str, ports: &[Port<'_>]) -> String {
    let mut yaml = format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: {}
spec:
  hosts:
  - {host}
  ports:
",
        object_name(host)
    );
    for (number, protocol, target) in ports {
        let name = format!("{}-{number}", protocol.to_lowercase());
        let written = write!(yaml, "  - number: {number}\n    name: {name}\n    protocol: {protocol}\n");
        written.expect("a string grows");
        if let Some(target) = target {
            writeln!(yaml, "    targetPort: {target}").expect("a string grows");
        }
    }
    yaml + "  resolution: DNS\n"
}

/// A TCP port of fixed addresses, for protocols that are not HTTP.
pub fn static_tcp(host: &str, address: std::net::IpAddr, port: u16) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: {}
spec:
  hosts:
  - {host}
  addresses:
  - {address}
  ports:
  - number: {port}
    name: tcp-{port}
    protocol: TCP
  resolution: STATIC
  endpoints:
  - address: {address}
",
        object_name(host)
    )
}

/// A DestinationRule that originates TLS for one port.
pub fn simple_tls(host: &str, port: u16, ca: Option<&Path>) -> String {
    let ca = ca.map_or(String::new(), |path| format!("        caCertificates: {}\n", path.display()));
    format!(
        "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: {}
spec:
  host: {host}
  trafficPolicy:
    portLevelSettings:
    - port:
        number: {port}
      tls:
        mode: SIMPLE # initiates HTTPS when accessing {host}
{ca}",
        object_name(host)
    )
}

fn object_name(host: &str) -> String {
    host.replace('.', "-")
}
