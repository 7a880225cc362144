# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash disable=SC2034      # it is sourced, and its variables are used there
# Shared by scripts/demo and scripts/test (bash, sourced): packages, build, hugepages, mounts.
#
# Noisy commands write to $LOG; when one fails, its last lines and the path of the log are shown.
# Changes to the machine that can be taken back are noted in $UNDO_FILE, if set, for undo_all.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=${WEIR_BUILD:-$ROOT/build}
SETUP_OPTIONS=""            # of meson; the tests take warnings for errors
PYTHON=/usr/bin/python3     # Debian's own: a python3 in front of it in PATH may lack its packages

BUILD_PACKAGES="gcc libc6-dev meson ninja-build pkg-config libdpdk-dev libconfig-dev libevent-dev libc-ares-dev
    libjansson-dev libssl-dev libmnl-dev libnftables-dev libnuma-dev libcmocka-dev lowdown"
UNIT_PACKAGES="iproute2 iputils-ping nftables"      # that the unit tests run
LAB_PACKAGES="$UNIT_PACKAGES python3 util-linux ethtool nginx curl ca-certificates
    dpdk-dev openssl"
TEST_PACKAGES="clang debootstrap libclang-rt-dev wrk tcpdump python3-pytest libnginx-mod-stream bird2 systemd
    clang-format clang-tidy cppcheck shellcheck flake8 git"
NIC_PACKAGES="qemu-system-x86"

fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

require_root() {
    [ "$(id -u)" = 0 ] || fail "it makes network namespaces, so it has to run as root: sudo $0"
}

# step TEXT COMMAND...: run it with its output in $LOG, and say how it went.
step() {
    local text=$1 started=$SECONDS status=0
    shift
    printf '  %-52s' "$text"
    printf '\n### %s: %s\n' "$text" "$*" >>"$LOG"
    "$@" >>"$LOG" 2>&1 </dev/null || status=$?
    if [ $status = 0 ]; then
        printf 'done (%d s)\n' $((SECONDS - started))
    else
        printf 'failed\n\n' >&2
        tail -n 20 "$LOG" | sed 's/^/    /' >&2
        printf '\nThe whole output is in %s\n' "$LOG" >&2
    fi
    return $status
}

# packages_missing LIST...: the names in them that aren't installed, as such a list.
packages_missing() {
    local name missing="" names=$*
    for name in $names; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] ||
            missing="$missing $name"
    done
    printf '%s' "${missing# }"
}

# packages_install LIST: by apt, without starting or enabling any service that comes along.
# shellcheck disable=SC2086                 # several words
packages_install() (
    policy=/usr/sbin/policy-rc.d
    mark="# left by weir's scripts/lib.sh while it installs"
    grep -qsF "$mark" $policy && rm -f $policy
    if [ ! -e $policy ]; then
        trap 'rm -f $policy' EXIT
        trap 'exit 130' INT TERM
        printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >$policy
        chmod 755 $policy
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get -q update || echo "apt-get update failed: trying with the lists that are there"
    apt-get -q -y --no-install-recommends -o DPkg::Lock::Timeout=120 install $1 || exit 1
    for name in $1; do
        case $name in
        nginx | haproxy | bird2)    # installed for the lab only: not to be started at the next boot
            ! command -v systemctl >/dev/null || systemctl --quiet disable "${name%2}" || true
            ;;
        esac
    done
)

# build_weir [TARGET...]: everything, or these targets.
build_weir() {
    # shellcheck disable=SC2086             # no word, or several
    [ -e "$BUILD/build.ninja" ] || meson setup "$BUILD" "$ROOT" $SETUP_OPTIONS || return
    ninja -C "$BUILD" "$@"
}

# build_sanitized SANITIZERS FOLDER TARGET...
build_sanitized() {
    [ -e "$2/build.ninja" ] ||
        meson setup "$2" "$ROOT" -Db_sanitize="$1" -Db_lundef=false || return
    ninja -C "${@:2}"
}

# undo_note COMMAND...: what takes back a change just made.
undo_note() {
    [ -z "${UNDO_FILE:-}" ] && return
    mkdir -p "$(dirname "$UNDO_FILE")"
    printf '%s\n' "$*" >>"$UNDO_FILE"
}

# Take back what is noted, the last first; also what a killed run noted.
undo_all() {
    local command
    [ -s "${UNDO_FILE:-}" ] || return 0
    while read -r command; do
        $command >/dev/null 2>&1 || true
    done < <(tac "$UNDO_FILE")
    rm -f "$UNDO_FILE"
}

meminfo() { sed -n "s/^$1: *\([0-9]*\).*/\1/p" /proc/meminfo; }

hugepages_set() { echo "$1" >/proc/sys/vm/nr_hugepages; }

hugepages_mounted() { awk '$3 == "hugetlbfs" { found = 1 } END { exit !found }' /proc/mounts; }

# hugepages_missing MIB: how many pages are to be added so that MIB are free.
hugepages_missing() {
    local size free need
    size=$(meminfo Hugepagesize)
    free=$(meminfo HugePages_Free)
    [ -n "$size" ] || { echo 0; return; }
    need=$((($1 * 1024 + size - 1) / size))
    echo $((free < need ? need - free : 0))
}

# hugepages_get MIB: so many free, and a hugetlbfs mounted. Exports WEIR_HUGEPAGES=1, or 0 and
# returns 1 when the machine doesn't have them; weir then runs with --no-huge.
hugepages_get() {
    local before missing
    export WEIR_HUGEPAGES=0
    missing=$(hugepages_missing "$1")
    before=$(meminfo HugePages_Total)
    [ -n "$before" ] || return 1
    if [ "$missing" -gt 0 ]; then
        hugepages_set $((before + missing)) 2>/dev/null || return 1
        if [ "$(hugepages_missing "$1")" -gt 0 ]; then
            hugepages_set "$before"
            return 1
        fi
        undo_note hugepages_set "$before"
    fi
    if ! hugepages_mounted; then
        mkdir -p /dev/hugepages && mount -t hugetlbfs hugetlbfs /dev/hugepages 2>/dev/null ||
            return 1
        undo_note umount /dev/hugepages
    fi
    WEIR_HUGEPAGES=1
}

# AF_XDP's library keeps its dispatcher there.
bpf_mounted() { grep -qs ' /sys/fs/bpf bpf ' /proc/mounts; }

bpf_mount() {
    bpf_mounted && return
    mount -t bpf bpf /sys/fs/bpf 2>/dev/null || return 0
    undo_note umount /sys/fs/bpf
}
