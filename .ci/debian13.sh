#!/bin/sh
# Tests the feature `analytics` (GStreamer 1.24 or newer): on this system where it has what that takes, else in a Debian 13 made for it.
#
#     .ci/tools.sh .ci/debian13.sh
#
# The Debian 13 lies in target/debian13 and is kept, as is what is built in it (target/debian13-target): two builds of one target directory
# against two GStreamers would undo each other. Remove both to start anew.
set -eu
cd "$(dirname "$0")/.."

packages="build-essential pkg-config
    libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev libgstreamer-plugins-bad1.0-dev
    gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly
    gstreamer1.0-libav python3-gi gir1.2-gstreamer-1.0 gir1.2-gst-plugins-base-1.0"
checkout=$PWD
system=$checkout/target/debian13
cargo_home=${CARGO_HOME:-$HOME/.cargo}

say() {
    printf '==> %s\n' "$*" >&2
}

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Builds with the feature and runs what it touches, the command COMMAND... standing before cargo.
run_tests() {
    "$@" cargo test --locked --workspace --features gst-plugin-acdclip/analytics --lib --test element --test commands -- \
        analytics:: meta:: metadata:: python
}

check_that_mounting_works() {
    [ "$(id -u)" -eq 0 ] ||
        fail "wanted root, for a Debian 13 system in target/debian13 with this checkout mounted in it, found user $(id -un);" \
            "as another user it works on a system with GStreamer 1.24 or newer and its analytics library" \
            "(Debian, Ubuntu: libgstreamer-plugins-bad1.0-dev)"
    unshare --mount --propagation private true ||
        fail "wanted to mount this checkout in a Debian 13 system, which is not allowed here (a container needs CAP_SYS_ADMIN)"
}

# Runs a command in the Debian 13 system, the checkout and the Rust toolchain lying where they lie outside. The mounts are in a namespace
# of their own: they end with the command, however it ends, and whoever removes the system meanwhile removes nothing that is mounted.
in_system() {
    # shellcheck disable=SC2016 # for the inner shell
    unshare --mount --propagation private sh -euc '
        system=$1 count=$2
        shift 2
        while [ "$count" -gt 0 ]; do
            mkdir -p "$system$1"
            mount --bind "$1" "$system$1"
            count=$((count - 1))
            shift
        done
        mount -t proc proc "$system/proc"
        exec chroot "$system" "$@"
    ' sh "$system" 3 "$checkout" "$cargo_home" "$toolchain" \
        env -i HOME=/root PATH="$toolchain/bin:/usr/sbin:/usr/bin:/sbin:/bin" DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 \
        CARGO_HOME="$cargo_home" CARGO_TARGET_DIR="$checkout/target/debian13-target" CARGO_NET_OFFLINE=true \
        sh -euc 'cd "$1"; shift; exec "$@"' sh "$checkout" "$@"
}

missing_packages() {
    for package in $packages; do
        # shellcheck disable=SC2016 # the format is dpkg-query's, not the shell's
        case $(chroot "$system" dpkg-query -W -f '${Status}' "$package" 2>/dev/null) in
            *" ok installed") ;;
            *) printf ' %s' "$package" ;;
        esac
    done
}

# debootstrap makes the base alone: it does not choose between alternatives, as the packages' dependencies want it to, and fails over them.
make_system() {
    # It removes its own folder last.
    if [ ! -e "$system/etc/debian_version" ] || [ -e "$system/debootstrap" ]; then
        say "making a Debian 13 system in target/debian13"
        rm -rf "$system"
        mkdir -p "$system"
        debootstrap --variant=minbase trixie "$system" >"$system.log" 2>&1 ||
            fail "debootstrap failed; the end of $system.log: $(tail -n 3 "$system.log")"
    fi
    missing=$(missing_packages)
    [ -n "$missing" ] || return 0
    say "installing into it:$missing"
    in_system apt-get update -q
    # What an installation that was broken off has left behind comes first.
    in_system dpkg --configure -a || say "some packages wait for others; apt-get goes on with them"
    in_system apt-get --fix-broken install -q -y --no-install-recommends
    # shellcheck disable=SC2086 # a list of words
    in_system apt-get install -q -y --no-install-recommends \
        -o Dpkg::Options::=--force-unsafe-io -o Dpkg::Use-Pty=0 $missing
    in_system apt-get clean
}

if pkg-config --exists 'gstreamer-analytics-1.0 >= 1.24'; then
    say "testing with this system's GStreamer $(pkg-config --modversion gstreamer-1.0)"
    run_tests env
    exit
fi
check_that_mounting_works
toolchain=$(rustc --print sysroot)
[ "$toolchain" != /usr ] ||
    fail "wanted a Rust toolchain in a folder of its own, as rustup installs it, found the system's in /usr, which Debian 13 cannot use"
make_system
# In the system there are no certificates to fetch crates with.
cargo fetch --locked --target "$(rustc -vV | sed -n 's/^host: //p')"
say "testing with Debian 13's GStreamer $(in_system pkg-config --modversion gstreamer-1.0)"
run_tests in_system
