//! Every warning is true: documents are made by seed, and what each warning claims is held against what the compiled table
//! does with requests, TLS and bytes to every place that the documents speak of. That something has no effect is shown by
//! leaving it out. A warning that no claim is known of fails the test.
//!
//! A failure prints its seed; `EGRET_SEED` begins with another.

use std::collections::BTreeSet;
use std::path::Path;

use crate::config::{Problem, Resources, ServiceEntry, load_text};
use crate::policy::lint::has_requests;
use crate::policy::table::cluster::{Cluster, Endpoints, Transport};
use crate::policy::tests::documents::Documents;
use crate::policy::tests::fixture::{Asked, NOT_LOADED, decided, dst, name, requested, workload};
use crate::policy::{ClusterProtocol, Content, Decision, FirstLook, PolicyTable, Route, Verdict, compile};

const ROUNDS: u64 = 100;
/// Hosts that requests and TLS ask for: those of the documents, below their wildcards, and one that nobody lists.
const HOSTS: [&str; 7] = [
    "a.example",
    "b.example",
    "wild.example",
    "x.wild.example",
    "y.x.wild.example",
    "x-part.example",
    "nobody.example",
];
const PLACES: [&str; 3] = ["9.9.9.9", "192.0.2.1", "10.1.1.1"];
const PORTS: [u16; 10] = [22, 80, 443, 3306, 5432, 8080, 8443, 9000, 9090, 7];
const PATHS: [&str; 3] = ["/", "/a", "/a/b"];

/// Documents, and what is made of them.
struct World {
    resources: Resources,
    table: PolicyTable,
}

impl World {
    fn of(resources: Resources) -> (Self, Vec<Problem>) {
        let (table, problems) = compile(&resources, &workload("shop", "app=a"), &mut Asked::default());
        (Self { resources, table }, problems)
    }

    /// The world without something.
    fn without(&self, change: impl FnOnce(&mut Resources)) -> Self {
        let mut resources = self.resources.clone();
        change(&mut resources);
        Self::of(resources).0
    }

    /// Calls `each` with what becomes of each request: its place, host and path.
    fn each_request(&self, mut each: impl FnMut(&str, &str, &str, &Verdict<'_>)) {
        for (place, port) in PLACES.iter().flat_map(|place| PORTS.map(|port| (place, port))) {
            let to = format!("{place}:{port}");
            for (host, path) in HOSTS.iter().flat_map(|host| PATHS.map(|path| (host, path))) {
                let named = crate::policy::tests::fixture::host(host);
                let (authority, target) = (host.as_bytes(), path.as_bytes());
                let view = crate::policy::RequestView {
                    host: &named,
                    authority,
                    method: b"GET",
                    target,
                    any_value: &|_, _| false,
                };
                each(&to, host, path, &decided(&self.table, &to, Content::Request(&view)));
            }
        }
    }

    /// All that becomes of all flows, and how: two worlds with the same do the same.
    fn fingerprint(&self) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        self.each_request(|to, host, path, verdict| {
            all.insert(format!("http {to} {host}{path}: {}", shown(verdict)));
        });
        for (place, port) in PLACES.iter().flat_map(|place| PORTS.map(|port| (place, port))) {
            let to = format!("{place}:{port}");
            for host in HOSTS {
                all.insert(format!(
                    "tls {to} {host}: {}",
                    shown(&decided(&self.table, &to, Content::Tls(Some(&name(host)))))
                ));
            }
            all.insert(format!("tls {to}: {}", shown(&decided(&self.table, &to, Content::Tls(None)))));
            all.insert(format!("bytes {to}: {}", shown(&decided(&self.table, &to, Content::Opaque))));
            all.insert(format!("first {to}: {}", matches!(self.table.first_look(dst(&to), 0), FirstLook::Sniff(_))));
        }
        all
    }

    /// Whether leaving something out changes nothing.
    fn is_the_same_without(&self, change: impl FnOnce(&mut Resources)) -> bool {
        self.fingerprint() == self.without(change).fingerprint()
    }

