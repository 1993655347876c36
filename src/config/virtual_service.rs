//! `VirtualService`: accepted, so that a folder that holds one can be read; its routes have no effect yet.

use super::document::read_meta;
use super::reader::{Object, Report};
use super::resources::{Location, Meta};

pub(super) fn read(mut object: Object<'_>, at: Location, report: &mut Report) -> Option<Meta> {
    let meta = read_meta(&mut object, at, report);
    object.allow(&["status"]);
    let spec = object.required("spec", report);
    object.finish(report);
    let spec_field = spec?;
    let mut spec = spec_field.object(report)?;

    let hosts = spec.required("hosts", report).map(|field| (field.list(usize::MAX, report).len(), field));
    if let Some((0, field)) = hosts {
        field.error("at least one host is required", report);
    }
    for name in ["http", "tls", "tcp", "gateways", "exportTo"] {
        if let Some(field) = spec.optional(name) {
            field.list(usize::MAX, report);
        }
    }
    spec.finish(report);
    spec_field.warning("routes of a VirtualService are not supported yet and have no effect", report);
    meta
}
