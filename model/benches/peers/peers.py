"""`make bench-peers`: a bundle's network in this project, ONNX Runtime, OpenVINO and PyTorch, in one run on the same cores.

Every runtime is a process of its own, started for one size and ended after it; in each round every one of them scores the same pictures a
few times, one runtime after the other, so that what the machine does meanwhile meets all of them. Printed are medians of single passes,
and the best peer's over ours. Each one's map is held against PyTorch's in f32: what is quick and wrong does not count as quick.

Writes `table.md`, `results.json` and `peers.png` into the folder given.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

PEERS = ["pytorch-f32", "pytorch-bf16", "onnxruntime-f32", "openvino-f32", "openvino-bf16"]


# ---- a peer's own process: lines with a count in, lines of JSON out -------------------------------------------------------------------


def scorer(name, folder, side, batch, threads):
    """A function of pixels to (map, score), both numpy, for the peer `name`."""
    runtime, precision = name.split("-")
    if runtime == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        session = onnxruntime.InferenceSession(str(folder / f"{side}-{batch}.onnx"), options, providers=["CPUExecutionProvider"])
        return lambda pixels: session.run(None, {"pixels": pixels})
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
            results = request.infer([pixels], share_inputs=True, share_outputs=True)
            return [results[0], results[1]]

        return infer
    import torch

    torch.set_num_threads(threads)
    network = load_network(folder, side)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    network = network.to(dtype)

    def run(pixels):
        with torch.inference_mode():
            return [x.float().numpy() for x in network(torch.from_numpy(pixels).to(dtype))]

    return run


def load_network(folder, side):
    from network import Network
    from safetensors.torch import load_file

    config = json.loads((folder / "config.json").read_text())
    return Network(config, load_file(folder / "weights.safetensors"), side).eval()


def serve(name, folder, side, batch, threads):
    infer = scorer(name, folder, side, batch, threads)
    pixels = np.fromfile(folder / f"{side}-{batch}.f32", np.float32).reshape(batch, 3, side, side)
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            start = time.perf_counter()
            found = infer(pixels)
            times.append(1e3 * (time.perf_counter() - start))
        found = [np.asarray(x, np.float32).ravel().tolist() for x in found]
        print(json.dumps({"ms": times, "map": found[0], "score": found[1]}), flush=True)


# ---- the graphs that the peers read ---------------------------------------------------------------------------------------------------


def export(folder, side, batch):
    """Fixed shapes, which is what each of the runtimes does best with."""
    import openvino
    import torch

    network = load_network(folder, side)
    pixels = torch.from_numpy(np.fromfile(folder / f"{side}-{batch}.f32", np.float32).reshape(batch, 3, side, side))
    names = {"input_names": ["pixels"], "output_names": ["map", "score"]}
    with torch.inference_mode():
        torch.onnx.export(network, (pixels,), folder / f"{side}-{batch}.onnx", dynamo=True, external_data=True, **names)
        model = openvino.convert_model(network, example_input=pixels, input=list(pixels.shape))
    openvino.save_model(model, folder / f"{side}-{batch}.xml", compress_to_fp16=False)


# ---- the run --------------------------------------------------------------------------------------------------------------------------


class Runner:
    """A runtime's process."""

    def __init__(self, name, command, environment):
        self.name, self.times, self.found = name, [], None
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def run(self, count, keep=True):
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"error: {self.name} ended with status {self.process.wait()}; what it said is above")
        answer = json.loads(line)
        if keep:
            self.times += answer["ms"]
        self.found = {key: np.array(answer[key]) for key in ["map", "score"]}
        return statistics.median(answer["ms"])

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def measured_peak(threads):
    """Highest rate of a large matrix product on these cores, GFLOP/s, by precision: what a network can come near to."""
    import torch

    torch.set_num_threads(threads)
    peaks = {}
    for name, dtype in [("f32", torch.float32), ("bf16", torch.bfloat16)]:
        a, b = (torch.randn(2048, 2048).to(dtype) for _ in range(2))
        best = float("inf")
        for _ in range(8):
            start = time.perf_counter()
            a @ b
            best = min(best, time.perf_counter() - start)
        peaks[name] = 2 * 2048**3 / best / 1e9
    return peaks


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
    for runner in runners:
        runner.run(1)  # the first pass packs weights and finds memory
        runner.times.clear()
        once = runner.run(2, keep=False)
        counts[runner.name] = max(1, round(1e3 * seconds / rounds / once))
    for _ in range(rounds):
        for runner in runners:
            # Pools of other runtimes spin on for a moment after their last pass.
            time.sleep(0.3)
            runner.run(counts[runner.name])


