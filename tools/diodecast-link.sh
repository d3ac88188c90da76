#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Prepares the interface of a one-way link, and takes that back: see diodecast-link(8).
set -eu

usage() {
    echo "usage: diodecast-link high|low up|down|status INTERFACE" >&2
    exit 64
}

fail() { # CODE WORD...
    code=$1
    shift
    echo "diodecast-link: $interface: $*" >&2
    exit "$code"
}

note() {
    echo "diodecast-link: $interface: $*"
}

# remember KIND NAME VALUE: what "down" sets back; of several "up" the first one knows what was there before
remember() {
    grep -q "^$1 $2 " "$state" || echo "$1 $2 $3" >>"$state"
}

set_kernel() { # NAME VALUE: a setting below /proc/sys/net, where the kernel has it
    [ -e "/proc/sys/net/$1" ] || return 0
    before=$(cat "/proc/sys/net/$1")
    [ "$before" != "$2" ] || return 0
    remember kernel "$1" "$before"
    echo "$2" >"/proc/sys/net/$1"
}

check_interface() {
    [ "$interface" != lo ] || fail 78 "is the loopback of this machine and no link"
    for program in ip nft ethtool; do
        command -v $program >/dev/null || fail 69 "$program is not installed (packages iproute2, nftables, ethtool)"
    done
    ip link show dev "$interface" >/dev/null 2>&1 || fail 69 "there is no such interface, see 'ip link'"
    routes=$(ip -4 -o route show table all default && ip -6 -o route show table all default) || true
    case " $(echo "$routes" | tr '\n' ' ') " in
    *" dev $interface "*)
        fail 78 "has the default route of this machine, so it is not the one-way link; nothing was changed"
        ;;
    esac
}

# bar HOOK COUNTER: whatever passes the hook is counted and dropped. One transaction: there is no moment without it.
bar() {
    nft -f - <<RULES
table netdev $table
delete table netdev $table
table netdev $table {
    counter $2 { packets 0 bytes 0 }
    chain $1 {
        type filter hook $1 device "$interface" priority filter; policy drop;
        counter name $2 drop
    }
}
RULES
}

# What the kernel would send of its own accord, and the answers that it would give.
quieten() {
    case "$(ip -o link show dev "$interface")" in
    *[\<,]NOARP[,\>]*) ;;
    *)
        remember link arp on
        ip link set dev "$interface" arp off
        ;;
    esac
    if [ "${IPV6:-no}" = yes ]; then
        for setting in addr_gen_mode=1 accept_ra=0 autoconf=0 router_solicitations=0 dad_transmits=0 accept_dad=0 \
            ndisc_notify=0 disable_ipv6=0; do
            set_kernel "ipv6/conf/$interface/${setting%=*}" "${setting#*=}"
        done
    else
        set_kernel "ipv6/conf/$interface/disable_ipv6" 1
    fi
}

set_flag() { # NAME VALUE: a private flag of the driver, where it has it
    before=$(ethtool --show-priv-flags "$interface" 2>/dev/null | sed -n "s/^$1 *: *//p")
    case $before in
    '') return 0 ;;
    "$2") ;;
    *)
        remember flag "$1" "$before"
        ethtool --set-priv-flags "$interface" "$1" "$2" ||
            note "the driver did not set $1 to $2: the firmware may send LLDP"
        ;;
    esac
    lldp=known
}

pause_now() {
    ethtool -a "$interface" 2>/dev/null |
        awk '$1 == "Autonegotiate:" { a = $2 } $1 == "RX:" { r = $2 } $1 == "TX:" { t = $2 }
             END { if (t) print "autoneg", a, "rx", r, "tx", t }'
}

