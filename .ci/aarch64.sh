#!/bin/sh
# Runs the library's tests as a 64-bit Arm machine does: in QEMU, on a machine of another kind.
#
#     .ci/tools.sh .ci/aarch64.sh
#
# The kernels choose instructions by what the machine has, so that these are other ones than `make test` runs. What is built lies in
# target/aarch64, apart from what this machine runs itself. GStreamer is left out: the elements have no code for one machine alone. So is
# `--test detector`, which scores whole pictures with the built-in model: emulated, that takes more than a quarter of an hour.
set -eu
cd "$(dirname "$0")/.."

target=aarch64-unknown-linux-gnu
command -v rustup >/dev/null || {
    echo "error: wanted rustup, to add the Rust target $target, found none" >&2
    exit 1
}
rustup target list --installed | grep -qx "$target" || rustup target add "$target"

export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER='qemu-aarch64 -L /usr/aarch64-linux-gnu'
exec cargo test --locked --target "$target" --target-dir target/aarch64 -p acdclip-model --features builtin-model \
    --lib --test bundle --test golden --test hostile --test import --test kernels --test network --test preprocess --test tokenizer
