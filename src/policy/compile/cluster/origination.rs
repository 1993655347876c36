//! A `tls` block → what is asked of the handshake, or why it is refused.
//!
//! The table is Istio's (`constructUpstreamTLS`, `setAutoSniAndAutoSanValidation`), except where Istio would quietly
//! fall back to plaintext: there the answer is [`Wanted::Refused`]. It loads nothing.

use crate::config::{ClientTls, Resolution, TlsMode};
use crate::policy::service::{PayloadKind, Service};
use crate::tls::{Alpn, IdentitySource, NameCheck, ProfileMode, ProfileRequest, SniSource, TrustSource};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::policy) enum Wanted {
    Plaintext,
    Tls(ProfileRequest),
    /// In words for the log, the 503 and a warning.
    Refused(String),
}

/// What the block asks for is judged by.
#[derive(Clone, Copy, Debug)]
pub(in crate::policy) struct Context<'a> {
    pub(in crate::policy) port: u16,
    pub(in crate::policy) payload: PayloadKind,
    /// The rule selects its workloads: only then may it use a secret.
    pub(in crate::policy) selects_workload: bool,
    /// `subjectAltNames` of the ServiceEntry.
    pub(in crate::policy) entry_names: &'a [String],
    pub(in crate::policy) resolution: Resolution,
}

/// What the policy of a port asks for, where it carries this.
pub(in crate::policy) fn wanted_by(service: &Service<'_>, payload: PayloadKind) -> Wanted {
    // The application's own TLS goes through a tunnel, and ours ends at the forward proxy: no TLS in TLS for a server.
    let is_tunnelled = service.policy.is_some_and(|policy| policy.tunnel.is_some());
    let payload = if is_tunnelled && payload == PayloadKind::Tls { PayloadKind::Bytes } else { payload };
    let context = Context {
        port: service.port.number,
        payload,
        selects_workload: service.rule.is_some_and(|(rule, _)| rule.workload_selector.is_some()),
        entry_names: &service.entry.subject_alt_names,
        resolution: service.entry.resolution,
    };
    wanted(service.policy.and_then(|policy| policy.tls.as_ref()), &context)
}

pub(in crate::policy) fn wanted(tls: Option<&ClientTls>, context: &Context<'_>) -> Wanted {
    let Some(tls) = tls.filter(|tls| tls.mode != TlsMode::Disable) else { return Wanted::Plaintext };
    if let Some(reason) = refusal(tls, context) {
        return Wanted::Refused(reason);
    }
    let mutual = tls.mode == TlsMode::Mutual;
    Wanted::Tls(ProfileRequest {
        mode: if mutual { ProfileMode::Mutual } else { ProfileMode::Simple },
        trust: trust(tls),
        identity: identity(tls).filter(|_| mutual),
        names: names(tls, context),
        sni: sni(tls, context),
        alpn: alpn(context.payload),
    })
}

fn refusal(tls: &ClientTls, context: &Context<'_>) -> Option<String> {
    let port = context.port;
    if tls.mode == TlsMode::IstioMutual {
        return Some("tls mode ISTIO_MUTUAL needs certificates from Istio's control plane; use MUTUAL".to_owned());
    }
    if context.payload == PayloadKind::Tls {
        return Some(format!(
            "the application already speaks TLS on port {port}, and TLS inside TLS would fail; to pass its TLS through, \
             move the tls block into portLevelSettings of the HTTP port; to originate TLS on port {port}, declare the \
             port's protocol HTTP and let the application speak plain HTTP to it"
        ));
    }
    if tls.credential_name.is_some() && !context.selects_workload {
        return Some(
            "credentialName is used by a sidecar only when the DestinationRule has a workloadSelector; add one that \
             matches the pod (Istio would send plaintext here)"
                .to_owned(),
        );
    }
    if tls.mode == TlsMode::Mutual && identity(tls).is_none() {
        return Some("tls mode MUTUAL needs clientCertificate and privateKey, or credentialName".to_owned());
    }
    let crl_alone = tls.ca_crl.is_some() && tls.ca_certificates.is_none();
    crl_alone.then(|| "caCrl needs caCertificates: name the bundle whose certificates the list revokes".to_owned())
}

