#!/usr/bin/env bash
# On a connection that speaks Multipath TCP, the original destination cannot be read from the accepted socket.
#
# Expected: a listener with IPPROTO_MPTCP is a TCP listener that can do more; clients that speak plain TCP are served as ever, and
#   what works on an accepted socket works on all of them. REDIRECT works with Multipath TCP as well: the connection is made.
# Happens: plain clients give plain TCP sockets, where SO_ORIGINAL_DST works. A client that speaks MPTCP gives an MPTCP socket, and
#   getsockopt(SOL_IP, SO_ORIGINAL_DST) answers EOPNOTSUPP, though the connection was redirected and carries data.
# Why it matters: since Go 1.24 net.Listen makes MPTCP listeners where the kernel can (seen with Go 1.27.3), and `mptcpize` or systemd do
#   so for others. A transparent proxy with such a listener works in every test and fails for the one application that uses
#   MPTCP. A proxy must listen with plain IPPROTO_TCP: MPTCP clients then fall back to TCP by themselves.
# Seen on: Linux 6.18.
# Source: net/mptcp/sockopt.c, which lists the options that are passed on; Go's net.ListenConfig.SetMultipathTCP.
# Needs: root, nft, ip, python3; a kernel with MPTCP.
set -euo pipefail
for tool in nft ip python3 unshare; do
  command -v "$tool" >/dev/null || { echo "needs $tool" >&2; exit 2; }
done
[ "$(id -u)" = 0 ] || { echo 'needs root, for network namespaces' >&2; exit 2; }
[ -e /proc/sys/net/mptcp/enabled ] || { echo 'needs a kernel with MPTCP' >&2; exit 2; }
echo "Linux $(uname -r), $(nft --version)"

recorded='listener TCP, client TCP: accepted TCP, data passes, original destination 203.0.113.1:80
listener TCP, client MPTCP: accepted TCP, data passes, original destination 203.0.113.1:80
listener MPTCP, client TCP: accepted TCP, data passes, original destination 203.0.113.1:80
listener MPTCP, client MPTCP: accepted MPTCP, data passes, original destination EOPNOTSUPP'
seen=$(unshare -n python3 - <<'PY'
import errno, socket, struct, subprocess

TCP, MPTCP = socket.IPPROTO_TCP, 262
NAMES = {TCP: "TCP", MPTCP: "MPTCP"}
SO_PROTOCOL, SO_ORIGINAL_DST = 38, 80

def run(command, text=None):
    subprocess.run(command, shell=True, input=text, text=True, check=True)

run("ip link set lo up; ip link add d0 type veth peer name d1; ip link set d0 up; ip link set d1 up;"
    "ip addr add 10.9.0.1/24 dev d0; ip route add default dev d0")
run("nft -f -", """table ip egress {
  chain out {
    type nat hook output priority -100
    ip daddr 203.0.113.1 tcp dport 80 redirect to :15001
  }
}""")
open("/proc/sys/net/mptcp/enabled", "w").write("1")

def trial(server, client):
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, server) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 15001))
        listener.listen()
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM, client) as c:
            c.settimeout(5)
            c.connect(("203.0.113.1", 80))
            s, _ = listener.accept()
            with s:
                c.sendall(b"x")
                data = "data passes" if s.recv(1) == b"x" else "no data"
                protocol = NAMES[s.getsockopt(socket.SOL_SOCKET, SO_PROTOCOL)]
                try:
                    port, address = struct.unpack_from(">H4s", s.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16), 2)
                    destination = f"{socket.inet_ntoa(address)}:{port}"
                except OSError as e:
                    destination = errno.errorcode[e.errno].replace("ENOTSUP", "EOPNOTSUPP")
    return f"accepted {protocol}, {data}, original destination {destination}"

for server in TCP, MPTCP:
    for client in TCP, MPTCP:
        print(f"listener {NAMES[server]}, client {NAMES[client]}: {trial(server, client)}")
PY
)
echo "$seen"
[ "$seen" = "$recorded" ] || { echo 'CHANGED: this is not what was recorded' >&2; exit 1; }
echo 'as recorded'
