//! The calls that implementations of gRPC try on each other, by grpcio (the C core) on both sides: unary, large, streaming,
//! errors, metadata, cancellation, deadlines. Each must end as it would without egret, whatever egret speaks on either side.

use std::fs;
use std::path::{Path, PathBuf};

use crate::lab::documents::{service_entry, simple_tls};
use crate::lab::pki::Leaf;
use crate::lab::process::{self, Kept};
use crate::lab::{Family, Lab, eventually, utf8};

const HOST: &str = "grpc.example";
const CALLS: usize = 14;

/// The interpreter that has grpcio.
fn python() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/python/bin/python3");
    assert!(path.exists(), "{} is not installed: run `make setup`", path.display());
    path
}

fn script(lab: &Lab) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/grpc_interop.py");
    lab.write("grpc_interop.py", &fs::read_to_string(source).unwrap())
}

fn server(lab: &Lab, script: &Path) -> Kept {
    let pair = lab.authority.issue(HOST, Leaf::Good).write(lab.dir(), HOST);
    let address = Lab::address(Family::V4, 1).to_string();
    let at = [utf8(script), "serve", &address, "80", "443", utf8(&pair.certificate), utf8(&pair.key)];
    let mut server = Kept::start(lab.outside.command(utf8(&python()), &at), lab.dir(), "grpc");
    eventually("the server is up", || {
        assert!(server.ended().is_none(), "{}", server.stderr());
        server.stdout().contains("ready")
    });
    server
}

/// Without TLS; with TLS that the client has made; and with TLS that egret makes.
#[test]
fn every_call_ends_as_it_should() {
    let lab = Lab::new();
    lab.names.set(HOST, &[Lab::address(Family::V4, 1)]);
    lab.configure(
        "grpc.yaml",
        &service_entry(HOST, &[(80, "GRPC", None), (81, "GRPC", Some(443)), (443, "TLS", None)]),
    );
    lab.configure("tls.yaml", &simple_tls(HOST, 81, Some(&lab.ca_file())));
    let (script, ca) = (script(&lab), lab.ca_file());
    let server = server(&lab, &script);
    let egret = lab.egret(&[]);
    let at = Lab::address(Family::V4, 1);
    for (port, ca, seen) in [
        (80, None, "\"POST /grpc.testing.TestService/UnaryCall HTTP/2\" 200 - via_upstream".to_owned()),
        (443, Some(&ca), format!("\"{at}:443\" outbound|443||{HOST}")),
        (81, None, "outbound|81||grpc.example".to_owned()),
    ] {
        let target = format!("{HOST}:{port}");
        let mut arguments = vec![utf8(&script), "call", &target];
        arguments.extend(ca.map(|ca| utf8(ca.as_path())));
        // As another user than the proxy's, so that it is redirected.
        let said = process::finish(lab.pod.command(utf8(&python()), &arguments)).succeeded().stdout;
        let faults: Vec<&str> = said.lines().filter(|line| !line.ends_with(" ok")).collect();
        assert!(faults.is_empty() && said.lines().count() == CALLS, "port {port}: {faults:#?}\n{said}");
        egret.log_line(&[&seen]);
    }
    eventually("what a client cancels ends at the server", || server.stdout().matches("cancelled").count() >= 3);
}