    fn clusters(&self) -> &[std::sync::Arc<Cluster>] {
        self.table.clusters()
    }

    /// The entry that stands at a place, or has a port or an endpoint there.
    fn entry(&self, problem: &Problem) -> &ServiceEntry {
        let at = problem.at.as_ref().expect("warnings have places");
        let is_it = |entry: &&ServiceEntry| {
            entry.meta.at == *at
                || entry.ports.iter().any(|port| port.at == *at)
                || entry.endpoints.iter().any(|endpoint| endpoint.at == *at)
        };
        self.resources.service_entries.iter().find(is_it).unwrap_or_else(|| panic!("no entry at {problem}"))
    }

    /// Whether some request leaves for a cluster that fulfils `is_it`.
    fn leaves(&self, is_it: impl Fn(&Cluster) -> bool) -> bool {
        let mut found = false;
        self.each_request(|_, _, _, verdict| {
            found |= matches!(verdict.decision, Decision::Forward(cluster) if is_it(cluster));
        });
        found
    }
}

/// The decision in words, with everything of the cluster that a rule can say.
fn shown(verdict: &Verdict<'_>) -> String {
    let route = match &verdict.route {
        Some(Route::Http(taken)) => format!("{:?} of {} ", taken.route.name, taken.route.source),
        Some(Route::Bytes(route)) => format!("bytes of {} ", route.source),
        None => String::new(),
    };
    match &verdict.decision {
        Decision::Forward(cluster) => format!(
            "{route}{} {:?} {:?} {:?} {:?} {:?} {:?}",
            cluster.name,
            cluster.protocol,
            kind(cluster),
            cluster.tls_request,
            cluster.limits,
            cluster.balancing,
            cluster.outlier_detection
        ),
        Decision::Refuse(refusal) => format!("{route}refused: {:?}", refusal.closes()),
        Decision::Answer(_, answer) => format!("{route}answered {}", answer.status()),
        Decision::ByName => "by name".to_owned(),
        Decision::Passthrough => "passthrough".to_owned(),
    }
}

#[derive(Debug, PartialEq)]
enum Kind {
    Plaintext,
    /// Nothing is loaded in tests, so that a cluster with TLS is refused for that alone.
    Tls,
    Refused(String),
}

fn kind(cluster: &Cluster) -> Kind {
    match &cluster.transport {
        Transport::Plaintext => Kind::Plaintext,
        Transport::Refused(why) if **why == *NOT_LOADED => Kind::Tls,
        Transport::Refused(why) => Kind::Refused(why.to_string()),
        Transport::Tls(_) => Kind::Tls,
    }
}

fn upstream_ports(cluster: &Cluster) -> Vec<u16> {
    match &cluster.endpoints {
        Endpoints::OriginalDst { port_override } | Endpoints::ByName { port_override } => {
            vec![port_override.unwrap_or(cluster.origin.port)]
        }
        Endpoints::Resolved(sources) => sources.iter().map(|source| source.port).collect(),
    }
}

/// The number behind the first of these words in a message.
fn number_behind(message: &str, word: &str) -> u16 {
    let rest = message.split(word).nth(1).unwrap_or_else(|| panic!("no {word:?} in {message}"));
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("no number behind {word:?} in {message}"))
}

fn word_behind<'m>(message: &'m str, word: &str) -> &'m str {
    let rest = message.split(word).nth(1).unwrap_or_else(|| panic!("no {word:?} in {message}"));
    rest.split([' ', ':', ',']).next().unwrap_or_default()
}

