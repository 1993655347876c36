//! The control thread: everything that may wait or fail away from the path of a request.
pub mod admin;
pub mod ask;
pub mod resolve;
pub mod watch;
