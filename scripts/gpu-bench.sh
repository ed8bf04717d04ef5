#!/usr/bin/env bash
# On a bare GPU machine with PyTorch: is the network on the GPU right, and how fast is it? Less than eight minutes, one table at the end.
#
#     scripts/gpu-bench.sh                    # runs what scripts/gpu-bench-build.sh has made elsewhere: target/gpu/, or target/gpu.tar.xz
#     scripts/gpu-bench.sh --device cpu       # the same steps without a GPU, at small sizes: shows that they work, and nothing else
#
# PYTHON: a python with PyTorch (python3). BIN: where the binaries are (target/gpu). SHARED: where annotated pictures are, if anywhere
# (../shared). OUT: a folder that gets the table and what led to it (target/gpu-bench).
# Each part has a time limit of its own; one that fails says why, and the others go on. Nothing is compiled or downloaded.
set -u
cd "$(dirname "$0")/.." || exit 1

device=cuda
case "$*" in
"") ;;
"--device cpu") device=cpu ;;
"--device cuda") ;;
*) echo "error: wanted --device cuda or --device cpu, found $*" >&2; exit 2 ;;
esac
python=${PYTHON:-python3} bin=${BIN:-target/gpu} shared=${SHARED:-../shared} out=${OUT:-target/gpu-bench}
model=model/weights/compact.safetensors
mkdir -p "$out"
rm -f "$out"/*.rows "$out"/rows.md "$out"/table.md
began=$SECONDS

fail() {
    echo "error: $*" >&2
    exit 1
}

# Adds a row to the table: what, runtime, ms, img/s, TFLOP/s, % of peak, result.
row() {
    local file=$1
    shift
    printf '|' >>"$out/$file.rows"
    printf ' %s |' "$@" >>"$out/$file.rows"
    echo >>"$out/$file.rows"
}

note() {
    echo "==> $1: $2" >&2
    row "$3" "$1" - - - - - "$2"
}

# Why a command under `timeout` ended, by its status and the last line of what it said.
reason() {
    case $1 in
    124 | 137) echo "not done in its time" ;;
    *) echo "failed with status $1: $(tail -n 1 "$2" | tr '|' '/')" ;;
    esac
}

"$python" -c 'import torch' 2>/dev/null || fail "$python has no PyTorch; set PYTHON to one that has"
if [ "$device" = cuda ]; then
    "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' ||
        fail "found no GPU that PyTorch can use on this machine; --device cpu tries the steps out without one"
    libraries=$("$python" -c 'import glob, nvidia
print(":".join(path for root in nvidia.__path__ for path in glob.glob(root + "/*/lib")))' 2>/dev/null)
    export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
fi
if [ ! -e "$bin" ] && [ -f "$bin.tar.xz" ]; then
    "$python" -c 'import os, sys, tarfile; tarfile.open(sys.argv[1]).extractall(os.path.dirname(sys.argv[1]) or ".")' "$bin.tar.xz" ||
        fail "$bin.tar.xz could not be unpacked; carry it again"
fi
[ -x "$bin/peers" ] || fail "wanted the binaries in $bin, found none; scripts/gpu-bench-build.sh makes them"
lost=$(ldd "$bin/peers" | grep 'not found')
[ -z "$lost" ] || fail "libraries that $bin/peers wants are not here:
$lost"

parity() {
    timeout -k 5 60 "$bin/gpu" --nocapture --test-threads 1 >"$out/parity.log" 2>&1
    local status=$?
    # A test's first line follows its name.
    sed 's/^test .* \.\.\. //' "$out/parity.log" >"$out/parity.txt"
    grep '^skipped' "$out/parity.txt" | sort -u | while read -r line; do note 'parity on the GPU' "$line" 1-parity; done
    # The threads' lines are alike but for rounding: one stands for them.
    grep 'map differs by' "$out/parity.txt" | sort -u -t: -k1,1 | while IFS=: read -r what result; do note "parity, $what" "${result# }" 1-parity; done
    [ $status -eq 0 ] || note 'parity on the GPU' "FAILED: $(reason $status "$out/parity.log")" 1-parity
}

