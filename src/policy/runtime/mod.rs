//! What tables share with the workers and the control thread while they are in force: addresses, health, counts.

pub(super) mod health;
pub(super) mod occupancy;
pub mod publish;
