//! egret: a transparent egress proxy.
//!
//! The kernel redirects every outbound TCP connection of a pod to egret. For each one egret recovers the original
//! destination ([`flow`]), looks at the first bytes ([`sniff`]), asks an immutable policy table what may happen
//! ([`policy`]), takes or makes a connection to the other side ([`upstream`], [`tls`]), carries the bytes ([`proxy`],
//! [`http`]) on one io_uring or epoll a core ([`io`], [`worker`]) and writes one log line ([`observe`]). A control thread
//! ([`control`]) reads configuration, resolves names and publishes new tables; it is never on the path of a request.
//!
//! Modules stand in dependency order: each may use those above it, never those below.

pub mod flow;

pub mod config;
pub mod confine;
pub mod dns;
pub mod grpc;
pub mod http;
pub mod io;
pub mod observe;
pub mod sniff;
pub mod tls;

pub mod http2;
pub mod policy;

pub mod explain;
pub mod upstream;

pub mod proxy;
pub mod worker;

pub mod control;
pub mod inject;
pub mod redirect;

pub mod webhook;

pub mod cli;