type Claim = (&'static str, fn(&World, &Problem) -> bool);

/// What a warning with these words claims, and whether it is so.
const CLAIMS: &[Claim] = &[
    ("so this DestinationRule has no effect", rule_without_effect),
    ("this DestinationRule has no effect: the younger rule", rule_without_effect),
    ("this DestinationRule does not apply here", rule_without_effect),
    ("this DestinationRule does not hold for pods of its own namespace", rule_without_effect),
    ("the trafficPolicy of this DestinationRule has no effect", policy_without_effect),
    ("have no effect: the ServiceEntry of", port_level_without_effect),
    ("leave in plaintext for port 443 of the server", |world, problem| {
        let (port, at) = (number_behind(&problem.message, "requests to port "), &world.entry(problem).meta.at);
        world.leaves(|cluster| is_plain(cluster, port, at) && upstream_ports(cluster).contains(&443))
    }),
    ("leaves in plaintext: the DestinationRule of this host asks for TLS", |world, problem| {
        let (port, at) = (number_behind(&problem.message, "port "), &world.entry(problem).meta.at);
        world.leaves(|cluster| is_plain(cluster, port, at))
    }),
    ("replace the whole trafficPolicy", |world, problem| {
        let port = number_behind(&problem.message, "portLevelSettings for port ");
        world.leaves(|cluster| cluster.origin.port == port && kind(cluster) == Kind::Plaintext)
    }),
    ("leaves in plaintext on port", |world, problem| {
        let host = problem.message.split(' ').next().unwrap_or_default();
        let port = number_behind(&problem.message, "on port ");
        world.leaves(|cluster| cluster.host == host && cluster.origin.port == port && kind(cluster) == Kind::Plaintext)
    }),
    ("this route sends requests in plaintext to port", |world, problem| {
        let (port, host) = (number_behind(&problem.message, "to port "), word_behind(&problem.message, " of "));
        let is_it = |cluster: &Cluster| cluster.host == host && cluster.origin.port == port;
        world.clusters().iter().any(|cluster| is_it(cluster) && kind(cluster) == Kind::Plaintext)
    }),
    ("is refused on port", |world, problem| {
        let (host, rest) = problem.message.split_once(" is refused on port ").expect("it was found");
        let (port, reason) = rest.split_once(": ").expect("a reason");
        let is_it = |cluster: &Cluster| cluster.host == host && cluster.origin.port.to_string() == port;
        world.clusters().iter().any(|cluster| is_it(cluster) && kind(cluster) == Kind::Refused(reason.to_owned()))
    }),
    ("port 443 is declared as plain HTTP: an application that speaks TLS", |world, problem| {
        !some_tls_goes_to(world, world.entry(problem), 443)
    }),
    ("port 80 is declared to carry TLS, so plain HTTP requests to it are", |world, problem| {
        let at = &world.entry(problem).meta.at;
        let as_they_are = problem.message.contains("are carried as they are");
        let is_its = |cluster: &Cluster| cluster.origin.port == 80 && cluster.origin.service_entry.at == *at;
        let mut is_so = true;
        world.each_request(|_, _, _, verdict| {
            if let (Decision::Forward(cluster), None) = (&verdict.decision, &verdict.route) {
                is_so &= !is_its(cluster) || as_they_are && cluster.protocol == ClusterProtocol::Opaque;
            }
        });
        is_so
    }),
    ("no request reaches this route", |world, problem| {
        // It may still be a reason to read what may be a request.
        let requests = |world: &World| -> Vec<String> {
            world.fingerprint().into_iter().filter(|line| line.starts_with("http")).collect()
        };
        requests(world) == requests(&without_route(world, problem))
    }),
    ("this route takes nothing", route_without_effect),
    ("no ServiceEntry lists", |world, problem| {
        let host = word_behind(&problem.message, "lists ");
        let port = problem.message.contains(" with port ").then(|| number_behind(&problem.message, " with port "));
        let subset = problem.message.contains(" its subset ").then(|| word_behind(&problem.message, " its subset "));
        let is_it = |cluster: &Cluster| {
            let of_subset = subset.is_none_or(|subset| cluster.name.contains(&format!("|{subset}|")));
            cluster.host == host && port.is_none_or(|port| cluster.origin.port == port) && of_subset
        };
        !world.leaves(is_it) || !world.clusters().iter().any(|cluster| is_it(cluster))
    }),
    ("stay with the older ServiceEntry", stays_with_the_older_entry),
    ("stays with the older VirtualService", |world, problem| {
        let host = problem.message.split(' ').next().unwrap_or_default();
        !takes_some(world, problem, |asked| covers(host, asked) && is_best(world, host, asked))
    }),
    ("hold for plain HTTP alone, and its ServiceEntry has no HTTP port", |world, problem| {
        !has_request_port(world, word_behind(&problem.message, "routes for "))
    }),
    ("is one that requests are dialled on", |world, problem| {
        !has_request_port(world, word_behind(&problem.message, "no port of "))
    }),
    ("takes every connection to port", |world, problem| {
        is_taken(world, number_behind(&problem.message, "connection to port "))
    }),
    ("that is not HTTP is taken, whatever its destination", |world, problem| {
        is_taken(world, number_behind(&problem.message, "every connection to port "))
    }),
    ("and its servers usually speak first", |world, problem| {
        let port = number_behind(&problem.message, "port ");
        PLACES
            .iter()
            .any(|place| matches!(world.table.first_look(dst(&format!("{place}:{port}")), 0), FirstLook::Sniff(_)))
    }),
    ("`addresses` are not matched on the HTTP port", |world, problem| {
        let (port, at) = (number_behind(&problem.message, "HTTP port "), &world.entry(problem).meta.at);
        let other = requested(&world.table, &format!("10.1.1.1:{port}"), "nobody.example");
        !matches!(other.decision, Decision::Forward(cluster) if cluster.origin.service_entry.at == *at)
    }),
    ("an explicit `sni` switches the check", |world, problem| has_tls_at(world, problem)),
    ("insecureSkipVerify:", |world, problem| has_tls_at(world, problem)),
    ("carries no HTTP, so there is no host to send as SNI", |world, problem| {
        let port = number_behind(&problem.message, "port ");
        world.clusters().iter().any(|cluster| cluster.origin.port == port && kind(cluster) != Kind::Plaintext)
    }),
    ("TLS from the first byte on", |world, problem| {
        let port = number_behind(&problem.message, "on port ");
        world.clusters().iter().any(|cluster| cluster.origin.port == port && kind(cluster) != Kind::Plaintext)
    }),
    ("TLS would be spoken to port 80", |world, problem| {
        let port = number_behind(&problem.message, " on port ");
        let is_it = |cluster: &Cluster| cluster.origin.port == port && upstream_ports(cluster).contains(&80);
        world.clusters().iter().any(|cluster| is_it(cluster) && kind(cluster) != Kind::Plaintext)
    }),
    ("connectionPool.http has no effect on port", |world, problem| {
        let port = number_behind(&problem.message, "on port ");
        world
            .clusters()
            .iter()
            .any(|cluster| cluster.origin.port == port && cluster.protocol == ClusterProtocol::Opaque)
    }),
    ("outlierDetection has no effect", |world, _| {
        let follows = |cluster: &Cluster| !matches!(cluster.endpoints, Endpoints::Resolved(_));
        world.clusters().iter().any(|cluster| follows(cluster) && cluster.outlier_detection.is_none())
    }),
    ("no endpoint will be ejected", |world, _| {
        let too_few = |cluster: &Cluster| match (&cluster.endpoints, &cluster.outlier_detection) {
            (Endpoints::Resolved(all), Some(rules)) => all.len() * (rules.max_ejection_percent as usize) < 100,
            _ => false,
        };
        world.clusters().iter().any(|cluster| too_few(cluster))
    }),
    ("Unix sockets are not supported", |world, problem| {
        let path = problem.message.split(' ').find(|word| word.starts_with("unix:")).expect("a path");
        let is_it = |cluster: &Cluster| matches!(&cluster.endpoints, Endpoints::Resolved(all) if all.iter().any(|one| one.configured.to_string() == path));
        !world.clusters().iter().any(|cluster| is_it(cluster))
    }),
    ("is left out: resolution DYNAMIC_DNS needs protocol", |world, problem| {
        let (port, at) = (number_behind(&problem.message, "port "), &world.entry(problem).meta.at);
        !world.clusters().iter().any(|cluster| cluster.origin.port == port && cluster.origin.service_entry.at == *at)
    }),
];

fn is_plain(cluster: &Cluster, port: u16, entry: &crate::config::Location) -> bool {
    cluster.origin.port == port && cluster.origin.service_entry.at == *entry && kind(cluster) == Kind::Plaintext
}

/// Whether bytes to a port of an address that nobody lists are somebody's.
fn is_taken(world: &World, port: u16) -> bool {
    let verdict = decided(&world.table, &format!("9.9.9.9:{port}"), Content::Opaque);
    matches!(verdict.decision, Decision::Forward(_) | Decision::Refuse(_))
}

fn has_request_port(world: &World, host: &str) -> bool {
    let pod = workload("shop", "app=a");
    let is_listed = |entry: &&ServiceEntry| {
        let is_seen = pod.sees(pod.namespace_of(&entry.meta), &entry.export_to);
        is_seen && entry.hosts.iter().any(|own| own.to_string() == host)
    };
    world.resources.service_entries.iter().filter(is_listed).any(has_requests)
}

fn rule_without_effect(world: &World, problem: &Problem) -> bool {
    world.is_the_same_without(|resources| {
        resources.destination_rules.retain(|rule| Some(&rule.meta.at) != problem.at.as_ref());
    })
}

fn policy_without_effect(world: &World, problem: &Problem) -> bool {
    world.is_the_same_without(|resources| {
        let rules = resources.destination_rules.iter_mut();
        rules.filter(|rule| Some(&rule.meta.at) == problem.at.as_ref()).for_each(|rule| rule.traffic_policy = None);
    })
}

fn port_level_without_effect(world: &World, problem: &Problem) -> bool {
    let port = number_behind(&problem.message, "portLevelSettings for port ");
    world.is_the_same_without(|resources| {
        for rule in &mut resources.destination_rules {
            let own = Some(&rule.meta.at) == problem.at.as_ref();
            let Some(policy) = &mut rule.traffic_policy else { continue };
            policy.ports.retain(|(number, settings)| {
                let here = own || settings.tls.as_ref().map(|tls| &tls.at) == problem.at.as_ref();
                *number != port || !here
            });
        }
    })
}

fn route_without_effect(world: &World, problem: &Problem) -> bool {
    world.fingerprint() == without_route(world, problem).fingerprint()
}

fn without_route(world: &World, problem: &Problem) -> World {
    world.without(|resources| {
        for service in &mut resources.virtual_services {
            service.http.retain(|route| Some(&route.at) != problem.at.as_ref());
            service.tls.retain(|route| Some(&route.at) != problem.at.as_ref());
            service.tcp.retain(|route| Some(&route.at) != problem.at.as_ref());
        }
    })
}

fn has_tls_at(world: &World, problem: &Problem) -> bool {
    let rules = world.resources.destination_rules.iter().filter_map(|rule| Some((rule, rule.traffic_policy.as_ref()?)));
    let mut of = rules.filter(|(_, policy)| {
        let all = policy.ports.iter().map(|(_, own)| own).chain([&policy.all]);
        all.filter_map(|policy| policy.tls.as_ref()).any(|tls| Some(&tls.at) == problem.at.as_ref())
    });
    let Some((rule, _)) = of.next() else { return false };
    let is_of = |cluster: &Cluster| cluster.origin.destination_rule.as_ref().is_some_and(|own| own.at == rule.meta.at);
    world.clusters().iter().any(|cluster| is_of(cluster) && kind(cluster) != Kind::Plaintext)
}

fn covers(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(ending) => host.ends_with(ending) && host.len() > ending.len(),
        None => pattern == host,
    }
}

