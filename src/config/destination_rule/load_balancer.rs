//! `loadBalancer` of a traffic policy: which of several endpoints gets a request.

use std::time::Duration;

use super::locality::{self, LocalityBalancing};
use crate::config::reader::{Field, Object, Report, Shape};
use crate::config::yaml::quoted;

/// A `loadBalancer` block.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadBalancing {
    /// Holds for requests that `hash` gives no number to as well.
    pub by: LoadBalancer,
    pub hash: Option<ConsistentHash>,
    pub warmup: Option<Warmup>,
    pub locality: Option<LocalityBalancing>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoadBalancer {
    #[default]
    LeastRequest,
    RoundRobin,
    Random,
    Passthrough,
}

/// The same key, the same endpoint, as long as there is that endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsistentHash {
    pub key: HashKey,
    pub table: HashTable,
}

/// What of a request is hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// A header field, by its lower-case name.
    Header(String),
    Cookie(HashCookie),
    /// The application's address, without its port.
    SourceIp,
    /// A parameter of the query, by its name as it is written there.
    Query(String),
}

/// A cookie that sticks a client to an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashCookie {
    pub name: String,
    pub path: Option<String>,
    /// A request without the cookie gets one for so long; zero ends with the session, `None` makes none.
    pub ttl: Option<Duration>,
    pub attributes: Vec<(String, Option<String>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashTable {
    Ring {
        /// Least places on the ring, all endpoints together.
        minimum: u32,
    },
    Maglev {
        /// Places in the table; a prime.
        size: u32,
    },
}

/// A new endpoint's share grows to its weight in this time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Warmup {
    pub duration: Duration,
    /// Its share at the beginning, in percent of its weight.
    pub minimum_percent: f64,
    /// 1 grows evenly; more is steeper at the beginning.
    pub aggression: f64,
}

/// Istio's default.
const RING: u32 = 1024;
/// More places make no better ring and take long to lay out: what is asked for beyond is not made.
const LARGEST_RING: u32 = 131_072;
/// Envoy's default and limit.
const MAGLEV: u32 = 65_537;
const LARGEST_MAGLEV: i64 = 5_000_011;

pub(super) fn read(field: &Field<'_>, report: &mut Report) -> Option<LoadBalancing> {
    const SIMPLE: &[(&str, LoadBalancer)] = &[
        ("ROUND_ROBIN", LoadBalancer::RoundRobin),
        ("LEAST_REQUEST", LoadBalancer::LeastRequest),
        ("RANDOM", LoadBalancer::Random),
        ("PASSTHROUGH", LoadBalancer::Passthrough),
        ("LEAST_CONN", LoadBalancer::LeastRequest),
        ("UNSPECIFIED", LoadBalancer::LeastRequest),
    ];
    let mut object = field.object(report)?;
    if object.has("simple") && object.has("consistentHash") {
        field.error("only one of simple and consistentHash may be set", report);
    }
    if object.has("warmup") && object.has("warmupDurationSecs") {
        field.error("only one of warmup and warmupDurationSecs (its older form) may be set", report);
    }
    let simple = object.optional("simple").and_then(|field| field.choice(SIMPLE, report));
    let hash = object.optional("consistentHash").and_then(|field| read_hash(&field, report));
    let even_pace = |duration| Warmup { duration, minimum_percent: 10.0, aggression: 1.0 };
    let older = object.optional("warmupDurationSecs").and_then(|field| field.duration(report)).map(even_pace);
    let warmup_field = object.optional("warmup");
    let warmup = warmup_field.as_ref().and_then(|field| read_warmup(field, report)).or(older);
    let by = simple.unwrap_or_default();
    if warmup.is_some() && (hash.is_some() || matches!(by, LoadBalancer::Random | LoadBalancer::Passthrough)) {
        object.warning("a warmup has effect only with LEAST_REQUEST and ROUND_ROBIN", report);
    }
    let locality = object.optional("localityLbSetting").and_then(|field| locality::read(&field, report));
    object.unsupported("zoneAwareLbSetting", Shape::Any, report);
    object.unsupported("backendUtilization", Shape::Any, report);
    object.finish(report);
    let warmup = warmup.filter(|warmup| !warmup.duration.is_zero());
    Some(LoadBalancing { by, hash, warmup, locality })
}