# What the adapter would send without the kernel. Not every driver has these switches, and no lack of one is an error.
quieten_adapter() {
    before=$(pause_now)
    case $before in
    '') note "the driver knows no pause frames" ;;
    *on*)
        remember pause autoneg "${before#autoneg }"
        ethtool -A "$interface" autoneg off rx off tx off >/dev/null 2>&1 ||
            ethtool -A "$interface" rx off tx off >/dev/null 2>&1 || true
        case $(pause_now) in *"tx on") note "pause frames can't be switched off: this adapter may send them" ;; esac
        ;;
    esac
    case $(ethtool --show-eee "$interface" 2>/dev/null) in
    *'EEE status: enabled'*)
        remember eee eee on
        ethtool --set-eee "$interface" eee off || note "Energy Efficient Ethernet can't be switched off"
        ;;
    *'EEE status:'*) ;;
    *) note "the driver knows no Energy Efficient Ethernet" ;;
    esac
    lldp=unknown
    set_flag fw-lldp-agent off
    set_flag disable-fw-lldp on
    [ $lldp = known ] || note "the driver has no switch for LLDP of its firmware; see the adapter's own tool"
}

# An end that can't be made silent is set down, whatever the reason.
set_down_unless_prepared() {
    status=$?
    if [ "$prepared" = no ]; then
        ip link set dev "$interface" down || true
        echo "diodecast-link: $interface: could not be prepared and was set down" >&2
    fi
    exit $status
}

link_up() {
    check_interface
    if [ "$side" = low ] && { [ -z "${PEER:-}" ] || [ -z "${PEER_MAC:-}" ]; }; then
        fail 78 "set PEER (the high side's address) and PEER_MAC in /etc/diodecast/link-$interface.conf"
    fi
    mkdir -p "$directory"
    : >>"$state"
    prepared=no
    trap set_down_unless_prepared EXIT
    if [ "$side" = high ]; then
        bar egress held_back
    else
        bar ingress arrived
    fi
    quieten
    quieten_adapter
    ip link set dev "$interface" up
    [ "$side" = high ] || ip neighbour replace "$PEER" lladdr "$PEER_MAC" dev "$interface" nud permanent
    prepared=yes
}

restore_pause() { # WORDS: as pause_now() said them, without the first
    # shellcheck disable=SC2086  # one word each
    ethtool -A "$interface" autoneg $1
}

# Down first: then nothing is sent by what is set back to what it was.
link_down() {
    if ip link show dev "$interface" >/dev/null 2>&1 && [ -e "$state" ]; then
        ip link set dev "$interface" down
        while read -r kind name value; do
            case $kind in
            kernel) echo "$value" >"/proc/sys/net/$name" ;;
            link) ip link set dev "$interface" "$name" "$value" ;;
            flag) ethtool --set-priv-flags "$interface" "$name" "$value" ;;
            eee) ethtool --set-eee "$interface" "$name" "$value" ;;
            pause) restore_pause "$value" ;;
            esac || note "$kind $name can't be set back to $value"
        done <"$state"
    fi
    rm -f "$state"
    nft delete table netdev "$table" 2>/dev/null || true
}

link_status() {
    for counter in held_back arrived; do
        packets=$(nft list counter netdev "$table" $counter 2>/dev/null |
            sed -n 's/.*packets \([0-9]*\) .*/\1/p')
        case $counter:$packets in
        *:) ;;
        held_back:*) note "silent; the kernel wanted to send $packets frames, and none left" ;;
        arrived:0) note "prepared; nothing came back over the link" ;;
        arrived:*) note "prepared; $packets frames came back over the link, which a diode does not let happen" ;;
        esac
        [ -z "$packets" ] || return 0
    done
    fail 1 "is not prepared"
}

[ $# -eq 3 ] || usage
side=$1 interface=$3
case $interface in '' | . | .. | *[!A-Za-z0-9._-]*) fail 64 "not the name of an interface" ;; esac
directory=${RUNTIME_DIRECTORY:-/run/diodecast-link}
state=$directory/$interface
table=diodecast_$(printf %s "$interface" | sed 's/_/__/g; s/-/_m/g; s/\./_d/g')
case $side:$2 in
high:up | low:up) link_up ;;
high:down | low:down) link_down ;;
high:status | low:status) link_status ;;
*) usage ;;
esac