/// Whether no longer pattern of a VirtualService has the host.
fn is_best(world: &World, pattern: &str, host: &str) -> bool {
    let all = world.resources.virtual_services.iter().flat_map(|service| &service.hosts).map(ToString::to_string);
    !all.filter(|other| covers(other, host))
        .any(|other| !other.starts_with('*') && pattern.starts_with('*') || other.len() > pattern.len())
}

/// Whether a route of the VirtualService at this place takes a request for some host.
fn takes_some(world: &World, problem: &Problem, is_asked: impl Fn(&str) -> bool) -> bool {
    let mut found = false;
    world.each_request(|_, host, _, verdict| {
        let taken =
            matches!(&verdict.route, Some(Route::Http(taken)) if Some(&taken.route.source.at) == problem.at.as_ref());
        found |= taken && is_asked(host);
    });
    found
}

fn some_tls_goes_to(world: &World, entry: &ServiceEntry, port: u16) -> bool {
    let goes = |table: &PolicyTable, to: &str| {
        let names = HOSTS.iter().filter(|host| entry.hosts.iter().any(|own| covers(&own.to_string(), host)));
        names.into_iter().any(|host| {
            let verdict = decided(table, to, Content::Tls(Some(&name(host))));
            matches!(verdict.decision, Decision::Forward(cluster) if cluster.origin.service_entry.at == entry.meta.at)
        })
    };
    PLACES.iter().any(|place| goes(&world.table, &format!("{place}:{port}")))
}

