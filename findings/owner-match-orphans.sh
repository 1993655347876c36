#!/usr/bin/env bash
# After close(), what a socket still has to send belongs to no user: `meta skuid N accept` does not match it any more.
#
# Expected: packets of a socket carry the uid of the process that made it until the last byte and the FIN are out, so that "uid 1337 may
#   send to port P, the rest is dropped" lets the whole connection of uid 1337 through.
# Happens: close() separates the TCP socket from its file at once and leaves the kernel to send what is buffered. The owner match
#   reads the uid from the file. Without a file the expression has no value and the rule does not match. What follows, the drop,
#   cuts the tail of the data and the FIN: the receiver waits for the rest.
# Why it matters: egress rules are commonly "the proxy's uid may leave, nothing else". In a filter chain they lose the
#   end of uploads, which no test with small messages shows. NAT chains are not concerned, as they see a
#   connection's first packet only. The cure: `ct state established accept` before the owner rule.
# Seen on: Linux 6.18 (nftables 1.0.6 of Debian 12).
# Source: net/netfilter/nft_meta.c (nft_meta_get_eval_skugid), net/core/sock.c (sock_orphan).
# Needs: root, nft, ip, python3.
set -euo pipefail
for tool in nft ip python3 unshare; do
  command -v "$tool" >/dev/null || { echo "needs $tool" >&2; exit 2; }
done
[ "$(id -u)" = 0 ] || { echo 'needs root, for network namespaces' >&2; exit 2; }
echo "Linux $(uname -r), $(nft --version)"

recorded='skuid 65534 accept; drop: receiver gets a part, no end
ct state established accept; skuid 65534 accept; drop: receiver gets everything, and the end'
seen=$(unshare -n python3 - <<'PY'
import os, socket, subprocess

def run(command, text=None):
    subprocess.run(command, shell=True, input=text, text=True, check=True)

run("ip link set lo up")
receiver = socket.socket()
receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)   # so that most of the data is still to be sent at close()
receiver.bind(("127.0.0.1", 9000))
receiver.listen()

def trial(rules):
    run("nft -f -", "flush ruleset\ntable inet f {\n chain out {\n type filter hook output priority 0\n%s\n }\n}" % "\n".join(
        rule.replace("; ", "\n") for rule in rules))
    os.seteuid(65534)
    sender = socket.socket()
    os.seteuid(0)
    sender.settimeout(1)
    sender.connect(("127.0.0.1", 9000))
    other, _ = receiver.accept()
    sent = 0
    try:
        while sent < 400_000:
            sent += sender.send(b"x" * 4096)
    except TimeoutError:
        pass
    sender.close()
    other.settimeout(4)
    got, end = 0, "and the end"
    try:
        while data := other.recv(65536):
            got += len(data)
    except TimeoutError:
        end = "no end"
    return f"receiver gets {'everything' if got == sent else 'a part'}, {end}"

for rules in (
    ["meta skuid 65534 accept", "tcp dport 9000 drop"],
    ["ct state established accept", "meta skuid 65534 accept", "tcp dport 9000 drop"],
):
    name = "; ".join(r.replace("tcp dport 9000 ", "").replace("meta ", "") for r in rules)
    print(f"{name}: {trial(rules)}")
PY
)
echo "$seen"
[ "$seen" = "$recorded" ] || { echo 'CHANGED: this is not what was recorded' >&2; exit 1; }
echo 'as recorded'
