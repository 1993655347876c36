//! The access-log line that would be written, as far as it is known before anything happens.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::answer::Answer;
use super::known::{Known, refusal};
use super::target::Target;
use crate::config::AccessLogFormat;
use crate::flow::Hostname;
use crate::policy::{Decision, Refusal};

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

/// What the table says, as the log would tell it. TLS that cannot be had is foretold where that is known.
pub(super) fn logged(answer: &Answer<'_>, target: &Target, known: Known<'_>) -> Logged {
    let verdict = &answer.verdict;
    let fields = match verdict.decision {
        Decision::Forward(cluster) => match refusal(cluster, known.material) {
            Some(reason) => verdict.log_fields().refused(&Refusal::NoTls(reason)),
            None => verdict.log_fields(),
        },
        _ => verdict.log_fields(),
    };
    let shown = |text: Option<&str>| text.unwrap_or("-").to_owned();
    let is_request = verdict.is_request();
    let request = if is_request { format!("{} {} HTTP/1.1", target.method, target.path) } else { "- - -".to_owned() };
    let server_name = target.sni().filter(|_| answer.shows_server_name);
    Logged {
        request,
        response_code: fields.code,
        response_flags: fields.flags.to_string(),
        response_code_details: shown(fields.details.filter(|_| is_request)),
        connection_termination_details: shown(fields.details.filter(|_| !is_request)),
        upstream_cluster: shown(fields.cluster),
        requested_server_name: shown(server_name.map(Hostname::as_str)),
        route_name: shown(fields.route),
        is_off: known.table.settings().access_log == AccessLogFormat::Off,
    }
}
