//! The control thread: everything that may wait or fail away from the path of a request.
pub mod watch;
