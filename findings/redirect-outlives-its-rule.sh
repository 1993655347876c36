#!/usr/bin/env bash
# A redirected connection breaks when the last rules that need NAT and connection tracking go.
#
# Expected: NAT is decided by a connection's first packet and kept in its conntrack entry. So removing a REDIRECT rule
#   concerns new connections only; open ones go on.
# Happens: the kernel takes its conntrack and NAT hooks out of a network namespace when no rule needs them any more. Then
#   nothing translates the packets of open connections: both sides send into the void, without an error, although
#   the entry and SO_ORIGINAL_DST are still there. An open connection survives only while
#     - some rule of the same address family still needs connection tracking (for example `ct state`), and
#     - some NAT chain exists at the same hook.
#   A rule `ct state` in a filter chain alone is not enough once the NAT table is gone.
# Why it matters: taking a sidecar's rules away "so that new connections go direct" hangs every open connection in a pod
#   whose only rules were these, and does not on a node that has others. Replace rules in one transaction instead.
# Seen on: Linux 6.18 (nftables 1.0.6 of Debian 12).
# Source: net/netfilter/nf_conntrack_proto.c (nf_ct_netns_put), net/netfilter/nf_nat_core.c (nf_nat_unregister_fn).
# Needs: root, nft, ip, python3.
set -euo pipefail
for tool in nft ip python3 unshare; do
  command -v "$tool" >/dev/null || { echo "needs $tool" >&2; exit 2; }
done
[ "$(id -u)" = 0 ] || { echo 'needs root, for network namespaces' >&2; exit 2; }
echo "Linux $(uname -r), $(nft --version)"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/trial.py" <<'PY'
import socket, subprocess, sys

REDIRECT = """table ip egress {
  chain out {
    type nat hook output priority -100
    ip daddr 203.0.113.1 tcp dport 80 redirect to :15001
  }
}"""
OTHER = """table ip other {
  chain %s {
    type %s hook %s priority 0
    ct state established accept
  }
}"""
CHANGES = {
    "nothing changed": [],
    "rule flushed, no other rule": ["flush chain ip egress out"],
    "rule flushed, 'ct state' in a filter chain": [OTHER % ("f", "filter", "input"), "flush chain ip egress out"],
    "table deleted, 'ct state' in a filter chain": [OTHER % ("f", "filter", "input"), "delete table ip egress"],
    "table deleted, 'ct state' in a NAT chain": [OTHER % ("n", "nat", "output"), "delete table ip egress"],
    "table deleted and made in one transaction": ["delete table ip egress\n" + REDIRECT],
}

def run(command, text=None):
    subprocess.run(command, shell=True, input=text, text=True, check=True)

def send(one, other):
    try:
        one.sendall(b"x")
        return other.recv(1) == b"x"
    except TimeoutError:
        return False

run("ip link set lo up; ip link add d0 type veth peer name d1; ip link set d0 up; ip link set d1 up;"
    "ip addr add 10.9.0.1/24 dev d0; ip route add default dev d0")
run("nft -f -", REDIRECT)
listener = socket.create_server(("127.0.0.1", 15001))
client = socket.create_connection(("203.0.113.1", 80), timeout=5)
proxy, _ = listener.accept()
for side in client, proxy:
    side.settimeout(3)
assert send(client, proxy) and send(proxy, client)
for change in CHANGES[sys.argv[1]]:
    run("nft -f -", change)
alive = send(client, proxy) and send(proxy, client)
known = proxy.getsockopt(socket.SOL_IP, 80, 16)[4:8] == socket.inet_aton("203.0.113.1")
print(f"{sys.argv[1]}: {'goes on' if alive else 'hangs'}, original destination {'known' if known else 'unknown'}")
PY

recorded="nothing changed: goes on, original destination known
rule flushed, no other rule: hangs, original destination known
rule flushed, 'ct state' in a filter chain: goes on, original destination known
table deleted, 'ct state' in a filter chain: hangs, original destination known
table deleted, 'ct state' in a NAT chain: goes on, original destination known
table deleted and made in one transaction: goes on, original destination known"
seen=$(while IFS=: read -r case _; do unshare -n python3 "$work/trial.py" "$case"; done <<<"$recorded")
echo "$seen"
[ "$seen" = "$recorded" ] || { echo 'CHANGED: this is not what was recorded' >&2; exit 1; }
echo 'as recorded'
