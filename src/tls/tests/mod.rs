//! Tests of the whole room, with certificates made as they run.

mod conversations;
mod credentials;
pub(super) mod pki;
mod verdicts;
