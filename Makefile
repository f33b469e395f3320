# demo and test do all of their own set-up: see setup.sh. `make` alone prints this help.

BIN := .venv/bin

# $(call option,device seed) is --device 'golden' --seed '1' when DEVICE=golden SEED=1 are set, and nothing when not
upper = $(shell echo '$1' | tr a-z A-Z)
option = $(foreach name,$1,$(if $($(call upper,$(name))),--$(name) '$($(call upper,$(name)))'))

.DEFAULT_GOAL := help
.PHONY: help demo images test test-all sim formal mutate mutate-golden lint bench bitstream named-bitstream boards clean \
	setup-demo setup-boards setup-dev setup-all

help: ## print this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r target text; do \
		printf 'make %-10s %s\n' "$$target" "$$text"; done

demo: setup-demo ## train on digits, then watch a network settle; DEVICE= UPDATE= EPOCHS= SEED= pass through
	$(BIN)/dyadprop train --out build/demo $(call option,device update epochs seed)
	$(BIN)/dyadprop relax --device verilator --out build/demo $(call option,seed)

images: setup-demo ## draw the pictures of docs/images again, and fill the tables of docs/theorem.md
	$(BIN)/dyadprop train --out build/images
	$(BIN)/dyadprop wave --out build/images
	$(BIN)/dyadprop profile --bits 8 --out build/images
	$(BIN)/python examples/online_drift.py build/images/drift.png
	$(BIN)/dyadprop relax --figures build/images --page docs/theorem.md
	cp build/images/*.png build/images/*.gif docs/images

test: setup-dev ## run all tests; PYTEST_ARGS= passes through
	$(BIN)/pytest -n 2 --junitxml=build/junit.xml $(PYTEST_ARGS)

test-all: setup-all ## run all tests, those with torch, JAX, ONNX and Keras too, and skip none for a missing package
	$(BIN)/pytest -n 2 --require-packages --junitxml=build/junit.xml $(PYTEST_ARGS)

sim: setup-dev ## run the cocotb benches; SIM=verilator|icarus BLOCK=lane SEED= pass through, WAVES=1 writes waves
	$(BIN)/python -m dyadprop_sim.benches $(call option,sim block seed) $(if $(filter-out 0,$(WAVES)),--waves)

formal: setup-dev ## prove the stream rules, queues and memory claims, and that no small network deadlocks
	$(BIN)/python -m dyadprop_sim.formal

mutate: setup-dev ## run at least 500 mutants of small networks in the RTL; survivors with their source lines
	$(BIN)/python -m dyadprop_sim.mutation

mutate-golden: setup-dev ## break the golden model's arithmetic in many places and see whether its tests notice
	$(BIN)/python -m dyadprop_sim.golden_mutation

lint: setup-dev ## check style, types and the order of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo

bench: setup-demo ## measure speed; figures in build/bench.json; SEED= passes through
	@mkdir -p build
	$(BIN)/dyadprop bench --json build/bench.json $(call option,seed)

bitstream: named-bitstream setup-boards ## build for a board: BOARD=ulx3s-85f NETWORK=net.toml; SEEDS= CLOCK= MULTIPLIERS= pass through
	$(BIN)/dyadprop build $(call option,board seeds clock multipliers) '$(NETWORK)'

named-bitstream:
	@test -n '$(BOARD)' -a -n '$(NETWORK)' || \
		{ echo 'bitstream: name a board and a network, as in make bitstream BOARD=ulx3s-85f NETWORK=net.toml' >&2; exit 2; }

boards: setup-dev ## build a small network for a board of each family to a bitstream, for all others up to synthesis
	$(BIN)/pytest -m boards tests/boards --durations=0 --junitxml=build/boards.xml $(PYTEST_ARGS)

clean: ## remove what was built; .venv stays
	rm -rf build dist
	find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +

setup-demo setup-boards setup-dev setup-all: setup-%:
	@./setup.sh $*
