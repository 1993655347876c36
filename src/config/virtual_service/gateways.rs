//! `gateways`: whether routes, or conditions of them, are for sidecars as well.

use crate::config::reader::{Field, Report};

/// The gateway that means every sidecar.
const MESH: &str = "mesh";

/// Whether gateways are named, and none is [`MESH`].
pub(super) fn exclude_sidecars(field: &Field<'_>, report: &mut Report) -> bool {
    leave_sidecars_out(&field.words(report))
}

/// The same of names.
#[must_use]
pub fn leave_sidecars_out(names: &[String]) -> bool {
    !names.is_empty() && names.iter().all(|name| name != MESH)
}
