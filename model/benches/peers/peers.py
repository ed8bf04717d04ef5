"""`make bench-peers`: a bundle's network in this project, ONNX Runtime, OpenVINO and PyTorch, in one run on the same cores; with
`--device cuda`, as `scripts/gpu-bench.sh` calls it, in this project and PyTorch on the same GPU, where PyTorch is all that it needs.

Every runtime is a process of its own, started for one size and ended after it; in each round every one of them scores the same pictures a
few times, one runtime after the other, so that what the machine does meanwhile meets all of them. Printed are medians of single passes,
and the best peer's over ours. On a GPU the pictures lie there already, and a pass ends when map and score have come from it. Each one's map
is held against PyTorch's in f32: what is quick and wrong does not count as quick. A runtime that fails is named with its reason, and the
others go on; so do the sizes after one that fails, until `--deadline`.

Writes `table.md`, `rows.md` (the same as rows of one table), `results.json` and, where there is matplotlib, `peers.png` into the folder given.
"""

import argparse
import importlib.util
import json
import math
import os
import platform
import select
import statistics
import subprocess
import sys
import time
from pathlib import Path

PEERS = {
    "cpu": ["pytorch-f32", "pytorch-bf16", "onnxruntime-f32", "openvino-f32", "openvino-bf16"],
    "cuda": ["pytorch-f32", "pytorch-bf16", "compiled-bf16"],
}

# Longest that is waited for one answer, seconds: PyTorch compiles a network in its first.
PATIENCE = 120


# ---- a peer's own process: lines with a count in, lines of JSON out -------------------------------------------------------------------


def scorer(name, folder, side, batch, threads, device):
    """A function of pixels to (map, score) for the peer `name`; `compiled` is PyTorch's compiler."""
    runtime, precision = name.split("-")
    if runtime == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        session = onnxruntime.InferenceSession(str(folder / f"{side}-{batch}.onnx"), options, providers=["CPUExecutionProvider"])
        return lambda pixels: session.run(None, {"pixels": pixels.numpy()})
    if runtime == "openvino":
        import openvino

        core = openvino.Core()
        model = core.compile_model(
            core.read_model(folder / f"{side}-{batch}.xml"),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": precision,
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_NUM_THREADS": threads,
                "ENABLE_CPU_PINNING": False,
            },
        )
        request = model.create_infer_request()

        def infer(pixels):
            results = request.infer([pixels.numpy()], share_inputs=True, share_outputs=True)
            return [results[0], results[1]]

        return infer
    import torch

    torch.set_num_threads(threads)
    # Else f32 is not f32 in convolutions on a GPU.
    torch.backends.cudnn.allow_tf32 = False
    network = load_network(folder, side)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    network = network.to(device, dtype)
    if runtime == "compiled":
        network = torch.compile(network)

    def run(pixels):
        with torch.inference_mode():
            return [x.float().cpu() for x in network(pixels.to(dtype))]

    return run


def load_network(folder, side):
    from network import Network, load_file

    config = json.loads((folder / "config.json").read_text())
    return Network(config, load_file(folder / "weights.safetensors")[0], side).eval()


def read_pixels(folder, side, batch):
    import torch

    data = bytearray((folder / f"{side}-{batch}.f32").read_bytes())
    return torch.frombuffer(data, dtype=torch.float32).reshape(batch, 3, side, side)


def serve(name, folder, side, batch, threads, device):
    import torch

    infer = scorer(name, folder, side, batch, threads, device)
    pixels = read_pixels(folder, side, batch).to(device)
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            start = time.perf_counter()
            found = infer(pixels)
            times.append(1e3 * (time.perf_counter() - start))
        found = [torch.as_tensor(x).float().flatten().tolist() for x in found]
        print(json.dumps({"ms": times, "map": found[0], "score": found[1]}), flush=True)


# ---- the graphs that the peers read ---------------------------------------------------------------------------------------------------


def export(folder, side, batch):
    """Fixed shapes, which is what each of the runtimes does best with."""
    import openvino
    import torch

    network = load_network(folder, side)
    pixels = read_pixels(folder, side, batch)
    names = {"input_names": ["pixels"], "output_names": ["map", "score"]}
    with torch.inference_mode():
        torch.onnx.export(network, (pixels,), folder / f"{side}-{batch}.onnx", dynamo=True, external_data=True, **names)
        model = openvino.convert_model(network, example_input=pixels, input=list(pixels.shape))
    openvino.save_model(model, folder / f"{side}-{batch}.xml", compress_to_fp16=False)


# ---- the run --------------------------------------------------------------------------------------------------------------------------


