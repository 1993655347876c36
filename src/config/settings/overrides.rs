//! The settings as flags and `EGRET_` variables: what the command line says wins over the files.

use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;

use super::{
    ACCESS_LOG_FORMATS, CONNECT_POLICIES, CONNECTIONS, HEAD_BYTES, HEAD_FIELDS, KEEPALIVE_PROBES, TLS_VERSIONS,
    keepalive_interval, keepalive_time, refresh_rate, set,
};
use super::{AccessLogFormat, ConnectPolicy, MinimumVersion, Settings};
use crate::config::names;
use crate::config::sidecar::OutboundPolicy;
use crate::config::sidecar::outbound_policy::POLICIES;
use crate::config::yaml::scalar::{parse_bytes, parse_duration};

/// Flags that override the Settings of the configuration files.
#[derive(clap::Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct SettingsOverrides {
    /// What happens to destinations that no ServiceEntry names: ALLOW_ANY, REGISTRY_ONLY or ALLOW_ANY_DYNAMIC_DNS
    #[arg(long, value_name = "MODE", env = "EGRET_OUTBOUND_TRAFFIC_POLICY", value_parser = outbound_policy)]
    pub outbound_traffic_policy: Option<OutboundPolicy>,
    /// What becomes of CONNECT: DENY, or REGISTRY_ONLY to pass it on where a ServiceEntry names its host and port
    #[arg(long, value_name = "MODE", env = "EGRET_CONNECT_POLICY", value_parser = connect_policy)]
    pub connect_policy: Option<ConnectPolicy>,
    /// The access log's format: TEXT, JSON or OFF
    #[arg(long, value_name = "FORMAT", env = "EGRET_ACCESS_LOG", value_parser = access_log)]
    pub access_log: Option<AccessLogFormat>,
    /// How long to wait for an application's first bytes before the server is taken to speak first; 0s waits for ever
    #[arg(long, value_name = "DURATION", env = "EGRET_PROTOCOL_DETECTION_TIMEOUT", value_parser = parse_duration)]
    pub protocol_detection_timeout: Option<Duration>,
    /// Longest wait for a whole request head
    #[arg(long, value_name = "DURATION", env = "EGRET_REQUEST_HEADERS_TIMEOUT", value_parser = positive)]
    pub request_headers_timeout: Option<Duration>,
    /// How long a keep-alive connection may wait for its next request
    #[arg(long, value_name = "DURATION", env = "EGRET_IDLE_TIMEOUT", value_parser = positive)]
    pub idle_timeout: Option<Duration>,
    /// Longest wait for more of a request body that is not complete; 0s is no limit
    #[arg(long, value_name = "DURATION", env = "EGRET_BODY_STALL_TIMEOUT", value_parser = parse_duration)]
    pub body_stall_timeout: Option<Duration>,
    /// Longest time from a request's head to the end of its response; 0s is no limit
    #[arg(long, value_name = "DURATION", env = "EGRET_REQUEST_TIMEOUT", value_parser = parse_duration)]
    pub request_timeout: Option<Duration>,
    /// Longest wait for a TCP connection, where no DestinationRule has a connectTimeout
    #[arg(long, value_name = "DURATION", env = "EGRET_CONNECT_TIMEOUT", value_parser = positive)]
    pub connect_timeout: Option<Duration>,
    /// Longest wait for a TLS handshake, or for a forward proxy's answer, where no DestinationRule has a connectTimeout,
    /// which covers them too
    #[arg(long, value_name = "DURATION", env = "EGRET_TLS_HANDSHAKE_TIMEOUT", value_parser = positive)]
    pub tls_handshake_timeout: Option<Duration>,
    /// How long a connection is silent before TCP's first keep-alive probe; 0s sends none
    #[arg(long, value_name = "DURATION", env = "EGRET_TCP_KEEPALIVE_TIME", value_parser = time_to_probe)]
    pub tcp_keepalive_time: Option<Duration>,
    /// Time from one keep-alive probe to the next
    #[arg(long, value_name = "DURATION", env = "EGRET_TCP_KEEPALIVE_INTERVAL", value_parser = time_between_probes)]
    pub tcp_keepalive_interval: Option<Duration>,
    /// Keep-alive probes without an answer after which a connection is dead
    #[arg(long, value_name = "N", env = "EGRET_TCP_KEEPALIVE_PROBES", value_parser = probes)]
    pub tcp_keepalive_probes: Option<u32>,
    /// How long what was sent to a server may stay unacknowledged; 0s leaves it to the operating system
    #[arg(long, value_name = "DURATION", env = "EGRET_TCP_USER_TIMEOUT", value_parser = parse_duration)]
    pub tcp_user_timeout: Option<Duration>,
    /// Lowest TLS version spoken to servers: TLSV1_2 or TLSV1_3
    #[arg(long, value_name = "VERSION", env = "EGRET_MIN_TLS_VERSION", value_parser = tls_version)]
    pub min_tls_version: Option<MinimumVersion>,
    /// Largest request or response head, such as 60Ki
    #[arg(long, value_name = "BYTES", env = "EGRET_MAX_HEAD_BYTES", value_parser = head_bytes)]
    pub max_head_bytes: Option<usize>,
    /// Most fields in a head
    #[arg(long, value_name = "N", env = "EGRET_MAX_HEAD_FIELDS", value_parser = head_fields)]
    pub max_head_fields: Option<usize>,
    /// Connections of applications at once
    #[arg(long, value_name = "N", env = "EGRET_MAX_CONNECTIONS", value_parser = connections)]
    pub max_connections: Option<usize>,
    /// How often names that give no TTL are resolved again, and the longest wait after a failure; at least 1s
    #[arg(long, value_name = "DURATION", env = "EGRET_DNS_REFRESH_RATE", value_parser = dns_refresh_rate)]
    pub dns_refresh_rate: Option<Duration>,
    /// How long established connections may live on after SIGTERM
    #[arg(long, value_name = "DURATION", env = "EGRET_DRAIN_DURATION", value_parser = parse_duration)]
    pub drain_duration: Option<Duration>,
    /// How long to stay after SIGTERM although nothing is open, for an application that is ending too
    #[arg(long, value_name = "DURATION", env = "EGRET_MINIMUM_DRAIN_DURATION", value_parser = parse_duration)]
    pub minimum_drain_duration: Option<Duration>,
    /// Networks that only an entry which lists the address opens under REGISTRY_ONLY: a comma between each, or `none`
    #[arg(long, value_name = "CIDR,…", env = "EGRET_PROTECTED_ADDRESSES", value_parser = networks)]
    pub protected_addresses: Option<Networks>,
    /// Where the application picks the address, the name it asks for must resolve to it
    #[arg(long, value_name = "BOOLEAN", env = "EGRET_STRICT", num_args = 0..=1, default_missing_value = "true")]
    pub strict: Option<bool>,
}

