//! Reads typed values from a located tree and gathers every complaint on the way. Knows no particular resource.

mod field;
mod report;

pub(crate) use field::{Field, Object, Shape};
pub(crate) use report::Report;
