//! `egret webhook` as an API server meets it: AdmissionReviews over TLS, sent by curl, trusted by the `caBundle` that
//! `egret webhook certificates` prints.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::lab::process::{Finished, Kept, finish, run};
use crate::lab::{eventually, utf8};
use data_encoding::BASE64;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

const EGRET: &str = env!("CARGO_BIN_EXE_egret");
const HOST: &str = "egret-webhook.egret-system.svc";

struct Webhook {
    process: Kept,
    address: SocketAddr,
    folder: TempDir,
}

/// Writes certificate, key and the authority to trust, as `egret webhook certificates` makes them.
fn certificates(folder: &Path) {
    let printed = run(EGRET, &["webhook", "certificates"]);
    let documents = documents(&printed);
    let decoded = |value: &serde_yaml::Value| BASE64.decode(value.as_str().unwrap().as_bytes()).unwrap();
    let data = &documents[0]["data"];
    let bundle = &documents[1]["webhooks"][0]["clientConfig"]["caBundle"];
    // The key first: what is read in between is no pair, and must change nothing.
    for (name, value) in [("tls.key", &data["tls.key"]), ("tls.crt", &data["tls.crt"]), ("ca.crt", bundle)] {
        fs::write(folder.join(name), decoded(value)).unwrap();
    }
}

fn documents(text: &str) -> Vec<serde_yaml::Value> {
    use serde::Deserialize;
    let all =
        serde_yaml::Deserializer::from_str(text).map(|document| serde_yaml::Value::deserialize(document).unwrap());
    all.collect()
}

impl Webhook {
    fn start(flags: &[&str]) -> Webhook {
        let folder = tempfile::tempdir().unwrap();
        certificates(folder.path());
        let at = |name: &str| folder.path().join(name);
        let mut command = Command::new("setpriv");
        command.args([
            "--pdeathsig=KILL",
            "--",
            EGRET,
            "webhook",
            "--listen=127.0.0.1:0",
            "--image=registry.example/egret:1",
        ]);
        command.arg("--tls-cert").arg(at("tls.crt")).arg("--tls-key").arg(at("tls.key")).args(flags);
        let process = Kept::start(command, folder.path(), "webhook");
        let mut address = None;
        eventually("the webhook says where it listens", || {
            let said = process.stderr();
            address = said.split("listen=").nth(1).and_then(|rest| rest.split_whitespace().next()?.parse().ok());
            address.is_some()
        });
        Webhook { process, address: address.unwrap(), folder }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// curl with what an API server verifies; the status follows the body.
    fn curl(&self, path: &str, arguments: &[&str]) -> Finished {
        let port = self.address.port();
        let mut command = Command::new("curl");
        command.args(["-sS", "-m", "20", "-w", "\n%{http_code}", "--resolve", &format!("{HOST}:{port}:127.0.0.1")]);
        command.arg("--cacert").arg(self.file("ca.crt")).args(arguments).arg(format!("https://{HOST}:{port}{path}"));
        finish(command)
    }

    #[track_caller]
    fn status(&self, path: &str, arguments: &[&str]) -> (String, u16) {
        let said = self.curl(path, arguments).succeeded().stdout;
        let (body, status) = said.rsplit_once('\n').unwrap();
        (body.to_owned(), status.parse().unwrap())
    }

    #[track_caller]
    fn review(&self, review: &str) -> Value {
        let file = self.file("review.json");
        fs::write(&file, review).unwrap();
        let data = format!("@{}", utf8(&file));
        let (body, status) =
            self.status("/inject?timeout=10s", &["-H", "Content-Type: application/json", "--data-binary", &data]);
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }
}

fn review() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/webhook/review.json");
    fs::read_to_string(file).unwrap()
}

