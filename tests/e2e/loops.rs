//! Nothing turns in circles and nothing gets past: the proxy's own ports as destinations, and a proxy that is gone.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};

use crate::lab;
use crate::lab::client::HttpClient;
use crate::lab::server::Server;
use crate::lab::{Family, Lab};

/// Every way to write "this pod".
const LOCAL: [&str; 7] = ["127.0.0.1", "127.0.0.2", "0.0.0.0", "10.77.0.2", "::1", "::ffff:127.0.0.1", "fd77::2"];

fn local(port: u16) -> impl Iterator<Item = SocketAddr> {
    LOCAL.into_iter().map(move |text| SocketAddr::new(text.parse::<IpAddr>().unwrap(), port))
}

/// Asks for something and waits for the end; `Err` holds whatever was answered instead of closing.
fn is_closed(connected: io::Result<TcpStream>) -> Result<(), Vec<u8>> {
    let Ok(mut stream) = connected else { return Ok(()) };
    // The proxy may have closed already.
    let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: loop.example\r\n\r\n");
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(b"(open and silent)".to_vec()),
        _ if answer.is_empty() => Ok(()),
        _ => Err(answer),
    }
}

#[test]
fn connections_to_the_proxys_own_port_are_closed() {
    let lab = Lab::new();
    let egret = lab.egret(&[]);
    for at in local(15001) {
        assert_eq!(is_closed(lab.connect(at)), Ok(()), "{at}");
    }
    let before = egret.descriptors();
    for index in 0..1000 {
        let at = local(15001).nth(index % LOCAL.len()).unwrap();
        assert_eq!(is_closed(lab.connect(at)), Ok(()), "{at}");
    }
    lab::eventually("no descriptor is left over", || egret.descriptors() <= before);
    assert_eq!(egret.get(15021, "/healthz/ready").map(|(status, _)| status), Some(200));
}

#[test]
fn the_admin_port_is_there_for_loopback_only() {
    let lab = Lab::new();
    let egret = lab.egret(&[]);
    for at in local(15000).filter(|at| !at.ip().to_canonical().is_loopback() && !at.ip().is_unspecified()) {
        assert_eq!(is_closed(lab.connect(at)), Ok(()), "{at}");
    }
    assert_eq!(egret.get(15000, "/ready").map(|(status, _)| status), Some(200));
}

#[test]
fn redirected_loopback_destinations_are_refused() {
    let lab = Lab::new();
    let listener = lab.pod.enter(|| std::net::TcpListener::bind("127.0.0.9:8080")).unwrap();
    listener.set_nonblocking(true).unwrap();
    lab.egret_command(&["init", "--include-outbound-cidrs", "127.0.0.9/32"]).succeeded();
    let egret = lab.start_egret(&[]);
    let before = egret.descriptors();
    for port in [8080, 15001] {
        for _ in 0..20 {
            let at = SocketAddr::from(([127, 0, 0, 9], port));
            assert_eq!(is_closed(lab.connect(at)), Ok(()), "{at}");
        }
    }
    assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock, "the proxy dialled a local service");
    lab::eventually("no descriptor is left over", || egret.descriptors() <= before);
}

#[test]
fn without_a_proxy_nothing_leaves() {
    let lab = Lab::new();
    let at = |family| SocketAddr::new(Lab::address(family, 1), 80);
    let answer = |mut stream: TcpStream| {
        let _ = stream.read(&mut [0; 1024])?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    };
    let servers = [Family::V4, Family::V6].map(|family| Server::start(&lab, at(family), answer));
    lab.egret_command(&["init"]).succeeded();
    let accepted = || servers.iter().map(Server::accepted).sum::<usize>();
    let refused = |when: &str| {
        for family in [Family::V4, Family::V6] {
            let error = lab.connect(at(family)).expect_err(when);
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{when}");
        }
        accepted()
    };
    assert_eq!(refused("before the proxy starts"), 0);
    let mut egret = lab.start_egret(&[]);
    for family in [Family::V4, Family::V6] {
        let mut client = HttpClient::new(lab.connect(at(family)).unwrap());
        assert_eq!(client.get("any.example", "/").unwrap().body, b"ok");
    }
    let open = lab.connect(at(Family::V4)).unwrap();
    // No entry has the address: it is dialled before the application says anything.
    lab::eventually("the silent connection is carried", || accepted() == 3);
    egret.kill();
    assert_eq!(is_closed(Ok(open)), Ok(()), "connections of a dead proxy end");
    // The kernel takes the rings of a killed process down behind it, and with them the listener of each worker.
    lab::eventually("no listener is left", || {
        [Family::V4, Family::V6].iter().all(|family| lab.connect(at(*family)).is_err())
    });
    assert_eq!(refused("after the proxy died"), 3);
    let _egret = lab.start_egret(&[]);
    let mut client = HttpClient::new(lab.connect(at(Family::V6)).unwrap());
    assert_eq!(client.get("any.example", "/").unwrap().body, b"ok");
}
