# Targets for contributors. Needs Rust, Go and a POSIX make; `make vectors` needs Python as well.

.POSIX:
.PHONY: help test generate fmt clippy assets control-plane unit integration faults-sample faults scale vectors fuzz doc deny advisories demo kubectl alerts openmetrics tools image image-check e2e e2e-images samples contract bench test-all pictures sandbox-page docs

CARGO = cargo
TIMED = tools/timed

help:
	@echo 'make test       everything that CI checks'
	@echo 'make generate   writes the generated files'
	@echo 'make fmt        formats the code'
	@echo 'make clippy     lints'
	@echo 'make assets     builds the programs that tests need once, and prints where they are'
	@echo 'make unit       unit tests, architecture, generated files and chart, and tests of the test kit'
	@echo 'make alerts     tests the alert rules with promtool'
	@echo 'make integration   whole-program tests on a real API server'
	@echo 'make scale      many objects, accounts and records, with bounds; takes minutes'
	@echo 'make faults     RUNS=N runs of faults and kills, from SEED on; FAULTS_REPORT=FILE keeps the summary'
	@echo 'make vectors    checks the test vectors of the envelope with libsodium'
	@echo 'make fuzz       TIME=60 seconds of fuzzing for each reader of stored data and of responses'
	@echo 'make openmetrics  parses /metrics with the Python parser of OpenMetrics'
	@echo 'make samples    the vendor'"'"'s samples against our REST API and the sandbox, in five languages'
	@echo 'make contract   the OpenAPI descriptions against the running REST API and sandbox; EXAMPLES=50, SEED=1'
	@echo 'make bench      measures operator and REST API beside bare programs with the same requests; SCENARIOS=store,restart N=1000'
	@echo 'make test-all   make test, then openmetrics, samples and contract, which need more than Rust'
	@echo 'make pictures   draws the pictures of the dashboard and of the page of the sandbox for the docs'
	@echo 'make sandbox-page   checks the page of the sandbox in a headless Chromium, and draws its picture'
	@echo 'make doc        builds the Rust documentation; warnings are errors'
	@echo 'make docs       builds the documentation as a website with search, in target/book/html, and checks its links'
	@echo 'make tools      tests of our own tools'
	@echo 'make deny       checks licenses, sources and versions of the dependencies'
	@echo 'make advisories checks the dependencies for known vulnerabilities'
	@echo 'make image      a static binary as an OCI image archive, with its bill of materials, in target/image'
	@echo 'make image-check builds the image twice, compares the digests and checks it with other tools; takes half an hour'
	@echo 'make e2e-images builds the images for make e2e, in target/e2e'
	@echo 'make e2e        installs into the cluster that KUBECONFIG names, see CONTRIBUTING.md'
	@echo 'make demo       runs the operator on this machine'

# One after the other, even with -j, because they share the machine. The cheap checks come first.
test:
	@$(TIMED) format $(CARGO) fmt --all --check
	@$(TIMED) clippy $(MAKE) clippy
	@$(TIMED) assets $(MAKE) assets
	@$(TIMED) tools $(MAKE) tools
	@$(TIMED) deny $(MAKE) deny
	@$(TIMED) unit $(MAKE) unit
	@$(TIMED) alerts $(MAKE) alerts
	@$(TIMED) integration $(MAKE) integration
	@$(TIMED) faults $(MAKE) faults-sample
	@$(TIMED) doc $(MAKE) doc

test-all: test
	@$(TIMED) openmetrics $(MAKE) openmetrics
	@$(TIMED) samples $(MAKE) samples
	@$(TIMED) contract $(MAKE) contract

# Writes the generated files; `make unit` fails if one is stale.
generate:
	GENERATE=1 $(CARGO) test --quiet --test generated
	GENERATE=1 $(CARGO) test --quiet --test chart -- files_generated

fmt:
	$(CARGO) fmt --all

clippy:
	$(CARGO) clippy --workspace --all-targets -- -D warnings

# etcd and kube-apiserver alone.
control-plane:
	$(CARGO) run --quiet --package kit -- assets

