//! What each port claims, by its protocol, and the cluster of what it wins.

use ipnet::IpNet;

use crate::config::{OutboundPolicy, PortProtocol, Resolution};
use crate::policy::compile::cluster::upstream_protocol;
use crate::policy::compile::compiler::Compiler;
use crate::policy::compile::select::listed_hosts::is_eligible;
use crate::policy::service::{PayloadKind, Service};
use crate::policy::table::cluster::ClusterProtocol;
use crate::policy::table::listener_matches::{Claims, FirstSpeaker, PortMatches, everything};

impl<'a> Compiler<'a> {
    /// Claims the flows of a port, and makes its clusters.
    pub(in crate::policy) fn add_service(&mut self, service: &Service<'a>) {
        match service.port.protocol {
            PortProtocol::Http | PortProtocol::Http2 | PortProtocol::Grpc | PortProtocol::GrpcWeb => {
                self.add_http(service);
            }
            PortProtocol::Https | PortProtocol::Tls => self.add_tls(service),
            PortProtocol::Tcp | PortProtocol::Redis => self.add_bytes(service, FirstSpeaker::Either),
            PortProtocol::Mongo | PortProtocol::Mysql => self.add_bytes(service, FirstSpeaker::Server),
            PortProtocol::Auto => self.add_detected(service),
            PortProtocol::Udp => {}
        }
    }

    fn add_http(&mut self, service: &Service<'a>) {
        let id = self.table.clusters.len();
        let (own, places) = (self.automatic(service), self.places(service));
        let may_be_another = self.table.settings.outbound_traffic_policy != OutboundPolicy::RegistryOnly
            && service.entry.resolution != Resolution::DynamicDns;
        let matches = self.matches_of(service);
        let claims = matches.claim_http(service.host, &places, id);
        if claims.won && may_be_another {
            matches.claim_unnamed_http(&own, id);
        }
        let (protocol, payload) = upstream_protocol::of(service, &self.table.settings);
        self.settle(service, &claims, protocol, payload);
    }

    fn add_tls(&mut self, service: &Service<'a>) {
        let id = self.table.clusters.len();
        let routed = self.claim_sni_routes(service, id);
        let places = self.places(service);
        let claims = routed.unwrap_or_else(|| self.matches_of(service).claim_tls(service.host, &places, id));
        self.settle(service, &claims, ClusterProtocol::Opaque, PayloadKind::Tls);
    }

    fn add_bytes(&mut self, service: &Service<'a>, first_speaker: FirstSpeaker) {
        let id = self.table.clusters.len();
        let claims = self.claim_byte_routes(service, first_speaker, id);
        self.settle(service, &claims, ClusterProtocol::Opaque, PayloadKind::Bytes);
    }

    /// A port without a declared protocol: requests by host, other bytes by address, and TLS of the application as such
    /// where a rule asks for TLS of ours.
    fn add_detected(&mut self, service: &Service<'a>) {
        let places = self.places(service);
        let id = self.table.clusters.len();
        let claims = self.matches_of(service).claim_detected_http(service.host, &places, id);
        self.settle(service, &claims, ClusterProtocol::SameAsClient, PayloadKind::Http1);

        let bytes = self.table.clusters.len();
        let claims = self.claim_byte_routes(service, FirstSpeaker::Either, bytes);
        self.settle(service, &claims, ClusterProtocol::Opaque, PayloadKind::Bytes);
        if claims.won
            && let Some(claims) = self.claim_detected_tls(service, bytes)
        {
            self.settle(service, &claims, ClusterProtocol::Opaque, PayloadKind::Tls);
        }
    }

    /// Where the connections of a service may be going: to the addresses that its entry lists, else anywhere, and to those
    /// that stand for its host. A longer prefix comes first, so these tell apart what has no name.
    pub(in crate::policy) fn places(&self, service: &Service<'_>) -> Vec<IpNet> {
        let own = self.automatic(service);
        if own.is_empty() { service.entry.addresses.clone() } else { [&everything()[..], &own].concat() }
    }

    fn automatic(&self, service: &Service<'_>) -> Vec<IpNet> {
        if !is_eligible(service.entry, service.host) {
            return Vec::new();
        }
        self.materials.automatic_addresses(service.host).into_iter().map(IpNet::from).collect()
    }

    pub(in crate::policy) fn matches_of(&mut self, service: &Service<'_>) -> &mut PortMatches {
        self.table.ports.entry(service.port.number).or_default()
    }

    /// Makes the cluster of what was won, and says what was lost.
    fn settle(&mut self, service: &Service<'a>, claims: &Claims, protocol: ClusterProtocol, payload: PayloadKind) {
        for (what, owner) in &claims.lost {
            let owner = &self.table.clusters[*owner].origin.service_entry;
            if owner.at != service.entry.meta.at {
                let port = service.port.number;
                let rest = if self.automatic(service).is_empty() {
                    "this entry gets none of them"
                } else {
                    "this entry gets those alone that go to its automatic address, which applications know where DNS is \
                     captured (egret init --capture-dns)"
                };
                let message = format!("{what} on port {port} stay with the older ServiceEntry {owner}: {rest}");
                self.problems.warn(&service.port.at, message);
            }
        }
        if claims.won {
            let cluster = self.cluster(service, "", protocol, payload);
            self.add_cluster(service.host, cluster);
        }
    }
}
