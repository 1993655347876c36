//! The access-log line that would be written, as far as it is known before anything happens.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::asked::Asked;
use super::known::{Known, refusal};
use super::target::{Speaks, Target};
use crate::config::AccessLogFormat;
use crate::flow::{OriginalDst, ResponseFlags};
use crate::policy::{Action, Decision, Denial, FirstLook, HttpRoute};

/// The fields of the line that can be foretold, as they stand in Istio's text format.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Logged {
    /// `GET /path HTTP/1.1`, or `- - -` for a connection whose bytes are not read.
    pub request: String,
    /// `None` where the server's answer will be logged.
    pub response_code: Option<u16>,
    pub response_flags: String,
    pub response_code_details: String,
    pub connection_termination_details: String,
    pub upstream_cluster: String,
    pub requested_server_name: String,
    pub route_name: String,
    /// `accessLog: OFF`: nothing is written at all.
    pub is_off: bool,
}

impl fmt::Display for Logged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_off {
            return f.write_str("nothing: accessLog is OFF");
        }
        let code = self.response_code.map_or("<the server's>".to_owned(), |code| code.to_string());
        write!(
            f,
            "\"{}\" {code} {} {} {} … {} … {} {}",
            self.request,
            self.response_flags,
            self.response_code_details,
            self.connection_termination_details,
            self.upstream_cluster,
            self.requested_server_name,
            self.route_name
        )
    }
}

pub(super) fn logged(asked: &Asked<'_>, target: &Target, dst: OriginalDst, known: Known<'_>) -> Logged {
    let blank = blank(known);
    let request = format!("{} {} HTTP/1.1", target.method, target.path);
    match asked {
        Asked::Connection(decision) => {
            let requested_server_name = server_name(target, dst, known);
            Logged { requested_server_name, ..connection(decision, blank, known) }
        }
        Asked::Unreadable(why) => Logged {
            response_flags: ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR.to_string(),
            connection_termination_details: (*why).to_owned(),
            ..blank
        },
        Asked::Request(decision) => of_request(decision, Logged { request, ..blank }, known),
        Asked::Sent(cluster, route) => Logged {
            route_name: route.name.clone(),
            ..of_request(&Decision::Forward(cluster), Logged { request, ..blank }, known)
        },
        Asked::Stopped(denial, route) => Logged {
            route_name: route.name.clone(),
            ..of_request(&Decision::Deny(*denial), Logged { request, ..blank }, known)
        },
        Asked::Answered(route) => answered(route, Logged { request, ..blank }),
        Asked::NoRoute(_) => {
            let (code, flags) = (Some(404), ResponseFlags::NO_ROUTE.to_string());
            let response_code_details = "route_not_found".to_owned();
            Logged { request, response_code: code, response_flags: flags, response_code_details, ..blank }
        }
        Asked::AmbiguousPath => Logged {
            request,
            response_code: Some(400),
            response_flags: ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR.to_string(),
            response_code_details: "path_normalization_failed".to_owned(),
            ..blank
        },
    }
}

fn blank(known: Known<'_>) -> Logged {
    let dash = || "-".to_owned();
    Logged {
        request: "- - -".to_owned(),
        response_code: Some(0),
        response_flags: dash(),
        response_code_details: dash(),
        connection_termination_details: dash(),
        upstream_cluster: dash(),
        requested_server_name: dash(),
        route_name: dash(),
        is_off: known.table.settings().access_log == AccessLogFormat::Off,
    }
}

/// The SNI is known only of what is looked at, be it in passing.
fn server_name(target: &Target, dst: OriginalDst, known: Known<'_>) -> String {
    let is_looked_at =
        matches!(known.table.first_look(dst), FirstLook::Sniff | FirstLook::Decided(Decision::Passthrough));
    target.sni().filter(|_| target.speaks == Speaks::Tls && is_looked_at).map_or("-".to_owned(), ToString::to_string)
}

fn connection(decision: &Decision<'_>, blank: Logged, known: Known<'_>) -> Logged {
    let no_upstream = ResponseFlags::NO_HEALTHY_UPSTREAM.to_string();
    match decision {
        Decision::Forward(cluster) => {
            let is_refused = refusal(cluster, known.material).is_some();
            let response_flags = if is_refused { no_upstream } else { "-".to_owned() };
            Logged { response_flags, upstream_cluster: cluster.name.clone(), ..blank }
        }
        Decision::Split(split) => connection(&Decision::Deny(Denial::NoCluster(&split.source.name)), blank, known),
        Decision::Passthrough | Decision::ByName => {
            Logged { upstream_cluster: "PassthroughCluster".to_owned(), ..blank }
        }
        Decision::Deny(Denial::BlackHole) => {
            Logged { response_flags: no_upstream, upstream_cluster: "BlackHoleCluster".to_owned(), ..blank }
        }
        Decision::Deny(denial) => Logged {
            response_flags: flags_of(denial),
            connection_termination_details: denial.details().to_owned(),
            upstream_cluster: denial.cluster().to_owned(),
            ..blank
        },
    }
}

fn of_request(decision: &Decision<'_>, blank: Logged, known: Known<'_>) -> Logged {
    let (code, details, cluster, route) = match decision {
        Decision::Forward(cluster) if refusal(cluster, known.material).is_some() => {
            (Some(503), "no_healthy_upstream", cluster.name.as_str(), "default")
        }
        Decision::Forward(cluster) => (None, "via_upstream", cluster.name.as_str(), "default"),
        Decision::Split(split) => (Some(503), "cluster_not_found", split.source.name.as_str(), "default"),
        Decision::ByName => (None, "via_upstream", "AllowAnyDynamicDNSCluster", "allow_any"),
        Decision::Passthrough => (None, "via_upstream", "PassthroughCluster", "allow_any"),
        Decision::Deny(Denial::BlackHole) => (Some(502), "direct_response", "BlackHoleCluster", "block_all"),
        Decision::Deny(Denial::NoCluster(name)) => (Some(503), "cluster_not_found", *name, "default"),
        Decision::Deny(denial) => (Some(403), denial.details(), denial.cluster(), "default"),
    };
    let flags = match decision {
        Decision::Deny(denial) => flags_of(denial),
        Decision::Split(_) => ResponseFlags::NO_CLUSTER.to_string(),
        _ if code == Some(503) => ResponseFlags::NO_HEALTHY_UPSTREAM.to_string(),
        _ => "-".to_owned(),
    };
    Logged {
        response_code: code,
        response_flags: flags,
        response_code_details: details.to_owned(),
        upstream_cluster: cluster.to_owned(),
        route_name: route.to_owned(),
        ..blank
    }
}

fn flags_of(denial: &Denial<'_>) -> String {
    if matches!(denial, Denial::NoCluster(_)) { ResponseFlags::NO_CLUSTER.to_string() } else { "-".to_owned() }
}

fn answered(route: &HttpRoute, blank: Logged) -> Logged {
    let (code, details, flags) = match &route.action {
        Action::Forward(_) => (503, "cluster_not_found", ResponseFlags::NO_CLUSTER),
        Action::Redirect(redirect) => (redirect.code, "direct_response", ResponseFlags::default()),
        Action::Direct { status, .. } => (*status, "direct_response", ResponseFlags::default()),
    };
    Logged {
        response_code: Some(code),
        response_flags: flags.to_string(),
        response_code_details: details.to_owned(),
        route_name: route.name.clone(),
        ..blank
    }
}
