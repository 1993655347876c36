//! A connection of HTTP/2 over its life: a thousand streams at once, a new table under it, and the end of the process.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::sync::{Arc, Barrier, Mutex};

use h2::client::SendRequest;

use crate::lab;
use crate::lab::documents::service_entry;
use crate::lab::frames::*;
use crate::lab::http2_client::{Http2Client, head, whole};
use crate::lab::server::{HttpServer, Server};
use crate::lab::{Family, Lab, PATIENCE, eventually};
use nix::sys::signal::Signal;

const HOST: &str = "web.example";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn site() -> SocketAddr {
    SocketAddr::new(Lab::address(Family::V4, 1), 80)
}

fn lab() -> Lab {
    let lab = Lab::new();
    lab.names.set(HOST, &[site().ip()]);
    lab.configure("web.yaml", &service_entry(HOST, &[(80, "HTTP", None)]));
    lab
}

/// A site whose answer to `/held` comes when the second value is told so, once for each; the third says when it was asked.
fn holding_site(lab: &Lab) -> (Server, mpsc::Sender<()>, mpsc::Receiver<()>) {
    let ((go, goes), (tell, told)) = (mpsc::channel(), mpsc::channel());
    let (goes, tell) = (Mutex::new(goes), Mutex::new(tell));
    let server = Server::start(lab, site(), move |stream| {
        let mut server = HttpServer::new(stream);
        while let Some(request) = server.request()? {
            if request.target == "/held" {
                tell.lock().unwrap().send(()).unwrap();
                goes.lock().unwrap().recv_timeout(PATIENCE).unwrap();
            }
            server.send(OK)?;
        }
        Ok(())
    });
    (server, go, told)
}

/// GOAWAY that ends nothing yet; then, when a round trip has shown that no stream is on its way, the one that does (RFC 9113
/// §6.8). What runs goes on.
#[test]
fn a_process_that_ends_says_so_twice_and_ends_its_streams() {
    let lab = lab();
    let (_server, go, told) = holding_site(&lab);
    let mut egret = lab.egret(&[]);
    let mut client = RawHttp2::new(lab.connect(site()).unwrap(), &[]);
    client.send(&get(1, HOST, "/held")).unwrap();
    told.recv_timeout(PATIENCE).unwrap();
    egret.signal(Signal::SIGTERM);
    let last_stream = |frame: &Frame| u32::from_be_bytes(*frame.payload.first_chunk().unwrap());
    let first = client.next_of(&[GOAWAY]).unwrap();
    assert_eq!((last_stream(&first), first.code()), (0x7fff_ffff, 0));
    // Sent before the client knew: served.
    client.send(&get(3, HOST, "/")).unwrap();
    let ping = client.next_of(&[PING]).unwrap();
    client.send(&frame(PING, ACK, 0, &ping.payload)).unwrap();
    let second = client.next_of(&[GOAWAY]).unwrap();
    assert_eq!((last_stream(&second), second.code()), (3, 0));
    let answered = client.next_of(&[HEADERS, RST_STREAM]).unwrap();
    assert_eq!((answered.kind, answered.stream), (HEADERS, 3));
    go.send(()).unwrap();
    let held = client.next_of(&[HEADERS, RST_STREAM]).unwrap();
    assert_eq!((held.kind, held.stream), (HEADERS, 1));
    let over = client.next_of(&[DATA]).unwrap();
    assert_eq!((over.stream, over.flags & END_STREAM, &over.payload[..]), (1, END_STREAM, &b"ok"[..]));
    assert!(client.frame().is_err(), "the connection ends with its last stream");
    eventually("egret ends", || !egret.is_running());
}

#[test]
fn a_stream_that_runs_ends_on_the_table_that_it_began_on() {
    let lab = lab();
    let (_server, go, told) = holding_site(&lab);
    let _egret = lab.egret(&["--outbound-traffic-policy", "REGISTRY_ONLY"]);
    let client = Http2Client::new(lab.connect(site()).unwrap());
    let mut sender = client.run(client.sender().ready()).unwrap();
    let (held, _) = sender.send_request(head("GET", HOST, "/held", &[]), true).unwrap();
    client.run(async { blocking_recv(&told).await });
    lab.configure("web.yaml", &service_entry("other.example", &[(80, "HTTP", None)]));
    lab::within(PATIENCE, "new streams are refused", || client.get(HOST, "/").unwrap().status == 502);
    go.send(()).unwrap();
    assert_eq!(client.run(whole(held)).unwrap().status, 200);
}

/// Lets the connection run until something was told.
async fn blocking_recv(told: &mpsc::Receiver<()>) {
    while told.try_recv().is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[test]
fn a_thousand_streams_run_at_once() {
    const STREAMS: usize = 1000;
    let lab = lab();
    let all_are_here = Arc::new(Barrier::new(STREAMS));
    let barrier = Arc::clone(&all_are_here);
    let _server = Server::start(&lab, site(), move |stream| {
        let mut server = HttpServer::new(stream);
        while server.request()?.is_some() {
            barrier.wait();
            server.send(OK)?;
        }
        Ok(())
    });
    let egret = lab.egret(&["--workers", "1", "--http2-max-concurrent-streams", "1000"]);
    let client = Http2Client::new(lab.connect(site()).unwrap());
    let ask = async |mut sender: SendRequest<bytes::Bytes>| {
        sender = sender.ready().await.unwrap();
        let (answer, _) = sender.send_request(head("GET", HOST, "/", &[]), true).unwrap();
        whole(answer).await.unwrap().status
    };
    let answers: Vec<u16> = client.run(async {
        let mut tasks = tokio::task::JoinSet::new();
        (0..STREAMS).for_each(|_| drop(tasks.spawn(ask(client.sender()))));
        tasks.join_all().await
    });
    assert_eq!(answers, [200; STREAMS]);
    eventually("each has its line", || egret.access_log().len() == STREAMS);
}
