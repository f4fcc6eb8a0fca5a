# The two commands that matter: `make demo` and `make test`.
PYTHON ?= python3

.PHONY: help setup s3 demo test lint fixtures baseline page clients kubernetes release packaging reference guide book \
	load search alerts reliability soak fuzz bench-cpu bench-cpu-http bench-cpu-overhead bench-cpu-growth bench-cpu-start \
	bench-cpu-flame int8 peft

help: ## Lists the commands
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: ## Fetches ONNX Runtime into .cache (PyPI wheel, pinned and checked by hash)
	@$(PYTHON) scripts/setup.py onnxruntime

s3: .cache/s3/installed ## Fetches an S3 server for the tests into .cache (moto, from PyPI)

.cache/s3/installed: scripts/requirements-s3.txt
	$(PYTHON) -m venv --clear .cache/s3
	.cache/s3/bin/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

demo: setup ## Trains a prompt, serves it, swaps it under load: the main job, at most ten minutes
	@$(PYTHON) scripts/setup.py data
	cargo build --release --locked --workspace --bins
	@$(PYTHON) scripts/demo.py

test: setup s3 ## Runs all tests
	cargo test --locked --workspace
	$(PYTHON) -m unittest discover --quiet bench/gpu

lint: ## Formatting, clippy with warnings denied, documentation
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps

fixtures: ## Makes the reference tensors anew with PyTorch and transformers (large downloads)
	$(PYTHON) -m venv .cache/fixtures
	.cache/fixtures/bin/pip install --quiet --requirement tests/fixtures/requirements.txt
	.cache/fixtures/bin/python tests/fixtures/make.py
	.cache/fixtures/bin/python tests/fixtures/narrow.py

baseline: ## TF-IDF with logistic regression on the demo's data
	@$(PYTHON) scripts/setup.py data
	$(PYTHON) -m venv .cache/baseline
	.cache/baseline/bin/pip install --quiet scikit-learn==1.9.1
	.cache/baseline/bin/python scripts/baseline.py .cache/data/tweets
	.cache/baseline/bin/python scripts/baseline.py .cache/data/bbc

page: setup .cache/page/installed ## Uses the web page in headless Chromium, which it installs (Debian's packages)
	scripts/debian.sh chromium=chromium chromedriver=chromium-driver
	cargo build --locked --bin xprompt-server
	.cache/page/bin/python tests/page/page.py

.cache/page/installed: tests/page/requirements.txt
	$(PYTHON) -m venv --clear .cache/page
	.cache/page/bin/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

clients: setup ## Runs the curl, Go and JavaScript programs of docs/clients.md (installs Debian's packages)
	scripts/debian.sh curl=curl go=golang-go node=nodejs
	cargo test --locked --workspace --test suite -- --ignored docs_clients

kubernetes: .cache/kubernetes/installed ## Checks the manifests in docker/kubernetes against the schemas of Kubernetes and KServe
	.cache/kubernetes/bin/python tests/kubernetes/manifests.py

.cache/kubernetes/installed: tests/kubernetes/requirements.txt tests/kubernetes/schemas.txt
	$(PYTHON) -m venv --clear .cache/kubernetes
	.cache/kubernetes/bin/pip install --quiet --disable-pip-version-check --requirement $<
	.cache/kubernetes/bin/pip install --quiet --disable-pip-version-check --no-deps --requirement tests/kubernetes/schemas.txt
	touch $@

release: setup ## Makes a release archive in target/release-archive, and tries it
	$(PYTHON) scripts/release.py

packaging: setup ## Tries `cargo install`, completions, manual pages and the release archive with programs of the dev profile
	cargo install --locked --debug --quiet --no-track --force --path . --root target/installed --target-dir target
	cargo install --locked --debug --quiet --no-track --force --path trainer --root target/installed --target-dir target
	target/installed/bin/xprompt-server --version
	target/installed/bin/xprompt-trainer --version
	$(PYTHON) scripts/release.py --profile dev

reference: setup ## Writes the pages of docs/reference that are made from the programs anew
	XPROMPT_REWRITE_REFERENCE=1 cargo test --locked --workspace --bins --test suite reference_of

guide: setup ## Runs every command of the documentation as its pages show them, with programs of the dev profile
	scripts/debian.sh curl=curl
	cargo build --locked --workspace --bins
	$(PYTHON) tests/guide/commands.py

