# Two commands for a fresh Debian or Ubuntu machine: `make demo` and `make test`. Each installs what is missing, and says so.

TOOLS := .ci/tools.sh
CARGO := $(TOOLS) cargo

.PHONY: help demo test bench compact-bundle compact-check

# Where weights, data and golden files that are not part of the project lie.
SHARED ?= ../shared
COMPACT := target/compact

help:
	@echo 'make demo    run the plugin over a sample video: target/demo/'
	@echo 'make test    everything that CI runs'
	@echo 'make bench   time of the compact model on this machine, a line a stage'
	@echo 'make compact-bundle   write the built-in model anew from its vision tower and its adapters'
	@echo 'make compact-check    compare the compact model in float32 with the numbers it was trained to'

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

bench:
	$(CARGO) bench --locked -p acdclip-model --bench frame

$(COMPACT)/venv/bin/python:
	python3 -m venv $(COMPACT)/venv
	$(COMPACT)/venv/bin/pip install --quiet numpy onnx safetensors

$(COMPACT)/tower.safetensors: $(COMPACT)/venv/bin/python
	$< $(SHARED)/tools/compact_backbone.py $@ --f32

compact-bundle: $(COMPACT)/tower.safetensors
	$(CARGO) run --locked -p acdclip-train --no-default-features -- import --base $< \
	    --config $(SHARED)/weights/compact_seed.json --adapter $(SHARED)/weights/compact_seed.safetensors --dtype q8 \
	    --data 'Vision tower: DINOv2 ViT-S/14. Adapters: rail400, magnetic-tile, SD-saliency-900, KolektorSDD, composite lay-up, MVTec AD (leather, tile, wood, transistor, zipper), aluminium surface, CVC-ClinicDB, Kvasir-SEG; see MODEL_CARD.md' \
	    --licence 'Research and evaluation only; see WEIGHTS-LICENSE' \
	    -o model/weights/compact.safetensors

compact-check: $(COMPACT)/tower.safetensors
	ACDCLIP_COMPACT_TOWER=$(abspath $<) $(CARGO) test --locked -p acdclip-model --test compact -- --nocapture
