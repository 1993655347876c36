//! Routes as tables of cases: a request and what becomes of it.

use std::path::Path;

use crate::config::load_text;
use crate::policy::tests::fixture::{compiled, decided, dst, host, unreadable};
use crate::policy::{Answer, Content, Decision, Flow, PolicyTable, Refusal, RequestView, Route};

const ENTRIES: &str = r"
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api}
spec:
  hosts: [api.example]
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: https, protocol: HTTPS}]
  resolution: STATIC
  endpoints:
  - {address: 192.0.2.1, labels: {version: v1}}
  - {address: 192.0.2.2, labels: {version: v2}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: other}
spec:
  hosts: [other.example]
  ports: [{number: 8080, name: http, protocol: HTTP}]
  resolution: DNS
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: api}
spec:
  host: api.example
  trafficPolicy:
    portLevelSettings: [{port: {number: 443}, tls: {mode: SIMPLE}}]
  subsets:
  - {name: v2, labels: {version: v2}}
  - {name: secure, trafficPolicy: {tls: {mode: SIMPLE, sni: subset.example}, portLevelSettings: [{port: {number: 443}, tls: {mode: DISABLE}}]}}
  - {name: nobody, labels: {version: v3}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: VS}
spec:
  hosts: [HOSTS]
  http:
";

fn table_for(hosts: &str, routes: &str) -> (PolicyTable, Vec<String>) {
    let text = format!("{}{routes}", ENTRIES.trim_start().replace("HOSTS", hosts).replace("name: VS", "name: vs"));
    let loaded = load_text(Path::new("f.yaml"), &text);
    assert_eq!(loaded.problems, [], "{text}");
    compiled(&loaded.resources)
}

fn table(routes: &str) -> PolicyTable {
    table_for("api.example", routes).0
}

/// `METHOD ADDRESS AUTHORITY TARGET [NAME=VALUE]` → the route and its first cluster, or what else becomes of it.
fn becomes(table: &PolicyTable, request: &str) -> String {
    let words: Vec<&str> = request.split(' ').collect();
    let [method, to, authority, target] = words[..4] else { panic!("{request}") };
    let fields: Vec<_> = words[4..].iter().map(|pair| pair.split_once('=').unwrap()).collect();
    let any_value = |name: &str, is_wanted: &mut dyn FnMut(&[u8]) -> bool| {
        let lines = fields.iter().filter(|(known, _)| *known == name).map(|(_, value)| value.as_bytes());
        crate::http::any_value(name, lines, is_wanted)
    };
    let wanted = host(authority);
    let (authority, target) = (authority.as_bytes(), target.as_bytes());
    let view = RequestView { host: &wanted, authority, method: method.as_bytes(), target, any_value: &any_value };
    let verdict = decided(table, to, Content::Request(&view));
    let Some(Route::Http(taken)) = &verdict.route else {
        return match verdict.decision {
            Decision::Forward(cluster) => format!("unrouted {}", cluster.name),
            Decision::Refuse(refusal @ (Refusal::NoRoute(_) | Refusal::AmbiguousPath)) => {
                refusal.answer().0.to_string()
            }
            _ => "unknown".to_owned(),
        };
    };
    let path = taken.rewritten(target).map(|path| format!(" as {}", String::from_utf8(path).unwrap()));
    let to = match verdict.decision {
        Decision::Forward(cluster) => cluster.name.clone(),
        Decision::Answer(_, Answer::Redirect(redirect)) => {
            let rewritten = taken.rewritten(target).unwrap_or_else(|| target.to_vec());
            return format!(
                "{} {}",
                taken.route.title(),
                redirect.location(words[2], str::from_utf8(&rewritten).unwrap())
            );
        }
        Decision::Answer(_, answer) => answer.status().to_string(),
        Decision::Refuse(Refusal::NoCluster(name)) => format!("no {name}"),
        other => panic!("{request}: {other:?}"),
    };
    let authority = taken.destination.and_then(|to| to.authority.as_ref()).map(|host| format!(" for {host}"));
    format!("{} {to}{}{}", taken.route.title(), path.unwrap_or_default(), authority.unwrap_or_default())
}

