//! The end-to-end tests, one module a subject, in one program: it is linked once, and all of them share the threads.
//!
//! A file beside this one becomes a module here; `scripts/test NAME` runs it alone. What must have a process of its own
//! stands beside this folder: `tests/allocations.rs` counts what its process allocates.

#[path = "../lab/mod.rs"]
mod lab;
#[path = "../http/site.rs"]
mod site;

mod admin;
mod adversity;
mod bulk;
mod bypass;
mod check;
mod clients;
mod confined;
mod conformance;
mod connect;
mod cut;
mod destination;
mod dns;
mod doctor;
mod document;
mod engines;
mod epoll;
mod explain;
mod families;
mod first_bytes;
mod framing;
mod fuzz_corpus;
mod grpc_interop;
mod harness;
mod http2;
mod http2_adversity;
mod http2_hostile_servers;
mod http2_life;
mod http2_twins;
mod http2_upstream;
mod http_cases;
mod http_clocks;
mod http_faults;
mod http_pool;
mod http_pressure;
mod identity;
mod idle;
mod inject;
mod lifecycle;
mod loops;
mod manifests;
mod metrics;
mod mutual;
mod opaque;
mod operators;
mod pod;
mod policy;
mod redirect;
mod reload;
mod reload_load;
mod rotation;
mod routes;
mod schemas;
mod shedding;
mod tls_cases;
mod tls_peers;
mod tries;
mod verification;
mod webhook;