MDBOOK = .cache/mdbook-0.5.4
book: $(MDBOOK)/bin/mdbook ## Builds the documentation as a site in target/book/html (mdBook, compiled once into .cache), and checks its links
	$(PYTHON) scripts/book.py $<

$(MDBOOK)/bin/mdbook:
	cargo install --quiet --locked --root $(MDBOOK) --target-dir target/mdbook --no-default-features --features search mdbook@0.5.4
	rm -r target/mdbook

load: setup ## Measures the server under load with wrk (Debian package), beside the bare session
	@$(PYTHON) scripts/setup.py data
	cargo build --release --locked --workspace --bins
	@$(PYTHON) scripts/load.py

reliability: setup s3 ## Tries the server: overload, slow clients, outages, broken files, swaps, restarts, kills
	cargo build --locked --bin xprompt-server
	@$(PYTHON) bench/reliability/run.py all

soak: setup ## An hour of mixed calls: memory and descriptors stay flat
	cargo build --locked --bin xprompt-server
	@$(PYTHON) bench/reliability/run.py soak

SECONDS ?= 600
fuzz: setup ## Fuzzes prompt files, manifests, templates and requests, SECONDS each (600)
	@$(PYTHON) scripts/fuzz.py --seconds $(SECONDS)

search: setup ## Measures a full search of pruning ratios: one after the other, side by side, with halving
	@$(PYTHON) scripts/setup.py data
	cargo bench --locked -p xprompt-trainer --bench search

bench-cpu: setup .cache/bench-cpu/installed ## Measures engines on this CPU: ours, CTranslate2, transformers, PEFT (ARGS="--only score1")
	.cache/bench-cpu/venv/bin/python bench/cpu/run.py $(ARGS)

bench-cpu-http: setup .cache/bench-cpu/installed ## Measures the server beside FastAPI with PEFT on this CPU (ARGS="--seconds 5")
	@$(PYTHON) scripts/setup.py data
	.cache/bench-cpu/venv/bin/python bench/cpu/servers.py $(ARGS)

bench-cpu-overhead: setup .cache/bench-cpu/installed ## Measures what the server costs beside the model, stage by stage
	@$(PYTHON) scripts/setup.py data
	.cache/bench-cpu/venv/bin/python bench/cpu/overhead.py $(ARGS)

bench-cpu-growth: setup .cache/bench-cpu/installed ## Measures how the cost grows with tasks, prompt, batch, text and threads
	@$(PYTHON) scripts/setup.py data
	.cache/bench-cpu/venv/bin/python bench/cpu/growth.py $(ARGS)
	$(PYTHON) bench/cpu/plot.py .cache/bench-cpu/results.jsonl

bench-cpu-start: setup .cache/bench-cpu/installed ## Measures starts, with the model in the page cache and without, and memory
	.cache/bench-cpu/venv/bin/python bench/cpu/start.py $(ARGS)

INFERNO = .cache/inferno
bench-cpu-flame: setup .cache/bench-cpu/installed $(INFERNO)/bin/inferno-flamegraph ## Draws where the server's time goes on this CPU (needs the right to use perf)
	scripts/debian.sh perf=linux-perf
	@$(PYTHON) scripts/setup.py data
	.cache/bench-cpu/venv/bin/python bench/cpu/flame.py $(ARGS)

$(INFERNO)/bin/inferno-flamegraph:
	cargo install --quiet --locked --root $(INFERNO) inferno@0.12.8

.cache/bench-cpu/installed: bench/cpu/requirements.txt
	$(PYTHON) -m venv --clear .cache/bench-cpu/venv
	.cache/bench-cpu/venv/bin/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

peft: setup .cache/bench-cpu/installed ## Runs the PEFT package on a prompt of ours, and ours on an adapter that it trains
	cargo build --locked -p xprompt-trainer --bin xprompt-trainer
	.cache/bench-cpu/venv/bin/python scripts/peft_both_ways.py

int8: setup ## Measures what int8 and bf16 cost in accuracy on the tasks of the bundled prompts
	@$(PYTHON) scripts/setup.py data
	cargo bench --quiet --locked --bench cpu -- agreement \
		prompts/tweet-sentiment.safetensors=.cache/data/tweets/test.jsonl prompts/bbc-topics.safetensors=.cache/data/bbc/test.jsonl

alerts: ## Checks alert rules and dashboard with promtool (from Debian's package prometheus)
	@$(PYTHON) scripts/alerts.py
