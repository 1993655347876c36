//! Delegation between VirtualServices, by the rows of Istio's `TestMergeVirtualServices` and `TestMergeHTTPRoutes`, in our words.

use std::path::Path;

use crate::config::{Severity, load_text};
use crate::policy::tests::fixture::{compiled, workload};
use crate::policy::{Action, Answer, take_unjudged};

/// What becomes of these VirtualServices, each as `NAMESPACE/NAME HOSTS EXTRA | ROUTES`: the compiled routes, and what is told.
fn merged(services: &[&str]) -> (Vec<String>, Vec<String>) {
    let document = |text: &&str| {
        let (head, routes) = text.split_once(" | ").unwrap();
        let [name, hosts, extra] = head.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{head}") };
        let (namespace, name) = name.split_once('/').unwrap();
        let hosts = if hosts == "-" { String::new() } else { format!("hosts: [{hosts}], ") };
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
             spec: {{{hosts}{extra}http: [{routes}]}}\n"
        )
    };
    let text = services.iter().map(document).collect::<Vec<_>>().join("---\n");
    let mut loaded = load_text(Path::new("f"), &text);
    assert_eq!(loaded.problems, [], "{text}");
    let told: Vec<String> = take_unjudged(&mut loaded.resources, &[workload("shop", "app=a")], true)
        .into_iter()
        .map(|problem| {
            format!("{}{}", if problem.severity == Severity::Error { "error: " } else { "" }, problem.message)
        })
        .collect();
    if !told.is_empty() {
        return (Vec::new(), told);
    }
    let (table, warnings) = compiled(&loaded.resources);
    let routes = table.services.services.iter().flat_map(|service| &service.routes);
    let shown = routes.map(|route| {
        let to = match &route.action {
            Action::Forward(all) => all[0].name.replace("outbound|80||", ""),
            Action::Answer(Answer::Direct { status, .. }) => status.to_string(),
            Action::Answer(Answer::Redirect(_)) => "redirect".to_owned(),
        };
        let one = |one: &crate::config::HttpMatch| {
            let uri = one.uri.as_ref().map(|uri| format!("{uri:?}"));
            let fields = one.headers.iter().map(|(name, wanted)| format!("{name} {wanted:?}"));
            uri.into_iter().chain(fields).chain(one.never.then(|| "never".to_owned())).collect::<Vec<_>>().join(" ")
        };
        let matches = route.matches.iter().map(one).collect::<Vec<_>>().join("; ");
        let timeout = route.timeout.map(|timeout| format!(" in {timeout:?}")).unwrap_or_default();
        format!("{} [{matches}] {to}{timeout}", route.title())
    });
    (shown.collect(), warnings.into_iter().filter(|message| !message.contains("no ServiceEntry lists")).collect())
}

const ROOT: &str = "{match: [{uri: {prefix: /a}}], delegate: {name: d}}";
const TO_B: &str = "route: [{destination: {host: b.example, port: {number: 80}}}]";

#[test]
fn routes_of_a_delegate_stand_in_the_place_of_the_one_that_delegates() {
    for (root, delegate, expected) in [
        (ROOT, format!("{{{TO_B}}}"), &["v [Prefix(\"/a\")] b.example"][..]),
        (
            ROOT,
            format!("{{match: [{{uri: {{prefix: /a/b}}}}], {TO_B}}}, {{match: [{{uri: {{exact: /a}}}}], {TO_B}}}"),
            &["v [Prefix(\"/a/b\")] b.example", "v [Exact(\"/a\")] b.example"],
        ),
        (
            "{delegate: {name: d}}",
            format!("{{match: [{{uri: {{prefix: /c}}}}], {TO_B}}}"),
            &["v [Prefix(\"/c\")] b.example"],
        ),
        // Names are joined, and what the delegate does not say is said by the root.
        (
            "{name: root, timeout: 3s, match: [{headers: {x: {exact: one}}}, {uri: {prefix: /a}}], delegate: {name: d}}",
            format!("{{name: own, match: [{{uri: {{prefix: /a}}}}], {TO_B}}}, {{timeout: 1s, {TO_B}}}"),
            &[
                "root-own [Prefix(\"/a\") x Exact(\"one\"); Prefix(\"/a\")] b.example in 3s",
                "root [x Exact(\"one\"); Prefix(\"/a\")] b.example in 1s",
            ],
        ),
        // Short names are of the delegate's namespace.
        (
            ROOT,
            "{route: [{destination: {host: b, port: {number: 80}}}]}".to_owned(),
            &["v [Prefix(\"/a\")] b.shop.svc.cluster.local"],
        ),
        (ROOT, "{directResponse: {status: 403}}".to_owned(), &["v [Prefix(\"/a\")] 403"]),
        (
            "{match: [{gateways: [mesh, in]}], delegate: {name: d}}",
            format!("{{match: [{{gateways: [in]}}], {TO_B}}}"),
            &["v [never] b.example"],
        ),
    ] {
        let (routes, told) = merged(&[&format!("shop/v a.example  | {root}"), &format!("shop/d -  | {delegate}")]);
        assert_eq!(routes, expected, "{delegate}");
        assert_eq!(told, [""; 0], "{delegate}");
    }
    // The rest of the root's routes stay where they are.
    let root = format!("{{match: [{{uri: {{prefix: /x}}}}], {TO_B}}}, {ROOT}, {{{TO_B}}}");
    let (routes, told) = merged(&[
        &format!("shop/v a.example  | {root}"),
        &format!("shop/d -  | {{{TO_B}}}, {{directResponse: {{status: 200}}}}"),
    ]);
    assert_eq!(
        routes,
        ["v [Prefix(\"/x\")] b.example", "v [Prefix(\"/a\")] b.example", "v [Prefix(\"/a\")] 200", "v [] b.example",]
    );
    assert_eq!(told, [""; 0]);
}

