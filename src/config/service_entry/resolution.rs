//! `resolution` of a ServiceEntry: where the addresses of its hosts come from.

use crate::config::reader::{Field, Report};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resolution {
    #[default]
    None,
    Static,
    Dns,
    DnsRoundRobin,
    DynamicDns,
}

const RESOLUTIONS: &[(&str, Resolution)] = &[
    ("NONE", Resolution::None),
    ("STATIC", Resolution::Static),
    ("DNS", Resolution::Dns),
    ("DNS_ROUND_ROBIN", Resolution::DnsRoundRobin),
    ("DYNAMIC_DNS", Resolution::DynamicDns),
];

pub(super) fn read(field: &Field<'_>, report: &mut Report) -> Option<Resolution> {
    field.choice(RESOLUTIONS, report)
}
