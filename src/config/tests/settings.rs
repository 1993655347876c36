//! The table of settings: what is shown can be written and means the same, for each setting by itself.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::json;

use crate::config::{Loaded, SETTINGS, Settings, load_text};

fn written(spec: &serde_json::Value) -> Loaded {
    let document = json!({ "apiVersion": "egret/v1", "kind": "Settings", "spec": spec });
    load_text(Path::new("settings.yaml"), &document.to_string())
}

/// Settings in which every field differs from the default.
fn all_changed() -> Settings {
    let loaded = written(&json!({
        "outboundTrafficPolicy": "REGISTRY_ONLY", "connectPolicy": "REGISTRY_ONLY", "accessLog": "JSON",
        "requestId": "SEND", "replyDetails": "BRIEF", "envoyHeaders": true, "closeNotify": "IGNORE",
        "protocolDetectionTimeout": "1s", "requestHeadersTimeout": "2s", "idleTimeout": "3s", "bodyStallTimeout": "4s",
        "requestTimeout": "6s", "connectTimeout": "1500ms", "tlsHandshakeTimeout": "8s",
        "tcpKeepalive": { "time": "9s", "interval": "11s", "probes": 12 }, "tcpUserTimeout": "13s",
        "minTlsVersion": "TLSV1_3", "maxHeadBytes": "2Ki", "maxHeadFields": 14,
        "h2UpgradePolicy": "UPGRADE", "upstreamProtocol": "AUTO",
        "http2": {
            "maxConcurrentStreams": 30, "initialStreamWindowSize": "64Ki", "initialConnectionWindowSize": "1Mi",
            "maxFrameSize": "17Ki", "hpackTableSize": "1Ki", "sendBufferSize": "18Ki", "maxPendingResets": 31,
            "maxRememberedResets": 32, "rememberResets": "33s", "maxProtocolErrors": 34, "idleFrameBurst": 135,
            "idleFramesPerSecond": 136
        },
        "maxConnections": 20,
        "dnsRefreshRate": "16s", "dnsPolicy": "ANSWER_LISTED_ONLY", "dnsTransport": "TLS",
        "dnsServerName": "dns.example", "dnsCaCertificates": "/ca.pem", "ipAutoallocateIpv4Prefix": "10.9.0.0/16",
        "ipAutoallocateIpv6Prefix": "none", "drainDuration": "17s", "minimumDrainDuration": "100ms", "protectedAddresses": [],
        "strict": true,
    }));
    assert_eq!(loaded.problems, []);
    loaded.resources.settings
}

#[test]
fn what_is_shown_can_be_written_and_is_shown_again() {
    for expected in [Settings::default(), all_changed()] {
        let loaded = written(&expected.to_json());
        assert_eq!(loaded.problems, []);
        assert_eq!(loaded.resources.settings, expected);
    }
}

/// A row that led to the field of another would show and set the wrong one.
#[test]
fn each_row_is_about_a_value_of_its_own() {
    let (start, changed) = (Settings::default(), all_changed());
    let mut reached = start.clone();
    for setting in SETTINGS {
        let mut alone = start.clone();
        assert!(setting.copy(&changed, &mut alone), "{} is the same in both", setting.key);
        assert_ne!(alone, start, "{}", setting.key);
        let different = SETTINGS.iter().filter(|other| other.value.text(&alone) != other.value.text(&start));
        assert_eq!(different.map(|other| other.key).collect::<Vec<_>>(), [setting.key]);
        assert!(!setting.copy(&changed, &mut alone), "{} was not taken", setting.key);
        setting.copy(&changed, &mut reached);
    }
    assert_eq!(reached, changed, "a field of Settings has no row");
}

#[test]
fn names_are_given_once() {
    let flags: BTreeSet<String> = SETTINGS.iter().map(crate::config::Setting::flag).collect();
    assert_eq!(flags.len(), SETTINGS.len());
    let names: Vec<_> =
        SETTINGS.iter().filter(|setting| setting.key.contains(['.', 'B'])).map(|s| (s.flag(), s.variable())).collect();
    assert!(names.contains(&("max-head-bytes".to_owned(), "EGRET_MAX_HEAD_BYTES".to_owned())), "{names:?}");
    assert!(names.contains(&("tcp-keepalive-time".to_owned(), "EGRET_TCP_KEEPALIVE_TIME".to_owned())), "{names:?}");
}
