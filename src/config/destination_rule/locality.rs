//! `localityLbSetting` of a load balancer: which endpoints are preferred by where they are, and by their labels.

use crate::config::problem::Location;
use crate::config::reader::{Field, Report};
use crate::config::yaml::quoted;

/// `distribute` stands alone, and `failover` says nothing beside `failover_priority`.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalityBalancing {
    pub distribute: Vec<Distribute>,
    /// From this region to that.
    pub failover: Vec<(String, String)>,
    /// Labels, most important first; without a value, the pod's own is meant.
    pub failover_priority: Vec<(String, Option<String>)>,
    pub enabled: bool,
    pub at: Location,
}

/// Shares, in percent, of what leaves pods of `from`.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribute {
    pub from: LocalityPattern,
    pub to: Vec<(LocalityPattern, u32)>,
}

/// `region/zone/subzone`, of which the last ones may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Locality([String; 3]);

/// The same, with `*` for any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalityPattern(Locality);

impl Locality {
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut parts = text.splitn(3, '/').map(str::to_owned);
        Self(std::array::from_fn(|_| parts.next().unwrap_or_default()))
    }

    #[must_use]
    pub fn region(&self) -> &str {
        &self.0[0]
    }

    /// How many parts are the same, from the region on.
    #[must_use]
    pub fn common(&self, other: &Locality) -> usize {
        self.0.iter().zip(&other.0).take_while(|(own, theirs)| own == theirs).count()
    }
}

impl LocalityPattern {
    #[must_use]
    pub fn covers(&self, locality: &Locality) -> bool {
        let [region, rest @ ..] = &self.0.0;
        let is = |wanted: &String, found: &String| wanted == "*" || wanted == found;
        is(region, &locality.0[0])
            && rest.iter().zip(&locality.0[1..]).all(|(wanted, found)| wanted.is_empty() || is(wanted, found))
    }
}

pub(super) fn read(field: &Field<'_>, report: &mut Report) -> Option<LocalityBalancing> {
    let mut object = field.object(report)?;
    let enabled = object.optional("enabled").and_then(|field| field.boolean(report)).unwrap_or(true);
    let distribute = several(object.optional("distribute"), report);
    let failover = several(object.optional("failover"), report);
    let priority = several(object.optional("failoverPriority"), report);
    let is_ordered = !failover.is_empty() || !priority.is_empty();
    if !distribute.is_empty() && is_ordered {
        object.error("only one of distribute, failover and failoverPriority may be set", report);
    } else if !failover.is_empty() && !priority.is_empty() {
        object.warning("failover has no effect beside failoverPriority", report);
    }
    object.finish(report);
    Some(LocalityBalancing {
        distribute: distribute.iter().filter_map(|item| read_distribute(item, report)).collect(),
        failover: failover.iter().filter_map(|item| read_failover(item, report)).collect(),
        failover_priority: priority.iter().filter_map(|item| read_priority(item, report)).collect(),
        enabled,
        at: report.location(field.key_at()),
    })
}

fn several<'n>(field: Option<Field<'n>>, report: &mut Report) -> Vec<Field<'n>> {
    field.map(|field| field.list(256, report)).unwrap_or_default()
}

fn read_distribute(item: &Field<'_>, report: &mut Report) -> Option<Distribute> {
    let mut object = item.object(report)?;
    let from = object.required("from").and_then(|field| read_pattern(&field, report));
    let to_field = object.required("to");
    object.finish(report);
    let to_field = to_field?;
    let before = report.errors();
    let to: Vec<_> = to_field
        .entries(report)
        .into_iter()
        .filter_map(|(entry, share)| {
            let weight = share.whole(&(1..=100), report)?;
            Some((LocalityPattern(Locality::parse(&entry.key)), u32::try_from(weight).ok()?))
        })
        .collect();
    let total: u32 = to.iter().map(|(_, weight)| weight).sum();
    if total != 100 && report.errors() == before {
        to_field.error(format!("the shares must be 100 together, found {total}"), report);
    }
    Some(Distribute { from: from?, to })
}

fn read_pattern(field: &Field<'_>, report: &mut Report) -> Option<LocalityPattern> {
    field.word(report).map(|text| LocalityPattern(Locality::parse(text)))
}

fn read_failover(item: &Field<'_>, report: &mut Report) -> Option<(String, String)> {
    let mut object = item.object(report)?;
    let mut region = |name, report: &mut Report| {
        let field = object.required(name)?;
        let text = field.word(report)?;
        if text.contains(['/', '*']) {
            field.error(format!("{}: name a region alone", quoted(text)), report);
            return None;
        }
        Some(text.to_owned())
    };
    let (from, to) = (region("from", report), region("to", report));
    object.finish(report);
    Some((from?, to?))
}

fn read_priority(item: &Field<'_>, report: &mut Report) -> Option<(String, Option<String>)> {
    let text = item.word(report)?;
    Some(text.split_once('=').map_or((text.to_owned(), None), |(key, value)| (key.to_owned(), Some(value.to_owned()))))
}
