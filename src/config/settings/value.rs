//! What a setting may be: how it is read from a document and from a flag, and how it is shown. Knows no particular one.

use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;
use serde_json::{Value as Json, json};

use crate::config::names;
use crate::config::reader::{Field, Report};
use crate::config::sidecar::OutboundPolicy;
use crate::config::sidecar::outbound_policy::{self, POLICIES};
use crate::config::yaml::quoted;
use crate::config::yaml::scalar::{parse_bytes, parse_duration};

/// Each is compared with the address of every connection that follows its application.
const MAX_NETWORKS: usize = 64;

/// A setting whose value stands in an `S`.
#[derive(Debug)]
pub enum ValueKind<S> {
    /// `{mode: …}` as in Istio's mesh configuration, or the word alone.
    OutboundPolicy(fn(&mut S) -> &mut OutboundPolicy),
    Word {
        place: fn(&mut S) -> &mut dyn Word,
        /// As the help of a flag calls it.
        name: &'static str,
        /// Documents may write it in any case, as flags always may.
        any_case: bool,
    },
    Switch(fn(&mut S) -> &mut bool),
    /// The second says what is wrong with a duration.
    Duration(fn(&mut S) -> &mut Duration, fn(Duration) -> Result<(), String>),
    Count(fn(&mut S) -> &mut dyn Count, RangeInclusive<i64>),
    Bytes(fn(&mut S) -> &mut usize, RangeInclusive<i64>),
    /// An empty list is a value.
    Networks(fn(&mut S) -> &mut Vec<IpNet>),
    /// As the help of a flag calls it.
    Text(fn(&mut S) -> &mut dyn TextValue, &'static str),
}

/// One of a closed set of words.
pub trait Word {
    fn words(&self) -> Vec<&'static str>;
    fn word(&self) -> &'static str;
    /// Takes the word at this place of [`words`](Self::words).
    fn choose(&mut self, index: usize);
}

/// The words for the values of an enumeration.
pub trait Named: Copy + PartialEq + 'static {
    /// The word for each value.
    const WORDS: &'static [(&'static str, Self)];
}

impl<T: Named> Word for T {
    fn words(&self) -> Vec<&'static str> {
        T::WORDS.iter().map(|(word, _)| *word).collect()
    }

    fn word(&self) -> &'static str {
        T::WORDS.iter().find(|(_, value)| value == self).map_or("", |(word, _)| word)
    }

    fn choose(&mut self, index: usize) {
        *self = T::WORDS[index].1;
    }
}

/// What is written as one text.
pub trait TextValue {
    fn text(&self) -> String;

    /// Takes another value.
    ///
    /// # Errors
    /// What is wrong with the text; nothing is changed then.
    fn take(&mut self, text: &str) -> Result<(), String>;
}

/// A whole number.
pub trait Count {
    fn number(&self) -> u64;
    /// Takes a number of the setting's range.
    fn set(&mut self, number: i64);
}

impl Count for usize {
    fn number(&self) -> u64 {
        *self as u64
    }

    fn set(&mut self, number: i64) {
        *self = number as usize;
    }
}

impl Count for u32 {
    fn number(&self) -> u64 {
        u64::from(*self)
    }

    fn set(&mut self, number: i64) {
        *self = number as u32;
    }
}

