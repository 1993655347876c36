//! One value of a located tree, read as what its reader expects, and the mapping whose fields are being read.
//!
//! A reader never stops at the first mistake: what cannot be read becomes `None` after it has been reported, and the
//! caller goes on with the next field. An [`Object`] remembers which fields were asked for; what is left is unknown.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::report::Report;
use crate::config::yaml::scalar::{self, Plain};
use crate::config::yaml::{Entry, Node, Place, Value, quoted};

/// A value with the path that leads to it (`spec.ports[0].number`), for messages.
#[derive(Clone)]
pub(crate) struct Field<'n> {
    node: &'n Node,
    /// Where its key stands; for items of lists and whole documents, where the value does.
    key_at: Place,
    path: String,
    /// Never show the value.
    secret: bool,
}

impl<'n> Field<'n> {
    /// The whole document.
    pub fn root(node: &'n Node) -> Self {
        Self { node, key_at: node.at, path: String::new(), secret: false }
    }

    /// The same value, but no message may quote it or anything below it.
    pub fn secret(self) -> Self {
        Self { secret: true, ..self }
    }

    pub fn at(&self) -> Place {
        self.node.at
    }

    /// Where to point when something is missing within.
    pub fn key_at(&self) -> Place {
        self.key_at
    }

    pub fn error(&self, message: impl AsRef<str>, report: &mut Report) {
        report.error(self.node.at, self.message(message.as_ref()));
    }

    /// As [`error`](Self::error), but only for whom the object concerns.
    pub fn set_aside(&self, message: impl AsRef<str>, report: &mut Report) {
        report.set_aside(self.node.at, self.message(message.as_ref()));
    }

    /// As [`key_error`](Self::key_error), but only for whom the object concerns.
    pub fn key_set_aside(&self, message: impl AsRef<str>, report: &mut Report) {
        report.set_aside(self.key_at, self.message(message.as_ref()));
    }

    pub fn warning(&self, message: impl AsRef<str>, report: &mut Report) {
        report.warning(self.node.at, self.message(message.as_ref()));
    }

    /// Complains of the key, not of what stands behind it.
    pub fn key_error(&self, message: impl AsRef<str>, report: &mut Report) {
        report.error(self.key_at, self.message(message.as_ref()));
    }

    /// Warns of the field as such, whatever its value.
    pub fn key_warning(&self, message: impl AsRef<str>, report: &mut Report) {
        report.warning(self.key_at, self.message(message.as_ref()));
    }

    fn message(&self, message: &str) -> String {
        if self.path.is_empty() { message.to_owned() } else { format!("{}: {message}", self.path) }
    }

    fn expected(&self, what: &str, hint: &str, report: &mut Report) {
        self.error(format!("expected {what}, found {}{hint}", self.found()), report);
    }

    fn found(&self) -> String {
        match (&self.node.value, self.plain()) {
            (Value::Sequence(_), _) => "a list".to_owned(),
            (Value::Mapping(_), _) => "a mapping".to_owned(),
            (Value::Scalar { .. }, Some(Plain::Null)) => "nothing".to_owned(),
            (Value::Scalar { .. }, Some(Plain::Whole(_) | Plain::Other(_))) if self.secret => "a number".to_owned(),
            (Value::Scalar { .. }, _) if self.secret => "a text".to_owned(),
            (Value::Scalar { text, .. }, Some(Plain::Whole(_) | Plain::Other(_))) => format!("the number {text}"),
            (Value::Scalar { text, .. }, Some(Plain::Boolean(_))) => format!("the boolean {text}"),
            (Value::Scalar { text, .. }, _) => format!("the text {}", quoted(text)),
        }
    }

    /// What a scalar is; quoted ones are text.
    fn plain(&self) -> Option<Plain> {
        match &self.node.value {
            Value::Scalar { text, plain: true } => Some(scalar::classify(text)),
            Value::Scalar { .. } => Some(Plain::Text),
            Value::Sequence(_) | Value::Mapping(_) => None,
        }
    }

