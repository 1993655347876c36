//! What changes while egret runs: its files, names, and what it says when a file is wrong.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use crate::lab;
use crate::lab::client::HttpClient;
use crate::lab::documents::{access, service_entry, static_tcp};
use crate::lab::server::Server;
use crate::lab::{Family, Lab, utf8};

const HOST: &str = "site.example";
/// From the change of a file to its effect.
const LIMIT: Duration = Duration::from_secs(5);

/// Servers at outside addresses 1 and 2 that answer with their number.
fn numbered(lab: &Lab, family: Family) -> Vec<Server> {
    let start = |n: u8| {
        let at = SocketAddr::new(Lab::address(family, n), 80);
        Server::start(lab, at, move |mut stream| {
            while stream.read(&mut [0; 4096])? > 0 {
                stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{n}").as_bytes())?;
            }
            Ok(())
        })
    };
    (1..=2).map(start).collect()
}

/// Which server answers for `HOST` now, or egret's own status.
fn answered_by(lab: &Lab) -> String {
    // The original destination does not matter for a host that egret resolves itself.
    let to = SocketAddr::new(Lab::address(Family::V4, 9), 80);
    let response = HttpClient::new(lab.connect(to).unwrap()).get(HOST, "/").unwrap();
    match response.head.status {
        200 => String::from_utf8(response.body).unwrap(),
        other => other.to_string(),
    }
}

/// Answers without a time to live are renewed at `dnsRefreshRate`, and a reload changes the rate of names that sleep.
#[test]
fn another_refresh_rate_of_names_holds_from_the_reload_on() {
    let lab = Lab::new();
    let _servers = numbered(&lab, Family::V4);
    lab.names.set_ttl(0);
    lab.names.set(HOST, &[Lab::address(Family::V4, 1)]);
    lab.configure("site.yaml", &service_entry(HOST, &[(80, "HTTP", None)]));
    let settings = |rate: &str| format!("apiVersion: egret/v1\nkind: Settings\nspec: {{dnsRefreshRate: {rate}}}\n");
    lab.configure("settings.yaml", &settings("1h"));
    let _egret = lab.egret(&[]);
    assert_eq!(answered_by(&lab), "1");
    // The reload itself looks names up again; what changes afterwards is seen at the new rate alone.
    for address in [2, 1] {
        lab.names.set(HOST, &[Lab::address(Family::V4, address)]);
        lab.configure("settings.yaml", &settings("1s"));
        lab::eventually("the change of the name is seen", || answered_by(&lab) == address.to_string());
    }
}

/// What a reload cannot change is told by the log, `/config_dump` and `egret status`; the rest of the file is taken.
#[test]
fn a_setting_that_needs_a_restart_is_told_and_not_shown_as_in_force() {
    let lab = Lab::new();
    let settings = |connections: u32, drain: &str| {
        let spec = format!("{{maxConnections: {connections}, drainDuration: {drain}}}");
        format!("apiVersion: egret/v1\nkind: Settings\nspec: {spec}\n")
    };
    lab.configure("settings.yaml", &settings(100, "4s"));
    let egret = lab.egret(&[]);
    let dump = || -> serde_json::Value {
        let (status, body) = egret.get(15000, "/config_dump").expect("the admin endpoint answers");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    };
    let drains = |time: &str| lab::eventually("the file is taken", || dump()["settings"]["drainDuration"] == time);
    assert_eq!(dump()["waiting_for_restart"], serde_json::json!([]));

    lab.configure("settings.yaml", &settings(200, "5s"));
    drains("5s");
    let told = dump();
    assert_eq!(told["settings"]["maxConnections"], 100, "in force");
    let waiting = &told["waiting_for_restart"][0];
    assert_eq!((&waiting["setting"], &waiting["line"]), (&"maxConnections".into(), &2.into()), "{waiting}");
    assert_eq!((&waiting["in_force"], &waiting["after_restart"]), (&"100".into(), &"200".into()), "{waiting}");
    let warning = "maxConnections: 200 needs a restart of egret, which reads it at the start only; 100 stays in force";
    lab::eventually("the warning is logged", || egret.stderr().contains(warning));
    assert!(egret.stderr().contains("settings.yaml:2:"), "{}", egret.stderr());
    let (_, status) = egret.get(15000, "/server_info").unwrap();
    assert!(status.contains("maxConnections: 200, now 100"), "{status}");

    // Changed back, nothing waits; without the document, the default does.
    lab.configure("settings.yaml", &settings(100, "6s"));
    drains("6s");
    assert_eq!(dump()["waiting_for_restart"], serde_json::json!([]));
    fs::remove_file(lab.config_dir().join("settings.yaml")).unwrap();
    drains("45s");
    let told = dump();
    assert_eq!(told["settings"]["maxConnections"], 100);
    assert_eq!(told["waiting_for_restart"][0]["after_restart"], "10000");
}