/// `host H on port N stay with …`, `SNI H on …`, `connections [to X] on …`, `TLS [to X] on …`.
fn stays_with_the_older_entry(world: &World, problem: &Problem) -> bool {
    let entry = world.entry(problem);
    let (what, _) = problem.message.split_once(" on port ").expect("a port");
    let port = number_behind(&problem.message, " on port ");
    let is_this = |verdict: &Verdict<'_>| matches!(verdict.decision, Decision::Forward(cluster) if verdict.route.is_none() && cluster.origin.service_entry.at == entry.meta.at);
    match what.split(' ').collect::<Vec<_>>()[..] {
        ["host", host] => {
            let asked = if host.contains('*') { host.replace('*', "only") } else { host.to_owned() };
            !is_this(&requested(&world.table, &format!("9.9.9.9:{port}"), &asked))
        }
        ["SNI", host, ..] => {
            let asked = if host.contains('*') { host.replace('*', "only") } else { host.to_owned() };
            let place = what
                .split(" to ")
                .nth(1)
                .map_or("9.9.9.9", |range| if range.contains('/') { "10.1.1.1" } else { range });
            !is_this(&decided(&world.table, &format!("{place}:{port}"), Content::Tls(Some(&name(&asked)))))
        }
        ["connections" | "TLS", ..] => {
            let place = what
                .split(" to ")
                .nth(1)
                .map_or("9.9.9.9", |range| if range.contains('/') { "10.1.1.1" } else { range });
            let content = if what.starts_with("TLS") { Content::Tls(None) } else { Content::Opaque };
            !is_this(&decided(&world.table, &format!("{place}:{port}"), content))
        }
        _ => panic!("{what}"),
    }
}

