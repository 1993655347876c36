//! DNS as data: questions to bytes, bytes to judged answers, `resolv.conf` and the hosts file as values.
//!
//! Nothing here opens a socket or a file or reads a clock, so that every hostile message is a line in a table of tests;
//! `control::resolve` does the asking.

pub mod hosts;
pub mod message;
pub mod resolv_conf;
