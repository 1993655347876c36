#!/bin/sh
# egret's redirect rules without the binary: the templates beside this script, rendered and applied with the tools
# that every distribution has. The settings are the EGRET_ variables of `egret init` (see its --help). What only the
# binary does: leaving rules alone that are in place already, and proving them with a real connection.
#
#   redirect.sh print  nft|iptables                         what would be applied
#   redirect.sh apply  [nft|iptables-nft|iptables-legacy]   replace the rules, at once for each table
#   redirect.sh remove                                      remove them, of every backend
set -eu
here=$(cd "$(dirname "$0")" && pwd)
export LC_ALL=C

fail() { echo "redirect.sh: $*" >&2; exit 1; }

# --- settings -------------------------------------------------------------------------------------------------------
proxy_port=${EGRET_PROXY_PORT:-15001}
proxy_uids=${EGRET_PROXY_UID:-1337}
proxy_gids=${EGRET_PROXY_GID-$proxy_uids}
included=${EGRET_INCLUDE_OUTBOUND_CIDRS-*}
excluded=${EGRET_EXCLUDE_OUTBOUND_CIDRS:-}
included_ports=${EGRET_INCLUDE_OUTBOUND_PORTS:-}
excluded_ports=${EGRET_EXCLUDE_OUTBOUND_PORTS:-}
interfaces=${EGRET_EXCLUDE_INTERFACES:-}
capture_dns=${EGRET_CAPTURE_DNS:-false}
capture_all_dns=${EGRET_CAPTURE_ALL_DNS:-false}
dns_servers=${EGRET_DNS_SERVERS:-}
dns_port=${EGRET_DNS_PORT:-15053}
block_quic=${EGRET_BLOCK_QUIC:-false}
ipv6=${EGRET_IPV6:-auto}

# Nothing that means something to a shell, to nft or to the templates may come in through a setting.
for value in "$proxy_port" "$proxy_uids" "$proxy_gids" "$included" "$excluded" "$included_ports" "$excluded_ports" \
  "$interfaces" "$dns_servers" "$dns_port"; do
  case $value in *[!A-Za-z0-9.,:/_*\ -]*) fail "a setting has letters that rules cannot have: $value" ;; esac
done

words() { printf '%s' "$1" | tr ',' ' ' | tr -s ' ' | sed 's/^ //; s/ $//'; }
yes_no() { case $(printf '%s' "$1" | tr '[:upper:]' '[:lower:]') in true | yes | on | y | t | 1) echo 1 ;; *) ;; esac; }

# networks 4|6 LIST: the networks of one family; a bare address is a network of one.
networks() {
  for net in $(words "$2"); do
    case $net in *:*) family=6 bits=128 ;; *) family=4 bits=32 ;; esac
    case $net in */*) ;; *) net=$net/$bits ;; esac
    [ "$family" = "$1" ] && printf '%s ' "$net"
  done
  true
}

# The name servers that the pod's resolver asks, without the zone of a link-local one; without any the one on this host.
name_servers() {
  if [ -n "$dns_servers" ]; then words "$dns_servers"; return; fi
  sed 's/[#;].*//; s/%.*//' /etc/resolv.conf 2> /dev/null |
    awk '$1 == "nameserver" && $2 ~ /^[0-9A-Fa-f.:]+$/ && !seen[$2]++ { found = 1; print $2 }
         END { if (!found) print "127.0.0.1" }' | tr '\n' ' '
}

# addresses 4|6 LIST: the addresses of one family.
addresses() {
  for address in $2; do
    case $address in *:*) family=6 ;; *) family=4 ;; esac
    [ "$family" = "$1" ] && printf '%s ' "$address"
  done
  true
}

