//! What `egret init` needs: the capability, a tool and a kernel that redirect, both families, and nobody else who does.

use std::collections::BTreeSet;

use clap::Parser;

use super::finding::Finding;
use crate::cli::init;
use crate::redirect::RedirectError;
use crate::redirect::backend::{self, Backend};
use crate::redirect::capture::{DnsCapture, DnsServers};
use crate::redirect::foreign;
use crate::redirect::rules::Ipv6;
use crate::redirect::verify_dns::listener_behind;

/// Bits of the capability sets in `/proc/self/status`, capabilities(7).
const NET_ADMIN: u32 = 12;
const NET_RAW: u32 = 13;

type Survey = [(Backend, Result<Ipv6, RedirectError>)];

pub(super) fn findings() -> Vec<Finding> {
    let mut findings = vec![capabilities(&std::fs::read_to_string("/proc/self/status").unwrap_or_default())];
    // What `egret init` would be asked to do with the same variables and no flags.
    let capture = init::InitArgs::try_parse_from(["init"]).map_err(|error| error.to_string()).and_then(|a| a.capture());
    match capture {
        Ok(capture) => {
            let survey = backend::survey(&capture);
            findings.extend(backends(&survey));
            findings.extend(ipv6(&survey, backend::ipv6_in_use()));
            findings.extend(capture.dns.as_ref().map(dns));
        }
        Err(contradiction) => findings.push(Finding::fail("redirect", format!("EGRET_ variables: {contradiction}"))),
    }
    findings.push(others(foreign::redirecting_chains()));
    findings
}

fn capabilities(status: &str) -> Finding {
    const CHECK: &str = "capabilities";
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    let has = |bit: u32| set >> bit & 1 == 1;
    match (has(NET_ADMIN), has(NET_RAW)) {
        (true, true) => Finding::ok(CHECK, "NET_ADMIN and NET_RAW, as egret init needs"),
        (true, false) => Finding::warn(
            CHECK,
            "NET_ADMIN without NET_RAW: nft works, iptables may not; add NET_RAW to the init container's capabilities",
        ),
        (false, _) => Finding::warn(
            CHECK,
            "no NET_ADMIN: right for the proxy, but rules cannot be tried; run this as root with NET_ADMIN and NET_RAW \
             to judge what egret init needs",
        ),
    }
}

/// A line for each backend that was tried. One that works is enough, so what failed before it is no fault.
fn backends(survey: &Survey) -> Vec<Finding> {
    let works = survey.iter().find(|(_, result)| result.is_ok()).map(|(backend, _)| backend);
    let line = |(backend, result): &(Backend, Result<Ipv6, RedirectError>)| {
        let check = check_name(*backend);
        match (result, works) {
            (Ok(_), _) => Finding::ok(check, "the kernel takes its nat rules: egret init uses it"),
            (Err(error), Some(instead)) => Finding::ok(check, format!("not needed, {instead} works ({error})")),
            (Err(error @ RedirectError::NotPermitted { .. }), None) => Finding::warn(check, error.to_string()),
            (Err(error @ (RedirectError::ToolMissing(_) | RedirectError::Ipv6(_))), None) => {
                Finding::fail(check, error.to_string())
            }
            (Err(error), None) => Finding::fail(
                check,
                format!(
                    "{error}; load nft_chain_nat and nft_redir, or iptable_nat and xt_REDIRECT, on the node (the nat \
                     table may be missing while others work)"
                ),
            ),
        }
    };
    survey.iter().map(line).collect()
}

fn check_name(backend: Backend) -> &'static str {
    match backend {
        Backend::Nft => "nft",
        Backend::Iptables(flavour) => flavour.name(),
    }
}

/// What becomes of IPv6 with the backend that `egret init` would take; nothing to say where none works. nft takes rules
/// for it also where the kernel has none (`ipv6.disable=1`).
fn ipv6(survey: &Survey, in_use: bool) -> Option<Finding> {
    const CHECK: &str = "ipv6";
    survey.iter().find_map(|(backend, result)| match result {
        Ok(_) if !in_use => Some(Finding::ok(CHECK, "not in use here")),
        Ok(Ipv6::Redirect) => Some(Finding::ok(CHECK, format!("redirected like IPv4 by {backend}"))),
        Ok(Ipv6::Absent) => Some(Finding::ok(CHECK, "not in use here")),
        Ok(Ipv6::Reject) => Some(Finding::warn(
            CHECK,
            format!(
                "{backend} cannot redirect it, so connections over it are rejected; load ip6table_nat (or \
                 nft_chain_nat) on the node"
            ),
        )),
        Err(error @ RedirectError::Ipv6(_)) => Some(Finding::fail(CHECK, error.to_string())),
        Err(_) => None,
    })
}

