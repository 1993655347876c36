//! Ordinary clients, unchanged: what they print must be the same with the proxy in between and without it.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

use crate::lab::documents::{origination, service_entry};
use crate::lab::pki::Leaf;
use crate::lab::process::Kept;
use crate::lab::proxy::as_proxy;
use crate::lab::server::{HttpServer, Pattern, Server};
use crate::lab::{Family, Lab, PATIENCE, eventually, process, utf8};

const HOST: &str = "site.example";

/// The last event that a client says it has seen.
#[derive(Clone, Default)]
struct Seen(Arc<(Mutex<usize>, Condvar)>);

impl Seen {
    fn set(&self, number: usize) {
        *self.0.0.lock().unwrap() = number;
        self.0.1.notify_all();
    }

    /// True once event `number` has been seen.
    fn wait(&self, number: usize) -> bool {
        let seen = self.0.0.lock().unwrap();
        let (seen, _) = self.0.1.wait_timeout_while(seen, PATIENCE, |seen| *seen < number).unwrap();
        *seen >= number
    }
}

fn serve(stream: TcpStream, seen: &Seen) -> io::Result<()> {
    let mut server = HttpServer::new(stream);
    while let Some((method, target, head)) = server.request_head()? {
        let mut body = Vec::new();
        if method != "GET" {
            if head.field("expect").is_some() {
                server.send(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            server.connection().body(head.framing(), |part| body.extend_from_slice(part))?;
        }
        match target.as_str() {
            "/download" => reply(&mut server, &Pattern::new().take(300_000))?,
            "/redirect" => server.send(b"HTTP/1.1 302 Found\r\nLocation: /download\r\nContent-Length: 0\r\n\r\n")?,
            "/chunked" => {
                server.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
                for size in [1, 10_000, 7] {
                    let chunk = [format!("{size:x}\r\n").as_bytes(), &Pattern::new().take(size), b"\r\n"].concat();
                    server.send(&chunk)?;
                }
                server.send(b"0\r\n\r\n")?;
            }
            "/upload" => {
                let is_right = Pattern::new().matches(0, &body);
                reply(&mut server, format!("{method} {} {is_right}", body.len()).as_bytes())?;
            }
            "/events" => events(&mut server, seen)?,
            "/head" => reply(&mut server, head.text.as_bytes())?,
            other => {
                seen.set(other.trim_start_matches("/seen/").parse().unwrap_or(0));
                reply(&mut server, b"noted")?;
            }
        }
    }
    Ok(())
}

fn reply(server: &mut HttpServer<TcpStream>, body: &[u8]) -> io::Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nX-Case: as Sent\r\n\r\n", body.len());
    server.send(&[head.as_bytes(), body].concat())
}

/// Sends an event only when the one before it has been seen: a proxy that held one back would end the stream.
fn events(server: &mut HttpServer<TcpStream>, seen: &Seen) -> io::Result<()> {
    seen.set(0);
    server.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    for number in 1..=5 {
        let event = format!("data: {number}\n\n");
        server.send(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes())?;
        if !seen.wait(number) {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    server.send(b"0\r\n\r\n")
}

fn lab_with_site() -> (Lab, Server) {
    let lab = Lab::new();
    let at = Lab::address(Family::V4, 1);
    lab.names.set(HOST, &[at]);
    lab.configure("site.yaml", &service_entry(HOST, &[(80, "HTTP", None)]));
    let seen = Seen::default();
    let server = Server::start(&lab, SocketAddr::new(at, 80), move |stream| serve(stream, &seen));
    (lab, server)
}

/// The same command without the proxy, as the user whose connections are not redirected, and with it.
fn both_ways(lab: &Lab, program: &str, arguments: &[&str]) -> String {
    let direct = process::finish(as_proxy(lab, program, arguments)).succeeded().stdout;
    let proxied = lab.app(program, arguments).succeeded().stdout;
    assert!(direct == proxied, "{program} {arguments:?}:\n{direct}\n--- and with the proxy:\n{proxied}");
    direct
}

#[test]
fn curl_sees_no_difference() {
    let (lab, _server) = lab_with_site();
    let egret = lab.egret(&[]);
    let file = String::from_utf8_lossy(&[b'x'; 10]).into_owned();
    let upload = lab.write("upload", &file);
    let data = format!("@{}", utf8(&upload));
    let url = |path: &str| format!("http://{HOST}{path}");
    let common = ["-sS", "-m", "20", "-w", "%{http_code} %{size_download} %{num_connects} %{num_redirects}\\n"];
    let cases: [(&[&str], &str); 7] = [
        (&[], "/download"),
        (&["-i"], "/chunked"),
        (&["-L"], "/redirect"),
        (&["-i", "-X", "PUT", "-H", "Expect: 100-continue", "--data-binary", &data], "/upload"),
        (&["-T", utf8(&upload), "-H", "Transfer-Encoding: chunked"], "/upload"),
        (&["-i", "-H", "X-oDD:  case", "-H", "x-odd: twice"], "/head"),
        (&["-0"], "/head"),
    ];
    for (options, path) in cases {
        let url = url(path);
        both_ways(&lab, "curl", &[&common[..], options, &[&url]].concat());
    }
    // One connection for both.
    let (first, second) = (url("/head"), url("/chunked"));
    both_ways(&lab, "curl", &[&common[..], &[&first, &second]].concat());
    egret.log_line(&[" outbound|80||site.example "]);
}

const PYTHON: &str = r#"
import hashlib, http.client, urllib.request

host = "http://site.example"
def digest(data):
    return len(data), hashlib.sha256(data).hexdigest()

for path in ["/download", "/chunked", "/redirect"]:
    with urllib.request.urlopen(host + path, timeout=20) as response:
        # What is said of the connection is each hop's own.
        fields = [field for field in response.headers.items() if field[0] != "Connection"]
        print(path, response.status, fields, digest(response.read()))
body = urllib.request.urlopen(host + "/download", timeout=20).read()
print(urllib.request.urlopen(urllib.request.Request(host + "/upload", data=body), timeout=20).read())

connection = http.client.HTTPConnection("site.example", timeout=20)
for turn in range(20):
    connection.request("POST", "/upload", body=iter([body[:turn], body[turn:1000]]), encode_chunked=True,
                       headers={"Transfer-Encoding": "chunked"})
    print(connection.getresponse().read())
    connection.request("GET", "/head", headers={"X-oDD": "case"})
    print(connection.getresponse().read())

with urllib.request.urlopen(host + "/events", timeout=20) as events:
    for line in events:
        print(line)
        if line.startswith(b"data: "):
            urllib.request.urlopen(host + "/seen/" + line[6:].decode().strip(), timeout=20).read()
"#;

#[test]
fn python_sees_no_difference() {
    let (lab, _server) = lab_with_site();
    let egret = lab.egret(&[]);
    let script = lab.write("client.py", PYTHON);
    let printed = both_ways(&lab, "/usr/bin/python3", &["-I", utf8(&script)]);
    assert!(printed.contains("b'POST 1000 true'") && printed.contains("data: 5"), "{printed}");
    egret.log_line(&["\"GET /events "]);
}

/// A copy of a file of `tests/clients/` that every user may read.
fn script(lab: &Lab, name: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name);
    lab.write(name, &fs::read_to_string(&source).unwrap_or_else(|error| panic!("{}: {error}", source.display())))
}

/// The site of `tests/clients/server.py`: without the proxy it is reached in plain text, with it over TLS.
fn lab_with_aiohttp() -> (Lab, Kept) {
    let lab = Lab::new();
    let at = Lab::address(Family::V4, 1);
    lab.names.set(HOST, &[at]);
    lab.configure("site.yaml", &origination(HOST, Some(&lab.ca_file())));
    let pair = lab.authority.issue(HOST, Leaf::Good).write(lab.dir(), HOST);
    let (server, address) = (script(&lab, "server.py"), at.to_string());
    let arguments = ["-I", utf8(&server), &address, utf8(&pair.certificate), utf8(&pair.key)];
    let mut server = Kept::start(lab.outside.command("/usr/bin/python3", &arguments), lab.dir(), "site");
    eventually("the site is up", || {
        assert!(server.ended().is_none(), "{}: run `make setup`", server.stderr());
        server.stdout().contains("ready")
    });
    (lab, server)
}

#[test]
fn requests_urllib3_httpx_and_aiohttp_see_no_difference() {
    let (lab, _server) = lab_with_aiohttp();
    let egret = lab.egret(&[]);
    let client = script(&lab, "client.py");
    for library in ["requests", "urllib3", "httpx", "aiohttp"] {
        let printed = both_ways(&lab, "/usr/bin/python3", &["-I", utf8(&client), library]);
        assert!(printed.contains("data: 5"), "{library}: {printed}");
        egret.log_line(&[&format!("\"GET /events?who={library} ")]);
    }
    egret.log_line(&["\"GET /echo HTTP/1.1\" 101 "]);
}

#[test]
fn node_sees_no_difference() {
    let (lab, _server) = lab_with_aiohttp();
    let egret = lab.egret(&[]);
    let client = script(&lab, "client.js");
    let printed = both_ways(&lab, "node", &[utf8(&client)]);
    assert!(printed.contains("data: 5") && printed.contains("closed 4001 as you wish"), "{printed}");
    egret.log_line(&["\"GET /echo HTTP/1.1\" 101 "]);
}

#[test]
fn java_sees_no_difference() {
    let (lab, _server) = lab_with_aiohttp();
    let egret = lab.egret(&[]);
    let client = script(&lab, "Client.java");
    process::run("javac", &["-d", utf8(lab.dir()), utf8(&client)]);
    let printed = both_ways(&lab, "java", &["-Xshare:auto", "-cp", utf8(lab.dir()), "Client"]);
    assert!(printed.contains("HTTP_2\n") && printed.contains("closed 4001 as you wish"), "{printed}");
    egret.log_line(&["\"GET /echo HTTP/1.1\" 101 "]);
}