# lists redirect|reject: the lists that the templates name, as variables L_NAME.
lists() {
  set -f
  L_INCLUDED_ALL='' nets=$included
  if [ "$included" = '*' ]; then L_INCLUDED_ALL=1 nets=''; fi
  L_INCLUDED_V4=$(networks 4 "$nets") L_INCLUDED_V6=$(networks 6 "$nets")
  L_EXCLUDED_V4=$(networks 4 "$excluded") L_EXCLUDED_V6=$(networks 6 "$excluded")
  L_INCLUDED_LOOPBACK=''
  for net in $L_INCLUDED_V4; do case $net in 127.*) L_INCLUDED_LOOPBACK=1 ;; esac; done
  L_PROXY_PORT=$proxy_port L_DNS_PORT=$dns_port
  L_PROXY_UIDS=$(words "$proxy_uids") L_PROXY_GIDS=$(words "$proxy_gids")
  L_INCLUDED_PORTS=$(words "$included_ports") L_EXCLUDED_PORTS=$(words "$excluded_ports")
  L_EXCLUDED_INTERFACES=$(words "$interfaces")
  L_DNS_ALL=$(yes_no "$capture_all_dns") L_CAPTURE_DNS=$(yes_no "$capture_dns") L_BLOCK_QUIC=$(yes_no "$block_quic")
  L_CAPTURE_DNS=${L_DNS_ALL:-$L_CAPTURE_DNS} servers=''
  if [ -n "$L_CAPTURE_DNS" ] && [ -z "$L_DNS_ALL" ]; then servers=$(name_servers); fi
  L_DNS_V4=$(addresses 4 "$servers") L_DNS_V6=$(addresses 6 "$servers")
  L_BOUND=1 L_REJECT_V6='' L_REJECTS=$L_BLOCK_QUIC
  if [ "$1" = reject ]; then L_REJECT_V6=1 L_REJECTS=1; fi
  set +f
  [ -n "$L_PROXY_UIDS" ] || fail "EGRET_PROXY_UID must name at least one user"
  export L_INCLUDED_ALL L_INCLUDED_V4 L_INCLUDED_V6 L_EXCLUDED_V4 L_EXCLUDED_V6 L_INCLUDED_LOOPBACK L_PROXY_PORT \
    L_DNS_PORT L_PROXY_UIDS L_PROXY_GIDS L_INCLUDED_PORTS L_EXCLUDED_PORTS L_EXCLUDED_INTERFACES L_CAPTURE_DNS L_DNS_ALL L_DNS_V4 L_DNS_V6 \
    L_BLOCK_QUIC L_REJECT_V6 L_REJECTS L_BOUND
}

# --- templates: the language is described in egret.nft ---------------------------------------------------------------
render() {
  awk '
    function expand(done, line,    before, after, name, count, values, i) {
      if (!match(line, /@[A-Z0-9_]+@/)) { print done line; return }
      before = substr(line, 1, RSTART - 1); after = substr(line, RSTART + RLENGTH)
      name = substr(line, RSTART + 1, RLENGTH - 2)
      count = split(ENVIRON["L_" name], values, " ")
      for (i = 1; i <= count; i++) expand(done before values[i], after)
    }
    /^#/ || /^$/ { next }
    {
      line = $0
      while (line ~ /^[?!]/) {
        space = index(line, " "); name = substr(line, 2, space - 2)
        if ((ENVIRON["L_" name] != "") != (substr(line, 1, 1) == "?")) next
        line = substr(line, space + 1)
      }
      expand("", line)
    }' "$here/$1"
}

# The tables that have rules, what catches before what lets go.
tables() {
  order="raw nat filter"
  [ -z "$L_REJECT_V6" ] || order="raw filter nat"
  render "$1" | awk -v order="$order" '
    /^\*/ { name = substr($0, 2); next }
    /^COMMIT$/ { next }
    { lines[name] = lines[name] $0 "\n" }
    END {
      count = split(order, names, " ")
      for (i = 1; i <= count; i++) if (lines[names[i]] != "") printf "*%s\n%sCOMMIT\n", names[i], lines[names[i]]
    }'
}