# Kept outside the checkout, see tests/kit/src/assets.rs. KUBEBUILDER_ASSETS, if set, is used instead.
assets:
	$(CARGO) run --quiet --package kit -- assets etcd kube-apiserver kube-controller-manager kubectl helm promtool prometheus gitops registry

unit:
	$(CARGO) test --workspace --lib --bins --test architecture --test generated --test chart
	$(CARGO) test --package kit --test '*'

# Without backtraces, a failed test ends with the log of its operator.
integration:
	RUST_BACKTRACE=0 $(CARGO) test --package graph-credential-operator --test integration -- --test-threads=4

# Tests with promtool that each alert does not fire, fires and resolves.
alerts:
	@set -e; \
	promtool="$$($(CARGO) run --quiet --package kit -- assets promtool)/promtool"; \
	"$$promtool" check rules --lint=all --lint-fatal deploy/prometheus/rules.yaml; \
	"$$promtool" test rules tests/alerts/*.yaml

# Not part of `make test`. SCALE_REPORT=docs/evidence/scale.md writes the figures to that file.
scale: control-plane
	$(CARGO) test --package graph-credential-operator --test scale --profile scale -- --test-threads=1 --nocapture

# Every outcome of every request, and sixty runs with kills. One test at a time, because each uses the whole machine.
faults-sample:
	$(CARGO) test --package graph-credential-operator --test faults -- --test-threads=1

# RUNS runs from SEED on, of registrations and of rotations; KIND=registration or KIND=rotation selects one of both. SEED=7 alone
# repeats run 7.
faults:
	RUNS=$${RUNS:-1} SEED=$${SEED:-0} $(CARGO) test --package graph-credential-operator --test faults -- \
	  --ignored --nocapture --test-threads=1 many_$${KIND}

# Checks the vectors of docs/reference/envelope.md with libsodium. Needs Python 3.11 with venv, and a network the first time.
vectors:
	"$$(tools/venv vectors tests/vectors/requirements.txt)/bin/python" tests/vectors/check.py

# Parses /metrics of a running operator with Prometheus' own parser of OpenMetrics. Needs the same.
openmetrics: control-plane
	$(CARGO) test --package graph-credential-operator --test integration metrics::a_scrape_reports
	"$$(tools/venv openmetrics tests/openmetrics/requirements.txt)/bin/python" tests/openmetrics/check.py \
	  "$${CARGO_TARGET_DIR:-target}/tmp/metrics.txt" "$${CARGO_TARGET_DIR:-target}/tmp/every-metric.txt"

# The vendor's samples. Needs curl, Python, java, node with npm, php with Debian's php-guzzlehttp-guzzle, and a network the
# first time; SAMPLES='curl python3' runs only these. SAMPLES_REPORT=docs/evidence/rest-samples.md keeps the result.
samples: assets
	@set -e; \
	cache="$${XDG_CACHE_HOME:-$$HOME/.cache}/graph-credential-operator/axios-$(AXIOS)"; \
	if command -v npm > /dev/null && [ ! -f "$$cache/complete" ]; then \
	  npm install --silent --no-fund --no-audit --prefix "$$cache" axios@$(AXIOS) > /dev/null; \
	  touch "$$cache/complete"; \
	fi; \
	CONTRACT_PYTHON="$$(tools/venv contract tests/contract/requirements.txt)" CONTRACT_NODE="$$cache" \
	  $(CARGO) test --package graph-credential-operator --test contract samples -- --nocapture

AXIOS = 1.21.1

# The operator and the REST API beside bare programs that make the same requests. Twenty minutes; SCENARIOS=all takes hours. SCENARIOS, N,
# ROUNDS and SMALL select what is measured (tests/bench/plan.rs). BENCH_REPORT=docs/evidence keeps figures, pages and pictures; with
# SCENARIOS=none it draws them again.
bench: control-plane
	$(CARGO) test --package graph-credential-operator --test bench --profile scale -- --nocapture --exact figures

# Checks the REST API and the sandbox against their OpenAPI descriptions with schemathesis. Needs Python, and a network the first time.
# CONTRACT_REPORT=docs/evidence keeps the results.
contract: assets
	@CONTRACT_PYTHON="$$(tools/venv contract tests/contract/requirements.txt)" \
	  $(CARGO) test --package graph-credential-operator --test contract description -- --nocapture

# Fuzzes the readers of what is stored and of what Microsoft and Woodpecker respond, with the stable compiler. Findings are written to fuzz/artifacts.
FUZZ_FLAGS = --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1

fuzz:
	@set -e; \
	host="$$(rustc -vV | sed -n 's/^host: //p')"; \
	RUSTFLAGS='$(FUZZ_FLAGS)' $(CARGO) build --release --manifest-path fuzz/Cargo.toml --target "$$host"; \
	for target in envelope keyring api_keys token_response graph_app graph_added_secret woodpecker_listing woodpecker_connected; do \
	  mkdir -p fuzz/corpus/$$target fuzz/artifacts/$$target; \
	  "$${CARGO_TARGET_DIR:-fuzz/target}/$$host/release/$$target" -max_total_time=$${TIME:-60} -print_final_stats=1 \
	    -artifact_prefix=fuzz/artifacts/$$target/ fuzz/corpus/$$target fuzz/seeds/$$target; \
	done

# Draws the pictures of the dashboard for the docs. The data is from a Prometheus that scrapes an operator with many objects.
pictures: control-plane sandbox-page
	$(CARGO) test --package graph-credential-operator --test integration -- --ignored --exact \
	  dashboard::query_results_for_the_pictures
	"$$(tools/venv dashboard tests/dashboard/requirements.txt)/bin/python" tests/dashboard/draw.py \
	  "$${CARGO_TARGET_DIR:-target}/tmp/dashboard.json" docs/operations/images

# Opens the page of the sandbox in a headless Chromium, checks that it shows requests as they end, and draws its picture for the docs.
# Needs Python, and Chromium in the PATH or in CHROMIUM.
sandbox-page:
	$(CARGO) build --package graph-credential-operator
	python3 tests/sandbox_page/draw.py "$${CARGO_TARGET_DIR:-target}/debug/graph-credential-operator" \
	  docs/tasks/images/sandbox.png

# The website of docs/. `make unit` already checks the links between the pages, and that the book has every page.
docs:
	tools/book "$${CARGO_TARGET_DIR:-target}/book"
	@set -e; book=$$(cd "$${CARGO_TARGET_DIR:-target}/book/html" && pwd); \
	BOOK="$$book" $(CARGO) test --quiet --test architecture -- --ignored --exact \
	  pages::every_link_of_the_built_book_leads_to_a_file_and_an_id; \
	echo "the website is in $$book"

doc:
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --no-deps --lib

# Runs a debug build of the operator on this machine. KEEP=1 leaves it running.
demo: control-plane
	$(CARGO) build --bin graph-credential-operator
	$(CARGO) run --quiet --package kit -- demo --operator "$${CARGO_TARGET_DIR:-target}/debug/graph-credential-operator" $${KEEP:+--keep}

tools:
	@set -e; for tool in image gitops containerfile; do \
	  (cd tools/$$tool && CGO_ENABLED=0 GOWORK=off go vet -mod=readonly ./... && CGO_ENABLED=0 GOWORK=off go test -count=1 -mod=readonly ./...); \
	done
	cd tools/actionlint && CGO_ENABLED=0 GOWORK=off go tool actionlint ../../.github/workflows/*.yaml

# Needs cargo-auditable and no container engine. The release build takes many minutes.
image:
	tools/image/build $${CARGO_TARGET_DIR:-target}/image

# Needs Python as well, and a network the first time. IMAGE_REPORT=docs/evidence/image.md keeps the result.
image-check:
	tools/image/check $${CARGO_TARGET_DIR:-target}/image-check

e2e-images:
	tools/image/e2e-images $${CARGO_TARGET_DIR:-target}/e2e

# Installs, upgrades and removes the product in a cluster that may be used for that. It is configured by the environment.
e2e:
	$(CARGO) run --quiet --package kit -- e2e

# Prints the directory of a kubectl of the same version, for `make demo KEEP=1`.
kubectl:
	$(CARGO) run --quiet --package kit -- assets kubectl

# Licenses, sources and versions of the dependencies, from the lock files alone.
deny:
	tools/deny bans licenses sources

# Known vulnerabilities and yanked versions. Needs a network.
advisories:
	tools/deny advisories