fn read_hash(field: &Field<'_>, report: &mut Report) -> Option<ConsistentHash> {
    let mut object = field.object(report)?;
    let given = ["httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName"];
    let given = given.iter().filter(|name| object.has(name)).count();
    let header = object.optional("httpHeaderName").and_then(|field| field.word(report)).map(str::to_ascii_lowercase);
    let cookie = object.optional("httpCookie").and_then(|field| read_cookie(&field, report));
    let by_source = object.optional("useSourceIp").and_then(|field| field.boolean(report));
    let query = object.optional("httpQueryParameterName").and_then(|field| field.word(report)).map(str::to_owned);
    let table = read_table(&mut object, report);
    let key = match (header, cookie, by_source, query) {
        _ if given > 1 => {
            object.error(
                "only one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName may be set",
                report,
            );
            None
        }
        (Some(name), ..) => Some(HashKey::Header(name)),
        (_, Some(cookie), ..) => Some(HashKey::Cookie(cookie)),
        (_, _, Some(true), _) => Some(HashKey::SourceIp),
        (.., Some(name)) => Some(HashKey::Query(name)),
        _ if given == 0 || by_source == Some(false) => {
            let message = "says nothing to hash; set httpHeaderName, httpCookie, useSourceIp: true or \
                           httpQueryParameterName";
            object.error(message, report);
            None
        }
        _ => None,
    };
    object.finish(report);
    Some(ConsistentHash { key: key?, table })
}

fn read_table(object: &mut Object<'_>, report: &mut Report) -> HashTable {
    if object.has("ringHash") && object.has("maglev") {
        object.error("only one of ringHash and maglev may be set", report);
    }
    let older = object.optional("minimumRingSize");
    let ring = object.optional("ringHash").and_then(|field| field.object(report));
    let maglev = object.optional("maglev").and_then(|field| field.object(report));
    if let Some(mut maglev) = maglev {
        let size = maglev.optional("tableSize").and_then(|field| read_prime(&field, report));
        maglev.finish(report);
        return HashTable::Maglev { size: size.unwrap_or(MAGLEV) };
    }
    let field = match ring {
        Some(mut ring) => {
            let field = ring.optional("minimumRingSize");
            ring.finish(report);
            field
        }
        None => older,
    };
    let minimum = field.and_then(|field| {
        let size = u32::try_from(field.whole(&(0..=i64::from(u32::MAX)), report)?).ok().filter(|size| *size > 0)?;
        if size > LARGEST_RING {
            field.warning(format!("a ring of {LARGEST_RING} places is made, the largest there is"), report);
        }
        Some(size.min(LARGEST_RING))
    });
    HashTable::Ring { minimum: minimum.unwrap_or(RING) }
}

fn read_prime(field: &Field<'_>, report: &mut Report) -> Option<u32> {
    let number = u32::try_from(field.whole(&(0..=LARGEST_MAGLEV), report)?).ok().filter(|number| *number > 0)?;
    let is_prime = number > 1 && (2..=number.isqrt()).all(|i| number % i != 0);
    if !is_prime {
        field.error(format!("{number} is no prime; {MAGLEV} is one that suits up to some hundred endpoints"), report);
        return None;
    }
    Some(number)
}

fn read_cookie(field: &Field<'_>, report: &mut Report) -> Option<HashCookie> {
    let mut object = field.object(report)?;
    let name = object.required("name").and_then(|field| cookie_word(&field, is_token, report));
    let path = object.optional("path").and_then(|field| cookie_word(&field, is_attribute, report));
    let ttl = object.optional("ttl").and_then(|field| field.duration(report));
    let attributes = object.optional("attributes").map(|field| field.list(64, report)).unwrap_or_default();
    let attributes = attributes.iter().filter_map(|field| {
        let mut object = field.object(report)?;
        let name = object.required("name").and_then(|field| cookie_word(&field, is_token, report));
        let value = object.optional("value").and_then(|field| cookie_word(&field, is_attribute, report));
        object.finish(report);
        Some((name?, value))
    });
    let attributes = attributes.collect();
    object.finish(report);
    Some(HashCookie { name: name?, path: path.filter(|path| !path.is_empty()), ttl, attributes })
}

/// A text that goes into a `Set-Cookie` field.
fn cookie_word(field: &Field<'_>, is_allowed: fn(u8) -> bool, report: &mut Report) -> Option<String> {
    let text = field.text(report)?;
    match text.bytes().find(|byte| !is_allowed(*byte)) {
        None => Some(text.to_owned()),
        Some(byte) => {
            let message = format!("{} may not stand in a cookie: it has the byte {byte:#04x}", quoted(text));
            field.error(message, report);
            None
        }
    }
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// RFC 6265 §4.1.1, `av-octet`.
fn is_attribute(byte: u8) -> bool {
    (b' '..=b'~').contains(&byte) && byte != b';'
}

fn read_warmup(field: &Field<'_>, report: &mut Report) -> Option<Warmup> {
    let mut object = field.object(report)?;
    let duration = object.required("duration").and_then(|field| field.duration(report));
    let minimum_percent = object.optional("minimumPercent").and_then(|field| field.number(&(0.0..=100.0), report));
    let aggression = object.optional("aggression").and_then(|field| field.number(&(1.0..=1e6), report));
    object.finish(report);
    Some(Warmup {
        duration: duration?,
        minimum_percent: minimum_percent.unwrap_or(10.0),
        aggression: aggression.unwrap_or(1.0),
    })
}
