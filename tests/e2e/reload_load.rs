//! A hundred new configurations while requests run, in every way in which files change: none fails, none is answered by
//! half a configuration. And one that comes while the process drains.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use crate::lab;
use crate::lab::client::HttpClient;
use crate::lab::credentials::{Mounted, secrets_dir};
use crate::lab::documents::{service_entry, static_tcp};
use crate::lab::proxy::Egret;
use crate::lab::server::{HttpServer, Server};
use crate::lab::{Family, Lab, utf8};
use nix::sys::signal::Signal;

const SITE: &str = "site.example";
const ROUNDS: usize = 100;
/// From the change of a file to its effect, where nobody asks for it.
const LIMIT: Duration = Duration::from_secs(5);

/// How a file is replaced.
#[derive(Clone, Copy, Debug)]
enum Way {
    Renamed,
    /// Half of it first, and read in between.
    InPlace,
    /// As the kubelet swaps a mounted ConfigMap.
    Swapped,
    /// Renamed, with a broken file beside it for a while.
    Broken,
}

const WAYS: [Way; 4] = [Way::Renamed, Way::InPlace, Way::Swapped, Way::Broken];

fn outside(port: u16) -> SocketAddr {
    SocketAddr::new(Lab::address(Family::V4, 1), port)
}

/// `hostN.example`, whose requests egret answers itself, with the number of the round that wrote the file.
fn marker(way: usize, round: usize) -> String {
    let host = format!("host{way}.example");
    format!(
        "{}---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: host{way}}}\nspec: {{hosts: \
         [{host}], http: [{{directResponse: {{status: 200, body: {{string: '{round}'}}}}}}]}}\n",
        service_entry(&host, &[(80, "HTTP", None)])
    )
}

/// The round that answers for a way's host now.
fn round_of(client: &mut HttpClient, way: usize) -> Result<usize, String> {
    let response = client.get(&format!("host{way}.example"), "/").map_err(|error| format!("way {way}: {error}"))?;
    let body = String::from_utf8_lossy(&response.body).into_owned();
    match (response.head.status, body.parse()) {
        (200, Ok(round)) => Ok(round),
        (status, _) => Err(format!("way {way}: {status} {body}")),
    }
}

/// Requests until told to stop, each over a connection of its own or all over one; never an older answer than one that
/// was seen before.
fn load(lab: &Lab, keeps: bool, known: &[AtomicUsize; 4], stop: &AtomicBool) -> Result<usize, String> {
    let connect = || lab.connect(outside(80)).map(HttpClient::new).map_err(|error| error.to_string());
    let (mut client, mut count) = (connect()?, 0);
    while !stop.load(Ordering::SeqCst) {
        if !keeps {
            client = connect()?;
        }
        let response = client.get(SITE, "/").map_err(|error| format!("request {count}: {error}"))?;
        if response.head.status != 200 {
            return Err(format!("request {count}: {}", response.head.status));
        }
        let way = count % WAYS.len();
        let least = known[way].load(Ordering::SeqCst);
        let round = round_of(&mut client, way)?;
        if round < least {
            return Err(format!("request {count}: round {round} after {least} was seen"));
        }
        count += 1;
        // The machine has other work; some hundred requests a second are load enough.
        std::thread::park_timeout(Duration::from_millis(3));
    }
    Ok(count)
}

struct Changing<'l> {
    lab: &'l Lab,
    egret: &'l Egret<'l>,
    mounted: Mounted,
    /// SIGHUP after each change; else the change is noticed.
    asks: bool,
}

