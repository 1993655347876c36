#!/usr/bin/env bash
# With musl (Alpine) a name with a good A record does not resolve while its AAAA question fails in any way.
#
# Expected: an IPv4 address that DNS has answered is used, whatever becomes of the IPv6 question, as glibc, Go and c-ares do.
# Happens: musl's getaddrinfo asks for both and takes the worse answer for the name: NXDOMAIN for AAAA means that the name does
#   not exist, and SERVFAIL, REFUSED, NOTIMP or silence make the whole look-up fail. Only an empty NOERROR is harmless.
# Why it matters: load balancers' DNS and filtering resolvers that "do not do IPv6" answer AAAA so. The same image works on Debian and not on
#   Alpine, or a proxy that resolves for itself works and the application that checks the name first does not. A DNS proxy
#   must answer NOERROR without records for a family that it does not have, never an error.
# Seen with: musl 1.2.3 (musl-tools of Debian 12), glibc 2.36, c-ares 1.34.9 (pycares 5.2.1); dnspython 2.9.2 serves.
# Source: musl src/network/lookup_name.c, name_from_dns.
# Needs: root, ip, gcc, musl-gcc, python3 with venv.
set -euo pipefail
for tool in ip gcc musl-gcc python3 unshare; do
  command -v "$tool" >/dev/null || { echo "needs $tool" >&2; exit 2; }
done
[ "$(id -u)" = 0 ] || { echo 'needs root, for a network namespace' >&2; exit 2; }
musl=$(dpkg-query -W -f '${Version}' musl-dev)
[ "$musl" = 1.2.3-1 ] || { echo "recorded with musl 1.2.3-1, this is $musl" >&2; exit 3; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check dnspython==2.9.2 pycares==5.2.1
echo "musl $musl, $(ldd --version | sed -n 1p)"

cat >"$work/ask.c" <<'C'
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>

int main(int count, char **words) {
    struct addrinfo wanted = {.ai_socktype = SOCK_STREAM}, *found;
    int error = count == 2 ? getaddrinfo(words[1], "80", &wanted, &found) : EAI_FAIL;
    puts(error == 0 ? "address" : error == EAI_NONAME ? "EAI_NONAME" : error == EAI_AGAIN ? "EAI_AGAIN" : "error");
}
C
gcc -o "$work/ask-glibc" "$work/ask.c"
musl-gcc -static -o "$work/ask-musl" "$work/ask.c"
printf 'nameserver 127.0.0.1\noptions timeout:1 attempts:1\n' >"$work/resolv.conf"
cat >"$work/trial.py" <<'PY'
import socket, subprocess, sys, threading
import dns.flags, dns.message, dns.rcode, dns.rdatatype, dns.rrset, pycares

work = sys.argv[1]
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))

def serve():
    while True:
        data, client = server.recvfrom(4096)
        question = dns.message.from_wire(data)
        name, kind = question.question[0].name, question.question[0].rdtype
        answer = dns.message.make_response(question)
        answer.flags |= dns.flags.RA
        word = name.to_text().split(".")[0].upper()
        if kind == dns.rdatatype.A:
            answer.answer.append(dns.rrset.from_text(name, 60, "IN", "A", "192.0.2.7"))
        elif word == "SILENCE":
            continue
        else:
            answer.set_rcode(dns.rcode.from_text(word))
        server.sendto(answer.to_wire(), client)

threading.Thread(target=serve, daemon=True).start()

def by_c_ares(name):
    done, words = threading.Event(), []
    def answered(found, error):
        words.append("address" if found and found.nodes else f"error {error}")
        done.set()
    channel = pycares.Channel(servers=["127.0.0.1"], timeout=1, tries=1)
    channel.getaddrinfo(name, 80, callback=answered)
    done.wait(20)
    return words[0]

for word in ("NOERROR", "NXDOMAIN", "SERVFAIL", "REFUSED", "NOTIMP", "SILENCE"):
    name = f"{word.lower()}.test"
    glibc, musl = (subprocess.run([f"{work}/ask-{c}", name], capture_output=True, text=True).stdout.strip() for c in ("glibc", "musl"))
    print(f"AAAA {word}: glibc {glibc}, c-ares {by_c_ares(name)}, musl {musl}")
PY
cat >"$work/inside" <<'INSIDE'
set -eu
ip link set lo up
mount --bind "$1/resolv.conf" /etc/resolv.conf
"$1/venv/bin/python" "$1/trial.py" "$1"
INSIDE
recorded='AAAA NOERROR: glibc address, c-ares address, musl address
AAAA NXDOMAIN: glibc address, c-ares address, musl EAI_NONAME
AAAA SERVFAIL: glibc address, c-ares address, musl EAI_AGAIN
AAAA REFUSED: glibc address, c-ares address, musl EAI_AGAIN
AAAA NOTIMP: glibc address, c-ares address, musl EAI_AGAIN
AAAA SILENCE: glibc address, c-ares address, musl EAI_AGAIN'
seen=$(unshare -nm bash "$work/inside" "$work")
echo "$seen"
[ "$seen" = "$recorded" ] || { echo 'CHANGED: this is not what was recorded' >&2; exit 1; }
echo 'as recorded'
