//! The control thread: everything that may wait, allocate and fail, so that no request ever does.
//!
//! It knows nothing of a connection in progress; what it computes reaches the workers through `policy::publish` alone.

pub mod admin;
pub mod ask;
pub mod resolve;