impl Changing<'_> {
    fn ask(&self) {
        if self.asks {
            self.egret.signal(Signal::SIGHUP);
        }
    }

    /// Waits for a reload that changed nothing.
    fn fails(&self, before: Option<f64>) {
        lab::eventually("the failure is counted", || self.egret.metric("egret_reload_failures_total") > before);
    }

    fn change(&mut self, way: usize, round: usize) {
        let text = marker(way, round);
        let name = format!("host{way}.yaml");
        let failures = self.egret.metric("egret_reload_failures_total");
        match WAYS[way] {
            Way::Renamed => self.lab.configure(&name, &text),
            Way::InPlace => {
                let half = text.find("directResponse").expect("it is in the text") + 3;
                fs::write(self.lab.config_dir().join(&name), &text[..half]).expect("a file of ours");
                self.ask();
                self.fails(failures);
                fs::write(self.lab.config_dir().join(&name), &text).expect("a file of ours");
            }
            Way::Swapped => self.mounted.swap(&[(name.as_str(), text.as_str())]),
            Way::Broken => {
                self.lab
                    .configure("broken.yaml", "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nspec: oops\n");
                self.ask();
                self.fails(failures);
                self.lab.configure(&name, &text);
                fs::remove_file(self.lab.config_dir().join("broken.yaml")).expect("it was written");
            }
        }
        self.ask();
    }
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// X1, X3, X4.
#[test]
fn a_hundred_reloads_under_load() {
    let lab = Lab::new();
    lab.names.set(SITE, &[outside(80).ip()]);
    let _site = Server::start(&lab, outside(80), |stream| {
        let mut http = HttpServer::new(stream);
        while http.request()?.is_some() {
            http.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        }
        Ok(())
    });
    let _echo = Server::start(&lab, outside(5432), |mut stream| {
        let mut bytes = [0; 64];
        loop {
            match stream.read(&mut bytes)? {
                0 => return Ok(()),
                length => stream.write_all(&bytes[..length])?,
            }
        }
    });
    let site = [service_entry(SITE, &[(80, "HTTP", None)]), static_tcp("db.example", outside(5432).ip(), 5432)];
    lab.configure("site.yaml", &site.join("---\n"));
    for way in [0, 1, 3] {
        lab.configure(&format!("host{way}.yaml"), &marker(way, 0));
    }
    let mounted = Mounted::new(&lab, "mounted", &[("host2.yaml", marker(2, 0).as_str())]);
    let folder = secrets_dir(&lab).join("mounted");
    let egret = lab.egret(&["--outbound-traffic-policy", "REGISTRY_ONLY", "--config", utf8(&folder)]);
    let mut opaque = lab.connect(outside(5432)).expect("the redirect accepts");
    let mut echo = |round: usize| {
        let said = format!("{round:>8}");
        opaque.write_all(said.as_bytes()).expect("the connection is open");
        let mut heard = [0; 8];
        opaque.read_exact(&mut heard).expect("the connection is open");
        assert_eq!(heard, said.as_bytes());
    };
    let (stop, known) = (AtomicBool::new(false), [0; 4].map(AtomicUsize::new));
    let mut changing = Changing { lab: &lab, egret: &egret, mounted, asks: false };
    let requests: usize = std::thread::scope(|scope| {
        let running: Vec<_> = [true, true, false, false]
            .into_iter()
            .map(|keeps| {
                let (lab, known, stop) = (&lab, &known, &stop);
                scope.spawn(move || load(lab, keeps, known, stop))
            })
            .collect();
        let _end = StopOnDrop(&stop);
        let mut client = HttpClient::new(lab.connect(outside(80)).expect("the redirect accepts"));
        for round in 1..=ROUNDS {
            let way = round % WAYS.len();
            // Once each way without being asked.
            changing.asks = round > WAYS.len();
            changing.change(way, round);
            lab::within(LIMIT, &format!("round {round}, {:?}, is in force", WAYS[way]), || {
                round_of(&mut client, way).expect("an answer") == round
            });
            known[way].store(round, Ordering::SeqCst);
            echo(round);
        }
        stop.store(true, Ordering::SeqCst);
        running.into_iter().map(|thread| thread.join().expect("no panic").expect("no failed request")).sum()
    });
    assert!(requests > 2 * ROUNDS, "only {requests} rounds of requests meanwhile");
    assert!(egret.metric("egret_policy_version") > Some(ROUNDS as f64), "each was a table of its own");
    let failures = egret.metric("egret_reload_failures_total").expect("a metric");
    assert!(failures >= (ROUNDS / 2) as f64, "half of the ways fail first: {failures}");
}

/// X9.
#[test]
fn a_reload_during_drain_is_taken_and_ends_nothing() {
    let lab = Lab::new();
    lab.names.set(SITE, &[outside(80).ip()]);
    let (arrived, arrival) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let (arrived, released) = (std::sync::Mutex::new(arrived), std::sync::Mutex::new(released));
    let _site = Server::start(&lab, outside(80), move |stream| {
        let mut http = HttpServer::new(stream);
        while http.request()?.is_some() {
            let _ = arrived.lock().expect("no panic").send(());
            let _ = released.lock().expect("no panic").recv();
            http.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        }
        Ok(())
    });
    lab.configure("site.yaml", &service_entry(SITE, &[(80, "HTTP", None)]));
    let mut egret = lab.egret(&["--outbound-traffic-policy", "REGISTRY_ONLY", "--drain-duration", "60s"]);
    let mut client = HttpClient::new(lab.connect(outside(80)).expect("the redirect accepts"));
    client.send(format!("GET / HTTP/1.1\r\nHost: {SITE}\r\n\r\n").as_bytes()).expect("the proxy reads");
    arrival.recv_timeout(lab::PATIENCE).expect("the request arrives");
    egret.signal(Signal::SIGTERM);
    lab::eventually("it drains", || egret.get(15021, "/healthz/ready").is_some_and(|(status, _)| status == 503));
    lab.configure("site.yaml", &service_entry("other.example", &[(80, "HTTP", None)]));
    lab::eventually("the new table is in force", || egret.metric("egret_policy_version") == Some(2.0));
    release.send(()).expect("the server waits");
    let response = client.response().expect("the request that was under way is finished");
    assert_eq!((response.head.status, &response.body[..]), (200, &b"ok"[..]));
    drop(client);
    lab::eventually("the process ends", || !egret.is_running());
}