/// Whether lookups come to the proxy. It may not run yet, so that no answer is no fault of the host.
fn dns(dns: &DnsCapture) -> Finding {
    const CHECK: &str = "dns";
    let servers = match &dns.servers {
        DnsServers::Listed(servers) => servers.clone(),
        DnsServers::Any => init::name_servers(),
    };
    let asked: Vec<_> = servers.iter().map(|server| (server, listener_behind(*server))).collect();
    let silent: Vec<String> =
        asked.iter().filter(|(_, said)| !matches!(said, Ok(Some(_)))).map(|(server, _)| server.to_string()).collect();
    match asked.iter().find_map(|(_, said)| said.as_ref().ok()?.clone()) {
        Some(text) if silent.is_empty() => {
            Finding::ok(CHECK, format!("queries to the name servers are answered by {text}"))
        }
        _ => Finding::warn(
            CHECK,
            format!(
                "queries to {} are not answered by egret, as EGRET_CAPTURE_DNS asks for: run `egret init --capture-dns`, \
                 and then the proxy",
                silent.join(", ")
            ),
        ),
    }
}

fn others(chains: Result<BTreeSet<String>, RedirectError>) -> Finding {
    const CHECK: &str = "other redirectors";
    match chains {
        Ok(chains) if chains.is_empty() => Finding::ok(CHECK, "none"),
        Ok(chains) => {
            let whose = |mark: &str| chains.iter().any(|chain| chain.contains(mark));
            let remedy = if whose("ISTIO_") {
                "they are Istio's: label the pod sidecar.istio.io/inject: \"false\""
            } else if whose("PROXY_INIT_") {
                "they are Linkerd's: annotate the pod linkerd.io/inject: disabled"
            } else {
                "remove them, or what makes them, from this pod"
            };
            let list = chains.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            Finding::warn(CHECK, format!("{list}; the first rule that matches wins: {remedy}"))
        }
        Err(error) => Finding::warn(CHECK, format!("cannot be looked for: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict::{self, Fail, Warn};
    use super::*;
    use crate::redirect::backend::Flavour;

    fn missing() -> RedirectError {
        RedirectError::ToolMissing("x".into())
    }

    fn verdicts(findings: &[Finding]) -> Vec<Verdict> {
        findings.iter().map(|finding| finding.verdict).collect()
    }

    #[test]
    fn one_backend_that_works_is_enough() {
        let legacy = Backend::Iptables(Flavour::Legacy);
        let survey = [(Backend::Nft, Err(missing())), (legacy, Ok(Ipv6::Reject))];
        let lines = backends(&survey);
        assert_eq!(verdicts(&lines), [Verdict::Ok, Verdict::Ok]);
        assert!(lines[0].message.contains("iptables-legacy works"), "{lines:?}");
        assert_eq!(ipv6(&survey, true).unwrap().verdict, Warn);
        let denied = RedirectError::NotPermitted { tool: "nft".into(), said: "no".into() };
        let failed = RedirectError::ToolFailed { tool: "x".into(), said: "no".into() };
        let survey = [(Backend::Nft, Err(denied)), (legacy, Err(failed))];
        let lines = backends(&survey);
        assert_eq!(verdicts(&lines), [Warn, Fail]);
        assert!(lines[1].message.contains("iptable_nat"), "{lines:?}");
        assert_eq!(ipv6(&survey, true), None);
        let survey = [(Backend::Nft, Ok(Ipv6::Redirect))];
        assert!(ipv6(&survey, true).unwrap().message.contains("redirected like IPv4"));
        assert_eq!(ipv6(&survey, false).unwrap(), Finding::ok("ipv6", "not in use here"));
        let survey = [(legacy, Err(RedirectError::Ipv6("is in use".into())))];
        assert_eq!(ipv6(&survey, true).unwrap().verdict, Fail);
    }

    #[test]
    fn capabilities_are_read_as_the_kernel_writes_them() {
        for (set, verdict) in [("0000000000003000", Verdict::Ok), ("0000000000001000", Warn), ("0", Warn), ("x", Warn)]
        {
            assert_eq!(capabilities(&format!("Name:\tx\nCapEff:\t{set}\n")).verdict, verdict, "{set}");
        }
    }

    #[test]
    fn others_are_named_with_the_way_to_be_rid_of_them() {
        for (chain, remedy) in [("ip nat ISTIO_OUTPUT", "sidecar.istio.io/inject"), ("ip nat mine", "remove them")] {
            let finding = others(Ok(BTreeSet::from([chain.to_owned()])));
            assert!(finding.verdict == Warn && finding.message.contains(remedy), "{finding:?}");
        }
        assert_eq!(others(Ok(BTreeSet::new())).verdict, Verdict::Ok);
        assert_eq!(others(Err(missing())).verdict, Warn);
    }
}
