#!/usr/bin/env bash
# `conntrack -F` breaks a redirected connection or not, depending on who speaks next.
#
# Expected: flushing the connection table either ends redirected connections, as their translation is lost, or leaves them be. The
#   REDIRECT rule is still there, but NAT rules are asked for new connections only.
# Happens: conntrack picks connections up in the middle (nf_conntrack_tcp_loose, on by default), and takes the first packet that it
#   sees for the opening one. If that is the application's, the REDIRECT rule is asked, gives the same translation, and the connection
#   goes on, original destination and all. If it is the proxy's, the entry is made the wrong way round: the packet
#   leaves untranslated, the application's kernel answers with RST, the proxy's side is reset, and the application waits for ever.
# Why it matters: connection tables are flushed after a change of rules or addresses. Of redirected connections of one kind, those
#   whose application speaks next survive, and those that wait for the server hang: a download, a watch, a queue. The
#   application gets no error unless it has a timeout or keepalive.
# Seen on: Linux 6.18, conntrack 1.4.7 of Debian 12.
# Source: Documentation/networking/nf_conntrack-sysctl.rst (nf_conntrack_tcp_loose).
# Needs: root, nft, ip, conntrack, python3.
set -euo pipefail
for tool in nft ip conntrack python3 unshare; do
  command -v "$tool" >/dev/null || { echo "needs $tool" >&2; exit 2; }
done
[ "$(id -u)" = 0 ] || { echo 'needs root, for network namespaces' >&2; exit 2; }
echo "Linux $(uname -r), $(conntrack --version)"

recorded='application speaks next: goes on both ways; original destination known
proxy speaks next: application gets nothing, proxy gets ECONNRESET; original destination ENOENT'
seen=$(unshare -n python3 - <<'PY'
import errno, socket, subprocess

def run(command, text=None):
    subprocess.run(command, shell=True, input=text, text=True, check=True, capture_output=True)

run("ip link set lo up; ip link add d0 type veth peer name d1; ip link set d0 up; ip link set d1 up;"
    "ip addr add 10.9.0.1/24 dev d0; ip route add default dev d0")
run("nft -f -", """table ip egress {
  chain out {
    type nat hook output priority -100
    ip daddr 203.0.113.1 tcp dport 80 redirect to :15001
  }
}""")
listener = socket.create_server(("127.0.0.1", 15001))

def pair():
    application = socket.create_connection(("203.0.113.1", 80), timeout=5)
    proxy, _ = listener.accept()
    for side in application, proxy:
        side.settimeout(3)
    pass_on(application, proxy)
    pass_on(proxy, application)
    run("conntrack -F")
    return application, proxy

def pass_on(one, other):
    one.sendall(b"x")
    assert other.recv(1) == b"x"

def original_destination(proxy):
    try:
        known = proxy.getsockopt(socket.SOL_IP, 80, 16)[4:8] == socket.inet_aton("203.0.113.1")
        return "known" if known else "another"
    except OSError as e:
        return errno.errorcode[e.errno]

application, proxy = pair()
pass_on(application, proxy)
pass_on(proxy, application)
print("application speaks next: goes on both ways; original destination", original_destination(proxy))

application, proxy = pair()
proxy.sendall(b"x")
try:
    application.recv(1)
    got = "the data"
except TimeoutError:
    got = "nothing"
try:
    proxy.recv(1)
    end = "data"
except OSError as e:
    end = errno.errorcode[e.errno]
print(f"proxy speaks next: application gets {got}, proxy gets {end}; original destination", original_destination(proxy))
PY
)
echo "$seen"
[ "$seen" = "$recorded" ] || { echo 'CHANGED: this is not what was recorded' >&2; exit 1; }
echo 'as recorded'