auroc() {
    local sets=(mvtec_leather sdu_composite kvasir_seg256) precision status
    [ "$device" = cuda ] || sets=(mvtec_leather)
    for precision in f32 bf16; do
        if [ ! -d "$shared/data/${sets[0]}" ]; then
            note 'AUROC' "not measured: no annotated pictures under $shared/data" 2-auroc
            return
        fi
        timeout -k 5 40 "$bin/acdclip" eval --data "${sets[@]/#/$shared/data/}" --model "$model" --device "$device" --precision $precision \
            --batch-size 16 --json "$out/auroc-$precision.json" >"$out/auroc-$precision.log" 2>&1
        status=$?
        if [ $status -ne 0 ]; then
            note "AUROC, $precision" "$(reason $status "$out/auroc-$precision.log")" 2-auroc
            return
        fi
    done
    "$python" - "$out" "${#sets[@]}" >>"$out/2-auroc.rows" <<'PY'
import json, sys
folder, sets = sys.argv[1:]
mean = {p: json.load(open(f"{folder}/auroc-{p}.json"))["mean"] for p in ["f32", "bf16"]}
for level in ["pixel", "image"]:
    for metric in ["auroc", "ap"]:
        a, b = (mean[p][level][metric] for p in ["f32", "bf16"])
        if a is None or b is None:
            continue
        verdict = "within 0.1 points" if 100 * abs(a - b) < 0.1 else "MORE than 0.1 points apart"
        print(f"| {level} {metric.upper()}, {sets} set(s) | - | - | - | - | - | f32 {100 * a:.3f}, bf16 {100 * b:.3f}: {verdict} |")
PY
}

speed() {
    local sizes=(--large --large-sides 518 --sides 252 518 --batches 8 1 32 --seconds 2 --rounds 4 --deadline 150) limit=225
    [ "$device" = cuda ] || { sizes=(--sides 56 --batches 2 --peers pytorch-f32 pytorch-bf16 --seconds 0.2 --rounds 2) limit=120; }
    timeout -k 5 $limit "$python" model/benches/peers/peers.py --ours "$bin/peers" --bundle "$model" --out "$out" --device "$device" \
        "${sizes[@]}" 2>&1 | tee "$out/speed.log" >&2
    local status=${PIPESTATUS[0]}
    [ ! -f "$out/rows.md" ] || mv "$out/rows.md" "$out/3-speed.rows"
    [ "$status" -eq 0 ] || note 'speed' "$(reason "$status" "$out/speed.log"); what it had measured stands above" 3-speed
    grep 'not measured' "$out/speed.log" | while IFS=: read -r what result; do row 3-speed "$what" - - - - - "${result# }"; done
}

# Milliseconds that 8 streams of so many frames take in one process, in that precision; at most so many seconds.
streams() {
    local start
    start=$(date +%s%N)
    # shellcheck disable=SC2046 # a list of words
    timeout -k 5 $3 gst-launch-1.0 -q $(for _ in 1 2 3 4 5 6 7 8; do
        echo "videotestsrc pattern=ball num-buffers=$1 ! video/x-raw,format=RGB,width=640,height=480 !
            acdclip model=$model device=$device precision=$2 mode=sync overlay=0 ! fakesink sync=false"
    done) >"$out/plugin.log" 2>&1 || return $?
    echo $((($(date +%s%N) - start) / 1000000))
}

plugin() {
    if ! command -v gst-launch-1.0 >/dev/null; then
        note 'plugin, end to end' 'not measured: no GStreamer (gst-launch-1.0) on this machine' 4-plugin
        return
    fi
    local precisions='f32 bf16' few=20 many=220 limit=15 precision short long
    [ "$device" = cuda ] || { precisions=f32 few=1 many=3 limit=60; }
    GST_PLUGIN_PATH=$(realpath "$bin") GST_REGISTRY=$(realpath "$out")/registry.bin
    export GST_PLUGIN_PATH GST_REGISTRY
    for precision in $precisions; do
        # What a start costs is in both.
        if short=$(streams $few $precision $limit) && long=$(streams $many $precision $limit); then
            row 4-plugin 'plugin, end to end: 8 streams of 640x480, compact 252 px' "acdclip-$precision" - \
                "$(awk "BEGIN { ms = $long - $short; if (ms > 0) printf \"%.1f\", 8000 * ($many - $few) / ms; else print \"too many to time\" }")" - - 'frames a second of all streams'
        else
            note "plugin, end to end, $precision" "$(reason $? "$out/plugin.log")" 4-plugin
        fi
    done
}

parity
auroc
speed
plugin

{
    [ "$device" = cuda ] || echo "WITHOUT A GPU, at small sizes: these numbers show that the script works, and nothing else."
    echo '| what | runtime | ms | img/s | TFLOP/s | % of peak | result |'
    echo '|---|---|---|---|---|---|---|'
    cat "$out"/*.rows
    echo
    echo "$((SECONDS - began)) s, $(head -n 1 "$out/table.md" 2>/dev/null)"
} | tee "$out/gpu-bench.md"
