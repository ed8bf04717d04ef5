#!/usr/bin/env bash
# Builds what scripts/gpu-bench.sh runs, on a machine that needs no GPU: target/gpu/, and packed, target/gpu.tar.xz, to be carried to one that has it.
#
#     scripts/gpu-bench-build.sh                  # for CUDA 13 and an H100; CUDA_COMPUTE_CAP=80 and so on for others
#     scripts/gpu-bench-build.sh --device cpu     # without CUDA, to try the script out
#
# Where there is no nvcc, TOOLCHAIN is a script that is sourced to get one, with a folder to put it into (CUDA).
set -euo pipefail
cd "$(dirname "$0")/.."

toolchain=${TOOLCHAIN:-../shared/tools/cuda_toolchain.sh}
out=target/gpu
features=() target=${CARGO_TARGET_DIR:-target}
if [ "${1-}${2-}" != --devicecpu ]; then
    if ! command -v nvcc >/dev/null; then
        [ -f "$toolchain" ] || { echo "error: wanted nvcc, or TOOLCHAIN to name a script that brings it; found neither" >&2; exit 1; }
        # shellcheck source=/dev/null
        . "$toolchain" "${CUDA:-/opt/cuda13}"
    fi
    export CUDARC_CUDA_VERSION=${CUDARC_CUDA_VERSION:-13000} CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-90}
    features=(--features acdclip-model/cuda) target=${CARGO_TARGET_DIR:-target/cuda}
fi

# In one go: built apart, they would want candle with other features of what it depends on, and so again. Without the built-in model, which
# they read from the tree, they are small.
build=(cargo build --release --locked --target-dir "$target" -p acdclip-model -p acdclip-train -p gst-plugin-acdclip
    --no-default-features "${features[@]}" --lib --bin acdclip --test gpu --bench peers)
"${build[@]}"
mkdir -p "$out"
"${build[@]}" --message-format json 2>/dev/null | python3 -c '
import json, sys
for message in map(json.loads, sys.stdin):
    name = message.get("target", {}).get("name")
    if message.get("executable") and name in ["acdclip", "gpu", "peers"]:
        print(message["executable"], name)
' | while read -r built name; do strip -o "$out/$name" "$built"; done
strip -o "$out/libgstacdclip.so" "$target/release/libgstacdclip.so"

# Each of them carries the same kernels: packed with a window that reaches from one to the next, all are little more than one.
python3 - "$out" <<'PY'
import lzma, sys, tarfile
out = sys.argv[1]
window = {"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 28}
with lzma.open(f"{out}.tar.xz", "wb", filters=[window]) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
    archive.add(out, "gpu")
PY
du -h --apparent-size "$out"/* "$out.tar.xz"