#[test]
fn what_a_warning_says_is_so() {
    let given = std::env::var("EGRET_SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    let start = given.unwrap_or(1);
    let (mut seen, mut wrong, mut sound) = (BTreeSet::new(), Vec::new(), 0);
    for seed in (0..ROUNDS).map(|round| start.wrapping_add(round)) {
        let text = Documents::new(seed).text();
        let loaded = load_text(Path::new("f"), &text);
        if loaded.has_errors() {
            continue;
        }
        sound += 1;
        let (world, problems) = World::of(loaded.resources);
        for problem in problems.iter().filter(|problem| !problem.message.contains(NOT_LOADED)) {
            let claim = CLAIMS.iter().find(|(words, _)| problem.message.contains(words));
            match claim {
                None => {
                    wrong.push(format!("EGRET_SEED={seed}: nobody checks this warning, say what it claims: {problem}"));
                }
                Some((words, is_so)) => {
                    seen.insert(*words);
                    if !is_so(&world, problem) {
                        wrong.push(format!("EGRET_SEED={seed}: this is not so: {problem}\n{text}"));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong[..wrong.len().min(5)].join("\n\n"));
    assert!(sound > ROUNDS / 2, "{sound} of {ROUNDS} documents have no error: the test has lost its point");
    assert!(
        given.is_some() || seen.len() >= CLAIMS.len() * 2 / 3,
        "only {} kinds of warnings were seen: {seen:?}",
        seen.len()
    );
}
