//! `outlierDetection` of a traffic policy: after which errors an endpoint is left alone, and for how long.
//!
//! Defaults are Istio's, which are Envoy's where Istio writes none. An empty block therefore switches detection on.

use std::time::Duration;

use crate::config::problem::Location;
use crate::config::reader::{Field, Object, Report, Shape};

/// When an endpoint is ejected, with the defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlierDetection {
    /// Answers of 500 to 599 in a row; 0 never ejects for them. Failed connections count as such, unless `split`.
    pub consecutive_5xx: u32,
    /// Answers of 502, 503 or 504 in a row; 0 never ejects for them. Failed connections count as such, unless `split`.
    pub consecutive_gateway: u32,
    /// Connections that failed, broke or timed out in a row; counted only if `split`, and 0 never ejects for them.
    pub consecutive_local: u32,
    /// What the endpoint answered and what became of connections to it are counted apart.
    pub split: bool,
    /// An ejection lasts a whole number of these.
    pub interval: Duration,
    /// How long the first ejection lasts; each further one lasts that much longer.
    pub base_ejection_time: Duration,
    /// Endpoints that may be ejected at once, in percent of all.
    pub max_ejection_percent: u32,
    /// With fewer endpoints left than this many percent, ejections are ignored.
    pub min_health_percent: u32,
    pub at: Location,
}

pub(super) fn read(field: &Field<'_>, report: &mut Report) -> Option<OutlierDetection> {
    let mut object = field.object(report)?;
    let consecutive_5xx = times(&mut object, "consecutive5xxErrors", report);
    let consecutive_gateway = times(&mut object, "consecutiveGatewayErrors", report);
    let consecutive_local = times(&mut object, "consecutiveLocalOriginFailures", report);
    let split = object.optional("splitExternalLocalOriginErrors").and_then(|field| field.boolean(report));
    let interval = object.optional("interval").and_then(|time| time.at_least_a_millisecond(report));
    let base_ejection_time = object.optional("baseEjectionTime").and_then(|time| time.at_least_a_millisecond(report));
    // Zero is "not set" here: a proto3 int32 cannot say it.
    let max_ejection_percent = percent(&mut object, "maxEjectionPercent", report).filter(|percent| *percent > 0);
    let min_health_percent = percent(&mut object, "minHealthPercent", report);
    object.unsupported("consecutiveErrors", Shape::Whole, report);
    object.unsupported("outlierDetectionHttpErrorCodes", Shape::Any, report);
    let split = split.unwrap_or(false);
    if consecutive_local.is_some() && !split {
        object.warning(
            "consecutiveLocalOriginFailures counts only with splitExternalLocalOriginErrors: true; without it failed \
             connections count as 5xx",
            report,
        );
    }
    object.finish(report);
    Some(OutlierDetection {
        consecutive_5xx: consecutive_5xx.unwrap_or(5),
        consecutive_gateway: consecutive_gateway.unwrap_or(0),
        consecutive_local: consecutive_local.unwrap_or(5),
        split,
        interval: interval.unwrap_or(Duration::from_secs(10)),
        base_ejection_time: base_ejection_time.unwrap_or(Duration::from_secs(30)),
        max_ejection_percent: max_ejection_percent.unwrap_or(10),
        min_health_percent: min_health_percent.unwrap_or(0),
        at: report.location(field.key_at()),
    })
}

fn times(object: &mut Object<'_>, name: &'static str, report: &mut Report) -> Option<u32> {
    let number = object.optional(name)?.whole(&(0..=i64::from(u32::MAX)), report)?;
    u32::try_from(number).ok()
}

fn percent(object: &mut Object<'_>, name: &'static str, report: &mut Report) -> Option<u32> {
    let number = object.optional(name)?.whole(&(0..=100), report)?;
    u32::try_from(number).ok()
}
