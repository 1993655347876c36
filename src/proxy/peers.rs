//! The two ends of one connection of an application, for all that is decided and logged about it.

use std::time::{Instant, SystemTime};

use crate::flow::{ClientAddr, OriginalDst};

/// Who talks to whom, and since when.
#[derive(Clone, Copy, Debug)]
pub struct Peers {
    pub client: ClientAddr,
    pub destination: OriginalDst,
    pub since: SystemTime,
    pub at: Instant,
}