# --- iptables: one commit takes the old rules of a table away and brings the new ones --------------------------------
# change TOOL TEMPLATE: no template takes everything away.
change() {
  tool=$1
  work=$(mktemp -d)
  "$tool-save" > "$work/saved" || { rm -r "$work"; return 1; }
  : > "$work/wanted"
  [ -z "${2:-}" ] || tables "$2" > "$work/wanted"
  order="raw nat filter"
  [ -z "${L_REJECT_V6:-}" ] || order="raw filter nat"
  for table in $order; do
    awk -v table="$table" '
      /^\*/ { name = substr($0, 2); next }
      name != table || /^#/ || /^COMMIT$/ { next }
      part == 2 { if (/^:/) kept[substr($1, 2)] = 1; wanted = wanted $0 "\n"; next }
      /^:EGRET_/ { chains[substr($1, 2)] = 1 }
      /^-A / && !/^-A EGRET_/ && / -[jg] EGRET_/ { jumps = jumps "-D" substr($0, 3) "\n" }
      END {
        for (chain in chains) if (!(chain in kept)) { flush = flush "-F " chain "\n"; drop = drop "-X " chain "\n" }
        all = jumps flush wanted drop
        if (all != "") printf "*%s\n%sCOMMIT\n", table, all
      }' part=1 "$work/saved" part=2 "$work/wanted" > "$work/change"
    if [ -s "$work/change" ] && ! "$tool-restore" --noflush -w 30 < "$work/change"; then rm -r "$work"; return 1; fi
  done
  rm -r "$work"
}

# --- commands -------------------------------------------------------------------------------------------------------
ipv6_mode() { if [ "$ipv6" = off ]; then echo reject; else echo redirect; fi; }

print_rules() {
  lists "$(ipv6_mode)"
  case $1 in
    nft) echo '# nft -f -'; render egret.nft ;;
    iptables) echo '# iptables-restore --noflush'; tables egret.v4.rules
      echo '# ip6tables-restore --noflush'; tables egret.v6.rules ;;
    *) fail "print what: nft or iptables?" ;;
  esac
}

# takes_bound FLAVOUR: whether the kernel takes the rules about bound sockets. Without them such a socket waits in vain.
takes_bound() {
  for tool in iptables ip6tables; do
    for rule in 'nat -j CONNMARK --set-xmark 0x1/0x1' \
      'filter -m connmark --mark 0x1/0x1 -j REJECT --reject-with tcp-reset'; do
      printf '*%s\n:EGRET_PROBE - [0:0]\n-A EGRET_PROBE -p tcp %s\n-F EGRET_PROBE\n-X EGRET_PROBE\nCOMMIT\n' \
        "${rule%% *}" "${rule#* }" | "$tool-$1-restore" --noflush -w 30 2> /dev/null || return 1
    done
    [ -z "$L_REJECT_V6" ] || return 0
  done
}

apply_iptables() {
  lists "$(ipv6_mode)"
  takes_bound "${1#iptables-}" || L_BOUND=''
  change "iptables-${1#iptables-}" egret.v4.rules || return 1
  change "ip6tables-${1#iptables-}" egret.v6.rules && return
  [ "$ipv6" = auto ] || fail "IPv6 cannot be redirected as EGRET_IPV6=$ipv6 demands"
  echo "redirect.sh: IPv6 cannot be redirected here: it is rejected" >&2
  lists reject
  L_BOUND=''
  change "ip6tables-${1#iptables-}" egret.v6.rules
}

apply_one() {
  case $1 in
    nft) lists "$(ipv6_mode)"; render egret.nft | nft -f - ;;
    iptables-nft | iptables-legacy) apply_iptables "$1" ;;
    *) fail "apply with what: nft, iptables-nft or iptables-legacy?" ;;
  esac
}

# remove_one BACKEND: says nothing where the tool is missing or the kernel has no such tables.
remove_one() {
  L_REJECT_V6=''
  case $1 in
    nft) ! nft list table inet egret > /dev/null 2>&1 || nft delete table inet egret ;;
    *) for tool in "$1" "ip6${1#ip}"; do
        if "$tool-save" 2> /dev/null | grep -q EGRET_; then change "$tool"; fi
      done ;;
  esac
}

backends='nft iptables-nft iptables-legacy'
case ${1:-} in
  print) print_rules "${2:-}" ;;
  apply)
    done=''
    for backend in ${2:-$backends}; do
      if apply_one "$backend"; then done=$backend; break; fi
    done
    [ -n "$done" ] || fail "no backend works here: as root with CAP_NET_ADMIN, and with nftables or iptables?"
    for backend in $backends; do [ "$backend" = "$done" ] || remove_one "$backend"; done
    echo "applied with $done" ;;
  remove) for backend in $backends; do remove_one "$backend"; done ;;
  *) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
