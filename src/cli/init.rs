//! `egret init`: from flags to rules in the kernel, once, before the application starts.
//!
//! It parses, calls [`redirect`](crate::redirect) and prints; every decision is there. Exit codes: 0 done, 1 failed,
//! 2 wrong usage, 126 rules in place but a real connection was not redirected.

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use crate::redirect::RedirectError;
use crate::redirect::backend::{Backend, BackendWish, Flavour, Ipv6Wish};
use crate::redirect::capture::{Capture, Cidr, CommaList, Included, Interface, Port};
use crate::redirect::install::{self, Installed, Outcome};
use crate::redirect::rules::{self, Family, Ipv6};
use crate::redirect::verify;

/// What Istio's repair controllers look for: the rules are in place but do not work.
const VERIFICATION_FAILED: u8 = 126;

/// Redirect this network namespace's outbound TCP connections to the proxy.
///
/// Puts nftables or iptables rules in place and proves them with a real connection. Run it as root with CAP_NET_ADMIN
/// before the application starts. Running it again changes nothing unless the flags or the rules changed; a change is
/// applied without a moment in which traffic escapes.
///
/// The first that applies decides: excluded interface, excluded port, proxy user or group: untouched. Loopback:
/// untouched. Excluded network: untouched. Included port or network: redirected. Anything else: untouched. UDP, and so
/// most of DNS, is never redirected.
#[derive(Debug, Parser)]
#[command(name = "init")]
#[allow(clippy::struct_excessive_bools, reason = "each is one switch of the command line")]
pub struct InitArgs {
    /// Port of the proxy on 127.0.0.1 and ::1
    #[arg(long, env = "EGRET_PROXY_PORT", default_value = "15001", value_name = "PORT")]
    proxy_port: Port,
    /// Users whose connections are never touched: the proxy's own (comma list)
    #[arg(long, env = "EGRET_PROXY_UID", default_value = "1337", value_name = "UIDS")]
    proxy_uid: CommaList<u32>,
    /// Groups whose connections are never touched (comma list) [default: the same as --proxy-uid]
    #[arg(long, env = "EGRET_PROXY_GID", value_name = "GIDS")]
    proxy_gid: Option<CommaList<u32>>,
    /// Networks to redirect: `*` for all, or a comma list; empty for none
    #[arg(long, env = "EGRET_INCLUDE_OUTBOUND_CIDRS", default_value = "*", value_name = "CIDRS")]
    include_outbound_cidrs: Included,
    /// Networks never redirected (comma list); they win over included networks and ports
    #[arg(long, env = "EGRET_EXCLUDE_OUTBOUND_CIDRS", default_value = "", value_name = "CIDRS")]
    exclude_outbound_cidrs: CommaList<Cidr>,
    /// TCP ports redirected even outside the included networks (comma list)
    #[arg(long, env = "EGRET_INCLUDE_OUTBOUND_PORTS", default_value = "", value_name = "PORTS")]
    include_outbound_ports: CommaList<Port>,
    /// Ports never redirected (comma list; TCP, and UDP for --block-quic)
    #[arg(long, env = "EGRET_EXCLUDE_OUTBOUND_PORTS", default_value = "", value_name = "PORTS")]
    exclude_outbound_ports: CommaList<Port>,
    /// Interfaces whose traffic is never touched (comma list)
    #[arg(long, env = "EGRET_EXCLUDE_INTERFACES", default_value = "", value_name = "NAMES")]
    exclude_interfaces: CommaList<Interface>,
    /// Istio's users look for it; known only to be refused with its reason
    #[arg(long, env = "EGRET_CAPTURE_DNS", value_parser = switch, hide = true)]
    capture_dns: bool,
    /// As `capture_dns`
    #[arg(long, value_name = "PORT", hide = true)]
    dns_port: Option<Port>,
    /// Reject UDP port 443, so that HTTP/3 clients fall back to TCP, which is redirected
    #[arg(long, env = "EGRET_BLOCK_QUIC", value_parser = switch)]
    block_quic: bool,
    /// IPv6 is treated like IPv4 (auto). Where it cannot be redirected, and with `off`, connections that would have
    /// been redirected are rejected, never let past; with `on` that is an error instead
    #[arg(long, env = "EGRET_IPV6", value_enum, default_value = "auto")]
    ipv6: Ipv6Wish,
    /// How the rules get into the kernel; auto takes the first that really works here
    #[arg(long, env = "EGRET_BACKEND", value_enum, default_value = "auto")]
    backend: BackendWish,
    /// Print the rules and change nothing (needs no privilege)
    #[arg(long, env = "EGRET_DRY_RUN", value_parser = switch)]
    dry_run: bool,
    /// Remove every rule of egret, of every backend
    #[arg(long, env = "EGRET_CLEANUP", value_parser = switch)]
    cleanup: bool,
    /// Do not prove the rules with a real connection
    #[arg(long, env = "EGRET_NO_VERIFY", value_parser = switch)]
    no_verify: bool,
}