    /// The value of a field of a mapping, for those who only look.
    pub fn child(&self, name: &str) -> Option<Field<'n>> {
        let node = self.node.child(name)?;
        Some(Field { node, ..self.clone() })
    }

    /// The text of a scalar as it is written.
    pub fn scalar(&self) -> Option<&'n str> {
        self.node.text()
    }

    pub fn is_empty_list(&self) -> bool {
        matches!(&self.node.value, Value::Sequence(items) if items.is_empty())
    }

    pub fn is_scalar(&self) -> bool {
        matches!(self.node.value, Value::Scalar { .. })
    }

    pub fn is_null(&self) -> bool {
        self.plain() == Some(Plain::Null)
    }

    pub fn object(&self, report: &mut Report) -> Option<Object<'n>> {
        let Value::Mapping(entries) = &self.node.value else {
            self.expected("a mapping", "", report);
            return None;
        };
        Some(Object { field: self.clone(), entries, known: Vec::new(), missing: Vec::new() })
    }

    /// The items of a list; none where it is no list. More than `max` is an error.
    pub fn list(&self, max: usize, report: &mut Report) -> Vec<Field<'n>> {
        let Value::Sequence(items) = &self.node.value else {
            let hint = match self.plain() {
                Some(Plain::Null) | None => "",
                Some(_) => "; write it as an item: begin the line with \"- \"",
            };
            self.expected("a list", hint, report);
            return Vec::new();
        };
        if items.len() > max {
            self.error(format!("at most {max} items are allowed, found {}", items.len()), report);
        }
        let item =
            |(i, node)| Field { node, key_at: node.at, path: format!("{}[{i}]", self.path), secret: self.secret };
        items.iter().take(max).enumerate().map(item).collect()
    }

    pub fn text(&self, report: &mut Report) -> Option<&'n str> {
        match (&self.node.value, self.plain()) {
            (Value::Scalar { text, .. }, Some(Plain::Text)) => Some(text),
            (_, Some(Plain::Null) | None) => {
                self.expected("a text", "", report);
                None
            }
            _ => {
                self.expected("a text", "; put it in quotes", report);
                None
            }
        }
    }

    /// A text that is not empty.
    pub fn word(&self, report: &mut Report) -> Option<&'n str> {
        let text = self.text(report)?;
        if text.is_empty() {
            self.error("must not be empty", report);
            return None;
        }
        Some(text)
    }

    /// The items of a list of texts, none empty.
    pub fn words(&self, report: &mut Report) -> Vec<String> {
        self.list(usize::MAX, report).iter().filter_map(|item| item.word(report)).map(str::to_owned).collect()
    }

    pub fn boolean(&self, report: &mut Report) -> Option<bool> {
        if let Some(Plain::Boolean(value)) = self.plain() {
            return Some(value);
        }
        let hint = match &self.node.value {
            Value::Scalar { text, .. } if matches!(scalar::classify(text), Plain::Boolean(_)) => "; remove the quotes",
            _ => "",
        };
        self.expected("true or false", hint, report);
        None
    }

    pub fn whole(&self, range: &RangeInclusive<i64>, report: &mut Report) -> Option<i64> {
        match self.plain() {
            Some(Plain::Whole(number)) if range.contains(&number) => return Some(number),
            // `443.0` is a whole number to JSON and to the API server. (Every such range fits a float.)
            Some(Plain::Other(number)) if number.fract() == 0.0 && range.contains(&(number as i64)) => {
                return Some(number as i64);
            }
            _ => {}
        }
        let hint = match &self.node.value {
            Value::Scalar { text, plain: false } if matches!(scalar::classify(text), Plain::Whole(_)) => {
                "; remove the quotes"
            }
            _ => "",
        };
        self.expected(&format!("a whole number from {} to {}", range.start(), range.end()), hint, report);
        None
    }

    /// A number, with a fraction or without.
    pub fn number(&self, range: &RangeInclusive<f64>, report: &mut Report) -> Option<f64> {
        let number = match self.plain() {
            Some(Plain::Whole(number)) => Some(number as f64),
            Some(Plain::Other(number)) => Some(number),
            _ => None,
        };
        if number.is_none_or(|number: f64| !range.contains(&number)) {
            self.expected(&format!("a number from {} to {}", range.start(), range.end()), "", report);
            return None;
        }
        number
    }

    pub fn port(&self, report: &mut Report) -> Option<u16> {
        self.whole(&(1..=65535), report).and_then(|number| u16::try_from(number).ok())
    }

    pub fn duration(&self, report: &mut Report) -> Option<Duration> {
        let parsed = match (&self.node.value, self.plain()) {
            (Value::Scalar { text, .. }, Some(Plain::Text)) => scalar::parse_duration(text),
            (Value::Scalar { text, .. }, Some(Plain::Whole(_) | Plain::Other(_))) => {
                Err(format!("expected a duration, found the number {text}; add the unit: \"{text}s\" or \"{text}ms\""))
            }
            _ => Err(format!("expected a duration such as \"10s\", found {}", self.found())),
        };
        parsed.map_err(|message| self.error(message, report)).ok()
    }

    /// A duration as Istio's validation wants most of them (`ValidateDuration`).
    pub fn at_least_a_millisecond(&self, report: &mut Report) -> Option<Duration> {
        let duration = self.whole_milliseconds(report)?;
        if duration.is_zero() {
            self.error("must be at least \"1ms\"", report);
            return None;
        }
        Some(duration)
    }

    /// The same, and zero.
    pub fn whole_milliseconds(&self, report: &mut Report) -> Option<Duration> {
        let duration = self.duration(report)?;
        if !duration.is_zero() && duration < Duration::from_millis(1) {
            self.error("must be at least \"1ms\"", report);
            return None;
        }
        if duration.subsec_nanos() % 1_000_000 != 0 {
            self.error("must be a whole number of milliseconds", report);
            return None;
        }
        Some(duration)
    }

    /// A number of bytes, plain or as a Kubernetes quantity.
    pub fn bytes(&self, report: &mut Report) -> Option<u64> {
        let parsed = match &self.node.value {
            Value::Scalar { text, .. } => scalar::parse_bytes(text),
            _ => Err(format!("expected a number of bytes such as 61440 or \"60Ki\", found {}", self.found())),
        };
        parsed.map_err(|message| self.error(message, report)).ok()
    }

    /// One of a closed set of words, spelled exactly so.
    pub fn choice<T: Copy>(&self, choices: &[(&str, T)], report: &mut Report) -> Option<T> {
        let text = match &self.node.value {
            Value::Scalar { text, .. } => text.as_str(),
            _ => "",
        };
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let hint = match scalar::nearest(text, choices.iter().map(|(word, _)| *word)) {
            Some(meant) if !text.is_empty() => format!("; did you mean {meant}?"),
            _ => String::new(),
        };
        let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
        self.expected(&one_of(&words), &hint, report);
        None
    }

    /// A mapping of names to values, in the order of the names.
    pub fn entries(&self, report: &mut Report) -> Vec<(&'n Entry, Field<'n>)> {
        let Value::Mapping(entries) = &self.node.value else {
            self.expected("a mapping", "", report);
            return Vec::new();
        };
        let field = |entry: &'n Entry| {
            let path = format!("{}.{}", self.path, shown_key(&entry.key));
            (entry, Field { node: &entry.value, key_at: entry.at, path, secret: self.secret })
        };
        entries.iter().map(field).collect()
    }
}

