//! How name servers are reached, from the settings: plainly, or over TLS with the material that it takes.
//!
//! Where TLS is asked for and cannot be had, no name server is asked at all.

use rustls::pki_types::ServerName;

use crate::config::{DnsTransport, Settings};
use crate::control::resolve::{DnsOverTls, NameServers, StreamTransport, TLS_PORT};
use crate::flow::Host;
use crate::tls::{Alpn, NameCheck, ProfileMode, ProfileRequest, SniSource, Store, TrustSource};

/// Keeps the connections to name servers as long as nothing about them has changed.
#[derive(Debug, Default)]
pub struct NameServerTransport {
    in_force: Option<Wanted>,
}

/// What connections are made by.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Plain,
    /// The profile's digest, which knows its trust, and the name.
    Tls([u8; 32], ServerName<'static>),
    Unavailable(String),
}

impl NameServerTransport {
    /// Makes `servers` be asked as the settings say; why they cannot be asked, if that is so.
    pub fn apply(&mut self, settings: &Settings, store: &mut Store, servers: &NameServers) -> Option<String> {
        let (wanted, streams) = match settings.dns_transport {
            DnsTransport::Plain => (Wanted::Plain, StreamTransport::Tcp),
            DnsTransport::Tls => over_tls(settings, store).unwrap_or_else(|why| {
                let why = format!("name servers cannot be asked over TLS, so no name is resolved: {why}");
                (Wanted::Unavailable(why.clone()), StreamTransport::Unavailable(why.into()))
            }),
        };
        let problem = if let Wanted::Unavailable(why) = &wanted { Some(why.clone()) } else { None };
        if self.in_force.as_ref() != Some(&wanted) {
            if self.in_force.is_some() || wanted != Wanted::Plain {
                servers.set_streams(streams);
            }
            self.in_force = Some(wanted);
        }
        problem
    }
}

fn over_tls(settings: &Settings, store: &mut Store) -> Result<(Wanted, StreamTransport), String> {
    let name = settings.dns_server_name.clone().ok_or("dnsServerName is not set")?;
    let trust = match &settings.dns_ca_certificates {
        Some(ca) => TrustSource::File { ca: ca.clone(), crl: None },
        None => TrustSource::System,
    };
    let request = ProfileRequest {
        mode: ProfileMode::Simple,
        trust,
        identity: None,
        names: NameCheck::FromHost,
        sni: SniSource::FromHost,
        alpn: Alpn::NONE,
    };
    let profile = store.profile(&request)?;
    let name = profile.server_name(&Host::Name(name)).map_err(|error| error.to_string())?;
    let tls = DnsOverTls::new(profile.client_config(), name.clone(), TLS_PORT);
    Ok((Wanted::Tls(profile.digest(), name), StreamTransport::Tls(tls.into())))
}
