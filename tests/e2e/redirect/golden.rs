//! The golden cases: Istio's where they concern egress, and our own. The rules of each lie in `tests/golden/redirect/`.

/// Name and settings of each golden case; the flag of a setting is its variable in lower case.
pub const GOLDEN: &[(&str, &[(&str, &str)])] = &[
    ("all", &[]),
    ("empty", &[("INCLUDE_OUTBOUND_CIDRS", "")]),
    (
        "ip-range",
        &[
            ("INCLUDE_OUTBOUND_CIDRS", "9.9.0.0/16"),
            ("EXCLUDE_OUTBOUND_CIDRS", "1.1.0.0/16"),
            ("PROXY_UID", "3,4"),
            ("PROXY_GID", "1,2"),
            ("CAPTURE_DNS", "true"),
            ("DNS_SERVERS", "127.0.0.53,fd53::1"),
        ],
    ),
    ("ipnets", &[("INCLUDE_OUTBOUND_CIDRS", "10.0.0.0/8")]),
    ("ipv6-ipnets", &[("INCLUDE_OUTBOUND_CIDRS", "2001:db8::/32,10.0.0.0/8"), ("EXCLUDE_OUTBOUND_CIDRS", "fd00::/8")]),
    ("uid-gid", &[("PROXY_UID", "3,4"), ("PROXY_GID", "1,2")]),
    (
        "dns-uid-gid",
        &[("PROXY_UID", "3,4"), ("PROXY_GID", "1,2"), ("CAPTURE_DNS", "true"), ("DNS_SERVERS", "127.0.0.53,fd53::1")],
    ),
    ("outbound-ports-include", &[("INCLUDE_OUTBOUND_CIDRS", ""), ("INCLUDE_OUTBOUND_PORTS", "32000,31000")]),
    ("outbound-ports-exclude", &[("EXCLUDE_OUTBOUND_PORTS", "22,5432")]),
    (
        "loopback-outbound-iprange",
        &[("INCLUDE_OUTBOUND_CIDRS", "127.1.2.3/32"), ("CAPTURE_DNS", "true"), ("DNS_SERVERS", "127.0.0.53,fd53::1")],
    ),
    ("basic-exclude-nic", &[("EXCLUDE_INTERFACES", "not-istio-nic,net1")]),
    ("quic", &[("BLOCK_QUIC", "true"), ("EXCLUDE_OUTBOUND_CIDRS", "1.1.0.0/16,fd00::/8")]),
    (
        "ipv6-off",
        &[
            ("IPV6", "off"),
            ("CAPTURE_DNS", "true"),
            ("DNS_SERVERS", "127.0.0.53,fd53::1"),
            ("INCLUDE_OUTBOUND_PORTS", "31000"),
        ],
    ),
    ("dns-all", &[("CAPTURE_ALL_DNS", "true"), ("EXCLUDE_INTERFACES", "net1")]),
    ("dns-all-ipv6-off", &[("CAPTURE_ALL_DNS", "true"), ("IPV6", "off")]),
    (
        "ports",
        &[
            ("PROXY_PORT", "16001"),
            ("DNS_PORT", "16053"),
            ("CAPTURE_DNS", "true"),
            ("DNS_SERVERS", "127.0.0.53,fd53::1"),
        ],
    ),
];