/// Whether a field that egret does not act on has at least the right form.
#[derive(Clone, Copy)]
pub(crate) enum Shape {
    /// A mapping with no other fields than these.
    Object(&'static [&'static str]),
    List,
    Whole,
    Boolean,
    Duration,
    Word,
    Any,
}

/// A mapping whose fields are being read.
pub(crate) struct Object<'n> {
    field: Field<'n>,
    entries: &'n [Entry],
    known: Vec<&'static str>,
    missing: Vec<&'static str>,
}

impl<'n> Object<'n> {
    /// Complains of the mapping as a whole, at its key.
    pub fn error(&self, message: impl AsRef<str>, report: &mut Report) {
        self.field.key_error(message, report);
    }

    /// Warns of the mapping as a whole, at its key.
    pub fn warning(&self, message: impl AsRef<str>, report: &mut Report) {
        self.field.key_warning(message, report);
    }

    /// The field, if it is written; `null` is as good as nothing, as the Kubernetes API server has it.
    pub fn optional(&mut self, name: &'static str) -> Option<Field<'n>> {
        if !self.known.contains(&name) {
            self.known.push(name);
        }
        let entry = self.entries.iter().find(|entry| entry.key == name)?;
        let path = self.path_of(name);
        let field = Field { node: &entry.value, key_at: entry.at, path, secret: self.field.secret };
        (!field.is_null()).then_some(field)
    }

    /// The field; [`Object::finish`] reports that it is missing, or what was written in its stead.
    pub fn required(&mut self, name: &'static str) -> Option<Field<'n>> {
        let field = self.optional(name);
        if field.is_none() {
            self.missing.push(name);
        }
        field
    }

    /// A text; protobuf makes no difference between an empty one and none.
    pub fn optional_text(&mut self, name: &'static str, report: &mut Report) -> Option<(Field<'n>, &'n str)> {
        let field = self.optional(name)?;
        let text = field.text(report)?;
        (!text.is_empty()).then_some((field, text))
    }

    /// Whether `name` is written with a value.
    pub fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|e| e.key == name && !Field::root(&e.value).is_null())
    }

