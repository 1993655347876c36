//! What a table says of a connection: the proxy's two questions, asked once for each destination that a route may pick.
//!
//! It knows no words for the answers.

use super::target::{Speaks, Target};
use crate::flow::OriginalDst;
use crate::http::any_value;
use crate::policy::{
    Content, Decision, Declared, Destination, Expected, FirstLook, Flow, HttpRoute, PolicyTable, RequestView, Route,
    Verdict, WeightedRoute,
};

/// One answer of the table.
pub(super) struct Answer<'t> {
    /// What the proxy takes the connection for.
    pub(super) seen_as: &'static str,
    pub(super) verdict: Verdict<'t>,
    /// The connection's server name is known, be it by a look in passing.
    pub(super) shows_server_name: bool,
}

/// A destination that some get, and a number that picks it.
pub(super) struct Picked<'t> {
    pub(super) to: &'t Destination,
    pub(super) random: u64,
}

impl<'t> Answer<'t> {
    pub(super) fn http_route(&self) -> Option<&'t HttpRoute> {
        match &self.verdict.route {
            Some(Route::Http(taken)) => Some(taken.route),
            Some(Route::Bytes(_)) | None => None,
        }
    }

    /// Where the route of a request sends it.
    pub(super) fn destination(&self) -> Option<&'t Destination> {
        match &self.verdict.route {
            Some(Route::Http(taken)) => taken.destination,
            Some(Route::Bytes(_)) | None => None,
        }
    }

    /// The route for bytes that took the connection.
    pub(super) fn byte_route(&self) -> Option<&'t WeightedRoute> {
        match self.verdict.route {
            Some(Route::Bytes(split)) => Some(split),
            Some(Route::Http(_)) | None => None,
        }
    }

    /// Every destination of its route that gets a share.
    pub(super) fn shares(&self) -> Vec<Picked<'t>> {
        let mut random = 0;
        let share = |to: &'t Destination| {
            let picked = Picked { to, random };
            random += u64::from(to.weight);
            picked
        };
        self.verdict.destinations().iter().filter(|to| to.weight > 0).map(share).collect()
    }
}

/// What the table says of the connection, where `random` picks among destinations.
pub(super) fn ask<'t>(table: &'t PolicyTable, target: &Target, dst: OriginalDst, random: u64) -> Answer<'t> {
    let declared = match table.first_look(dst, random) {
        FirstLook::Sniff(Expected { declared, .. }) => declared,
        FirstLook::Decided(verdict) => {
            let passes = matches!(verdict.decision, Decision::Passthrough);
            let seen_as = if passes {
                "bytes that no ServiceEntry and no policy is about, carried from the first one"
            } else {
                "bytes of a declared TCP port, never inspected"
            };
            return Answer { seen_as, verdict, shows_server_name: passes && target.speaks == Speaks::Tls };
        }
    };
    let decide = |content: Content<'_>| table.decide(&Flow { destination: dst, content }, random);
    let (seen_as, verdict) = match (target.speaks, declared) {
        (Speaks::Http, _) => ("plain HTTP", with_view(target, |view| decide(Content::Request(view)))),
        (Speaks::Tls, _) => ("TLS of the application, by its SNI", decide(Content::Tls(target.sni()))),
        (Speaks::Bytes, Declared { http: false, tls: false }) => {
            ("neither HTTP nor TLS, or a server that speaks first", decide(Content::Opaque))
        }
        (Speaks::Bytes, _) => {
            ("neither HTTP nor TLS; a server that speaks first would be waited for in vain", decide(Content::Opaque))
        }
    };
    Answer { seen_as, verdict, shows_server_name: target.speaks == Speaks::Tls }
}

/// As a request with the header fields that were told, and its Host.
fn with_view<T>(target: &Target, look: impl FnOnce(&RequestView<'_>) -> T) -> T {
    let any_value = |name: &str, is_wanted: &mut dyn FnMut(&[u8]) -> bool| {
        let lines = target.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_bytes());
        any_value(name, lines, is_wanted)
    };
    look(&RequestView {
        host: &target.host,
        authority: target.authority.as_bytes(),
        method: target.method.as_bytes(),
        target: target.path.as_bytes(),
        any_value: &any_value,
    })
}
