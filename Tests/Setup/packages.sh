#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Installs the Debian packages a part of the project needs.
#
#     packages.sh SET...           install what is missing of build, demo, test, numa, bench, lint
#     packages.sh --list SET...    print the names, one per line, and do nothing
#
# When nothing is missing it asks dpkg once and returns: no network, no root. Otherwise it calls
# apt-get, through sudo when not root; without either it prints the command to type and stops.
# No service is started by an installation here, and none is left enabled for the next boot.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { printf 'setup: error: %s\n' "$1" >&2; shift; printf '    %s\n' "$@" >&2; exit 1; }

# The second line is what the Swift toolchain itself asks of a fresh Debian 12.
set_build=(libdw-dev libelf-dev libunwind-dev pkg-config g++ gcc make binutils zlib1g-dev
    git ca-certificates libc6-dev libstdc++-12-dev libcurl4 libxml2 libncurses6 libsqlite3-0 tzdata)
set_demo=(libssl-dev zlib1g-dev libsqlite3-dev libxml2-dev procps)
set_test=(python3 libpython3.11-testsuite redis-server redis-tools nginx-light wrk postgresql
    sqlite3 ruby perl git ffmpeg gdb openssl xz-utils nodejs valgrind)
set_bench=(python3 python3-numpy perl ruby lua5.4 sqlite3 redis-server redis-tools valgrind
    libjemalloc2 libmimalloc2.0 libtcmalloc-minimal4 heaptrack zstd)
set_numa=(python3 gcc libc6-dev qemu-system-x86 busybox-static cpio gzip binutils)
set_lint=(clang-format-14 shellcheck git)

# names_of SET: the packages of a set, one per line; the sets contain each other where they must.
names_of() {
    case $1 in
    build) printf '%s\n' "${set_build[@]}" ;;
    demo) printf '%s\n' "${set_build[@]}" "${set_demo[@]}" ;;
    bench) printf '%s\n' "${set_build[@]}" "${set_bench[@]}" ;;
    numa) printf '%s\n' "${set_build[@]}" "${set_numa[@]}" ;;
    lint) printf '%s\n' "${set_lint[@]}" ;;
    test)
        printf '%s\n' "${set_build[@]}" "${set_demo[@]}" "${set_test[@]}"
        local programs="$here/../Programs/packages.txt"
        [[ ! -f $programs ]] || sed -e 's/#.*//' -e 's/[[:space:]]//g' -e '/^$/d' "$programs"
        ;;
    *) fail "no package set named '$1'" "the sets are: build demo test numa bench lint" ;;
    esac
}

# missing_of NAME...: those that dpkg does not know as installed. One call for all of them.
missing_of() {
    local installed
    installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null || true)
    comm -23 <(printf '%s\n' "$@" | sort -u) <(sed -n 's/^installed //p' <<<"$installed" | sort -u)
}

# A policy-rc.d that answers 101 makes Debian's packages install their services without starting
# them. One that already forbids it (containers have one) is left alone; another is set aside.
policy=/usr/sbin/policy-rc.d
saved=$policy.before-memctl-setup
forbid_services() {
    local answer=0
    [[ ! -x $policy ]] || "$policy" memctl-setup start >/dev/null 2>&1 || answer=$?
    [[ $answer != 101 ]] || return 0
    trap restore_services EXIT
    [[ ! -e $policy ]] || mv "$policy" "$saved"
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
}
restore_services() {
    rm -f "$policy"
    [[ ! -e $saved ]] || mv "$saved" "$policy"
}

# What the test programs bring along that Debian would start at every boot.
services=(redis-server nginx postgresql memcached mariadb apache2 haproxy squid slapd bind9 named)

present_services() {
    local name
    for name in "${services[@]}"; do
        [[ ! -e /etc/init.d/$name && ! -e /lib/systemd/system/$name.service ]] || printf '%s\n' "$name"
    done
}

# keep_disabled NAME...: a test suite's web server has no business in the next boot. Those that
# were there before are the user's, and stay as they are.
keep_disabled() {
    local name
    for name; do
        if command -v systemctl >/dev/null; then systemctl disable "$name" >/dev/null 2>&1 || true; fi
        if [[ -e /etc/init.d/$name ]]; then update-rc.d "$name" disable >/dev/null 2>&1 || true; fi
        say "$name is installed, not started, and left disabled"
    done
}

# As root: bring in the packages, leaving the system's services as they were. What apt says is
# shown when it fails.
install_as_root() {
    export DEBIAN_FRONTEND=noninteractive
    local apt=(apt-get -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3) log before new
    log=$(mktemp)
    before=$(present_services)
    "${apt[@]}" -qq update >"$log" 2>&1 || {
        tail -n 5 "$log" >&2
        say "apt-get update failed: going on with the lists there are"
    }
    forbid_services
    "${apt[@]}" install -y -qq --no-install-recommends "$@" >"$log" 2>&1 </dev/null || {
        tail -n 40 "$log" >&2
        rm -f "$log"
        fail "apt-get could not install the packages (its last words are above)" \
            "to see all of it: apt-get install $*"
    }
    rm -f "$log"
    mapfile -t new < <(comm -13 <(sort <<<"$before") <(present_services | sort))
    keep_disabled "${new[@]}"
}

main() {
    if [[ ${1-} == --install-as-root ]]; then
        shift
        install_as_root "$@"
        return
    fi
    local list=0 set names missing
    if [[ ${1-} == --list ]]; then list=1; shift; fi
    (($# > 0)) || fail "no package set given" "usage: $0 [--list] SET..."
    names=$(for set in "$@"; do names_of "$set" || exit; done)
    mapfile -t names < <(sort -u <<<"$names")
    if ((list)); then printf '%s\n' "${names[@]}"; return; fi

    command -v dpkg-query >/dev/null || fail "this is not a Debian system: no dpkg-query" \
        "install what corresponds to these packages, then run make with PACKAGES=skip:" "${names[*]}"
    mapfile -t missing < <(missing_of "${names[@]}")
    ((${#missing[@]} > 0)) || return 0
    local command="apt-get install -y --no-install-recommends ${missing[*]}"
    say "missing Debian packages: ${missing[*]}"
    if [[ $(id -u) == 0 ]]; then
        say "installing them with apt-get; this happens once"
        "$here/packages.sh" --install-as-root "${missing[@]}"
    elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [[ -t 0 ]]; }; then
        say "installing them with apt-get, through sudo; this happens once"
        sudo "$here/packages.sh" --install-as-root "${missing[@]}"
    else
        fail "not root, and no usable sudo; as root type this, then try again:" "$command"
    fi
    mapfile -t missing < <(missing_of "${missing[@]}")
    ((${#missing[@]} == 0)) || fail "still missing after the installation: ${missing[*]}"
    say "done"
}
main "$@"