    /// Fields that may stand here and mean nothing to egret, without a word.
    pub fn allow(&mut self, names: &[&'static str]) {
        self.known.extend(names);
    }

    /// A field of the schema that egret does not act on: its form is checked, and the author is told.
    pub fn unsupported(&mut self, name: &'static str, shape: Shape, report: &mut Report) {
        let Some(field) = self.optional(name) else { return };
        let before = report.errors();
        match shape {
            Shape::Object(names) => {
                if let Some(mut object) = field.object(report) {
                    object.allow(names);
                    object.finish(report);
                }
            }
            Shape::List => drop(field.list(usize::MAX, report)),
            Shape::Whole => {
                field.whole(&(0..=i64::from(u32::MAX)), report);
            }
            Shape::Boolean => {
                field.boolean(report);
            }
            Shape::Duration => {
                field.duration(report);
            }
            Shape::Word => {
                field.text(report);
            }
            Shape::Any => {}
        }
        if report.errors() == before {
            field.key_warning("is not supported yet and has no effect", report);
        }
    }

    /// Reports every field that nobody asked for, and every required one that is not there.
    pub fn finish(mut self, report: &mut Report) {
        for entry in self.unknown() {
            let meant = scalar::nearest(&entry.key, self.known.iter().copied());
            self.unknown_field(entry, meant, report);
            // One mistake, one message: a misspelt field is not missing as well.
            self.missing.retain(|name| Some(*name) != meant);
        }
        self.report_missing(report);
    }

    /// Reports only what is missing or misspelt of the required fields, where the rest of the schema is not known.
    pub fn finish_required(mut self, report: &mut Report) {
        for entry in self.unknown() {
            let meant = scalar::nearest(&entry.key, self.missing.iter().copied());
            if meant.is_some() {
                self.unknown_field(entry, meant, report);
                self.missing.retain(|name| Some(*name) != meant);
            }
        }
        self.report_missing(report);
    }

    fn unknown(&self) -> Vec<&'n Entry> {
        self.entries.iter().filter(|entry| !self.known.contains(&entry.key.as_str())).collect()
    }

    fn unknown_field(&self, entry: &Entry, meant: Option<&str>, report: &mut Report) {
        let hint = match meant {
            Some(meant) => format!("did you mean {}?", quoted(meant)),
            None => format!("expected {}", one_of(&self.known)),
        };
        report.error(entry.at, self.field.message(&format!("unknown field {}; {hint}", quoted(&entry.key))));
    }

    fn report_missing(&self, report: &mut Report) {
        for name in &self.missing {
            self.error(format!("{name} is required"), report);
        }
    }

    fn path_of(&self, name: &str) -> String {
        if self.field.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.field.path) }
    }
}

fn one_of(words: &[&str]) -> String {
    match words {
        [] => "nothing".to_owned(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// A key of a free-form map for a path: quoted where it holds more than a name.
fn shown_key(key: &str) -> String {
    let simple = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if simple { key.to_owned() } else { quoted(key) }
}
