#!/usr/bin/env bash
# A socket bound to a device is redirected to 127.0.0.1, and the packet then leaves by the device, for 127.0.0.1.
#
# Expected: REDIRECT in the output hook sends a connection to a listener on this machine. A socket that is bound to a device
#   (SO_BINDTODEVICE: curl --interface eth0, VRFs, multi-homed services) is redirected like any other, or not at all.
# Happens: after the address has been changed to 127.0.0.1, the packet is routed anew, and the socket's device is kept in that look-up:
#   "127.0.0.1 through eth0" leads to the default gateway. The SYN goes out with destination 127.0.0.1, and the gateway drops it
#   as a martian. connect() repeats it until it times out after about two minutes (tcp_syn_retries); the proxy sees nothing.
# Why it matters: behind a transparent proxy an application that binds its sockets to its interface hangs where it used to
#   work, and no component has a line in its log.
# Seen on: Linux 6.18 (nftables 1.0.6 of Debian 12).
# Source: net/netfilter/utils.c and net/ipv4/netfilter.c (ip_route_me_harder keeps the socket's device); socket(7).
# Needs: root, nft, ip, python3.
set -euo pipefail
for tool in nft ip python3 unshare; do
  command -v "$tool" >/dev/null || { echo "needs $tool" >&2; exit 2; }
done
[ "$(id -u)" = 0 ] || { echo 'needs root, for network namespaces' >&2; exit 2; }
echo "Linux $(uname -r), $(nft --version)"
pod=finding-pod-$$ gateway=finding-gateway-$$
trap 'ip netns del "$pod" 2>/dev/null; ip netns del "$gateway" 2>/dev/null' EXIT
ip netns add "$pod"
ip netns add "$gateway"
ip -n "$pod" link add eth0 type veth peer name eth0 netns "$gateway"
ip -n "$pod" link set lo up
ip -n "$pod" addr add 10.9.0.1/24 dev eth0
ip -n "$pod" link set eth0 up
ip -n "$gateway" addr add 10.9.0.254/24 dev eth0
ip -n "$gateway" link set eth0 up
ip -n "$pod" route add default via 10.9.0.254
ip netns exec "$pod" nft -f - <<'NFT'
table ip egress {
  chain out {
    type nat hook output priority -100
    ip daddr 203.0.113.1 tcp dport 80 redirect to :15001
  }
}
NFT
# In the gateway: what comes in by the wire, before anything judges it.
ip netns exec "$gateway" nft -f - <<'NFT'
table ip watch {
  chain in {
    type filter hook prerouting priority -500
    ip daddr 127.0.0.1 tcp dport 15001 counter
  }
}
NFT

recorded='not bound: connected, accepted by the listener
packets for 127.0.0.1:15001 on the wire: none
bound to eth0: no answer, nothing for the listener to accept
packets for 127.0.0.1:15001 on the wire: some'
seen=$(for device in '' eth0; do
  ip netns exec "$pod" python3 - "$device" <<'PY'
import socket, sys
listener = socket.create_server(("0.0.0.0", 15001))
listener.settimeout(1)
client = socket.socket()
client.settimeout(4)
if sys.argv[1]:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, sys.argv[1].encode())
try:
    client.connect(("203.0.113.1", 80))
    result = "connected"
except TimeoutError:
    result = "no answer"
try:
    listener.accept()[0].close()
    result += ", accepted by the listener"
except TimeoutError:
    result += ", nothing for the listener to accept"
print(f"{'bound to ' + sys.argv[1] if sys.argv[1] else 'not bound'}: {result}")
PY
  if ip netns exec "$gateway" nft list table ip watch | grep -q 'counter packets 0 '; then count=none; else count=some; fi
  echo "packets for 127.0.0.1:15001 on the wire: $count"
done)
echo "$seen"
[ "$seen" = "$recorded" ] || { echo 'CHANGED: this is not what was recorded' >&2; exit 1; }
echo 'as recorded'
