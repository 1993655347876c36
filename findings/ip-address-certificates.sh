#!/usr/bin/env bash
# nginx and HAProxy cannot verify an upstream by an IP address in its certificate.
#
# Expected: a certificate with `subjectAltName = IP:127.0.0.1` is verified for an upstream that is configured by that address, as curl,
#   browsers, Go and rustls do (RFC 2818 §3.1).
# Happens: both compare the name with the DNS names of the certificate only. nginx asks X509_check_host and never X509_check_ip, HAProxy walks over the
#   DNS entries by itself. The answer is 502 ("does not match") and 503. There is no setting for it: one must verify another name
#   (proxy_ssl_name, verifyhost), which the certificate must then have as a DNS name.
# Why it matters: who moves from such a gateway to one that verifies addresses (Envoy's match_typed_subject_alt_names, rustls), or back, finds
#   certificates of appliances, databases and API servers that work on one side alone.
# Seen with: nginx 1.22.1 and HAProxy 2.6.12 of Debian 12, OpenSSL 3.0.
# Source: nginx src/event/ngx_event_openssl.c (ngx_ssl_check_host); HAProxy src/ssl_sock.c (ssl_sock_srv_verifycbk).
# Needs: nginx, haproxy, curl, openssl; ports 9443, 9081 and 9082 of 127.0.0.1 in a namespace of its own (root).
set -euo pipefail
for tool in nginx haproxy curl openssl unshare ip; do
  command -v "$tool" >/dev/null || { echo "needs $tool" >&2; exit 2; }
done
[ "$(id -u)" = 0 ] || { echo 'needs root, for a network namespace' >&2; exit 2; }
[ "${1-}" = inside ] || exec unshare -n "$0" inside
nginx -v 2>&1 | grep -q 'nginx/1\.22\.1' || { echo "recorded with nginx 1.22.1, this is $(nginx -v 2>&1)" >&2; exit 3; }
haproxy -v | grep 'version 2\.6\.12' >/dev/null || { echo "recorded with HAProxy 2.6.12, this is $(haproxy -v | sed -n 1p)" >&2; exit 3; }
nginx -v
haproxy -v | sed -n 1p
ip link set lo up
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$work"' EXIT
cd "$work"

openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj '/CN=finding CA' -days 2 2>/dev/null
openssl req -newkey rsa:2048 -nodes -keyout site.key -out site.csr -subj '/CN=site' 2>/dev/null
certificate() { # certificate FILE SUBJECT_ALT_NAMES
  openssl x509 -req -in site.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out "$1" \
    -extfile <(echo "subjectAltName=$2") 2>/dev/null
}
certificate address.pem IP:127.0.0.1
certificate name.pem DNS:site.test

cat >nginx.conf <<'CONF'
daemon off; master_process off; pid nginx.pid; error_log error.log error;
events {}
http {
  access_log off;
  client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
  proxy_ssl_verify on; proxy_ssl_trusted_certificate ca.pem;
  server { listen 127.0.0.1:9081; location / { proxy_pass https://127.0.0.1:9443; } }
  server { listen 127.0.0.1:9083; location / { proxy_pass https://127.0.0.1:9443; proxy_ssl_name site.test; } }
}
CONF
cat >haproxy.cfg <<'CONF'
defaults
  mode http
  retries 0
  timeout connect 5s
  timeout client 5s
  timeout server 5s
listen by-address
  bind 127.0.0.1:9082
  server s 127.0.0.1:9443 ssl verify required ca-file ca.pem verifyhost 127.0.0.1
listen by-name
  bind 127.0.0.1:9084
  server s 127.0.0.1:9443 ssl verify required ca-file ca.pem verifyhost site.test
CONF
nginx -p "$work" -c nginx.conf 2>/dev/null &
haproxy -q -db -f haproxy.cfg >/dev/null 2>&1 &

answer() { curl -s -o /dev/null -w '%{http_code}' --cacert ca.pem "$1" || true; }
until_open() { for _ in $(seq 100); do (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return; sleep 0.1; done; }
for port in 9081 9082 9083 9084; do until_open "$port"; done

trial() { # trial CERTIFICATE
  openssl s_server -accept 127.0.0.1:9443 -cert "$1" -key site.key -www -quiet >/dev/null 2>&1 &
  local server=$!
  until_open 9443
  echo "$1: curl by address $(answer https://127.0.0.1:9443/)," \
    "nginx by address $(answer http://127.0.0.1:9081/) by name $(answer http://127.0.0.1:9083/)," \
    "HAProxy by address $(answer http://127.0.0.1:9082/) by name $(answer http://127.0.0.1:9084/)"
  kill "$server"
  wait "$server" 2>/dev/null || true
}
recorded='address.pem: curl by address 200, nginx by address 502 by name 502, HAProxy by address 503 by name 503
name.pem: curl by address 000, nginx by address 502 by name 200, HAProxy by address 503 by name 200'
trial address.pem >seen
trial name.pem >>seen
cat seen
grep -o 'upstream SSL certificate does not match "127.0.0.1"' error.log | head -1
[ "$(cat seen)" = "$recorded" ] || { echo 'CHANGED: this is not what was recorded' >&2; exit 1; }
echo 'as recorded'