impl<S: Clone> ValueKind<S> {
    /// What the help of a flag calls the value.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::OutboundPolicy(_) => "MODE",
            Self::Word { name, .. } | Self::Text(_, name) => name,
            Self::Switch(_) => "BOOLEAN",
            Self::Duration(..) => "DURATION",
            Self::Count(..) => "N",
            Self::Bytes(..) => "BYTES",
            Self::Networks(_) => "CIDR,…",
        }
    }

    /// Takes the value of a document's field; one that is wrong is reported and changes nothing.
    pub(super) fn read(&self, field: &Field<'_>, settings: &mut S, report: &mut Report) {
        match self {
            Self::OutboundPolicy(place) => put(place(settings), read_policy(field, report)),
            Self::Word { place, any_case, .. } => {
                let place = place(settings);
                if let Some(index) = read_word(field, &place.words(), *any_case, report) {
                    place.choose(index);
                }
            }
            Self::Switch(place) => put(place(settings), field.boolean(report)),
            Self::Duration(place, check) => {
                let checked = field.duration(report).map(|duration| check(duration).map(|()| duration));
                match checked.transpose() {
                    Ok(duration) => put(place(settings), duration),
                    Err(message) => field.error(message, report),
                }
            }
            Self::Count(place, range) => {
                if let Some(number) = field.whole(range, report) {
                    place(settings).set(number);
                }
            }
            Self::Bytes(place, range) => put(place(settings), read_bytes(field, range, report)),
            Self::Networks(place) => *place(settings) = read_networks(field, report),
            Self::Text(place, _) => {
                if let Some(Err(message)) = field.text(report).map(|text| place(settings).take(text)) {
                    field.error(message, report);
                }
            }
        }
    }

    /// Takes the value of a flag or variable.
    ///
    /// # Errors
    /// What is wrong with it; nothing is changed then.
    pub(super) fn parse(&self, text: &str, settings: &mut S) -> Result<(), String> {
        match self {
            Self::OutboundPolicy(place) => {
                let words: Vec<_> = POLICIES.iter().map(|(word, _)| *word).collect();
                *place(settings) = POLICIES[position(&words, text)?].1;
            }
            Self::Word { place, .. } => {
                let place = place(settings);
                place.choose(position(&place.words(), text)?);
            }
            Self::Switch(place) => *place(settings) = text.parse().map_err(|_| "expected true or false".to_owned())?,
            Self::Duration(place, check) => {
                let duration = parse_duration(text)?;
                check(duration)?;
                *place(settings) = duration;
            }
            Self::Count(place, range) => {
                let number = text.parse::<u64>().map_err(|_| format!("expected a whole number, found {text:?}"))?;
                place(settings).set(within(number, range)?);
            }
            Self::Bytes(place, range) => *place(settings) = within(parse_bytes(text)?, range)? as usize,
            Self::Networks(place) => *place(settings) = parse_networks(text)?,
            Self::Text(place, _) => place(settings).take(text)?,
        }
        Ok(())
    }

    /// As a document writes it.
    #[must_use]
    pub fn json(&self, settings: &S) -> Json {
        let mut settings = settings.clone();
        match self {
            Self::OutboundPolicy(place) => json!({ "mode": place(&mut settings).name() }),
            Self::Word { place, .. } => json!(place(&mut settings).word()),
            Self::Switch(place) => json!(*place(&mut settings)),
            Self::Duration(place, _) => json!(format!("{}s", place(&mut settings).as_secs_f64())),
            Self::Count(place, _) => json!(place(&mut settings).number()),
            Self::Bytes(place, _) => json!(*place(&mut settings)),
            Self::Networks(place) => place(&mut settings).iter().map(ToString::to_string).collect(),
            Self::Text(place, _) => json!(place(&mut settings).text()),
        }
    }

    /// As a flag takes it.
    #[must_use]
    pub fn text(&self, settings: &S) -> String {
        match self.json(settings) {
            Json::String(text) => text,
            Json::Object(block) => block.values().filter_map(Json::as_str).collect(),
            Json::Array(items) if items.is_empty() => NO_NETWORKS.to_owned(),
            Json::Array(items) => items.iter().filter_map(Json::as_str).collect::<Vec<_>>().join(","),
            other => other.to_string(),
        }
    }
}

/// A flag's word for an empty list.
const NO_NETWORKS: &str = "none";

fn put<T>(setting: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *setting = value;
    }
}

fn read_policy(field: &Field<'_>, report: &mut Report) -> Option<OutboundPolicy> {
    if field.is_scalar() { field.choice(POLICIES, report) } else { outbound_policy::read(field, POLICIES, report) }
}

fn read_word(field: &Field<'_>, words: &[&'static str], any_case: bool, report: &mut Report) -> Option<usize> {
    if !any_case {
        let choices: Vec<_> = words.iter().copied().zip(0..).collect();
        return field.choice(&choices, report);
    }
    let text = field.text(report)?;
    let found = words.iter().position(|word| word.eq_ignore_ascii_case(text));
    if let (None, [first @ .., last]) = (found, words) {
        field.error(format!("expected {} or {last}, found {}", first.join(", "), quoted(text)), report);
    }
    found
}

fn read_bytes(field: &Field<'_>, range: &RangeInclusive<i64>, report: &mut Report) -> Option<usize> {
    let bytes = field.bytes(report)?;
    if let Some(bytes) = i64::try_from(bytes).ok().filter(|bytes| range.contains(bytes)) {
        return usize::try_from(bytes).ok();
    }
    field.error(format!("must be from {} to {} bytes, found {bytes}", range.start(), range.end()), report);
    None
}

fn read_networks(field: &Field<'_>, report: &mut Report) -> Vec<IpNet> {
    let mut networks = Vec::new();
    for item in field.list(MAX_NETWORKS, report) {
        let Some(text) = item.word(report) else { continue };
        match names::network(text) {
            Ok(network) => networks.push(network.trunc()),
            Err(message) => item.error(message, report),
        }
    }
    networks
}

fn parse_networks(text: &str) -> Result<Vec<IpNet>, String> {
    if text == NO_NETWORKS {
        return Ok(Vec::new());
    }
    text.split(',').map(|one| names::network(one.trim()).map(|network| network.trunc())).collect()
}

fn position(words: &[&str], text: &str) -> Result<usize, String> {
    let found = words.iter().position(|word| word.eq_ignore_ascii_case(text));
    found.ok_or_else(|| format!("expected one of {}", words.join(", ")))
}

fn within(number: u64, range: &RangeInclusive<i64>) -> Result<i64, String> {
    let inside = i64::try_from(number).ok().filter(|number| range.contains(number));
    inside.ok_or_else(|| format!("must be from {} to {}", range.start(), range.end()))
}
