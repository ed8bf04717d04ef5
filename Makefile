# Two commands for a fresh Debian or Ubuntu machine: `make demo` and `make test`. Each installs what is missing, and says so.

TOOLS := .ci/tools.sh
CARGO := $(TOOLS) cargo

.PHONY: help demo test test-all test-analytics test-memory test-aarch64 bench bench-peers gpu-bench-build bench-live bench-strip bench-alarms bench-train compact compact-check

# Where weights, data and golden files that are not part of the project lie.
SHARED ?= ../shared
COMPACT := target/compact
# TRAIN: more arguments of `acdclip train`, as `--set schedule.images_per_epoch=32`, to see in minutes that every step of `make compact` works. What
# comes of it lies apart, and takes the place of the last trial's.
TRAIN ?=
RUNS := $(COMPACT)$(if $(TRAIN),/trial)
MADE := $(if $(TRAIN),$(RUNS),model/weights)

help:
	@echo 'make demo    run the plugin over a sample video: target/demo/'
	@echo 'make test    lints and tests'
	@echo 'make test-all  that, and what takes minutes more: accuracy on real pictures, memory of a large evaluation'
	@echo 'make test-analytics  the feature analytics, in a Debian 13 made for it where GStreamer is older than 1.24 (as root). Not a part of test-all:'
	@echo '             it builds everything once more, half an hour on two cores'
	@echo 'make test-aarch64 the library as a 64-bit Arm machine runs it, in QEMU; some ten minutes'
	@echo 'make test-memory  under valgrind, what reaches code that the compiler does not check; some six minutes'
	@echo 'make bench   time of the compact model, and of watching an endoscope, on this machine, a line a stage'
	@echo 'make bench-peers  the same network beside ONNX Runtime, OpenVINO and PyTorch: target/bench/. PEERS=--large: ViT-L/14 too'
	@echo 'make gpu-bench-build  what scripts/gpu-bench.sh runs on a GPU machine: target/gpu/. Needs no GPU. DEVICE=cpu: without CUDA, to try it out'
	@echo 'make bench-live  latency added to live frames, and age of results, by frame rate'
	@echo 'make bench-strip  lines a second of a strip, in tiles and squeezed, and memory over two million lines. PRECISION=bf16'
	@echo 'make bench-alarms  events a minute on clips of rail and colon, calibrated on footage without findings'
	@echo 'make bench-train      time and memory of a training step; beside the PyTorch code in OFFICIAL=DIR where PYTHON=python has what it needs'
	@echo 'make compact          train the built-in model and its zero-shot variant anew (an hour and a half on two cores)'
	@echo '             TRAIN="--set schedule.images_per_epoch=32": a trial of minutes in target/compact/trial'
	@echo 'make compact-check    compare the compact network with the numbers that PyTorch computed for its first weights'

demo:
	@$(TOOLS) pipelines/demo.sh

test:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --locked -p acdclip-model -p gst-plugin-acdclip -p acdclip-train --no-default-features -- -D warnings
	@tree=$$($(CARGO) tree --locked -p acdclip-train --no-default-features --features builtin-model --prefix none) || exit 1; \
	if printf '%s\n' "$$tree" | grep '^gst'; then \
	    echo 'error: acdclip-train without its feature video must not need GStreamer' >&2; exit 1; fi
	$(CARGO) test --locked --workspace

test-all: test
	$(CARGO) test --locked --workspace --test slow -- --ignored --nocapture

test-analytics:
	@$(TOOLS) .ci/debian13.sh

test-memory:
	@$(TOOLS) .ci/valgrind.sh

test-aarch64:
	@$(TOOLS) .ci/aarch64.sh

bench:
	$(CARGO) bench --locked -p acdclip-model --bench frame --bench endoscope

BENCH := target/bench

$(BENCH)/venv/done: model/benches/peers/requirements.txt
	python3 -m venv $(BENCH)/venv
	$(BENCH)/venv/bin/pip install --quiet -r $<
	touch $@

