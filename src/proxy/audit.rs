//! Tells of flows that AUDIT policies are about. It decides nothing: policy has found them.

use crate::flow::Hostname;
use crate::policy::{Flow, Verdict};
use crate::proxy::counters::Counters;

/// Logs and counts each AUDIT policy that `flow` matches.
pub fn tell(counters: &Counters, verdict: &Verdict<'_>, flow: &Flow<'_>) {
    for policy in verdict.audits(flow) {
        counters.audited.increment();
        let sni = flow.server_name().map(Hostname::as_str);
        let destination = flow.destination;
        if let Some(request) = flow.request() {
            let (method, target) = (request.method.escape_ascii(), request.target.escape_ascii());
            tracing::info!(policy, %destination, host = %request.host, %method, %target, "audited request");
        } else {
            tracing::info!(policy, %destination, sni, "audited connection");
        }
    }
}
