//! DNS as data: questions to bytes, bytes to judged answers, `resolv.conf`, the hosts file and the listed names as values.
//!
//! Nothing here opens a socket or a file or reads a clock, so that every hostile message is a line in a table of tests;
//! `control::resolve` does the asking, `control::dns` the answering.

pub mod about;
pub mod answer;
pub mod automatic_addresses;
pub mod hosts;
pub mod message;
pub mod name_table;
pub mod query;
pub mod relay;
pub mod resolv_conf;
