//! `proxyProtocol` of a traffic policy. It may stand only at the top.

use crate::config::reader::{Field, Report};

/// The header that names the application's address to the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyProtocol {
    V1,
    V2,
}

pub(super) fn read(field: &Field<'_>, report: &mut Report) -> Option<ProxyProtocol> {
    const VERSIONS: &[(&str, ProxyProtocol)] = &[("V1", ProxyProtocol::V1), ("V2", ProxyProtocol::V2)];
    let mut object = field.object(report)?;
    let version = match object.optional("version") {
        Some(field) => field.choice(VERSIONS, report),
        None => Some(ProxyProtocol::V1),
    };
    object.finish(report);
    version
}