/// Applies a JSON Patch of `add` operations (RFC 6902 §4.1).
fn patched(object: &Value, response: &Value) -> Value {
    let patch = BASE64.decode(response["patch"].as_str().expect("a patch").as_bytes()).unwrap();
    let mut object = object.clone();
    for operation in serde_json::from_slice::<Vec<Value>>(&patch).unwrap() {
        assert_eq!(operation["op"], "add");
        let (parent, key) = operation["path"].as_str().unwrap().rsplit_once('/').unwrap();
        match object.pointer_mut(parent).unwrap() {
            Value::Array(items) => items.insert(key.parse().unwrap(), operation["value"].clone()),
            Value::Object(fields) => drop(fields.insert(key.to_owned(), operation["value"].clone())),
            other => panic!("{parent} is {other}"),
        }
    }
    object
}

#[test]
fn a_pod_becomes_what_egret_inject_makes_of_it() {
    let webhook = Webhook::start(&[]);
    let asked: Value = serde_json::from_str(&review()).unwrap();
    let answer = webhook.review(&review());
    assert_eq!((&answer["apiVersion"], &answer["kind"]), (&asked["apiVersion"], &asked["kind"]));
    let response = &answer["response"];
    assert_eq!((&response["uid"], &response["allowed"]), (&asked["request"]["uid"], &json!(true)));
    assert_eq!(response["patchType"], "JSONPatch");
    let mut object = asked["request"]["object"].clone();
    // In a manifest, control characters would be refused.
    object["metadata"]["annotations"]["note"] = json!("-");
    let file = webhook.file("pod.json");
    fs::write(&file, object.to_string()).unwrap();
    let injected = run(EGRET, &["inject", "--image=registry.example/egret:1", "-f", utf8(&file)]);
    assert_eq!(patched(&object, response), serde_json::from_str::<Value>(&injected).unwrap());
    // Asked again about the result, it has nothing to add.
    let mut again = asked.clone();
    again["request"]["object"] = patched(&asked["request"]["object"], response);
    let answer = webhook.review(&again.to_string());
    assert_eq!((&answer["response"]["allowed"], &answer["response"]["patch"]), (&json!(true), &Value::Null));
    assert!(webhook.process.stderr().contains("shop/sleep-7656cf8794-"), "{}", webhook.process.stderr());
}

#[test]
fn a_pod_that_could_get_past_egret_is_refused_with_the_reason() {
    let webhook = Webhook::start(&["--exclude-namespace=ops"]);
    let mut asked: Value = serde_json::from_str(&review()).unwrap();
    asked["request"]["object"]["spec"]["containers"][0]["securityContext"]["runAsUser"] = json!(1337);
    let answer = webhook.review(&asked.to_string());
    let response = &answer["response"];
    assert_eq!((&response["allowed"], &response["status"]["code"]), (&json!(false), &json!(403)));
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.contains("container sleep runs with runAsUser 1337"), "{message}");
    // A namespace that a flag excludes, and one of the cluster's own, which no flag has to name.
    for namespace in ["ops", "kube-system"] {
        asked["request"]["namespace"] = json!(namespace);
        let answer = webhook.review(&asked.to_string());
        assert_eq!((&answer["response"]["allowed"], &answer["response"]["patch"]), (&json!(true), &Value::Null));
    }
}

#[test]
fn what_is_no_question_gets_an_answer_that_says_so() {
    let webhook = Webhook::start(&[]);
    let json = "Content-Type: application/json";
    let long = webhook.file("long");
    fs::write(&long, vec![b' '; (4 << 20) + 1]).unwrap();
    let long = format!("@{}", utf8(&long));
    for (path, arguments, says, code) in [
        ("/healthz", &[][..], "ok", 200),
        ("/healthz", &["-X", "POST"], "use GET", 405),
        ("/inject", &[], "use POST", 405),
        ("/", &[], "POST /inject", 404),
        ("/inject", &["--data-binary", "{}"], "expected Content-Type", 415),
        ("/inject", &["-H", json, "--data-binary", "{"], "no AdmissionReview", 400),
        (
            "/inject",
            &["-H", json, "--data-binary", "{\"kind\":\"Pod\",\"apiVersion\":\"v1\"}"],
            "admissionReviewVersions",
            400,
        ),
        ("/inject", &["-H", json, "-H", "Expect:", "--data-binary", &long], "4 MiB", 413),
    ] {
        let (body, status) = webhook.status(path, arguments);
        assert!(status == code && body.contains(says), "{path} {arguments:?}: {status} {body}");
    }
    // Plain HTTP, and connections that say nothing, as many as it serves at a time: the next one is answered all the same.
    let mut plain = TcpStream::connect(webhook.address).unwrap();
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let _silent: Vec<TcpStream> = (0..64).map(|_| TcpStream::connect(webhook.address).unwrap()).collect();
    assert_eq!(webhook.status("/healthz", &[]).1, 200);
}