/// A list that may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Networks(pub Vec<IpNet>);

impl SettingsOverrides {
    /// Puts every flag that was given over what the files say.
    pub fn apply(&self, settings: &mut Settings) {
        set(&mut settings.outbound_traffic_policy, self.outbound_traffic_policy);
        set(&mut settings.connect_policy, self.connect_policy);
        set(&mut settings.access_log, self.access_log);
        set(&mut settings.protocol_detection_timeout, self.protocol_detection_timeout);
        set(&mut settings.request_headers_timeout, self.request_headers_timeout);
        set(&mut settings.idle_timeout, self.idle_timeout);
        set(&mut settings.body_stall_timeout, self.body_stall_timeout);
        set(&mut settings.request_timeout, self.request_timeout);
        set(&mut settings.connect_timeout, self.connect_timeout);
        set(&mut settings.tls_handshake_timeout, self.tls_handshake_timeout);
        set(&mut settings.tcp_keepalive.time, self.tcp_keepalive_time);
        set(&mut settings.tcp_keepalive.interval, self.tcp_keepalive_interval);
        set(&mut settings.tcp_keepalive.probes, self.tcp_keepalive_probes);
        set(&mut settings.tcp_user_timeout, self.tcp_user_timeout);
        set(&mut settings.min_tls_version, self.min_tls_version);
        set(&mut settings.max_head_bytes, self.max_head_bytes);
        set(&mut settings.max_head_fields, self.max_head_fields);
        set(&mut settings.max_connections, self.max_connections);
        set(&mut settings.dns_refresh_rate, self.dns_refresh_rate);
        set(&mut settings.drain_duration, self.drain_duration);
        set(&mut settings.minimum_drain_duration, self.minimum_drain_duration);
        set(&mut settings.protected_addresses, self.protected_addresses.clone().map(|networks| networks.0));
        set(&mut settings.strict, self.strict);
    }
}

