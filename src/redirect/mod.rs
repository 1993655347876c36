//! The kernel's side of egret: rules that redirect a pod's outbound connections to the proxy, put in place, proven,
//! and taken away.
//!
//! [`capture`] says what is redirected, [`rules`] renders the templates of `iptables/`, [`nft`] and [`iptables`] bring
//! them into the kernel through the tools of the same names, [`backend`] finds out which of them works here,
//! [`install`] does all of it in an order in which nothing escapes, [`verify`] makes a real connection, and asks a name
//! server where DNS is captured.
//!
//! It knows nothing of policy or of the proxy beyond its port and identity, and it keeps no state of its own: what is
//! in place is read from the kernel each time.

pub mod backend;
pub mod capture;
pub mod foreign;
pub mod install;
pub mod rules;
pub mod verify;
pub mod verify_dns;

mod digest;
mod iptables;
mod namespace;
mod nft;
mod stranger;
mod target;
mod template;
mod tool;

use thiserror::Error;

/// Why the rules could not be put in place, removed or proven; the text says what to do.
#[derive(Debug, Error)]
pub enum RedirectError {
    /// A program is not installed.
    #[error("{0} is not installed: add the package nftables or iptables to the image that runs `egret init`")]
    ToolMissing(String),
    /// The kernel refused for lack of privilege.
    #[error(
        "{tool} was not permitted to change or read the rules ({said}): run as root with CAP_NET_ADMIN \
         (securityContext: runAsUser: 0, capabilities: add: [NET_ADMIN])"
    )]
    NotPermitted { tool: String, said: String },
    /// A tool ran and failed.
    #[error("{tool} failed: {said}")]
    ToolFailed { tool: String, said: String },
    /// None of the ways to redirect works here. Each with its reason.
    #[error(
        "nothing here can redirect connections: {0}; install nftables or iptables in this image and load the kernel \
         modules nft_chain_nat and nft_redir, or iptable_nat and xt_REDIRECT, on the node (modprobe there: a container can \
         load none, with or without the package kmod)"
    )]
    NoBackend(String),
    /// IPv6 is in use, or was asked for, and can be neither redirected nor rejected.
    #[error(
        "IPv6 {0}: load ip6table_nat (or nft_chain_nat) on the node, or disable IPv6 in this pod \
         (sysctl net.ipv6.conf.all.disable_ipv6=1)"
    )]
    Ipv6(String),
    /// The rules stand but a connection did not come where it should have.
    #[error("verification failed: {0}")]
    Verification(String),
}