def compare(found, reference):
    """Largest differences of map (logits) and score."""
    return {key: float(np.abs(found[key] - reference[key]).max()) for key in ["map", "score"]}


def start(options, folder, side, batch):
    threads = len(os.sched_getaffinity(0))
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "RAYON_NUM_THREADS": str(threads)}
    ours = json.loads(subprocess.run([options.ours, "--precisions"], check=True, capture_output=True, text=True).stdout)
    runners = []
    for precision in ours:
        command = [options.ours, str(folder), str(side), str(batch), precision]
        runners.append(Runner(f"acdclip-{precision}", command, environment))
    for peer in options.peers:
        command = [sys.executable, __file__, "--serve", peer, str(folder), str(side), str(batch), str(threads)]
        runners.append(Runner(peer, command, environment))
    return runners


def one_size(options, model, folder, config, side, batch):
    pixels = np.random.default_rng(side * 100 + batch).normal(0, 1, (batch, 3, side, side)).astype(np.float32)
    pixels.tofile(folder / f"{side}-{batch}.f32")
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
    reference = next((r for r in runners if r.name == "pytorch-f32"), runners[0]).found
    result = {"model": model, "side": side, "batch": batch, "gflop": batch * flops(config, side) / 1e9, "runtimes": {}}
    for runner in runners:
        result["runtimes"][runner.name] = {
            "ms": statistics.median(runner.times),
            "passes": len(runner.times),
            "difference": compare(runner.found, reference),
        }
        runner.end()
    for path in folder.glob(f"{side}-{batch}.*"):
        path.unlink()
    return result


def is_ours(name):
    return name.startswith("acdclip-")


def table(results, peaks, machine):
    lines = [machine, ""]
    lines.append("Measured peak of a 2048 x 2048 product: " + ", ".join(f"{name} {peak:.0f} GFLOP/s" for name, peak in peaks.items()) + ".")
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


def versions():
    import onnxruntime
    import openvino
    import torch

    return f"PyTorch {torch.__version__}, ONNX Runtime {onnxruntime.__version__}, OpenVINO {openvino.__version__.split('-')[0]}."


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", required=True, help="the worker, target/release/.../peers")
    parser.add_argument("--bundle", required=True, type=Path, help="the compact model")
    parser.add_argument("--out", required=True, type=Path, help="folder for table, plot and graphs")
    parser.add_argument("--large", action="store_true", help="also ViT-L/14, of random weights")
    parser.add_argument("--sides", type=int, nargs="+", default=[252, 518, 224, 336], help="pixels; multiples of 14")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--peers", nargs="*", default=PEERS, choices=PEERS)
    parser.add_argument("--seconds", type=float, default=6, help="that each runtime computes for at each size")
    parser.add_argument("--rounds", type=int, default=5, help="that these seconds are spread over")
    options = parser.parse_args()
    import network

    compact = ("compact", *network.read_bundle(options.bundle))
    models = [compact]
    if options.large:
        models.append(("ViT-L/14", network.LARGE, None))
    about = machine() + " " + versions()
    peaks = measured_peak(len(os.sched_getaffinity(0)))
    results = []
    options.out.mkdir(parents=True, exist_ok=True)
    for name, config, weights in models:
        folder = options.out / name.replace("/", "-").lower()
        folder.mkdir(exist_ok=True)
        network.write(folder, config, weights or network.random_weights(config))
        del weights
        for batch in options.batches:
            for side in options.sides:
                results.append(one_size(options, name, folder, config, side, batch))
                print(table(results[-1:], peaks, "").strip(), flush=True)
        (folder / "weights.safetensors").unlink()
    text = table(results, peaks, about)
    (options.out / "table.md").write_text(text)
    (options.out / "results.json").write_text(json.dumps({"machine": about, "peaks": peaks, "results": results}, indent=1))
    plot(results, peaks, options.out / "peers.png")
    print("\n" + text)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2], Path(sys.argv[3]), *map(int, sys.argv[4:]))
    elif sys.argv[1:2] == ["--export"]:
        export(Path(sys.argv[2]), *map(int, sys.argv[3:]))
    else:
        main()