fn identity(tls: &ClientTls) -> Option<IdentitySource> {
    match (&tls.credential_name, &tls.client_certificate, &tls.private_key) {
        (Some(name), _, _) => Some(IdentitySource::Credential(name.clone())),
        (None, Some(cert), Some(key)) => Some(IdentitySource::Files { cert: cert.clone(), key: key.clone() }),
        _ => None,
    }
}

fn trust(tls: &ClientTls) -> TrustSource {
    match (&tls.credential_name, &tls.ca_certificates) {
        _ if tls.insecure_skip_verify => TrustSource::Unverified,
        (Some(name), _) => TrustSource::Credential(name.clone()),
        (None, Some(ca)) => TrustSource::File { ca: ca.clone(), crl: tls.ca_crl.clone() },
        (None, None) => TrustSource::System,
    }
}

/// The automatic check needs a host, and an explicit `sni` or list switches it off. The ServiceEntry's list stands in
/// for a missing one, in addition to the automatic check because Istio decides on that before it looks at the entry.
fn names(tls: &ClientTls, context: &Context<'_>) -> NameCheck {
    let requests = matches!(context.payload, PayloadKind::Http1 | PayloadKind::Http2);
    let by_name = context.resolution == Resolution::DynamicDns && requests;
    let automatic = tls.sni.is_none() && requests;
    let entry = context.entry_names;
    if tls.insecure_skip_verify {
        NameCheck::ChainOnly
    } else if by_name {
        // Whatever the rule says: nothing but the certificate proves that the address is the name's.
        let listed = if tls.subject_alt_names.is_empty() { entry } else { &tls.subject_alt_names[..] };
        if listed.is_empty() { NameCheck::FromHost } else { NameCheck::FromHostAnd(listed.to_vec()) }
    } else if !tls.subject_alt_names.is_empty() {
        NameCheck::Exact(tls.subject_alt_names.clone())
    } else if automatic && entry.is_empty() {
        NameCheck::FromHost
    } else if automatic {
        NameCheck::FromHostAnd(entry.to_vec())
    } else if entry.is_empty() {
        NameCheck::ChainOnly
    } else {
        NameCheck::Exact(entry.to_vec())
    }
}

fn sni(tls: &ClientTls, context: &Context<'_>) -> SniSource {
    match (&tls.sni, context.payload) {
        (_, PayloadKind::Http1 | PayloadKind::Http2) if context.resolution == Resolution::DynamicDns => {
            SniSource::FromHost
        }
        (Some(name), _) => SniSource::Fixed(name.clone()),
        (None, PayloadKind::Http1 | PayloadKind::Http2) => SniSource::FromHost,
        (None, PayloadKind::Bytes | PayloadKind::Tls) => SniSource::Omit,
    }
}