#[test]
fn a_match_outside_of_the_roots_takes_the_route_out() {
    for (wide, narrow, is_within) in [
        ("uri: {prefix: /a}", "uri: {prefix: /b}", false),
        ("uri: {prefix: /a}", "uri: {exact: /ab}", true),
        ("uri: {exact: /a}", "uri: {prefix: /a}", false),
        ("uri: {exact: /a}", "uri: {exact: /a}", true),
        ("uri: {exact: /a}", "uri: {exact: /b}", false),
        ("uri: {prefix: /a}", "method: {exact: GET}", true),
        ("method: {exact: GET}", "method: {exact: POST}", false),
        ("headers: {x: {exact: a}}", "headers: {x: {prefix: a}}", false),
        ("headers: {x: {exact: a}}", "headers: {y: {exact: b}}", true),
        ("headers: {x: {}}", "headers: {x: {exact: b}}", false),
        ("withoutHeaders: {x: {exact: a}}", "withoutHeaders: {x: {exact: b}}", false),
        ("queryParams: {q: {prefix: a}}", "queryParams: {q: {exact: ab}}", true),
        ("ignoreUriCase: true", "uri: {exact: /a}", false),
        ("port: 80", "port: 81", false),
        ("port: 80", "uri: {exact: /a}", true),
        ("sourceNamespace: shop", "uri: {exact: /a}", false),
        ("sourceNamespace: shop", "sourceNamespace: shop", true),
        ("uri: {exact: /a}", "sourceNamespace: shop", true),
        ("sourceLabels: {app: a, v: '1'}", "sourceLabels: {app: a}", true),
        ("sourceLabels: {app: a}", "sourceLabels: {app: b}", false),
        ("gateways: [mesh]", "gateways: [mesh, in]", false),
        ("gateways: [mesh, in]", "gateways: [mesh]", true),
    ] {
        let root = format!("shop/v a.example  | {{match: [{{{wide}}}], delegate: {{name: d}}}}");
        let (routes, told) = merged(&[&root, &format!("shop/d -  | {{match: [{{{narrow}}}], {TO_B}}}")]);
        // A route for pods with other labels is none of this pod's.
        let is_here = is_within && !wide.contains("v: '1'");
        assert_eq!((routes.len() == 1, told.is_empty()), (is_here, is_within), "{wide} {narrow}: {told:?}");
        assert!(is_within || told[0].contains("is not within what the route in line 4 delegates"), "{told:?}");
    }
}

#[test]
fn what_cannot_be_followed_is_told() {
    let delegate = format!("| {{{TO_B}}}");
    let root = |to: &str| format!("shop/v a.example  | {{match: [{{uri: {{prefix: /a}}}}], delegate: {to}}}");
    for (root, delegate, expected) in [
        (root("{name: other}"), "shop/d -  ", "there is no VirtualService shop/other without hosts"),
        (root("{name: d, namespace: bank}"), "shop/d -  ", "there is no VirtualService bank/d"),
        (root("{name: d}"), "shop/d c.example  ", "there is no VirtualService shop/d without hosts"),
        (root("{name: d, namespace: bank}"), "bank/d - exportTo: [.], ", "bank/d is not exported to shop"),
        (root("{name: d, namespace: bank}"), "bank/d - exportTo: [web], ", "bank/d is not exported to shop"),
    ] {
        let (routes, told) = merged(&[&root, &format!("{delegate}| {{{TO_B}}}")]);
        assert!(routes.iter().all(|route| !route.contains("/a")), "{routes:?}");
        assert!(told.iter().any(|one| one.contains(expected)), "{expected}: {told:?}");
    }
    for exported in ["", "exportTo: [shop], ", "exportTo: ['*'], "] {
        let (routes, told) = merged(&[&root("{name: d, namespace: bank}"), &format!("bank/d - {exported} {delegate}")]);
        assert_eq!((routes.len(), told.len()), (1, 0), "{exported}");
    }
    let (_, told) = merged(&[&format!("shop/d -  {delegate}")]);
    assert!(told.len() == 1 && told[0].contains("and none does"), "{told:?}");
}

#[test]
fn an_error_in_a_delegate_counts_only_where_routes_for_sidecars_lead_there() {
    let broken = format!("shop/d -  | {{rewrite: {{uri: ' '}}, {TO_B}}}");
    let (_, told) = merged(&[&format!("shop/v a.example  | {ROOT}"), &broken]);
    assert!(told.len() == 1 && told[0].starts_with("error: spec.http[0].rewrite.uri: "), "{told:?}");
    let (_, told) = merged(&["shop/v a.example  | {directResponse: {status: 200}}", &broken]);
    assert!(told.len() == 1 && told[0].starts_with("this VirtualService has no hosts and is left out"), "{told:?}");
}
