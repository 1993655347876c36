//! What makes two profiles the same, what makes one impossible, and what it never shows.

use super::*;

#[test]
fn nothing_shows_a_private_key() {
    let rig = Rig::new();
    let identity = rig.root.issue(&["client.example.com"], |_| {});
    let mutual = ProfileRequest { mode: ProfileMode::Mutual, ..request(NameCheck::FromHost) };
    let profile = profile(&rig.root, mutual, Some(&identity));
    let shown =
        format!("{profile:?} {:?}", Session::new(&profile.client_config(), profile.server_name(&host()).unwrap()));
    let pem = identity.key_pem();
    for line in pem.lines().filter(|line| !line.starts_with('-')) {
        assert!(!shown.contains(line));
    }
    assert!(shown.contains("subject"), "{shown}");
}

#[test]
fn a_digest_tells_profiles_apart_by_everything_that_matters() {
    let rig = Rig::new();
    let identity = rig.root.issue(&["a.example.com"], |_| {});
    let base = || request(NameCheck::FromHost);
    let mutual = || ProfileRequest { mode: ProfileMode::Mutual, ..base() };
    let unverified = ProfileRequest { trust: TrustSource::Unverified, ..base() };
    let exact = |names: &[&str]| request(NameCheck::Exact(names.iter().map(|n| (*n).to_owned()).collect()));
    let profiles = [
        profile(&rig.root, base(), None),
        profile(&Authority::new("root"), base(), None),
        profile(&rig.root, request(NameCheck::ChainOnly), None),
        profile(&rig.root, exact(&["a"]), None),
        profile(&rig.root, exact(&["a", "b"]), None),
        profile(&rig.root, exact(&["a\", \"b"]), None),
        profile(&rig.root, ProfileRequest { alpn: Alpn::HTTP2, ..base() }, None),
        profile(&rig.root, ProfileRequest { sni: SniSource::Omit, ..base() }, None),
        profile(&rig.root, mutual(), Some(&identity)),
        profile(&rig.root, mutual(), Some(&rig.root.issue(&["a.example.com"], |_| {}))),
        ClientProfile::new(base(), Some(trust(&rig.root)), None, MinimumVersion::Tls13).unwrap(),
        ClientProfile::new(unverified, None, None, MinimumVersion::Tls12).unwrap(),
    ];
    for (at, one) in profiles.iter().enumerate() {
        for other in &profiles[at + 1..] {
            assert_ne!(one.digest(), other.digest(), "{one:?} {other:?}");
        }
    }
    assert_eq!(profiles[0].digest(), profile(&rig.root, base(), None).digest());
    // SIMPLE never shows a certificate, even if one lies about.
    assert_eq!(profiles[0].digest(), profile(&rig.root, base(), Some(&identity)).digest());
}

/// What is sent before the server has answered can be sent again by somebody else (RFC 8446 §8).
#[test]
fn nothing_is_sent_as_early_data() {
    let rig = Rig::new();
    for minimum in [MinimumVersion::Tls12, MinimumVersion::Tls13] {
        let profile = ClientProfile::new(request(NameCheck::FromHost), Some(trust(&rig.root)), None, minimum).unwrap();
        assert!(!profile.client_config().enable_early_data);
    }
}

#[test]
fn contradictory_requests_are_refused() {
    let rig = Rig::new();
    let fixed = SniSource::Fixed(NAME.parse().unwrap());
    let make = |request| ClientProfile::new(request, Some(trust(&rig.root)), None, MinimumVersion::Tls12).unwrap_err();
    let from_host = ProfileRequest { sni: fixed, ..request(NameCheck::FromHost) };
    assert_eq!(make(from_host), ProfileError::FixedSniFromHost);
    assert_eq!(make(request(NameCheck::Exact(Vec::new()))), ProfileError::NoNames);
    let mutual = ProfileRequest { mode: ProfileMode::Mutual, ..request(NameCheck::FromHost) };
    assert_eq!(make(mutual), ProfileError::NoIdentity);
    let untrusting = ClientProfile::new(request(NameCheck::FromHost), None, None, MinimumVersion::Tls12);
    assert_eq!(untrusting.unwrap_err(), ProfileError::NoTrust);
    let profile = rig.client();
    assert!(profile.server_name(&Host::Name("-a.example.com".parse().unwrap())).is_err());
}
