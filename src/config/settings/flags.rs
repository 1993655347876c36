//! The settings as flags and `EGRET_` variables: what the command line says wins over the files.

use std::collections::BTreeMap;

use clap::builder::{BoolValueParser, TypedValueParser};
use clap::{Arg, ArgMatches, Command};

use super::table::{SETTINGS, Setting, Settings};
use super::value::ValueKind;

/// Flags and variables that override the Settings of the configuration files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettingsOverrides {
    /// By the setting's key, as it was given, once it was found valid.
    given: BTreeMap<&'static str, String>,
}

impl SettingsOverrides {
    /// Puts every flag that was given over what the files say.
    pub fn apply(&self, settings: &mut Settings) {
        for setting in SETTINGS {
            let Some(text) = self.given.get(setting.key) else { continue };
            setting.value.parse(text, settings).expect("what was given has been parsed before");
        }
    }
}

impl clap::Args for SettingsOverrides {
    fn augment_args(command: Command) -> Command {
        command.args(SETTINGS.iter().map(argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for SettingsOverrides {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |setting: &Setting| Some((setting.key, matches.get_one::<String>(setting.key)?.clone()));
        Ok(Self { given: SETTINGS.iter().filter_map(given).collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.given.extend(Self::from_arg_matches(matches)?.given);
        Ok(())
    }
}

fn argument(setting: &'static Setting) -> Arg {
    let argument = Arg::new(setting.key).long(setting.flag()).env(setting.variable());
    let argument = argument.help(setting.help).value_name(setting.value.name());
    if matches!(setting.value, ValueKind::Switch(_)) {
        let parser = BoolValueParser::new().map(|on| on.to_string());
        return argument.num_args(0..=1).default_missing_value("true").value_parser(parser);
    }
    argument
        .value_parser(move |text: &str| setting.value.parse(text, &mut Settings::default()).map(|()| text.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use std::time::Duration;

    use super::*;
    use crate::config::{
        AccessLogFormat, CloseNotify, ConnectPolicy, DnsPolicy, DnsTransport, H2Upgrade, Http2, Ipv4Prefix, Ipv6Prefix,
        Keepalive, MinimumVersion, OutboundPolicy, ReplyDetails, RequestIds, UpstreamProtocol,
    };

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        overrides: SettingsOverrides,
    }

    fn parse(arguments: &[&str]) -> Result<SettingsOverrides, clap::Error> {
        Command::try_parse_from([&["egret"], arguments].concat()).map(|command| command.overrides)
    }

    #[test]
    fn nothing_given_changes_nothing() {
        let mut settings = Settings { max_connections: 7, ..Settings::default() };
        parse(&[]).unwrap().apply(&mut settings);
        assert_eq!(settings, Settings { max_connections: 7, ..Settings::default() });
    }

    #[test]
    fn every_flag_reaches_its_field() {
        let all = "--outbound-traffic-policy registry_only --connect-policy registry_only --access-log json --request-id off --reply-details brief --envoy-headers --close-notify ignore --protocol-detection-timeout 0s \
                   --request-headers-timeout 1s --idle-timeout 2s --body-stall-timeout 13s --request-timeout 14s \
                   --connect-timeout 3s --tls-handshake-timeout 4s --min-tls-version tlsv1_3 --tcp-keepalive-time 16s \
                   --tcp-keepalive-interval 17s --tcp-keepalive-probes 18 --tcp-user-timeout 19s \
                   --max-head-bytes 8Ki --max-head-fields 9 --h2-upgrade-policy upgrade --upstream-protocol auto --http2-max-concurrent-streams 20 \
                   --http2-initial-stream-window-size 128Ki --http2-initial-connection-window-size 1Mi \
                   --http2-max-frame-size 32Ki --http2-hpack-table-size 0 --http2-send-buffer-size 21Ki \
                   --http2-max-pending-resets 22 --http2-max-remembered-resets 23 --http2-remember-resets 24s \
                   --http2-max-protocol-errors 25 --http2-idle-frame-burst 126 --http2-idle-frames-per-second 127 --max-connections 10 --dns-refresh-rate 11s \
                   --dns-policy answer_listed_only --dns-transport tls --dns-server-name dns.example \
                   --dns-ca-certificates /ca.pem --ip-autoallocate-ipv4-prefix 10.9.1.0/16 --ip-autoallocate-ipv6-prefix none \
                   --drain-duration 12s --minimum-drain-duration 15s --protected-addresses 10.0.0.1,fd00::/8 --strict";
        let overrides = parse(&all.split_whitespace().collect::<Vec<_>>()).unwrap();
        let mut settings = Settings::default();
        overrides.apply(&mut settings);
        let expected = Settings {
            outbound_traffic_policy: OutboundPolicy::RegistryOnly,
            connect_policy: ConnectPolicy::RegistryOnly,
            access_log: AccessLogFormat::Json,
            request_id: RequestIds::Off,
            reply_details: ReplyDetails::Brief,
            envoy_headers: true,
            protocol_detection_timeout: Duration::ZERO,
            request_headers_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(2),
            body_stall_timeout: Duration::from_secs(13),
            request_timeout: Duration::from_secs(14),
            connect_timeout: Duration::from_secs(3),
            tls_handshake_timeout: Duration::from_secs(4),
            tcp_keepalive: Keepalive { time: Duration::from_secs(16), interval: Duration::from_secs(17), probes: 18 },
            tcp_user_timeout: Duration::from_secs(19),
            min_tls_version: MinimumVersion::Tls13,
            close_notify: CloseNotify::Ignore,
            max_head_bytes: 8192,
            max_head_fields: 9,
            h2_upgrade_policy: H2Upgrade::Upgrade,
            upstream_protocol: UpstreamProtocol::Auto,
            http2: Http2 {
                max_concurrent_streams: 20,
                initial_stream_window_size: 128 << 10,
                initial_connection_window_size: 1 << 20,
                max_frame_size: 32 << 10,
                hpack_table_size: 0,
                send_buffer_size: 21 << 10,
                max_pending_resets: 22,
                max_remembered_resets: 23,
                remember_resets: Duration::from_secs(24),
                max_protocol_errors: 25,
                idle_frame_burst: 126,
                idle_frames_per_second: 127,
            },
            max_connections: 10,
            dns_refresh_rate: Duration::from_secs(11),
            dns_policy: DnsPolicy::AnswerListedOnly,
            dns_transport: DnsTransport::Tls,
            dns_server_name: Some("dns.example".parse().unwrap()),
            dns_ca_certificates: Some("/ca.pem".into()),
            ip_autoallocate_ipv4_prefix: Ipv4Prefix("10.9.0.0/16".parse().ok()),
            ip_autoallocate_ipv6_prefix: Ipv6Prefix(None),
            drain_duration: Duration::from_secs(12),
            minimum_drain_duration: Duration::from_secs(15),
            protected_addresses: vec!["10.0.0.1/32".parse().unwrap(), "fd00::/8".parse().unwrap()],
            strict: true,
        };
        assert_eq!(settings, expected);
    }

    #[test]
    fn flags_are_checked_like_files() {
        for (flag, value, message) in [
            ("--access-log", "xml", "expected one of TEXT, JSON, OFF"),
            ("--min-tls-version", "TLSV1_1", "expected one of TLSV1_2, TLSV1_3"),
            ("--idle-timeout", "0s", "longer than zero"),
            ("--idle-timeout", "10", "expected a duration"),
            ("--dns-refresh-rate", "999ms", "at least \"1s\""),
            ("--max-head-bytes", "1Gi", "must be from 1024 to 1048576"),
            ("--ip-autoallocate-ipv4-prefix", "10.0.0.0/31", "room for hosts"),
            ("--ip-autoallocate-ipv6-prefix", "10.0.0.0/8", "expected an IPv6 network"),
            ("--dns-server-name", "a b", "letters"),
            ("--max-connections", "0", "must be from 1 to 1000000"),
            ("--protected-addresses", "10.0.0.0/33", "neither an IP address nor a CIDR"),
            ("--max-connections", "many", "expected a whole number"),
            ("--tcp-keepalive-time", "1500ms", "counts in whole seconds"),
            ("--tcp-keepalive-interval", "0s", "counts in whole seconds"),
            ("--tcp-keepalive-probes", "128", "must be from 1 to 127"),
        ] {
            let error = parse(&[flag, value]).unwrap_err().to_string();
            assert!(error.contains(message), "{flag} {value}: {error}");
        }
    }
}
