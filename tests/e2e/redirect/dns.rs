//! DNS in the rules: whose questions come to the proxy, and how they are proven.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use hickory_proto::op::Message;

use super::pod::{self, APP, PROXY, Pod};
use super::{BACKENDS, file};

/// Name servers outside, on both families, and one inside the pod.
const SERVERS: &str = "10.77.1.1,fd77:1::1,127.0.0.53";

fn outside(pod: &Pod, at: &'static str) -> UdpSocket {
    let socket = pod.outside(move || UdpSocket::bind(at).unwrap());
    socket.set_read_timeout(Some(pod::PATIENCE)).unwrap();
    socket
}

/// What comes next, and from whom. Another test's thread that changes its user interrupts a receive that has a time limit.
fn received(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    loop {
        match socket.recv_from(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

/// A question of `client` to `server` that comes to `listener`, and its answer.
fn is_captured(client: &UdpSocket, server: &str, listener: &UdpSocket) {
    let mut buffer = [0; 16];
    client.send_to(b"question", server).unwrap();
    let (_, from) = received(listener, &mut buffer).expect("the question is captured");
    listener.send_to(b"answer", from).unwrap();
    let (length, from) = received(client, &mut buffer).expect("the answer comes back");
    assert_eq!((&buffer[..length], from), (&b"answer"[..], server.parse().unwrap()));
}

/// How a question fails that must not be answered.
fn asked(app: &UdpSocket) -> ErrorKind {
    loop {
        match app.send(b"question").and_then(|_| app.recv(&mut [0; 16])) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            answer => return answer.unwrap_err().kind(),
        }
    }
}

#[test]
fn questions_to_the_pods_name_servers_are_captured_and_the_proxys_own_go_out() {
    for backend in BACKENDS {
        let pod = Pod::new();
        pod.must_init(&["--backend", backend, "--capture-dns", "--dns-servers", SERVERS]);
        let (v4, v6) = (pod.udp(PROXY, "127.0.0.1:15053"), pod.udp(PROXY, "[::1]:15053"));
        for (server, own, listener) in [
            ("10.77.1.1:53", "10.77.1.2:5300", &v4),
            ("127.0.0.53:53", "127.0.0.1:5301", &v4),
            ("[fd77:1::1]:53", "[fd77:1::2]:5302", &v6),
        ] {
            is_captured(&pod.udp(APP, own), server, listener);
        }
        for (own, server, at) in [
            ("10.77.1.2:5300", "10.77.1.1:53", "10.77.1.1:53"),
            ("[fd77:1::2]:5302", "[fd77:1::1]:53", "[fd77:1::1]:53"),
        ] {
            // The same source port, free again: without zones this would be taken for the application's flow.
            let resolver = outside(&pod, at);
            let upstream = pod.udp(PROXY, own);
            let mut buffer = [0; 16];
            upstream.send_to(b"upstream", server).unwrap();
            let (_, from) = received(&resolver, &mut buffer).expect("the proxy's question leaves");
            resolver.send_to(b"reply", from).unwrap();
            assert_eq!(received(&upstream, &mut buffer).expect("and is answered").0, 5, "{backend} {server}");
        }
    }
}

#[test]
fn other_servers_are_captured_on_request_only() {
    for backend in BACKENDS {
        let pod = Pod::new();
        let resolver = outside(&pod, "10.77.1.1:53");
        let listener = pod.udp(PROXY, "127.0.0.1:15053");
        let mut buffer = [0; 16];
        pod.must_init(&["--backend", backend, "--no-verify", "--capture-dns", "--dns-servers", "10.77.1.9"]);
        let app = pod.udp(APP, "10.77.1.2:5300");
        app.send_to(b"question", "10.77.1.1:53").unwrap();
        let (_, from) = received(&resolver, &mut buffer).expect("another server is asked itself");
        resolver.send_to(b"reply", from).unwrap();
        received(&app, &mut buffer).expect("and answers");
        pod.must_init(&["--backend", backend, "--no-verify", "--capture-all-dns"]);
        // Another port: the kernel keeps flows that it knows as they are.
        is_captured(&pod.udp(APP, "10.77.1.2:5301"), "10.77.1.1:53", &listener);
    }
}

#[test]
fn without_the_proxy_questions_are_refused() {
    for backend in BACKENDS {
        let pod = Pod::new();
        let _resolver = outside(&pod, "10.77.1.1:53");
        let said = pod.must_init(&["--backend", backend, "--capture-dns", "--dns-servers", SERVERS]);
        assert!(said.contains("a DNS query to 10.77.1.1:53 arrived at 127.0.0.1:15053"), "{said}");
        assert!(said.contains("a DNS query to [fd77:1::1]:53 arrived at [::1]:15053"), "{said}");
        for (own, server) in [("0.0.0.0:0", "10.77.1.1:53"), ("[::]:0", "[fd77:1::1]:53")] {
            let app = pod.udp(APP, own);
            app.connect(server).unwrap();
            assert_eq!(asked(&app), ErrorKind::ConnectionRefused, "{backend} {server}");
            let to: SocketAddr = server.parse().unwrap();
            assert_eq!(pod.connect(APP, to).unwrap_err().kind(), ErrorKind::ConnectionRefused, "{backend} {server}");
        }
    }
}

#[test]
fn ipv6_that_is_not_redirected_is_rejected_for_questions_too() {
    for backend in BACKENDS {
        let pod = Pod::new();
        let _resolver = outside(&pod, "[fd77:1::1]:53");
        let flags = ["--backend", backend, "--ipv6", "off", "--capture-dns", "--dns-servers", SERVERS];
        let said = pod.must_init(&flags);
        assert!(said.contains("a DNS query to [fd77:1::1]:53 was rejected"), "{said}");
        let app = pod.udp(APP, "[::]:0");
        app.connect("[fd77:1::1]:53").unwrap();
        let kind = asked(&app);
        assert!(matches!(kind, ErrorKind::ConnectionRefused | ErrorKind::PermissionDenied), "{backend}: {kind}");
    }
}

/// One that is no egret, since it has no answer to the question that only egret knows.
#[test]
fn a_stranger_on_the_listeners_port_is_not_taken_for_the_proxy() {
    let pod = Pod::new();
    let stranger = pod.udp(PROXY, "127.0.0.1:15053");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = [0; 512];
            while !stop.load(Ordering::Relaxed) {
                let Ok((length, from)) = stranger.recv_from(&mut buffer) else { continue };
                let nothing = Message::from_vec(&buffer[..length]).unwrap().into_response();
                stranger.send_to(&nothing.to_vec().unwrap(), from).unwrap();
            }
        });
        let (code, said) = pod.init(&["--backend", "nft", "--capture-dns", "--dns-servers", "10.77.1.1"]);
        stop.store(true, Ordering::Relaxed);
        assert_eq!(code, 126, "{said}");
        assert!(said.contains("nothing that only the proxy knows came back"), "{said}");
    });
}

/// The script reads the same file as the binary.
#[test]
fn both_take_the_servers_of_resolv_conf() {
    let script = file("iptables/redirect.sh");
    let variables = [("EGRET_CAPTURE_DNS", "TRUE")];
    for backend in ["nft", "iptables"] {
        let binary = super::from_variables_of(&variables, super::EGRET, &["init", "--dry-run", "--backend", backend]);
        let text = super::from_variables_of(&variables, script.to_str().unwrap(), &["print", backend]);
        assert_eq!(binary, text);
        assert!(text.contains("15053"), "{text}");
    }
}