fn outbound_policy(text: &str) -> Result<OutboundPolicy, String> {
    choose(POLICIES, text)
}

fn connect_policy(text: &str) -> Result<ConnectPolicy, String> {
    choose(CONNECT_POLICIES, text)
}

fn access_log(text: &str) -> Result<AccessLogFormat, String> {
    choose(ACCESS_LOG_FORMATS, text)
}

fn tls_version(text: &str) -> Result<MinimumVersion, String> {
    choose(TLS_VERSIONS, text)
}

fn networks(text: &str) -> Result<Networks, String> {
    if text == "none" {
        return Ok(Networks(Vec::new()));
    }
    text.split(',')
        .map(|one| names::network(one.trim()).map(|network| network.trunc()))
        .collect::<Result<_, _>>()
        .map(Networks)
}

fn choose<T: Copy>(choices: &[(&str, T)], text: &str) -> Result<T, String> {
    let found = choices.iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
    found.map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
        format!("expected one of {}", words.join(", "))
    })
}

fn positive(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text)?;
    if duration.is_zero() { Err("must be longer than zero".to_owned()) } else { Ok(duration) }
}

fn dns_refresh_rate(text: &str) -> Result<Duration, String> {
    refresh_rate(parse_duration(text)?)
}

fn time_to_probe(text: &str) -> Result<Duration, String> {
    keepalive_time(parse_duration(text)?)
}

fn time_between_probes(text: &str) -> Result<Duration, String> {
    keepalive_interval(parse_duration(text)?)
}

fn probes(text: &str) -> Result<u32, String> {
    count(text, &KEEPALIVE_PROBES).and_then(|probes| u32::try_from(probes).map_err(|error| error.to_string()))
}

fn head_bytes(text: &str) -> Result<usize, String> {
    within(parse_bytes(text)?, &HEAD_BYTES)
}

fn head_fields(text: &str) -> Result<usize, String> {
    count(text, &HEAD_FIELDS)
}

fn connections(text: &str) -> Result<usize, String> {
    count(text, &CONNECTIONS)
}

fn count(text: &str, range: &RangeInclusive<i64>) -> Result<usize, String> {
    let number = text.parse::<u64>().map_err(|_| format!("expected a whole number, found {text:?}"))?;
    within(number, range)
}

fn within(number: u64, range: &RangeInclusive<i64>) -> Result<usize, String> {
    let inside = i64::try_from(number).ok().filter(|number| range.contains(number));
    let inside = inside.and_then(|number| usize::try_from(number).ok());
    inside.ok_or_else(|| format!("must be from {} to {}", range.start(), range.end()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::config::Keepalive;

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
        let all = "--outbound-traffic-policy registry_only --connect-policy registry_only --access-log json --protocol-detection-timeout 0s \
                   --request-headers-timeout 1s --idle-timeout 2s --body-stall-timeout 13s --request-timeout 14s \
                   --connect-timeout 3s --tls-handshake-timeout 4s --min-tls-version tlsv1_3 --tcp-keepalive-time 16s \
                   --tcp-keepalive-interval 17s --tcp-keepalive-probes 18 --tcp-user-timeout 19s \
                   --max-head-bytes 8Ki --max-head-fields 9 --max-connections 10 --dns-refresh-rate 11s \
                   --drain-duration 12s --minimum-drain-duration 15s --protected-addresses 10.0.0.1,fd00::/8 --strict";
        let overrides = parse(&all.split_whitespace().collect::<Vec<_>>()).unwrap();
        let mut settings = Settings::default();
        overrides.apply(&mut settings);
        let expected = Settings {
            outbound_traffic_policy: OutboundPolicy::RegistryOnly,
            connect_policy: ConnectPolicy::RegistryOnly,
            access_log: AccessLogFormat::Json,
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
            max_head_bytes: 8192,
            max_head_fields: 9,
            max_connections: 10,
            dns_refresh_rate: Duration::from_secs(11),
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