const API: &str = "outbound|80||api.example";

#[test]
fn the_first_route_that_matches_takes_a_request() {
    let to = "route: [{destination: {host: api.example}}]";
    let table = table(&format!(
        "  - {{name: exact, match: [{{uri: {{exact: /a}}}}], {to}}}
  - {{name: both, match: [{{uri: {{prefix: /b}}, method: {{exact: POST}}}}, {{uri: {{prefix: /c}}}}], {to}}}
  - {{name: regex, match: [{{uri: {{regex: \"/d[0-9]+\"}}}}], {to}}}
  - {{name: case, match: [{{uri: {{prefix: /E}}, ignoreUriCase: true}}], {to}}}
  - {{name: field, match: [{{headers: {{X-Kind: {{exact: \"1\"}}}}, withoutHeaders: {{x-not: {{}}}}}}], {to}}}
  - {{name: authority, match: [{{authority: {{regex: \".*:8000\"}}}}], {to}}}
  - {{name: label, match: [{{uri: {{prefix: /l}}, sourceLabels: {{app: b}}}}], {to}}}
  - {{name: own, match: [{{uri: {{prefix: /l}}, sourceLabels: {{app: a}}, sourceNamespace: shop}}], {to}}}
  - {{name: gateway, match: [{{uri: {{prefix: /g}}, gateways: [egress]}}], {to}}}
  - {{name: tls, match: [{{port: 443}}], {to}}}
"
    ));
    for (request, expected) in [
        ("GET 9.9.9.9:80 api.example /a", format!("exact {API}")),
        ("GET 9.9.9.9:80 API.example.:80 /a?b", format!("exact {API}")),
        ("GET 9.9.9.9:80 api.example //x/../%61", format!("exact {API}")),
        ("GET 9.9.9.9:80 api.example /a/", "404".to_owned()),
        ("GET 9.9.9.9:80 api.example /a%2f", "400".to_owned()),
        ("GET 9.9.9.9:80 api.example /b", "404".to_owned()),
        ("POST 9.9.9.9:80 api.example /b", format!("both {API}")),
        ("GET 9.9.9.9:80 api.example /cd", format!("both {API}")),
        ("GET 9.9.9.9:80 api.example /d12", format!("regex {API}")),
        ("GET 9.9.9.9:80 api.example /d12/", "404".to_owned()),
        ("GET 9.9.9.9:80 api.example /e/f", format!("case {API}")),
        ("GET 9.9.9.9:80 api.example /x x-kind=1", format!("field {API}")),
        ("GET 9.9.9.9:80 api.example /x x-kind=2", "404".to_owned()),
        ("GET 9.9.9.9:80 api.example /x x-kind=1 x-not=", "404".to_owned()),
        ("GET 9.9.9.9:80 api.example:8000 /x", format!("authority {API}")),
        ("GET 9.9.9.9:80 api.example /l", format!("own {API}")),
        ("GET 9.9.9.9:80 api.example /g", "404".to_owned()),
        ("GET 9.9.9.9:80 other.example /a", "unknown".to_owned()),
        ("GET 9.9.9.9:81 api.example /a", "unknown".to_owned()),
    ] {
        assert_eq!(becomes(&table, request), expected, "{request}");
    }
}

#[test]
fn queries_and_schemes() {
    let to = "route: [{destination: {host: api.example}}]";
    let table = table(&format!(
        "  - {{name: exact, match: [{{queryParams: {{a: {{exact: \"1\"}}, b: {{regex: \"x+\"}}}}}}], {to}}}
  - {{name: there, match: [{{queryParams: {{c: {{}}}}}}], {to}}}
  - {{name: empty, match: [{{queryParams: {{d: {{exact: \"\"}}}}}}], {to}}}
  - {{name: https, match: [{{scheme: {{exact: https}}}}], {to}}}
  - {{name: http, match: [{{scheme: {{prefix: http}}, uri: {{prefix: /s}}}}], {to}}}
"
    ));
    for (target, expected) in [
        ("/?a=1&b=xx", "exact"),
        ("/?b=xx&z&a=1", "exact"),
        ("/?a=1&b=y", "404"),
        ("/?a=2&a=1&b=x", "404"),
        ("/?%61=1&b=x", "404"),
        ("/a=1&b=x", "404"),
        ("/?c", "there"),
        ("/?c=9", "there"),
        ("/?cc=9", "404"),
        ("/?d", "empty"),
        ("/?d=", "empty"),
        ("/?d=1", "404"),
        ("/s", "http"),
    ] {
        let found = becomes(&table, &format!("GET 9.9.9.9:80 api.example {target}"));
        assert_eq!(found.split(' ').next(), Some(expected), "{target}");
    }
}

#[test]
fn what_a_route_does() {
    let table = table(
        "  - {name: v1, match: [{uri: {prefix: /v1/}}], rewrite: {uri: /v2/}, route: [{destination: {host: api.example}}]}
  - {name: one, match: [{uri: {exact: /one}}], rewrite: {uri: /two}, route: [{destination: {host: api.example}}]}
  - {name: moved, match: [{uri: {prefix: /m}}], redirect: {authority: new.example, scheme: https}}
  - {name: port, match: [{uri: {prefix: /p}}], redirect: {uri: /q, port: 8443}}
  - {name: query, match: [{uri: {prefix: /u}}], redirect: {uri: /q?own}}
  - {name: prefix, match: [{uri: {prefix: /old}}], redirect: {prefixRewrite: /new}}
  - {name: whole, match: [{uri: {exact: /exact}}], redirect: {prefixRewrite: /new, authority: b.example}}
  - {name: said, match: [{uri: {prefix: /s}}], directResponse: {status: 418}}
  - {name: far, match: [{uri: {prefix: /f}}], route: [{destination: {host: other.example}}]}
  - {name: tls, match: [{uri: {prefix: /t}}], route: [{destination: {host: api.example, port: {number: 443}}}]}
  - {name: rewritten, match: [{uri: {prefix: /r}}], rewrite: {authority: b.example}, route: [{destination: {host: api.example}}]}
  - name: host
    match: [{uri: {prefix: /h}}]
    headers: {request: {set: {HOST: b.example}}}
    route: [{destination: {host: api.example}}]
  - name: own
    match: [{uri: {prefix: /w}}]
    rewrite: {authority: b.example}
    route: [{destination: {host: api.example}, headers: {request: {add: {\":authority\": 'c.example:81'}}}}]
  - {name: second, match: [{uri: {prefix: /2}}], route: [{destination: {host: api.example, subset: v2}}]}
",
    );
    for (request, expected) in [
        ("GET 9.9.9.9:80 api.example /v1/x?q=1", "v1 outbound|80||api.example as /v2/x?q=1"),
        ("GET 9.9.9.9:80 api.example /v0/../v1/x", "v1 outbound|80||api.example as /v2/x"),
        ("GET 9.9.9.9:80 api.example /one?q", "one outbound|80||api.example as /two?q"),
        ("GET 9.9.9.9:80 api.example /m?q", "moved https://new.example/m?q"),
        ("GET 9.9.9.9:80 api.example:80 /p", "port http://api.example:8443/q"),
        ("GET 9.9.9.9:80 api.example:80 /p/a?x=1", "port http://api.example:8443/q?x=1"),
        ("GET 9.9.9.9:80 api.example /u?x=1", "query http://api.example/q?own"),
        ("GET 9.9.9.9:80 api.example /old/a?x=1", "prefix http://api.example/new/a?x=1"),
        ("GET 9.9.9.9:80 api.example /old", "prefix http://api.example/new"),
        ("GET 9.9.9.9:80 api.example /exact?x=1", "whole http://b.example/new?x=1"),
        ("GET 9.9.9.9:80 api.example /s", "said 418"),
        ("GET 9.9.9.9:80 api.example /f", "far outbound|8080||other.example"),
        ("GET 9.9.9.9:80 api.example /t", "tls outbound|443||api.example"),
        ("GET 9.9.9.9:80 api.example /r", "rewritten outbound|80||api.example for b.example"),
        ("GET 9.9.9.9:80 api.example /h", "host outbound|80||api.example for b.example"),
        ("GET 9.9.9.9:80 api.example /w", "own outbound|80||api.example for c.example:81"),
        ("GET 9.9.9.9:80 api.example /2", "second outbound|80|v2|api.example"),
    ] {
        assert_eq!(becomes(&table, request), expected, "{request}");
    }
    let cluster = |name: &str, asks: bool| {
        table
            .clusters()
            .iter()
            .find(|c| c.name == name && c.tls_request.is_some() == asks)
            .unwrap_or_else(|| panic!("{name}"))
    };
    // The port is the application's own TLS by itself, and TLS of ours by the route.
    assert!(cluster("outbound|443||api.example", true).index > cluster("outbound|443||api.example", false).index);
    let mut addresses = Vec::new();
    let original = dst("9.9.9.9:80").addr();
    cluster("outbound|80|v2|api.example", false)
        .endpoints
        .for_each(original, |address, _| addresses.push(address.to_string()));
    assert_eq!(addresses, ["192.0.2.2:80"]);
    // HTTP/2 without TLS cannot be routed, and one of the routes wants TLS.
    let must_sniff = |to| unreadable(&table, to).is_some_and(|why| why.ends_with("tls_origination"));
    assert!(must_sniff("9.9.9.9:80") && !must_sniff("9.9.9.9:81"));
}

#[test]
fn a_subset_has_a_policy_of_its_own() {
    let (table, problems) = table_for(
        "api.example",
        "  - {match: [{uri: {prefix: /s}}], route: [{destination: {host: api.example, subset: secure}}]}
  - {match: [{uri: {prefix: /t}}], route: [{destination: {host: api.example, port: {number: 443}, subset: secure}}]}
  - {match: [{uri: {prefix: /n}}], route: [{destination: {host: api.example, subset: nobody}}]}
  - {match: [{uri: {prefix: /u}}], route: [{destination: {host: api.example, subset: unknown}}]}
  - {match: [{uri: {prefix: /h}}], route: [{destination: {host: nowhere.example}}]}
",
    );
    let transport = |name: &str| {
        let cluster = table.clusters().iter().find(|cluster| cluster.name == name).unwrap_or_else(|| panic!("{name}"));
        (format!("{:?}", cluster.transport), cluster.tls_request.as_ref().map(|request| format!("{:?}", request.sni)))
    };
    let (secure, sni) = transport("outbound|80|secure|api.example");
    assert!(secure.starts_with("Refused") && sni.unwrap().contains("subset.example"), "asks for TLS: {secure}");
    assert_eq!(transport("outbound|443|secure|api.example"), ("Plaintext".to_owned(), None));
    assert!(transport("outbound|80|nobody|api.example").0.starts_with("Refused"));
    for (request, expected) in [
        ("GET 9.9.9.9:80 api.example /u", "vs no outbound||unknown|api.example"),
        ("GET 9.9.9.9:80 api.example /h", "vs no outbound|||nowhere.example"),
    ] {
        assert_eq!(becomes(&table, request), expected, "{request}");
    }
    let told = |words: &str| problems.iter().any(|problem| problem.contains(words));
    assert!(told("its subset unknown") && told("no ServiceEntry lists nowhere.example"), "{problems:#?}");
}

#[test]
fn the_most_specific_host_has_the_routes_and_the_older_keeps_them() {
    let wide = "  - {name: wide, directResponse: {status: 200}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: younger}
spec:
  hosts: [api.example]
  http: [{name: narrow, directResponse: {status: 201}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: late}
spec:
  hosts: [\"*.example\"]
  http: [{name: late, directResponse: {status: 203}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: foreign, namespace: bank}
spec:
  hosts: [other.example]
  exportTo: [\".\"]
  http: [{name: foreign, directResponse: {status: 202}}]
";
    let (table, problems) = table_for("\"*.example\"", wide);
    for (request, expected) in [
        ("GET 9.9.9.9:80 api.example /", "narrow 201"),
        ("GET 9.9.9.9:80 b.example /", "wide 200"),
        ("GET 9.9.9.9:8080 other.example /", "wide 200"),
        ("GET 9.9.9.9:80 192.0.2.1 /", "unknown"),
    ] {
        assert_eq!(becomes(&table, request), expected, "{request}");
    }
    assert!(problems.iter().any(|p| p.contains("*.example stays with the older VirtualService")), "{problems:#?}");
}

/// A short name in a VirtualService is a service of its namespace, and requests may name the host in any of its forms.
#[test]
fn short_names_of_hosts_and_destinations() {
    let service = "  - {name: all, route: [{destination: {host: echo}}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: echo}
spec:
  hosts: [echo.shop.svc.cluster.local]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: DNS
";
    let (table, problems) = table_for("echo", service);
    assert!(!problems.iter().any(|problem| problem.contains("echo")), "{problems:?}");
    let cluster = "all outbound|80||echo.shop.svc.cluster.local";
    for (host, expected) in
        [("echo", cluster), ("echo.shop", cluster), ("echo.shop.svc.cluster.local", cluster), ("echo.bank", "unknown")]
    {
        assert_eq!(becomes(&table, &format!("GET 9.9.9.9:80 {host} /")), expected, "{host}");
    }
}

/// As Envoy 1.40 was seen to route: one line that matches is enough, but for fields whose lines it joins first.
#[test]
fn lines_of_a_field_are_compared_one_by_one() {
    let to = "directResponse: {status: 403}";
    for (condition, fields, holds) in [
        ("headers: {x-m: {exact: a}}", "x-m=b x-m=a", true),
        ("headers: {x-m: {exact: a}}", "x-m=a x-m=b", true),
        ("headers: {x-m: {exact: a}}", "x-m=b x-m=c", false),
        ("headers: {x-m: {exact: 'a,b'}}", "x-m=a x-m=b", false),
        ("headers: {x-m: {exact: 'a,b'}}", "x-m=a,b", true),
        ("headers: {x-m: {prefix: b}}", "x-m=a x-m=bc", true),
        ("headers: {x-m: {regex: 'b.*'}}", "x-m=a x-m=b", true),
        ("headers: {x-m: {}}", "x-m=a x-m=b", true),
        ("withoutHeaders: {x-m: {exact: a}}", "x-m=b x-m=a", false),
        ("withoutHeaders: {x-m: {exact: a}}", "x-m=a x-m=b", false),
        ("withoutHeaders: {x-m: {exact: a}}", "x-m=b x-m=c", true),
        ("withoutHeaders: {x-m: {exact: a}}", "x-m=a,b", true),
        ("withoutHeaders: {x-m: {exact: a}}", "", true),
        ("withoutHeaders: {x-m: {}}", "x-m=a x-m=b", false),
        // What is not there is empty, unless any value is meant.
        ("withoutHeaders: {x-m: {regex: '[^b]*'}}", "", false),
        ("withoutHeaders: {x-m: {regex: '[^b]*'}}", "x-m=b", true),
        ("withoutHeaders: {x-m: {exact: ''}}", "", false),
        ("withoutHeaders: {x-m: {}}", "", true),
        ("headers: {Accept: {exact: a}}", "accept=a accept=b", false),
        ("headers: {accept: {exact: 'a,b'}}", "accept=a accept=b", true),
        ("headers: {via: {exact: 'a,b'}}", "via=a via=b", true),
        ("withoutHeaders: {x-forwarded-for: {exact: a}}", "x-forwarded-for=a x-forwarded-for=b", true),
        ("headers: {cookie: {exact: 'b=2'}}", "cookie=a=1 cookie=b=2", true),
    ] {
        let table = table(&format!("  - {{name: taken, match: [{{{condition}}}], {to}}}\n"));
        let expected = if holds { "taken 403" } else { "404" };
        let request = format!("GET 9.9.9.9:80 api.example / {fields}");
        assert_eq!(becomes(&table, request.trim_end()), expected, "{condition} of {fields:?}");
    }
}

/// A field may hold any bytes (RFC 9110 §5.5): an expression reads them as bytes.
#[test]
fn fields_that_are_no_text() {
    let to = "directResponse: {status: 403}";
    let table = table(&format!(
        "  - {{name: odd, match: [{{headers: {{x-kind: {{regex: \"[^a]*\"}}}}}}], {to}}}\n  - {{name: a, {to}}}\n"
    ));
    let wanted = host("api.example");
    for (value, expected) in [(&b"\xff\xfe"[..], "odd"), (b"\xc0\xaf\0", "odd"), (b"b\xe9a", "a"), (b"a", "a")] {
        let any_value = |_: &str, is_wanted: &mut dyn FnMut(&[u8]) -> bool| is_wanted(value);
        let (authority, target) = (&b"api.example"[..], &b"/"[..]);
        let view = RequestView { host: &wanted, authority, method: b"GET", target, any_value: &any_value };
        let verdict = decided(&table, "9.9.9.9:80", Content::Request(&view));
        assert_eq!(verdict.log_fields().route, Some(expected), "{}", value.escape_ascii());
    }
}

#[test]
fn weights_share_requests() {
    let table = table(
        "  - route: [{destination: {host: api.example}, weight: 3}, {destination: {host: other.example}, weight: 1}]\n",
    );
    let wanted = host("api.example");
    let view = RequestView { host: &wanted, authority: b"", method: b"GET", target: b"/", any_value: &|_, _| false };
    let flow = Flow { destination: dst("9.9.9.9:80"), content: Content::Request(&view) };
    let shares: Vec<_> = (0..8).map(|random| table.decide(&flow, random).cluster().unwrap().name.as_str()).collect();
    let (a, b) = (API, "outbound|8080||other.example");
    assert_eq!(shares, [a, a, a, b, a, a, a, b]);
}

#[test]
fn routes_hold_where_requests_are_read_alone() {
    let table = table("  - {name: all, route: [{destination: {host: api.example, port: {number: 80}}}]}\n");
    for (request, expected) in [
        ("GET 9.9.9.9:80 api.example /", format!("all {API}")),
        ("GET 9.9.9.9:8080 api.example /", format!("all {API}")),
        // In Istio this port has a listener for TLS alone, and the rest is as good as unknown.
        ("GET 9.9.9.9:443 api.example /", "unknown".to_owned()),
        ("GET 9.9.9.9:9 api.example /", "unknown".to_owned()),
    ] {
        assert_eq!(becomes(&table, request), expected, "{request}");
    }
}

#[test]
fn an_address_is_a_host_too() {
    let (table, warnings) = table_for(
        "api.example, 192.0.2.7, '2001:db8::7'",
        "  - {name: all, route: [{destination: {host: api.example, port: {number: 80}}}]}\n",
    );
    assert!(warnings.iter().all(|warning| !warning.contains("192.0.2.7")), "{warnings:?}");
    for (request, expected) in [
        ("GET 9.9.9.9:80 192.0.2.7 /", format!("all {API}")),
        ("GET 9.9.9.9:80 192.0.2.7:80 /", format!("all {API}")),
        ("GET 9.9.9.9:80 [2001:db8::7] /", format!("all {API}")),
        ("GET 9.9.9.9:80 192.0.2.8 /", "unknown".to_owned()),
    ] {
        assert_eq!(becomes(&table, request), expected, "{request}");
    }
}