/// Does what the flags say.
pub fn run(args: &InitArgs) -> ExitCode {
    let capture = match args.capture() {
        Ok(capture) => capture,
        Err(contradiction) => {
            InitArgs::command().bin_name("egret init").error(ErrorKind::ArgumentConflict, contradiction).exit()
        }
    };
    let done = match (args.cleanup, args.dry_run) {
        (true, true) => {
            print!("{REMOVAL}");
            Ok(())
        }
        (true, false) => clean_up(),
        (false, true) => {
            print!("{}", args.preview(&capture));
            Ok(())
        }
        (false, false) => args.apply(&capture),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("egret init: {error}");
            let verification = matches!(error, RedirectError::Verification(_));
            if verification { ExitCode::from(VERIFICATION_FAILED) } else { ExitCode::FAILURE }
        }
    }
}

/// A switch as a variable: empty is off, as in `iptables/redirect.sh`.
fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "y" | "yes" | "t" | "true" | "on" | "1" => Ok(true),
        "" | "n" | "no" | "f" | "false" | "off" | "0" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}

const NO_DNS: &str = "--capture-dns and --dns-port (EGRET_CAPTURE_DNS) cannot be used: egret has no DNS listener, so every \
                      name lookup of the pod would fail; leave them out, and names are resolved by the pod's own resolver";

const REMOVAL: &str = "# nft: delete table inet egret\n\
                       # iptables-nft, iptables-legacy and their IPv6 forms: delete the chains EGRET_* of the tables nat, \
                       raw and filter, and every rule that jumps to one\n";

fn clean_up() -> Result<(), RedirectError> {
    let removed = install::remove()?;
    if removed.swept.is_empty() {
        println!("nothing to remove: no rules of egret were found");
    }
    for backend in removed.swept {
        println!("removed the rules of {backend}");
    }
    // The plain name stands for one of the others, which are looked at under their own.
    for backend in removed.unseen.into_iter().filter(|backend| *backend != Backend::Iptables(Flavour::Plain)) {
        println!("note: {backend} does not work here, so rules that it may have made were not looked for");
    }
    Ok(())
}

impl InitArgs {
    /// What the flags ask for, or how they contradict each other.
    pub(super) fn capture(&self) -> Result<Capture, String> {
        if (self.capture_dns || self.dns_port.is_some()) && !self.cleanup {
            return Err(NO_DNS.to_owned());
        }
        let ports = |list: &CommaList<Port>| list.0.iter().map(|port| port.0).collect();
        Capture {
            proxy_port: self.proxy_port.0,
            proxy_uids: self.proxy_uid.0.clone(),
            proxy_gids: self.proxy_gid.as_ref().unwrap_or(&self.proxy_uid).0.clone(),
            included: self.include_outbound_cidrs.clone(),
            excluded: self.exclude_outbound_cidrs.0.iter().map(|cidr| cidr.0).collect(),
            included_ports: ports(&self.include_outbound_ports),
            excluded_ports: ports(&self.exclude_outbound_ports),
            excluded_interfaces: self.exclude_interfaces.0.iter().map(|name| name.0.clone()).collect(),
            block_quic: self.block_quic,
        }
        .checked()
    }

    fn apply(&self, capture: &Capture) -> Result<(), RedirectError> {
        let installed = install::install(capture, self.ipv6, self.backend)?;
        report(&installed, capture);
        if self.no_verify {
            println!("verification: skipped (--no-verify)");
            return Ok(());
        }
        for seen in verify::verify(capture, installed.choice.ipv6)? {
            println!("verification: {seen}");
        }
        Ok(())
    }

    /// What would be applied, for every backend that the flags allow; which of them works is not asked.
    fn preview(&self, capture: &Capture) -> String {
        let ipv6 = if self.ipv6 == Ipv6Wish::Off { Ipv6::Reject } else { Ipv6::Redirect };
        let mut parts = Vec::new();
        if matches!(self.backend, BackendWish::Auto | BackendWish::Nft) {
            parts.push(format!("# nft -f -\n{}", rules::nft(capture, ipv6)));
        }
        if self.backend != BackendWish::Nft {
            for (tool, family) in [("iptables", Family::V4), ("ip6tables", Family::V6)] {
                let tables = rules::text(&rules::iptables(capture, family, ipv6));
                parts.push(format!("# {tool}-restore --noflush\n{tables}"));
            }
        }
        parts.concat()
    }
}

fn report(installed: &Installed, capture: &Capture) {
    let choice = &installed.choice;
    println!("backend: {} ({})", choice.backend, choice.why);
    match installed.outcome {
        Outcome::Applied => println!("rules: applied"),
        Outcome::Unchanged => println!("rules: already in place, nothing changed"),
    }
    for backend in &installed.swept {
        println!("rules: removed those that {backend} had left");
    }
    let ipv6 = match choice.ipv6 {
        Ipv6::Redirect => "redirected like IPv4",
        Ipv6::Reject => "rejected where IPv4 is redirected",
        Ipv6::Absent => "not in use here, and no rules for it are possible",
    };
    println!("ipv6: {ipv6}");
    if !capture.redirects() {
        println!("note: no network and no port is included, so no connection is redirected");
    }
}
