//! Tests of the resolver against name servers that they play themselves, on a clock that stands still.

mod edns;
mod lookups;
mod name_servers;
mod on_demand;
