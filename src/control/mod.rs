//! The control thread: everything that may wait, allocate and fail, so that no request ever does.

pub mod admin;
pub mod ask;
pub mod resolve;
