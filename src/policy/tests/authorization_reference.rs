//! A second opinion on AuthorizationPolicies: the rules in three-valued logic, compared on random policies and flows.
//!
//! A condition is true, false or unknown (`None`); "and", "or" and "not" are Kleene's. A DENY holds unless it is false,
//! an ALLOW only if it is true. Nothing is shared with the compiled form but the types of the configuration.

use proptest::prelude::*;

use crate::config::{
    AuthorizationAction, AuthorizationCondition, AuthorizationOperation, AuthorizationRule, TextPattern, Wanted,
};
use crate::policy::table::authorization::{Authorization, Policy};
use crate::policy::tests::fixture::{dst, host, name};
use crate::policy::{Content, RequestView};

type Truth = Option<bool>;

/// A flow to port 80 of 9.9.9.9: a request, or a connection with what is known of its server name.
#[derive(Clone, Debug)]
enum Flow {
    Request { host: &'static str, method: &'static str, path: &'static str, roles: &'static [&'static str] },
    Tls(&'static str),
    Bytes,
    Unread,
}

fn any(all: impl Iterator<Item = Truth>) -> Truth {
    let all: Vec<Truth> = all.collect();
    if all.contains(&Some(true)) {
        Some(true)
    } else if all.contains(&None) {
        None
    } else {
        Some(false)
    }
}

fn not(one: Truth) -> Truth {
    one.map(|one| !one)
}

fn all(all: impl Iterator<Item = Truth>) -> Truth {
    not(any(all.map(not)))
}

fn wanted<T>(wanted: &Wanted<T>, is: impl Fn(&T) -> Truth) -> Truth {
    let positive = if wanted.any_of.is_empty() { Some(true) } else { any(wanted.any_of.iter().map(&is)) };
    all([positive, not(any(wanted.none_of.iter().map(&is)))].into_iter())
}

fn covers(pattern: &TextPattern, text: &str) -> bool {
    match pattern {
        TextPattern::Present => !text.is_empty(),
        TextPattern::Exact(whole) => whole == text,
        TextPattern::Prefix(start) => text.starts_with(start.as_str()),
        TextPattern::Suffix(end) => text.ends_with(end.as_str()),
        TextPattern::Template(_) => unreachable!("not generated"),
    }
}

/// True where it is so, unknown where only some reader might think so.
fn perhaps(certainly: bool, maybe: bool) -> Truth {
    if certainly {
        Some(true)
    } else if maybe {
        None
    } else {
        Some(false)
    }
}

fn operation(one: &AuthorizationOperation, flow: &Flow) -> Truth {
    let ports = wanted(&one.ports, |port| Some(*port == 80));
    let (hosts, methods, paths) = match flow {
        Flow::Request { host, method, path, .. } => (
            wanted(&one.hosts, |pattern| Some(covers(pattern, host))),
            wanted(&one.methods, |pattern| {
                let lower = match pattern {
                    TextPattern::Exact(text) => TextPattern::Exact(text.to_lowercase()),
                    other => other.clone(),
                };
                perhaps(covers(pattern, method), covers(&lower, &method.to_lowercase()))
            }),
            wanted(&one.paths, |pattern| normal(path).map(|path| covers(pattern, path))),
        ),
        _ => (wanted(&one.hosts, |_| None), wanted(&one.methods, |_| None), wanted(&one.paths, |_| None)),
    };
    all([ports, hosts, methods, paths].into_iter())
}

/// By heart, for the paths that are generated.
fn normal(path: &str) -> Option<&str> {
    match path {
        "/a" | "/b/../a?q" | "//a" | "/%61" | "/a;x" => Some("/a"),
        "/a/b" | "/a/./b" => Some("/a/b"),
        "/" => Some("/"),
        _ => None,
    }
}

fn condition(one: &AuthorizationCondition, flow: &Flow) -> Truth {
    match (one, flow) {
        (AuthorizationCondition::Header(_, values), Flow::Request { roles, .. }) => wanted(values, |pattern| {
            // One of several lines, or of a list, is what some server goes by.
            let some = |role: &&str| covers(pattern, role) || role.split(',').any(|one| covers(pattern, one));
            let certainly = !roles.is_empty() && roles.iter().all(|role| covers(pattern, role));
            perhaps(certainly, roles.iter().any(some) || covers(pattern, &roles.join(",")))
        }),
        (AuthorizationCondition::Header(_, values), _) => wanted(values, |_| None),
        (AuthorizationCondition::Sni(values), Flow::Tls(sni)) => wanted(values, |pattern| Some(covers(pattern, sni))),
        (AuthorizationCondition::Sni(values), Flow::Unread) => wanted(values, |_| None),
        (AuthorizationCondition::Sni(values), _) => wanted(values, |_| Some(false)),
        (AuthorizationCondition::Port(ports), _) => wanted(ports, |port| Some(*port == 80)),
        (AuthorizationCondition::Address(ranges), _) => {
            wanted(ranges, |range| Some(range.contains(&dst("9.9.9.9:80").ip())))
        }
        (AuthorizationCondition::Namespace(_), _) => unreachable!("not generated"),
    }
}

fn rule(one: &AuthorizationRule, flow: &Flow) -> Truth {
    let to = one.to.as_ref().map_or(Some(true), |to| any(to.iter().map(|one| operation(one, flow))));
    all([to, all(one.when.iter().map(|one| condition(one, flow)))].into_iter())
}

fn allowed(policies: &[(AuthorizationAction, Vec<AuthorizationRule>)], flow: &Flow) -> bool {
    let matches = |wanted: AuthorizationAction, holds: fn(Truth) -> bool| {
        let of_action = policies.iter().filter(move |(action, _)| *action == wanted);
        of_action.flat_map(|(_, rules)| rules).any(|one| holds(rule(one, flow)))
    };
    let denied = matches(AuthorizationAction::Deny, |truth| truth != Some(false));
    let any_allow = policies.iter().any(|(action, _)| *action == AuthorizationAction::Allow);
    !denied && (!any_allow || matches(AuthorizationAction::Allow, |truth| truth == Some(true)))
}

fn judged(policies: &[(AuthorizationAction, Vec<AuthorizationRule>)], flow: &Flow) -> bool {
    let mut compiled = Authorization::default();
    for (action, rules) in policies {
        compiled.add(*action, Policy::new("shop", "p", rules, "shop"));
    }
    let destination = dst("9.9.9.9:80");
    let may_leave = |content: Content<'_>| compiled.judge(&crate::policy::Flow { destination, content }).is_ok();
    match flow {
        Flow::Request { host: named, method, path, roles } => {
            let any_value =
                |_: &str, is_wanted: &mut dyn FnMut(&[u8]) -> bool| roles.iter().any(|role| is_wanted(role.as_bytes()));
            let (wanted, method, target) = (host(named), method.as_bytes(), path.as_bytes());
            let view =
                RequestView { host: &wanted, authority: named.as_bytes(), method, target, any_value: &any_value };
            may_leave(Content::Request(&view))
        }
        Flow::Tls(sni) => may_leave(Content::Tls(Some(&name(sni)))),
        Flow::Bytes => may_leave(Content::Opaque),
        Flow::Unread => may_leave(Content::Silence),
    }
}

fn lists<T: Clone + std::fmt::Debug + 'static>(values: &[T]) -> impl Strategy<Value = Wanted<T>> + use<T> {
    let values = values.to_vec();
    let some =
        || prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(prop::sample::select(values.clone()), 1..3)];
    (some(), some()).prop_map(|(any_of, none_of)| Wanted { any_of, none_of })
}

fn patterns(texts: &[&str]) -> Vec<TextPattern> {
    let pattern = |text: &&str| match (text.strip_prefix('*'), text.strip_suffix('*')) {
        (Some(""), _) => TextPattern::Present,
        (Some(end), _) => TextPattern::Suffix(end.to_owned()),
        (_, Some(start)) => TextPattern::Prefix(start.to_owned()),
        _ => TextPattern::Exact((*text).to_owned()),
    };
    texts.iter().map(pattern).collect()
}

fn rules() -> impl Strategy<Value = Vec<AuthorizationRule>> {
    let operation = (
        lists(&patterns(&["a.t", "*.t", "a.*", "*"])),
        lists(&[80, 81]),
        lists(&patterns(&["GET", "POST"])),
        lists(&patterns(&["/a", "/a/*", "*b", "*", "/"])),
    );
    let operation =
        operation.prop_map(|(hosts, ports, methods, paths)| AuthorizationOperation { hosts, ports, methods, paths });
    let condition = prop_oneof![
        lists(&patterns(&["x", "y", "x*", "x,y", "y,*"]))
            .prop_map(|values| AuthorizationCondition::Header("role".to_owned(), values)),
        lists(&patterns(&["a.t", "*.t", "*"])).prop_map(AuthorizationCondition::Sni),
        lists(&[80, 81]).prop_map(AuthorizationCondition::Port),
        lists(&["9.0.0.0/8".parse().unwrap(), "8.0.0.0/8".parse().unwrap()]).prop_map(AuthorizationCondition::Address),
    ];
    let to = prop::option::of(prop::collection::vec(operation, 1..3));
    let one = (to, prop::collection::vec(condition, 0..3));
    prop::collection::vec(
        one.prop_map(|(to, when)| AuthorizationRule { to, when, ..AuthorizationRule::default() }),
        0..3,
    )
}

fn flows() -> impl Strategy<Value = Flow> {
    let request = (
        prop::sample::select(vec!["a.t", "b.t", "a.u"]),
        prop::sample::select(vec!["GET", "get", "POST", "PUT"]),
        prop::sample::select(vec![
            "/a",
            "/b/../a?q",
            "//a",
            "/%61",
            "/a;x",
            "/a/b",
            "/a/./b",
            "/",
            "*",
            "/a%2fb",
            "/x/..;/a",
            "/a%00",
        ]),
        prop::sample::select(vec![&[][..], &["x"], &["y"], &["x,y"], &["z"], &["x", "y"], &["y", "y"], &["z", "x,y"]]),
    );
    prop_oneof![
        4 => request.prop_map(|(host, method, path, roles)| Flow::Request { host, method, path, roles }),
        1 => prop::sample::select(vec!["a.t", "b.t", "a.u"]).prop_map(Flow::Tls),
        1 => Just(Flow::Bytes),
        1 => Just(Flow::Unread),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn policies_agree_with_three_valued_logic(
        policies in prop::collection::vec(
            (prop::sample::select(vec![AuthorizationAction::Allow, AuthorizationAction::Deny]), rules()), 0..4),
        flow in flows(),
    ) {
        prop_assert_eq!(judged(&policies, &flow), allowed(&policies, &flow));
    }
}