# PEERS: more arguments, as `--large` or `--sides 252 518 --batches 1`.
bench-peers: $(BENCH)/venv/done
	$(CARGO) bench --locked --workspace --bench peers --no-run
	worker=$$($(CARGO) bench --locked --workspace --bench peers --no-run --message-format json | $(BENCH)/venv/bin/python -c \
	    'import json, sys; print([m["executable"] for m in map(json.loads, sys.stdin) if m.get("target", {}).get("name") == "peers" and m.get("executable")][-1])') && \
	$(BENCH)/venv/bin/python model/benches/peers/peers.py --ours "$$worker" --bundle model/weights/compact.safetensors --out $(BENCH) $(PEERS)

gpu-bench-build:
	TOOLCHAIN=$(SHARED)/tools/cuda_toolchain.sh $(TOOLS) scripts/gpu-bench-build.sh --device $(or $(DEVICE),cuda)

bench-live:
	$(CARGO) bench --locked -p acdclip-tests --bench live

bench-strip:
	PRECISION=$(or $(PRECISION),auto) $(CARGO) bench --locked --workspace --bench strip

bench-alarms:
	$(CARGO) build --locked --release --workspace
	ACDCLIP=$(abspath target/release/acdclip) $(CARGO) bench --locked --workspace --bench alarms

bench-train:
	OFFICIAL=$(abspath $(OFFICIAL)) PYTHON=$(PYTHON) $(CARGO) bench --locked -p acdclip-train --no-default-features --bench step

$(COMPACT)/venv/bin/python:
	python3 -m venv $(COMPACT)/venv
	$(COMPACT)/venv/bin/pip install --quiet numpy onnx safetensors

$(COMPACT)/tower.safetensors: $(COMPACT)/venv/bin/python
	$< $(SHARED)/tools/compact_backbone.py $@ --f32

# Trains a recipe, or goes on with a run of it that was stopped.
train-%: train/recipes/%.toml $(COMPACT)/tower.safetensors
	$(if $(TRAIN),rm -rf $(RUNS)/$*)
	if [ -f $(RUNS)/$*/config.toml ]; then set -- --resume; else set -- --config $< $(TRAIN); fi; \
	$(CARGO) run --locked --release -p acdclip-train --no-default-features -- train -o $(RUNS)/$* "$$@"

# The zero-shot variant is the mean of runs that begin alike and see the pictures in another order, each once as the recipe says and once without
# made-up light.
ZERO_SHOT_SEEDS := 50 51 52
ZERO_SHOT := $(ZERO_SHOT_SEEDS:%=zero-shot-%) $(ZERO_SHOT_SEEDS:%=zero-shot-%-plain)
ZERO_SHOT_RUNS := $(ZERO_SHOT:%=train-%)

$(ZERO_SHOT_RUNS): train-zero-shot-%: train/recipes/compact-zero-shot.toml $(COMPACT)/tower.safetensors
	$(if $(TRAIN),rm -rf $(RUNS)/zero-shot-$*)
	if [ -f $(RUNS)/zero-shot-$*/config.toml ]; then set -- --resume; else \
	    set -- --config $< --seed $(firstword $(subst -, ,$*)) $(if $(filter %-plain,$*),--set augment.light.probability=0.0) $(TRAIN); fi; \
	$(CARGO) run --locked --release -p acdclip-train --no-default-features -- train -o $(RUNS)/zero-shot-$* "$$@"

compact: train-compact $(ZERO_SHOT_RUNS)
	cp $(RUNS)/compact/bundle.safetensors $(MADE)/compact.safetensors
	cp $(RUNS)/zero-shot-$(firstword $(ZERO_SHOT_SEEDS))/model.json $(MADE)/compact-zero-shot.json
	$(CARGO) run --locked --release -p acdclip-train --no-default-features -- average $(ZERO_SHOT:%=$(RUNS)/%/adapters/epoch-002.safetensors) \
	    -o $(MADE)/compact-zero-shot.safetensors

compact-check: $(COMPACT)/tower.safetensors
	ACDCLIP_COMPACT_TOWER=$(abspath $<) $(CARGO) test --locked -p acdclip-model --test compact -- --nocapture