class Failed(Exception):
    """A runtime has no answer; says why."""


class Runner:
    """A runtime's process."""

    def __init__(self, name, command, environment):
        self.name, self.times, self.found, self.failure = name, [], None, None
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def run(self, count, keep=True):
        try:
            self.process.stdin.write(f"{count}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended, as its missing answer says
        # A process answers with one line alone, so that none waits in the reader's buffer.
        if not select.select([self.process.stdout], [], [], PATIENCE)[0]:
            raise Failed(f"gave no answer in {PATIENCE} s")
        line = self.process.stdout.readline()
        if not line:
            raise Failed(f"ended with status {self.process.wait()}; what it said is above")
        answer = json.loads(line)
        # In our answers it is null.
        if any(x is None or not math.isfinite(x) for key in ["map", "score"] for x in answer[key]):
            raise Failed("gave a number that is not finite")
        if keep:
            self.times += answer["ms"]
        self.found = {key: answer[key] for key in ["map", "score"]}
        return statistics.median(answer["ms"])

    def fail(self, reason):
        self.failure = str(reason)
        print(f"{self.name}: {reason}", flush=True)
        self.process.kill()

    def end(self):
        if not self.failure:
            self.process.stdin.close()
        self.process.wait()


def measured_peak(options, threads):
    """Highest rate of a large matrix product, GFLOP/s, by precision: what a network can come near to. On a GPU the best of PyTorch and candle."""
    import torch

    torch.set_num_threads(threads)
    is_gpu = options.device == "cuda"
    side, count = (8192, 20) if is_gpu else (2048, 1)
    wait = torch.cuda.synchronize if is_gpu else lambda: None
    peaks = {}
    for name, dtype in [("f32", torch.float32), ("bf16", torch.bfloat16)]:
        a, b = (torch.randn(side, side, device=options.device).to(dtype) for _ in range(2))
        best = float("inf")
        for _ in range(8):
            wait()
            start = time.perf_counter()
            for _ in range(count):
                a @ b
            wait()
            best = min(best, (time.perf_counter() - start) / count)
        peaks[name] = 2 * side**3 / best / 1e9
    by = {"PyTorch": peaks}
    if is_gpu:
        by["candle"] = json.loads(ask(options, "--peak"))
    return {name: max(found.get(name, 0) for found in by.values()) for name in peaks}, by


def ask(options, what):
    return subprocess.run([options.ours, what, options.device], check=True, stdout=subprocess.PIPE, text=True).stdout


def flops(config, side):
    """Of one picture, of the products alone."""
    vision = config["vision"]
    patches = (side // vision["patch_size"]) ** 2
    width, tokens = vision["width"], patches + 1
    block = 2 * tokens * 12 * width**2 + 4 * tokens**2 * width
    head = 2 * patches * (width * config["mlp_hidden"] + config["mlp_hidden"] * config["text_width"])
    return vision["layers"] * block + 2 * patches * width * 3 * vision["patch_size"] ** 2 + 2 * config["groups"] * head


def measure(runners, seconds, rounds):
    """Alternating, until every one has run for some `seconds` over `rounds`, at least once a round."""
    counts = {}

    def begin(runner):
        runner.run(1)  # the first pass packs weights and finds memory
        runner.times.clear()
        once = runner.run(2, keep=False)
        counts[runner.name] = max(1, round(1e3 * seconds / rounds / once))

    def go_on(runner):
        # Pools of other runtimes spin on for a moment after their last pass.
        time.sleep(0.3)
        runner.run(counts[runner.name])

    for step in [begin] + [go_on] * rounds:
        for runner in runners:
            if not runner.failure:
                try:
                    step(runner)
                except Failed as reason:
                    runner.fail(reason)


def compare(found, reference):
    """Largest differences of map, as logits and as probabilities, and score."""
    import torch

    tensors = [{key: torch.tensor(answer[key]) for key in answer} for answer in [found, reference]]
    for answer in tensors:
        answer["probability"] = answer["map"].sigmoid()
    return {key: float((tensors[0][key] - tensors[1][key]).abs().max()) for key in tensors[0]}


def start(options, folder, side, batch):
    threads = len(os.sched_getaffinity(0))
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "RAYON_NUM_THREADS": str(threads)}
    runners = []
    for precision in json.loads(ask(options, "--precisions")):
        command = [options.ours, str(folder), str(side), str(batch), precision, options.device]
        runners.append(Runner(f"acdclip-{precision}", command, environment))
    for peer in options.peers:
        if peer.startswith("compiled") and batch not in options.compiled_batches:
            continue
        command = [sys.executable, __file__, "--serve", peer, str(folder), str(side), str(batch), str(threads), options.device]
        runners.append(Runner(peer, command, environment))
    return runners


def one_size(options, model, folder, config, side, batch):
    import network
    import torch

    pixels = torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(side * 100 + batch))
    (folder / f"{side}-{batch}.f32").write_bytes(network.raw(pixels))
    if any(peer.startswith(("onnxruntime", "openvino")) for peer in options.peers):
        exported = subprocess.run(
            [sys.executable, __file__, "--export", str(folder), str(side), str(batch)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if exported.returncode:
            sys.exit(f"error: the graph for {side} px could not be exported:\n{exported.stdout}")
    runners = start(options, folder, side, batch)
    measure(runners, options.seconds, options.rounds)
    done = [r for r in runners if not r.failure]
    exact = next((r for r in done if r.name == "pytorch-f32"), done[0] if done else None)
    result = {"model": model, "side": side, "batch": batch, "gflop": batch * flops(config, side) / 1e9, "runtimes": {}}
    result["exact"] = exact.name if exact else None
    result["failed"] = {runner.name: runner.failure for runner in runners if runner.failure}
    for runner in done:
        result["runtimes"][runner.name] = {
            "ms": statistics.median(runner.times),
            "passes": len(runner.times),
            "difference": compare(runner.found, exact.found),
        }
    for runner in runners:
        runner.end()
    for path in folder.glob(f"{side}-{batch}.*"):
        path.unlink()
    return result


def is_ours(name):
    return name.startswith("acdclip-")


def table(results, peaks, machine):
    lines = [machine, ""]
    lines.append("Measured peak of a large product: " + ", ".join(f"{name} {peak:.0f} GFLOP/s" for name, peak in peaks.items()) + ".")
    for result in results:
        runtimes = result["runtimes"]
        best = min((r["ms"], name) for name, r in runtimes.items() if not is_ours(name)) if any(not is_ours(n) for n in runtimes) else None
        lines += ["", f"{result['model']}, {result['side']} px, batch {result['batch']} ({result['gflop']:.1f} GFLOP)", ""]
        lines += ["| runtime | median ms | frames/s | GFLOP/s | best peer / this | map differs by | score by |", "|---|---|---|---|---|---|---|"]
        for name, r in sorted(runtimes.items(), key=lambda item: item[1]["ms"]):
            ratio = f"{best[0] / r['ms']:.2f}" if best else "-"
            rate = result["gflop"] / r["ms"] * 1e3
            frames = 1e3 * result["batch"] / r["ms"]
            differs = r["difference"]
            lines.append(f"| {name} | {r['ms']:.1f} | {frames:.1f} | {rate:.0f} | {ratio} | {differs['map']:.2g} | {differs['score']:.2g} |")
        lines += [f"| {name} | {reason} |" for name, reason in result["failed"].items()]
    return "\n".join(lines) + "\n"


def rows(results, by):
    """Everything as rows of one table, without its head: what, runtime, ms, img/s, TFLOP/s, % of the highest peak in that precision, result."""
    lines = []
    for name, peaks in by.items():
        lines += [f"| large product, {p} | {name} | - | - | {peak / 1e3:.1f} | - | measured peak |" for p, peak in peaks.items()]
    for result in results:
        what = f"{result['model']} {result['side']} px, batch {result['batch']}"
        for name, r in sorted(result["runtimes"].items(), key=lambda item: item[1]["ms"]):
            rate, peak = result["gflop"] / r["ms"], max(peaks.get(name.split("-")[1], 0) for peaks in by.values()) / 1e3
            share = f"{100 * rate / peak:.1f}" if peak else "-"
            cells = f"{r['ms']:.2f} | {1e3 * result['batch'] / r['ms']:.1f} | {rate:.3g} | {share}"
            lines.append(f"| {what} | {name} | {cells} | map within {r['difference']['probability']:.1e} of {result['exact']} |")
        lines += [f"| {what} | {name} | - | - | - | - | {reason} |" for name, reason in result["failed"].items()]
    return "\n".join(lines) + "\n"


def plot(results, peaks, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    across = min(4, len(results))
    down = -(-len(results) // across)
    figure, axes = pyplot.subplots(down, across, figsize=(3.8 * across, 3.4 * down), squeeze=False)
    for axis in axes.flat[len(results) :]:
        axis.remove()
    for axis, result in zip(axes.flat, results):
        order = sorted(result["runtimes"].items(), key=lambda item: -item[1]["ms"])
        names, times = [name for name, _ in order], [r["ms"] for _, r in order]
        axis.barh(names, times, color=["#c0392b" if is_ours(name) else "#7f8c8d" for name in names])
        for i, value in enumerate(times):
            axis.text(value, i, f" {value:.1f}", va="center", fontsize=8)
        bound = result["gflop"] / max(peaks.values()) * 1e3
        axis.axvline(bound, color="black", linewidth=0.8, linestyle=":")
        axis.set_title(f"{result['model']} {result['side']} px, batch {result['batch']}", fontsize=9)
        axis.set_xlabel("ms a pass (dotted: at the measured peak)", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.margins(x=0.2)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def machine():
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.processor())
    flags = next((line for line in open("/proc/cpuinfo") if line.startswith("flags")), "").split()
    wide = [flag for flag in ["avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8"] if flag in flags]
    return f"{model}, cores {sorted(os.sched_getaffinity(0))}, {' '.join(wide)}. Load at the start: {os.getloadavg()[0]:.2f}."


def versions(options):
    import torch

    parts = [f"PyTorch {torch.__version__}"]
    if options.device == "cuda":
        parts.append(torch.cuda.get_device_name())
    for peer, module, name in [("onnxruntime-f32", "onnxruntime", "ONNX Runtime"), ("openvino-f32", "openvino", "OpenVINO")]:
        if peer in options.peers:
            parts.append(f"{name} {importlib.import_module(module).__version__.split('-')[0]}")
    return ", ".join(parts) + "."


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", required=True, help="the worker, target/release/.../peers")
    parser.add_argument("--bundle", required=True, type=Path, help="the compact model")
    parser.add_argument("--out", required=True, type=Path, help="folder for table, plot and graphs")
    parser.add_argument("--large", action="store_true", help="also ViT-L/14, of random weights")
    parser.add_argument("--sides", type=int, nargs="+", default=[252, 518, 224, 336], help="pixels; multiples of 14")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--large-sides", type=int, nargs="+", help="those of ViT-L/14; the same where left out")
    parser.add_argument("--device", choices=list(PEERS), default="cpu")
    parser.add_argument("--peers", nargs="*", choices=sorted({peer for peers in PEERS.values() for peer in peers}))
    parser.add_argument("--compiled-batches", type=int, nargs="*", default=[8], help="those that PyTorch's compiler is measured at, which takes long")
    parser.add_argument("--deadline", type=float, default=float("inf"), help="seconds after which no size is begun")
    parser.add_argument("--seconds", type=float, default=6, help="that each runtime computes for at each size")
    parser.add_argument("--rounds", type=int, default=5, help="that these seconds are spread over")
    options = parser.parse_args()
    options.peers = PEERS[options.device] if options.peers is None else options.peers
    begun = time.monotonic()
    import network

    models = [("compact", options.sides, *network.read_bundle(options.bundle))]
    if options.large:
        models.append(("ViT-L/14", options.large_sides or options.sides, network.LARGE, None))
    if options.device == "cuda":
        models.reverse()  # what a GPU is there for comes before a deadline
    about = machine() + " " + versions(options)
    peaks, by = measured_peak(options, len(os.sched_getaffinity(0)))
    results = []
    options.out.mkdir(parents=True, exist_ok=True)
    for name, sides, config, weights in models:
        folder = options.out / name.replace("/", "-").lower()
        folder.mkdir(exist_ok=True)
        network.write(folder, config, weights or network.random_weights(config))
        del weights
        for batch in options.batches:
            for side in sides:
                if time.monotonic() - begun > options.deadline:
                    print(f"{name} {side} px, batch {batch}: not measured, {options.deadline:.0f} s are over", flush=True)
                    continue
                results.append(one_size(options, name, folder, config, side, batch))
                print(table(results[-1:], peaks, "").strip(), flush=True)
                (options.out / "rows.md").write_text(rows(results, by))
                (options.out / "table.md").write_text(table(results, peaks, about))
        (folder / "weights.safetensors").unlink()
    (options.out / "results.json").write_text(json.dumps({"machine": about, "peaks": by, "results": results}, indent=1))
    if importlib.util.find_spec("matplotlib") and any(result["runtimes"] for result in results):
        plot(results, peaks, options.out / "peers.png")
    print("\n" + table(results, peaks, about))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2], Path(sys.argv[3]), *map(int, sys.argv[4:7]), sys.argv[7])
    elif sys.argv[1:2] == ["--export"]:
        export(Path(sys.argv[2]), *map(int, sys.argv[3:]))
    else:
        main()
