//! What does the application speak? Its first bytes tell; where it stays silent the server probably speaks first.
//!
//! How long that is waited for is the policy's affair ([`Attention`]). The table itself is not held meanwhile: an
//! application may be silent for an hour.

use std::rc::Rc;
use std::time::Duration;

use crate::config::Settings;
use crate::flow::OriginalDst;
use crate::io;
use crate::policy::{Expected, FirstLook, PolicyTable};
use crate::proxy::close::Close;
use crate::proxy::context::Context;
use crate::proxy::downstream;
use crate::proxy::peers::Peers;
use crate::sniff::{self, Detection};
use crate::upstream::{Reader, Reserved, StreamError};

/// What the first bytes, or their absence, say.
#[derive(Debug)]
pub enum Heard {
    /// Decided from bytes, which stay in the reader.
    Protocol(Detection),
    /// No byte came in time: a protocol where the server speaks first.
    Silence,
    /// The opening of a request, or of TLS, on a port that is declared so, did not end in time.
    Unfinished,
    /// What may be such an opening did not end in time where anything may come: what it is remains unknown.
    Ambiguous,
    /// The application said nothing and will say nothing.
    Nothing(Close),
}

/// How a connection is listened to before it is decided on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attention {
    /// How long for the first byte; `None`: nothing is decided before it, whatever time passes.
    patience: Option<Duration>,
    /// How long for the rest of what may be the opening of HTTP or TLS.
    rest: Duration,
    /// Requests are what is expected.
    http: bool,
    /// And TLS.
    tls: bool,
}

/// The rest of an opening follows its first byte at once where nobody waits for an answer to a part of it: both ends
/// are on the same host. A protocol whose first word could begin a request must not wait longer for its server.
const SHORT: Duration = Duration::from_millis(500);

impl Attention {
    /// What is asked for by what is expected.
    #[must_use]
    pub fn of(expected: Expected, settings: &Settings) -> Self {
        let Expected { declared, must_be_read } = expected;
        let waits = must_be_read || declared.tls || settings.protocol_detection_timeout.is_zero();
        let full = settings.request_headers_timeout;
        Self {
            patience: (!waits).then_some(settings.protocol_detection_timeout),
            rest: if must_be_read { full } else { full.min(SHORT) },
            http: declared.http,
            tls: declared.tls || must_be_read,
        }
    }

    /// Whether the port is declared HTTP.
    #[must_use]
    pub fn is_for_requests(self) -> bool {
        self.http
    }

    /// Whether `table` still asks for the same.
    #[must_use]
    pub fn is_of(self, table: &PolicyTable, destination: OriginalDst) -> bool {
        // Whatever would be picked: nothing is carried by this answer.
        let FirstLook::Sniff(expected) = table.first_look(destination, 0) else { return false };
        Self::of(expected, table.settings()) == self
    }
}

/// Listens until it is clear what the connection is, or that nobody speaks.
pub async fn listen(context: &Rc<Context>, reader: &mut Reader<'_>, peers: Peers, attention: Attention) -> Heard {
    if reader.bytes().is_empty() {
        match attention.patience {
            None => {
                let expired = &context.counters.expired_silence;
                if let Some(close) =
                    downstream::rest(context, reader, &mut Reserved::default(), peers.at, expired).await
                {
                    return Heard::Nothing(close);
                }
            }
            Some(patience) => match io::timeout(patience, reader.fill()).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => return Heard::Nothing(Close::Orderly),
                Ok(Err(_)) => return Heard::Nothing(Close::Abort),
                Err(io::Elapsed) => return Heard::Silence,
            },
        }
    }
    let full = context.policy.load().settings().request_headers_timeout;
    let is_tls = attention.tls && sniff::begins_tls(reader.bytes());
    let limit = if is_tls { full } else { attention.rest };
    match io::timeout(limit, decide(reader, attention.http)).await {
        Ok(Ok(detection)) => Heard::Protocol(detection),
        Ok(Err(_)) => Heard::Nothing(Close::Abort),
        Err(io::Elapsed) if attention.http || is_tls => Heard::Unfinished,
        Err(io::Elapsed) => Heard::Ambiguous,
    }
}

/// Bytes that end ambiguously are opaque: nothing follows that could make something of them.
async fn decide(reader: &mut Reader<'_>, http: bool) -> Result<Detection, StreamError> {
    loop {
        let found = if http { sniff::detect_declared(reader.bytes()) } else { sniff::detect(reader.bytes()) };
        match found {
            Detection::NeedMore => {}
            decided => return Ok(decided),
        }
        if !reader.fill().await? {
            return Ok(Detection::Opaque);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PortProtocol::{Auto, Http, Https, Tcp};
    use crate::config::Resolution::{Dns, None as Original};
    use crate::config::Resources;
    use crate::policy::tests::fixture::{compiled, dst, entry, rule};

    #[test]
    fn who_is_listened_to_for_how_long() {
        let mut resources = Resources {
            service_entries: vec![
                entry(&["web.test"], &[], Original).with_port(80, Http),
                entry(&["tls.test"], &[], Original).with_port(443, Https),
                entry(&["any.test"], &["9.9.9.9"], Original).with_port(7000, Auto),
                entry(&["secure.test"], &["9.9.9.8"], Dns).with_port(7001, Auto),
                entry(&["db.test"], &[], Original).with_port(5432, Tcp),
            ],
            destination_rules: vec![rule("r", "secure.test")],
            ..Resources::default()
        };
        let Settings { protocol_detection_timeout: some, request_headers_timeout: full, .. } = resources.settings;
        let asked = |resources: &Resources, to: &str| {
            let table = compiled(resources).0;
            match table.first_look(dst(to), 0) {
                FirstLook::Sniff(expected) => {
                    let Attention { patience, rest, http, tls } = Attention::of(expected, table.settings());
                    (patience, rest, http, tls)
                }
                FirstLook::Decided(verdict) => panic!("{to}: {verdict:?}"),
            }
        };
        for (to, expected) in [
            ("9.9.9.9:80", (None, full, true, true)),
            ("9.9.9.9:443", (None, SHORT, false, true)),
            ("9.9.9.9:7000", (Some(some), SHORT, false, false)),
            // The name has no address: any may be its.
            ("9.9.9.9:7001", (None, full, false, true)),
        ] {
            assert_eq!(asked(&resources, to), expected, "{to}");
        }
        resources.settings.protocol_detection_timeout = Duration::ZERO;
        assert_eq!(asked(&resources, "9.9.9.9:7000"), (None, SHORT, false, false));
    }
}
