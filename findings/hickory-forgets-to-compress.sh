#!/usr/bin/env bash
# hickory-proto: a DNS answer that is read and written again grows, from its 121st name on, until it is cut.
#
# Expected: Message::from_vec and to_vec are inverse up to details, so a forwarder that changes an id or a TTL passes an answer of n octets on
#   as one of about n. For records of one name RFC 1035 §4.1.4 makes each owner a pointer of two octets, however many there are.
# Happens: the writer compresses the first 120 names of a message, of which the question's is one, and writes all later ones in full. (Against
#   costly searches; Unbound has the same limit.) Nothing tells. What does not fit into 65535 octets any more is left out,
#   with TC set and Ok returned, though TC has no meaning over TCP, where nothing larger can be asked for.
# Why it matters: a headless service of Kubernetes has one A record for each pod. 1300 pods are 20 kB from the cluster's DNS and do not
#   fit into any message from a forwarder on this crate: whoever asks sees 1215 of them, or an error.
# Seen with: hickory-proto 0.26.3.
# Source: hickory-proto src/rr/domain/name.rs, COMPRESSED_NAME_LIMIT; src/op/message.rs, count_was_truncated.
# Needs: cargo.
set -euo pipefail
command -v cargo >/dev/null || { echo 'needs cargo' >&2; exit 2; }
echo "hickory-proto 0.26.3, $(cargo --version)"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/src"
cat >"$work/Cargo.toml" <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2021"
[dependencies]
hickory-proto = { version = "=0.26.3", default-features = false, features = ["std"] }
TOML
cat >"$work/src/main.rs" <<'RS'
use hickory_proto::op::Message;

const NAME: &str = "workers.batch-processing.svc.cluster.local";

/// What a server answers to a question for addresses of NAME: each owner is a pointer to the question.
fn answer(addresses: u16) -> Vec<u8> {
    let mut wire = vec![0, 7, 0x84, 0, 0, 1];
    wire.extend(addresses.to_be_bytes());
    wire.extend([0; 4]);
    for label in NAME.split('.') {
        wire.push(label.len() as u8);
        wire.extend(label.as_bytes());
    }
    wire.extend([0, 0, 1, 0, 1]);
    for i in 0..addresses {
        wire.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, (i >> 8) as u8, i as u8]);
    }
    wire
}

fn main() {
    for addresses in [10, 119, 120, 121, 1000, 1300] {
        let wire = answer(addresses);
        let message = Message::from_vec(&wire).expect("valid");
        let written = message.to_vec().expect("to_vec finds no fault");
        let again = Message::from_vec(&written).expect("valid");
        println!(
            "{} records in {} octets, TC {}: written {} in {}, TC {}",
            message.answers.len(),
            wire.len(),
            message.metadata.truncation,
            again.answers.len(),
            written.len(),
            again.metadata.truncation
        );
    }
}
RS

recorded='10 records in 220 octets, TC false: written 10 in 220, TC false
119 records in 1964 octets, TC false: written 119 in 1964, TC false
120 records in 1980 octets, TC false: written 120 in 2022, TC false
121 records in 1996 octets, TC false: written 121 in 2080, TC false
1000 records in 16060 octets, TC false: written 1000 in 53062, TC false
1300 records in 20860 octets, TC false: written 1215 in 65533, TC true'
seen=$(cd "$work" && nice -n 10 cargo run --quiet)
echo "$seen"
[ "$seen" = "$recorded" ] || { echo 'CHANGED: this is not what was recorded' >&2; exit 1; }
echo 'as recorded'
