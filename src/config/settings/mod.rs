//! `egret/v1` Settings: the process itself, from a file (here) and from flags (`flags`). `table` declares the settings.

mod dns;
mod flags;
mod http2;
mod keepalive;
mod modes;
mod table;
mod value;

use serde_json::{Map, Value as Json, json};

use crate::config::metadata::{Meta, read_meta};
use crate::config::problem::Location;
use crate::config::reader::{Object, Report};

pub use dns::{DnsPolicy, DnsTransport, Ipv4Prefix, Ipv6Prefix};
pub use flags::SettingsOverrides;
pub use http2::Http2;
pub use keepalive::Keepalive;
pub use modes::{AccessLogFormat, ConnectPolicy, MinimumVersion, ReplyDetails, RequestIds};
pub use table::{SETTINGS, Setting, Settings, TakesEffect};

pub(super) fn read(mut object: Object<'_>, at: Location, report: &mut Report) -> Option<(Meta, Settings)> {
    let meta = if object.has("metadata") { read_meta(&mut object, at, report) } else { Some(unnamed(at)) };
    let spec = object.required("spec");
    object.allow(&["metadata"]);
    object.finish(report);
    let mut spec = spec?.object(report)?;
    let mut settings = Settings::default();
    for group in SETTINGS.chunk_by(|a, b| a.path().0.is_some() && a.path().0 == b.path().0) {
        match group[0].path().0 {
            None => read_fields(group, &mut spec, &mut settings, report),
            Some(block) => {
                let Some(mut block) = spec.optional(block).and_then(|field| field.object(report)) else { continue };
                read_fields(group, &mut block, &mut settings, report);
                block.finish(report);
            }
        }
    }
    spec.finish(report);
    Some((meta?, settings))
}

fn read_fields(rows: &'static [Setting], object: &mut Object<'_>, settings: &mut Settings, report: &mut Report) {
    for setting in rows {
        if let Some(field) = object.optional(setting.path().1) {
            setting.value.read(&field, settings, report);
        }
    }
}

fn unnamed(at: Location) -> Meta {
    Meta {
        name: "settings".to_owned(),
        namespace: None,
        labels: std::collections::BTreeMap::new(),
        annotations: std::collections::BTreeMap::new(),
        created_ms: None,
        at,
    }
}

impl Settings {
    /// The `spec` of a document that says the same.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let mut spec = Map::new();
        for setting in SETTINGS {
            let value = setting.value.json(self);
            match setting.path() {
                (None, field) => drop(spec.insert(field.to_owned(), value)),
                (Some(block), field) => spec.entry(block).or_insert_with(|| json!({}))[field] = value,
            }
        }
        spec.into()
    }
}

impl Setting {
    /// Takes the value of `from`; true if it was another.
    pub fn copy(&self, from: &Settings, to: &mut Settings) -> bool {
        let text = self.value.text(from);
        let differs = text != self.value.text(to);
        if differs {
            self.value.parse(&text, to).expect("a setting takes the text that shows it");
        }
        differs
    }
}
