//! What the endpoints offer, to whom: the process that answers, as operators see it, and the listeners that it is asked
//! at. It knows neither HTTP nor how the answers come about.

use crate::explain::Question;

/// What the endpoints show and do. Every method must return at once; none may panic.
pub trait Admin {
    /// `Ok`: how it runs, a line a fact. `Err`: what is still missing.
    fn ready(&self) -> Result<String, String>;
    /// Prometheus text exposition, format 0.0.4.
    fn metrics(&self) -> String;
    fn server_info(&self) -> serde_json::Value;
    fn config_dump(&self) -> serde_json::Value;
    /// What the table in force decides by.
    fn routes(&self) -> serde_json::Value;
    /// Where connections go now.
    fn endpoints(&self) -> serde_json::Value;
    /// What would become of a connection. `Err`: what is wrong with the question.
    fn explain(&self, question: &Question) -> Result<serde_json::Value, String>;
    /// What the DNS listener answers: for `name`, or for every name with addresses. `Err`: what is wrong with the question.
    fn dns(&self, name: Option<&str>) -> Result<serde_json::Value, String>;
    fn certs(&self) -> serde_json::Value;
    fn connections(&self) -> serde_json::Value;
    /// `level` is `debug` or a filter such as `info,egret::io=trace`. `Err`: what is wrong with it.
    fn set_log_level(&self, level: &str) -> Result<(), String>;
    /// Starts to drain and returns.
    fn drain(&self);
    /// Asks the process to end and returns; the answer is written after this, so give it a moment.
    fn quit(&self);
    /// For tests, which no release has: a panic in the next connection, or in every worker.
    #[cfg(debug_assertions)]
    fn panic(&self, _worker: bool) {}
}

/// Which listener a request came in at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    Admin,
    Health,
    Metrics,
}
