//! Resources → one immutable table; decisions about flows; publishing.
pub mod publish;
mod table;

pub use table::*;