#[test]
fn a_new_certificate_is_taken_up_and_a_broken_one_is_not() {
    let webhook = Webhook::start(&[]);
    let before = fs::read(webhook.file("ca.crt")).unwrap();
    assert_eq!(webhook.status("/healthz", &[]).1, 200);
    certificates(webhook.folder.path());
    eventually("the new authority's certificate is served", || webhook.curl("/healthz", &[]).status.success());
    fs::write(webhook.file("tls.crt"), &before).unwrap();
    eventually("the certificate that is no pair is reported", || {
        webhook.process.stderr().contains("does not belong to the certificate")
    });
    assert_eq!(webhook.status("/healthz", &[]).1, 200);
}

#[test]
fn sigterm_is_heard_and_questions_are_answered_on() {
    let mut webhook = Webhook::start(&["--drain-seconds=600"]);
    webhook.process.signal(Signal::SIGTERM);
    eventually("it says that it is going", || webhook.status("/healthz", &[]).1 == 503);
    assert_eq!(webhook.review(&review())["response"]["allowed"], true);
    assert_eq!(webhook.process.stop(Signal::SIGTERM).code(), Some(0), "a second signal ends it now");
    let mut webhook = Webhook::start(&["--drain-seconds=0"]);
    assert_eq!(webhook.process.stop(Signal::SIGTERM).code(), Some(0));
}

#[test]
fn without_a_certificate_it_says_which_file_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let start = |certificate: &str, key: &str| {
        let path = |name: &str| folder.path().join(name);
        let mut command = Command::new(EGRET);
        command.args(["webhook", "--listen=127.0.0.1:0", "--tls-cert"]).arg(path(certificate));
        finish({
            command.arg("--tls-key").arg(path(key));
            command
        })
    };
    for (certificate, key, says) in [
        ("none", "tls.key", "none: No such file"),
        ("tls.crt", "tls.crt", "no private key in it"),
        ("ca.crt", "tls.key", "does not belong to the certificate"),
    ] {
        let said = start(certificate, key);
        assert!(said.code() == Some(1) && said.stderr.contains(says), "{said:?}");
    }
}

#[test]
fn the_printed_certificate_is_what_an_api_server_wants() {
    let printed = run(EGRET, &["webhook", "certificates", "--namespace=mesh", "--days=30"]);
    let documents = documents(&printed);
    assert_eq!(documents.len(), 2, "{printed}");
    assert_eq!(documents[0]["metadata"]["namespace"], "mesh");
    let webhooks = documents[1]["webhooks"].as_sequence().unwrap();
    for webhook in webhooks {
        assert_eq!(webhook["clientConfig"]["service"]["namespace"], "mesh");
        assert_eq!(webhook["clientConfig"]["caBundle"], webhooks[0]["clientConfig"]["caBundle"]);
        assert_eq!(webhook["failurePolicy"], "Fail");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tls.crt");
    let pem = BASE64.decode(documents[0]["data"]["tls.crt"].as_str().unwrap().as_bytes()).unwrap();
    fs::write(&file, pem).unwrap();
    let shown = run("openssl", &["x509", "-in", utf8(&file), "-noout", "-text"]);
    assert!(shown.contains("DNS:egret-webhook.mesh.svc") && shown.contains("TLS Web Server Authentication"), "{shown}");
    assert!(run("openssl", &["x509", "-in", utf8(&file), "-checkend", "2500000"]).contains("not expire"));
    for flag in ["--namespace=UPPER", "--namespace=a.b", "--days=0"] {
        let mut command = Command::new(EGRET);
        command.args(["webhook", "certificates", flag]);
        assert_eq!(finish(command).code(), Some(2), "{flag}");
    }
}