/// A server that takes what is offered will speak it: so only what requests are sent in.
fn alpn(payload: PayloadKind) -> Alpn {
    match payload {
        PayloadKind::Http1 => Alpn::HTTP1,
        PayloadKind::Http2 => Alpn::HTTP2,
        PayloadKind::Bytes | PayloadKind::Tls => Alpn::NONE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Hostname;
    use crate::policy::tests::fixture::tls;

    const HTTP: PayloadKind = PayloadKind::Http1;

    fn ask(tls: &ClientTls, payload: PayloadKind, entry_names: &[String]) -> Wanted {
        wanted(
            Some(tls),
            &Context { port: 80, payload, selects_workload: true, entry_names, resolution: Resolution::Dns },
        )
    }

    /// istio-egress §2.2: sni, subjectAltNames of the rule, of the entry, insecureSkipVerify → SNI, name check.
    #[test]
    fn sni_and_names() {
        let fixed = || SniSource::Fixed(Hostname::new("fixed.example").unwrap());
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let (none, rule, entry) = (list(&[]), list(&["rule.example"]), list(&["entry.example"]));
        let cases = [
            (HTTP, None, &none, &none, false, SniSource::FromHost, NameCheck::FromHost),
            (HTTP, Some("fixed.example"), &none, &none, false, fixed(), NameCheck::ChainOnly),
            (HTTP, None, &rule, &none, false, SniSource::FromHost, NameCheck::Exact(rule.clone())),
            (HTTP, Some("fixed.example"), &rule, &none, false, fixed(), NameCheck::Exact(rule.clone())),
            (HTTP, None, &none, &entry, false, SniSource::FromHost, NameCheck::FromHostAnd(entry.clone())),
            (HTTP, Some("fixed.example"), &none, &entry, false, fixed(), NameCheck::Exact(entry.clone())),
            (HTTP, None, &rule, &entry, false, SniSource::FromHost, NameCheck::Exact(rule.clone())),
            (HTTP, None, &none, &none, true, SniSource::FromHost, NameCheck::ChainOnly),
            (HTTP, Some("fixed.example"), &none, &none, true, fixed(), NameCheck::ChainOnly),
            (PayloadKind::Http2, None, &none, &none, false, SniSource::FromHost, NameCheck::FromHost),
            (PayloadKind::Bytes, None, &none, &none, false, SniSource::Omit, NameCheck::ChainOnly),
            (PayloadKind::Bytes, Some("fixed.example"), &none, &none, false, fixed(), NameCheck::ChainOnly),
            (PayloadKind::Bytes, None, &rule, &none, false, SniSource::Omit, NameCheck::Exact(rule.clone())),
            (PayloadKind::Bytes, None, &none, &entry, false, SniSource::Omit, NameCheck::Exact(entry.clone())),
        ];
        for (payload, sni, sans, entry_names, insecure, expected_sni, expected_names) in cases {
            let mut block = tls(TlsMode::Simple);
            block.sni = sni.map(|name| Hostname::new(name).unwrap());
            block.subject_alt_names.clone_from(sans);
            block.insecure_skip_verify = insecure;
            let Wanted::Tls(request) = ask(&block, payload, entry_names) else { panic!("{block:?}: no TLS") };
            assert_eq!((request.sni, request.names), (expected_sni, expected_names), "{payload:?} {block:?}");
            assert_eq!(request.trust == TrustSource::Unverified, insecure);
        }
    }

    /// DYNAMIC_DNS: the name decides where a connection goes, so its certificate is asked for, whatever the rule says.
    #[test]
    fn names_that_are_looked_up_are_always_checked() {
        let list = vec!["rule.example".to_owned()];
        for (sni, sans, insecure, payload, expected_sni, expected) in [
            (None, &[][..], false, HTTP, SniSource::FromHost, NameCheck::FromHost),
            (Some("fixed.example"), &[], false, HTTP, SniSource::FromHost, NameCheck::FromHost),
            (None, &list, false, PayloadKind::Http2, SniSource::FromHost, NameCheck::FromHostAnd(list.clone())),
            (Some("fixed.example"), &[], true, HTTP, SniSource::FromHost, NameCheck::ChainOnly),
        ] {
            let mut block = tls(TlsMode::Simple);
            block.sni = sni.map(|name| Hostname::new(name).unwrap());
            block.subject_alt_names = sans.to_vec();
            block.insecure_skip_verify = insecure;
            let resolution = Resolution::DynamicDns;
            let context = Context { port: 80, payload, selects_workload: true, entry_names: &[], resolution };
            let Wanted::Tls(request) = wanted(Some(&block), &context) else { panic!("{block:?}: no TLS") };
            assert_eq!((request.sni, request.names), (expected_sni, expected), "{block:?}");
        }
    }

    #[test]
    fn material_and_alpn() {
        let file = |name: &str| std::path::PathBuf::from(name);
        let mut simple = tls(TlsMode::Simple);
        simple.ca_certificates = Some(file("ca.pem"));
        simple.ca_crl = Some(file("crl.pem"));
        let Wanted::Tls(request) = ask(&simple, PayloadKind::Http2, &[]) else { panic!("no TLS") };
        assert_eq!(request.trust, TrustSource::File { ca: file("ca.pem"), crl: Some(file("crl.pem")) });
        assert_eq!((request.mode, request.identity, request.alpn), (ProfileMode::Simple, None, Alpn::HTTP2));

        let mut mutual = tls(TlsMode::Mutual);
        mutual.client_certificate = Some(file("c.pem"));
        mutual.private_key = Some(file("k.pem"));
        let Wanted::Tls(request) = ask(&mutual, HTTP, &[]) else { panic!("no TLS") };
        assert_eq!(
            (request.mode, request.trust, request.alpn),
            (ProfileMode::Mutual, TrustSource::System, Alpn::HTTP1)
        );
        assert_eq!(request.identity, Some(IdentitySource::Files { cert: file("c.pem"), key: file("k.pem") }));

        let mut secret = tls(TlsMode::Mutual);
        secret.credential_name = Some("client".into());
        let Wanted::Tls(request) = ask(&secret, PayloadKind::Bytes, &[]) else { panic!("no TLS") };
        assert_eq!(request.trust, TrustSource::Credential("client".into()));
        assert_eq!(request.identity, Some(IdentitySource::Credential("client".into())));
        assert_eq!(request.alpn, Alpn::NONE);

        // A secret of SIMPLE gives the CA only.
        secret.mode = TlsMode::Simple;
        let Wanted::Tls(request) = ask(&secret, HTTP, &[]) else { panic!("no TLS") };
        assert_eq!((request.mode, request.identity), (ProfileMode::Simple, None));
    }

    #[test]
    fn plaintext_only_when_asked_for() {
        let resolution = Resolution::Dns;
        let context = Context { port: 80, payload: HTTP, selects_workload: false, entry_names: &[], resolution };
        assert_eq!(wanted(None, &context), Wanted::Plaintext);
        assert_eq!(wanted(Some(&tls(TlsMode::Disable)), &context), Wanted::Plaintext);

        let mut secret = tls(TlsMode::Simple);
        secret.credential_name = Some("client".into());
        let mut crl = tls(TlsMode::Simple);
        crl.ca_crl = Some("crl.pem".into());
        let own_tls = Context { port: 443, payload: PayloadKind::Tls, ..context };
        for (block, context, word) in [
            (&secret, context, "workloadSelector"),
            (&tls(TlsMode::IstioMutual), context, "ISTIO_MUTUAL"),
            (&tls(TlsMode::Mutual), context, "clientCertificate"),
            (&crl, context, "caCertificates"),
            (&tls(TlsMode::Simple), own_tls, "already speaks TLS on port 443"),
        ] {
            match wanted(Some(block), &context) {
                Wanted::Refused(reason) => assert!(reason.contains(word), "{reason}"),
                other => panic!("{block:?}: {other:?}"),
            }
        }
    }

    /// A `tls` block in words: its mode, then what is set of `ca`, `crl`, `cert`, `key`, `secret`, `san`, `sni` and
    /// `insecure`. Beside them what the port carries (`h2`), the entry's names (`entry-san`), and a rule without a selector
    /// (`unselected`).
    fn asked_for(words: &str) -> Wanted {
        let has = |word: &str| words.split(' ').any(|other| other == word);
        let mode = [("SIMPLE", TlsMode::Simple), ("MUTUAL", TlsMode::Mutual), ("ISTIO_MUTUAL", TlsMode::IstioMutual)];
        let mode = mode.iter().find(|(name, _)| has(name)).map_or(TlsMode::Disable, |(_, mode)| *mode);
        let path = |word: &str| has(word).then(|| std::path::PathBuf::from(word));
        let block = ClientTls {
            ca_certificates: path("ca"),
            ca_crl: path("crl"),
            client_certificate: path("cert"),
            private_key: path("key"),
            credential_name: has("secret").then(|| "secret".to_owned()),
            subject_alt_names: if has("san") { vec!["san".to_owned()] } else { Vec::new() },
            sni: has("sni").then(|| Hostname::new("sni").unwrap()),
            insecure_skip_verify: has("insecure"),
            ..tls(mode)
        };
        let entry_names = if has("entry-san") { vec!["entry-san".to_owned()] } else { Vec::new() };
        let context = Context {
            port: 80,
            payload: if has("h2") { PayloadKind::Http2 } else { HTTP },
            selects_workload: !has("unselected"),
            entry_names: &entry_names,
            resolution: Resolution::Dns,
        };
        wanted(Some(&block), &context)
    }

    /// Trusted by what, checked for which name, sent which SNI, with which certificate.
    fn shown(wanted: &Wanted) -> String {
        let request = match wanted {
            Wanted::Plaintext => return "plaintext".to_owned(),
            Wanted::Refused(reason) => return format!("refused: {reason}"),
            Wanted::Tls(request) => request,
        };
        let trust = match &request.trust {
            TrustSource::System => "system".to_owned(),
            TrustSource::File { ca, crl: None } => ca.display().to_string(),
            TrustSource::File { ca, crl: Some(crl) } => format!("{}-{}", ca.display(), crl.display()),
            TrustSource::Credential(name) => name.clone(),
            TrustSource::Unverified => "nothing".to_owned(),
        };
        let names = match &request.names {
            NameCheck::FromHost => "host".to_owned(),
            NameCheck::Exact(names) => names.join("+"),
            NameCheck::FromHostAnd(names) => format!("host+{}", names.join("+")),
            NameCheck::ChainOnly => "any".to_owned(),
        };
        let sni = match &request.sni {
            SniSource::FromHost => "host".to_owned(),
            SniSource::Fixed(name) => name.to_string(),
            SniSource::Omit => "none".to_owned(),
        };
        let identity = match &request.identity {
            None => "nobody".to_owned(),
            Some(IdentitySource::Credential(name)) => name.clone(),
            Some(IdentitySource::Files { cert, key }) => format!("{}-{}", cert.display(), key.display()),
        };
        let alpn = if request.alpn == Alpn::HTTP2 { " h2" } else { "" };
        format!("{trust} {names} {sni} {identity}{alpn}")
    }

    /// Every case of Istio's `TestBuildUpstreamClusterTLSContext`. Where Istio builds no context, and sends plaintext, the
    /// cluster is refused here.
    #[test]
    fn istios_contexts() {
        for (block, expected) in [
            ("DISABLE", "plaintext"),
            ("ISTIO_MUTUAL san sni", "refused: tls mode ISTIO_MUTUAL"),
            ("ISTIO_MUTUAL san sni h2", "refused: tls mode ISTIO_MUTUAL"),
            ("SIMPLE san sni", "system san sni nobody"),
            ("SIMPLE san sni insecure", "nothing any sni nobody"),
            ("SIMPLE san", "system san host nobody"),
            ("SIMPLE", "system host host nobody"),
            ("SIMPLE sni", "system any sni nobody"),
            ("SIMPLE ca san sni", "ca san sni nobody"),
            ("SIMPLE ca crl san sni", "ca-crl san sni nobody"),
            ("SIMPLE ca san sni h2", "ca san sni nobody h2"),
            ("SIMPLE ca sni entry-san", "ca entry-san sni nobody"),
            ("SIMPLE ca san sni entry-san", "ca san sni nobody"),
            ("SIMPLE cert key ca san sni", "ca san sni nobody"),
            ("MUTUAL key", "refused: tls mode MUTUAL needs clientCertificate"),
            ("MUTUAL cert", "refused: tls mode MUTUAL needs clientCertificate"),
            ("MUTUAL cert key san sni", "system san sni cert-key"),
            ("MUTUAL cert key ca san sni", "ca san sni cert-key"),
            ("MUTUAL cert key ca crl san sni", "ca-crl san sni cert-key"),
            ("MUTUAL cert key ca", "ca host host cert-key"),
            ("SIMPLE secret san sni", "secret san sni nobody"),
            ("SIMPLE secret sni h2", "secret any sni nobody h2"),
            ("MUTUAL secret san sni", "secret san sni secret"),
            ("MUTUAL secret sni h2", "secret any sni secret h2"),
            ("MUTUAL secret unselected", "refused: credentialName is used by a sidecar only"),
            ("SIMPLE secret unselected", "refused: credentialName is used by a sidecar only"),
            ("MUTUAL secret san sni unselected", "refused: credentialName is used by a sidecar only"),
            ("MUTUAL secret insecure sni", "nothing any sni secret"),
        ] {
            let found = shown(&asked_for(block));
            assert!(found.starts_with(expected), "{block}: {found}");
        }
    }
}
