#!/bin/sh
# Runs a command with everything that building and running needs, and installs first what is missing.
#
#     .ci/tools.sh COMMAND [ARGUMENT...]
#
# System packages come by apt (Debian, Ubuntu), a Rust toolchain by rustup. Nothing that is there already is touched; everything that is
# installed is named before it is.
set -eu

rust_wanted=1.94
packages="build-essential ca-certificates curl pkg-config
    libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev
    gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly
    gstreamer1.0-libav gstreamer1.0-nice
    python3-gi gir1.2-gstreamer-1.0 gir1.2-gst-plugins-base-1.0"

say() {
    printf '==> %s\n' "$*" >&2
}

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "this needs root, and there is no sudo: $*"
    fi
}

missing_packages() {
    for package in $packages; do
        # shellcheck disable=SC2016 # the format is dpkg-query's, not the shell's
        case $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) in
            *" installed") ;;
            *) printf ' %s' "$package" ;;
        esac
    done
}

install_packages() {
    if ! command -v apt-get >/dev/null; then
        pkg-config --exists 'gstreamer-video-1.0 >= 1.20' 2>/dev/null ||
            fail "wanted GStreamer 1.20 or newer with its development files and pkg-config; this is no Debian or Ubuntu, so install them by hand"
        return 0
    fi
    missing=$(missing_packages)
    [ -n "$missing" ] || return 0
    say "installing system packages with apt-get:$missing"
    as_root apt-get update -q
    # shellcheck disable=SC2086 # a list of words
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
}

# Whether `rustc` and `cargo`, as found now, are new enough.
rust_is_new_enough() {
    command -v cargo >/dev/null || return 1
    found=$(rustc --version 2>/dev/null) || return 1
    printf '%s\n' "$found" | awk -v wanted="$rust_wanted" '{
        split($2, f, "."); split(wanted, w, ".")
        exit !(f[1] > w[1] || (f[1] == w[1] && f[2] >= w[2]))
    }'
}

# A toolchain may come without what `make test` needs of it.
install_components() {
    if cargo clippy --version >/dev/null 2>&1 && cargo fmt --version >/dev/null 2>&1; then
        return 0
    fi
    command -v rustup >/dev/null || fail "wanted cargo clippy and cargo fmt, which this Rust toolchain lacks; install them"
    say "adding clippy and rustfmt to the Rust toolchain with rustup"
    rustup component add clippy rustfmt
}

install_rust() {
    rust_is_new_enough && return 0
    # Where rustup puts its commands, which a shell that was open before does not know yet.
    PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
    export PATH
    rust_is_new_enough && return 0
    if command -v rustup >/dev/null; then
        say "the Rust toolchain is older than $rust_wanted: rustup installs the current stable one beside it"
        rustup toolchain install stable --profile minimal --component clippy,rustfmt
    else
        say "no Rust toolchain of $rust_wanted or newer: installing the current stable one into ${CARGO_HOME:-$HOME/.cargo} with rustup"
        installer=$(mktemp)
        curl --proto '=https' --tlsv1.2 --fail --silent --show-error --location https://sh.rustup.rs --output "$installer"
        RUSTUP_INIT_SKIP_PATH_CHECK=yes sh "$installer" -y --quiet --no-modify-path --profile minimal --component clippy,rustfmt
        rm -f "$installer"
    fi
    rust_is_new_enough && return 0
    RUSTUP_TOOLCHAIN=stable
    export RUSTUP_TOOLCHAIN
    rust_is_new_enough || fail "wanted Rust $rust_wanted or newer, found $(rustc --version 2>&1)"
}

case ${1:-} in
*/debian13.sh) packages="$packages debootstrap debian-archive-keyring" ;;
*/valgrind.sh) packages="$packages valgrind" ;;
*/aarch64.sh) packages="$packages gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user" ;;
cargo)
    # The monitor's page is tested in a browser where the system has one that a driver comes with; Ubuntu's is a snap.
    if [ "${2:-}" = test ] && grep -qx 'ID=debian' /etc/os-release 2>/dev/null; then
        packages="$packages chromium chromium-driver"
    fi
    ;;
esac
install_packages
install_rust
case ${1:-} in
cargo) install_components ;;
esac
exec "$@"