/// A policy of other pods whose conditions mean nothing at this one's egress is left out; one of this pod's is an error.
#[test]
fn a_policy_that_cannot_be_judged_keeps_the_old_table_where_it_is_for_this_pod() {
    let lab = Lab::new();
    let policy = |namespace: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: a, namespace: {namespace}}}\nspec: \
             {{rules: [{{from: [{{source: {{principals: [x]}}}}], to: [{{operation: {{hosts: [a.example]}}}}]}}]}}\n"
        )
    };
    lab.configure("policy.yaml", &policy("elsewhere"));
    let egret = lab.egret(&["--namespace", "shop"]);
    lab::eventually("the policy of others is told", || egret.stderr().contains("is for other pods and is left out"));
    assert!(egret.get(15021, "/healthz/ready").is_some_and(|(status, _)| status == 200));
    lab.configure("policy.yaml", &policy("shop"));
    let kept = "configuration not usable; the policy in force stays";
    lab::eventually("the policy of this pod is an error", || egret.stderr().contains(kept));
    assert!(egret.stderr().contains("principals: cannot be judged"), "{}", egret.stderr());
}

#[test]
fn a_broken_file_keeps_the_old_table_and_says_why() {
    let lab = Lab::new();
    let _servers = numbered(&lab, Family::V4);
    lab.names.set(HOST, &[Lab::address(Family::V4, 1)]);
    lab.configure("site.yaml", &service_entry(HOST, &[(80, "HTTP", None)]));
    let egret = lab.egret(&["--outbound-traffic-policy", "REGISTRY_ONLY"]);
    assert_eq!(answered_by(&lab), "1");

    let broken = service_entry("other.example", &[(80, "HTTP", None)]).replace("number: 80", "number: 99999");
    let mut lines = broken.lines().zip(1..);
    let (line, column) = lines.find_map(|(text, line)| Some((line, text.find("99999")? + 1))).unwrap();
    lab.configure("site.yaml", &broken);
    let place = format!("site.yaml:{line}:{column}: ");
    lab::eventually("the error and its place are on stderr", || egret.stderr().contains(&place));
    assert_eq!(answered_by(&lab), "1", "the old table is in force");

    lab.configure("site.yaml", &service_entry("other.example", &[(80, "HTTP", None)]));
    lab::within(LIMIT, "the corrected file is in force", || answered_by(&lab) == "502");
    lab.configure("site.yaml", &service_entry(HOST, &[(80, "HTTP", None)]));
    lab::within(LIMIT, "the next change too", || answered_by(&lab) == "1");
    fs::remove_file(lab.config_dir().join("site.yaml")).unwrap();
    lab::within(LIMIT, "a removed file is no longer in force", || answered_by(&lab) == "502");
}

#[test]
fn the_next_request_of_an_open_connection_obeys_the_new_table() {
    let lab = Lab::new();
    let _servers = numbered(&lab, Family::V4);
    lab.names.set(HOST, &[Lab::address(Family::V4, 1)]);
    lab.configure("site.yaml", &service_entry(HOST, &[(80, "HTTP", None)]));
    let _egret = lab.egret(&["--outbound-traffic-policy", "REGISTRY_ONLY"]);
    let to = SocketAddr::new(Lab::address(Family::V4, 1), 80);
    let mut client = HttpClient::new(lab.connect(to).unwrap());
    assert_eq!(client.get(HOST, "/").unwrap().head.status, 200);
    lab.configure("site.yaml", &service_entry("other.example", &[(80, "HTTP", None)]));
    lab::within(LIMIT, "new connections are refused", || answered_by(&lab) == "502");
    assert_eq!(client.get(HOST, "/").unwrap().head.status, 502, "on the connection from before");
}

