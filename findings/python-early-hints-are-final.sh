#!/usr/bin/env bash
# Python's http.client, and so urllib and requests, takes 103 Early Hints for the final answer.
#
# Expected: every HTTP/1.1 client reads past interim answers (1xx) until the final one comes (RFC 9110 §15.2: a client must be able to,
#   even where it asked for none).
# Happens: http.client skips 100 alone. 102, 103 and unknown 1xx are handed out as the answer, with an empty body; urllib.request raises
#   HTTPError for them. The real answer stays unread in the connection. httpx, aiohttp and curl read past them.
# Why it matters: servers and CDNs send 103 to whom they like, and a proxy has to pass it on (RFC 9110 §15.2). What an
#   application then sees looks like an answer that the proxy cut short.
# Seen with: Python 3.8.18, 3.11.7, 3.12.1 and 3.13.0; requests 2.34.2, urllib3 2.8.0, httpx 0.28.1, aiohttp 3.14.5.
# Source: Lib/http/client.py, HTTPResponse.begin, which loops over 100 alone.
# Needs: python3 with venv, curl.
set -euo pipefail
for tool in python3 curl; do
  command -v "$tool" >/dev/null || { echo "needs $tool" >&2; exit 2; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
  requests==2.34.2 urllib3==2.8.0 httpx==0.28.1 aiohttp==3.14.5
python3 --version
curl --version | sed -n 1p

recorded='100: http.client 200 hello, urllib 200 hello, requests 200 hello, httpx 200 hello, aiohttp 200 hello, curl 200 hello
102: http.client 102 (empty), urllib HTTPError 102, requests 102 (empty), httpx 200 hello, aiohttp 200 hello, curl 200 hello
103: http.client 103 (empty), urllib HTTPError 103, requests 103 (empty), httpx 200 hello, aiohttp 200 hello, curl 200 hello'
seen=$("$work/venv/bin/python" - <<'PY'
import asyncio, http.client, socket, subprocess, threading, urllib.error, urllib.request
import aiohttp, httpx, requests

listener = socket.create_server(("127.0.0.1", 0))
port = listener.getsockname()[1]

def serve(connection):
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(4096)
    status = head.split()[1].lstrip(b"/")
    connection.sendall(b"HTTP/1.1 %s Interim\r\nLink: </style.css>; rel=preload\r\n\r\n" % status
                       + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
    connection.recv(1)   # until the client closes
    connection.close()

def accept():
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

threading.Thread(target=accept, daemon=True).start()

def plain(path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()

def by_urllib(path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return answer.status, answer.read().decode()

def by_requests(path):
    answer = requests.get(f"http://127.0.0.1:{port}{path}", timeout=10)
    return answer.status_code, answer.text

def by_httpx(path):
    answer = httpx.get(f"http://127.0.0.1:{port}{path}", timeout=10)
    return answer.status_code, answer.text

def by_aiohttp(path):
    async def get():
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as answer:
            return answer.status, await answer.text()
    return asyncio.run(get())

def by_curl(path):
    out = subprocess.run(["curl", "-s", "-m", "10", "-w", "\n%{http_code}", f"http://127.0.0.1:{port}{path}"],
                         capture_output=True, text=True).stdout
    return out.rsplit("\n", 1)[::-1]

for status in 100, 102, 103:
    words = []
    for name, get in (("http.client", plain), ("urllib", by_urllib), ("requests", by_requests),
                      ("httpx", by_httpx), ("aiohttp", by_aiohttp), ("curl", by_curl)):
        try:
            code, text = get(f"/{status}")
            words.append(f"{name} {code} {text or '(empty)'}")
        except urllib.error.HTTPError as e:
            words.append(f"{name} HTTPError {e.code}")
    print(f"{status}: {', '.join(words)}")
PY
)
echo "$seen"
[ "$seen" = "$recorded" ] || { echo 'CHANGED: this is not what was recorded' >&2; exit 1; }
echo 'as recorded'
