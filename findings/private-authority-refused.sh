#!/usr/bin/env bash
# pyca/cryptography refuses the authority that one `openssl req -x509` makes, and accepts a server certificate that vouches for itself.
#
# Expected: an authority with basicConstraints CA:TRUE and no keyUsage may sign certificates: RFC 5280 §4.2.1.3 restricts a key only where
#   the extension is there, and OpenSSL, Go, browsers and rustls take it so. If a verifier is strict about such
#   things, then it refuses a self-signed server certificate as a trust anchor all the more.
# Happens: the verifier of cryptography wants keyUsage in every authority, the trust anchor too ("missing required extension" 2.5.29.15), and
#   takes a certificate that is itself in the store without asking for a chain. Python's own ssl does the same since
#   3.13, by OpenSSL's X509_STRICT ("CA cert does not include key usage extension").
# Why it matters: OpenSSL 3.0's default configuration makes authorities without keyUsage, and thousands of companies have one. A proxy that originates TLS
#   works with it, and the application that verified for itself before did not, or the other way round. Give a private
#   authority `keyUsage = critical, keyCertSign, cRLSign`.
# Seen with: cryptography 50.0.2, OpenSSL 3.0 of Debian 12; Python 3.13.0.
# Source: docs of cryptography.x509.verification; RFC 5280 §4.2.1.3; Python 3.13, "What's new", ssl.
# Needs: openssl, python3 with venv.
set -euo pipefail
for tool in openssl python3; do
  command -v "$tool" >/dev/null || { echo "needs $tool" >&2; exit 2; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check cryptography==50.0.2
openssl version
cd "$work"

# The extensions that OpenSSL 3.0's own configuration gives to `req -x509`, said here so that another default changes nothing.
cat >openssl.cnf <<'CNF'
[req]
distinguished_name = name
[name]
[plain]
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always,issuer
basicConstraints = critical,CA:TRUE
[usage]
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always,issuer
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
[self]
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always,issuer
basicConstraints = critical,CA:FALSE
subjectAltName = DNS:site.test
[leaf]
authorityKeyIdentifier = keyid:always
subjectAltName = DNS:site.test
CNF
self_signed() { # self_signed NAME EXTENSIONS
  openssl req -x509 -newkey rsa:2048 -nodes -config openssl.cnf -extensions "$2" -subj "/CN=$1" \
    -keyout "$1.key" -out "$1.pem" -days 2 2>/dev/null
}
self_signed without-usage plain
self_signed with-usage usage
self_signed itself self
openssl req -new -newkey rsa:2048 -nodes -config openssl.cnf -subj /CN=site -keyout site.key -out site.csr 2>/dev/null
for authority in without-usage with-usage; do
  openssl x509 -req -in site.csr -CA "$authority.pem" -CAkey "$authority.key" -CAcreateserial -days 2 \
    -extfile openssl.cnf -extensions leaf -out "by-$authority.pem" 2>/dev/null
done
cp itself.pem by-itself.pem

cat >verify.py <<'PY'
import sys
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

def load(name):
    with open(name, "rb") as file:
        return x509.load_pem_x509_certificate(file.read())

anchor, site = sys.argv[1:]
verifier = PolicyBuilder().store(Store([load(anchor)])).build_server_verifier(x509.DNSName("site.test"))
try:
    verifier.verify(load(site), [])
    print("accepted")
except VerificationError as error:
    print("refused (2.5.29.15 missing)" if "2.5.29.15" in str(error) and "missing" in str(error) else f"refused ({error})")
PY
recorded='without-usage: openssl accepted, cryptography refused (2.5.29.15 missing)
with-usage: openssl accepted, cryptography accepted
itself: openssl accepted, cryptography accepted'
seen=$(for anchor in without-usage with-usage itself; do
  if openssl verify -CAfile "$anchor.pem" -verify_hostname site.test "by-$anchor.pem" >/dev/null 2>&1; then by=accepted; else by=refused; fi
  echo "$anchor: openssl $by, cryptography $(venv/bin/python verify.py "$anchor.pem" "by-$anchor.pem")"
done)
echo "$seen"
[ "$seen" = "$recorded" ] || { echo 'CHANGED: this is not what was recorded' >&2; exit 1; }
echo 'as recorded'