#[test]
fn check_names_every_mistake_with_its_place() {
    let lab = Lab::new();
    let good = lab.write("good.yaml", &access(HOST));
    let checked = lab.egret_command(&["check", utf8(&good)]);
    assert_eq!(checked.code(), Some(0), "{checked:?}");

    let wrong = access(HOST).replace("number: 443", "number: eighty").replace("resolution:", "resolutoin:");
    let bad = lab.write("bad.yaml", &wrong);
    let checked = lab.egret_command(&["check", utf8(&good), utf8(&bad)]);
    assert_eq!(checked.code(), Some(1), "{checked:?}");
    let said = checked.stdout + &checked.stderr;
    for (number, line) in wrong.lines().enumerate() {
        let place = format!("bad.yaml:{}:", number + 1);
        let expected = line.contains("eighty") || line.contains("resolutoin");
        assert_eq!(said.contains(&place), expected, "{place} {line}\n{said}");
    }
    assert!(!said.contains("good.yaml:"), "{said}");

    for (arguments, code) in [(&["check", "/does/not/exist.yaml"][..], 1), (&["check", "--no-such-flag"], 2)] {
        let checked = lab.egret_command(arguments);
        assert_eq!(checked.code(), Some(code), "{arguments:?}: {checked:?}");
        assert!(!checked.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_moved_name_is_followed_and_a_lost_one_kept() {
    let lab = Lab::new();
    let _servers = numbered(&lab, Family::V4);
    lab.names.set(HOST, &[Lab::address(Family::V4, 1)]);
    lab.configure("site.yaml", &service_entry(HOST, &[(80, "HTTP", None)]));
    let _egret = lab.egret(&[]);
    assert_eq!(answered_by(&lab), "1");
    lab.names.set(HOST, &[Lab::address(Family::V4, 2)]);
    lab::eventually("the new address is used", || answered_by(&lab) == "2");
    // Queries go on; none is answered any more.
    lab.names.set_silent(true);
    let asked = lab.names.queries();
    lab::eventually("egret asks again in vain", || lab.names.queries() > asked + 3);
    assert_eq!(answered_by(&lab), "2", "the last good answer stays");
    lab.names.set(HOST, &[Lab::address(Family::V4, 1)]);
    lab.names.set_silent(false);
    lab::within(Duration::from_secs(90), "egret recovers", || answered_by(&lab) == "1");
}

#[test]
fn the_hosts_file_comes_first_and_is_read_again() {
    let lab = Lab::new();
    let _servers = numbered(&lab, Family::V4);
    lab.names.set(HOST, &[Lab::address(Family::V4, 1)]);
    lab.pod.write_etc("hosts", &format!("127.0.0.1 localhost\n203.0.113.2 other {HOST} # the second\n"));
    lab.configure("site.yaml", &service_entry(HOST, &[(80, "HTTP", None)]));
    let _egret = lab.egret(&[]);
    assert_eq!(answered_by(&lab), "2");
    lab.pod.write_etc("hosts", &format!("127.0.0.1 localhost\n203.0.113.1 {HOST}\n"));
    lab::within(Duration::from_secs(90), "the changed hosts file is in force", || answered_by(&lab) == "1");
}

#[test]
fn a_name_may_have_only_ipv6() {
    let lab = Lab::new();
    let _servers = numbered(&lab, Family::V6);
    lab.names.set(HOST, &[Lab::address(Family::V6, 2)]);
    lab.configure("site.yaml", &service_entry(HOST, &[(80, "HTTP", None)]));
    let _egret = lab.egret(&[]);
    assert_eq!(answered_by(&lab), "2");
}

/// X5: bytes that are under way are not cut by a policy that would not let them begin.
#[test]
fn a_connection_that_is_not_read_outlives_the_policy_that_let_it() {
    let lab = Lab::new();
    let at = SocketAddr::new(Lab::address(Family::V4, 1), 9000);
    let _echo = Server::start(&lab, at, |mut stream| {
        let mut byte = [0];
        while stream.read(&mut byte)? > 0 {
            stream.write_all(&byte)?;
        }
        Ok(())
    });
    let entry = static_tcp("echo.example", at.ip(), at.port());
    lab.configure("echo.yaml", &entry);
    let _egret = lab.egret(&["--outbound-traffic-policy", "REGISTRY_ONLY"]);
    let echoed = |stream: &mut std::net::TcpStream| {
        let mut byte = [0];
        stream.write_all(b"x").and_then(|()| stream.read_exact(&mut byte)).is_ok()
    };
    let mut before = lab.connect(at).unwrap();
    assert!(echoed(&mut before));
    lab.configure("echo.yaml", &static_tcp("other.example", Lab::address(Family::V4, 2), 9000));
    lab::within(LIMIT, "new connections are refused", || !lab.connect(at).is_ok_and(|mut stream| echoed(&mut stream)));
    assert!(echoed(&mut before), "the connection from before");
}
