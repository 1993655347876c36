//! `egret init`: from flags to rules in the kernel, once, before the application starts.
//!
//! It parses, calls [`redirect`](crate::redirect) and prints; every decision is there. Exit codes: 0 done, 1 failed,
//! 2 wrong usage, 126 rules in place but a real connection was not redirected.

use std::net::IpAddr;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use crate::dns::resolv_conf::listed_servers;
use crate::redirect::RedirectError;
use crate::redirect::backend::{Backend, BackendWish, Flavour, Ipv6Wish};
use crate::redirect::capture::{Capture, Cidr, CommaList, DnsCapture, DnsServers, Included, Interface, Port};
use crate::redirect::install::{self, Installed, Outcome};
use crate::redirect::rules::{self, BoundSockets, Family, Ipv6};
use crate::redirect::verify;

/// What Istio's repair controllers look for: the rules are in place but do not work.
const VERIFICATION_FAILED: u8 = 126;

/// Redirect this network namespace's outbound TCP connections to the proxy.
///
/// Puts nftables or iptables rules in place and proves them with a real connection. Run it as root with CAP_NET_ADMIN
/// before the application starts. Running it again changes nothing unless the flags or the rules changed; a change is
/// applied without a moment in which traffic escapes.
///
/// The first that applies decides: excluded interface, excluded port, proxy user or group: untouched. DNS: captured if
/// asked for. Loopback: untouched. Excluded network: untouched. Included port or network: redirected. Anything else:
/// untouched.
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
    /// Ports never redirected (comma list; TCP, and UDP for --block-quic and --capture-dns)
    #[arg(long, env = "EGRET_EXCLUDE_OUTBOUND_PORTS", default_value = "", value_name = "PORTS")]
    exclude_outbound_ports: CommaList<Port>,
    /// Interfaces whose traffic is never touched (comma list)
    #[arg(long, env = "EGRET_EXCLUDE_INTERFACES", default_value = "", value_name = "NAMES")]
    exclude_interfaces: CommaList<Interface>,
    /// Redirect DNS (UDP and TCP port 53 of the pod's name servers) to the proxy, which answers for listed hosts and asks
    /// the name servers for all others
    #[arg(long, env = "EGRET_CAPTURE_DNS", value_parser = switch)]
    capture_dns: bool,
    /// The same of every port 53, whoever's it is
    #[arg(long, env = "EGRET_CAPTURE_ALL_DNS", value_parser = switch)]
    capture_all_dns: bool,
    /// The name servers for --capture-dns (comma list) [default: those of /etc/resolv.conf]
    #[arg(long, env = "EGRET_DNS_SERVERS", default_value = "", value_name = "IPS")]
    dns_servers: CommaList<IpAddr>,
    /// Port of the proxy's DNS listener on 127.0.0.1 and ::1
    #[arg(long, env = "EGRET_DNS_PORT", default_value = "15053", value_name = "PORT")]
    dns_port: Port,
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

/// Those that the pod's resolver asks; a file that cannot be read is an empty one, as for every resolver.
pub(super) fn name_servers() -> Vec<IpAddr> {
    let file = std::fs::read("/etc/resolv.conf").unwrap_or_default();
    listed_servers(&String::from_utf8_lossy(&file))
}

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
            dns: self.dns(),
            block_quic: self.block_quic,
        }
        .checked()
    }

    fn dns(&self) -> Option<DnsCapture> {
        let servers = match (self.capture_all_dns, self.capture_dns) {
            (true, _) => DnsServers::Any,
            (false, true) if self.dns_servers.0.is_empty() => DnsServers::Listed(name_servers()),
            (false, true) => DnsServers::Listed(self.dns_servers.0.clone()),
            (false, false) => return None,
        };
        Some(DnsCapture { port: self.dns_port.0, servers })
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
                let tables = rules::text(&rules::iptables(capture, family, ipv6, BoundSockets::Refused));
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
    if installed.bound == BoundSockets::Left {
        println!(
            "note: connections from sockets that are bound to an interface will wait in vain: the kernel lacks xt_connmark, \
             iptable_filter or ipt_REJECT"
        );
    }
    if !capture.redirects() {
        println!("note: no network and no port is included, so no connection is redirected");
    }
}
