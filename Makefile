# What is done to the tree, by one name each. On a machine with Go, Node.js and
# make, every target installs what else it needs: tools into .cache, packages of
# the front end into its node_modules, and Chromium and Prometheus, where this
# may be done, from the system's packages.

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS   += --no-builtin-rules
.NOTPARALLEL: # steps come in order, and go uses all cores by itself
.DEFAULT_GOAL := help

# The modules and the programs are found, not listed: a new one needs no change here.
modules  := $(patsubst $(CURDIR)/%,%,$(shell go list -m -f '{{.Dir}}'))
programs := $(patsubst %/main.go,%,$(wildcard cmd/*/main.go services/*/cmd/*/main.go))

# Packages with suites that only the build tag e2e brings in, but for those that
# need a Kubernetes, which takes some minutes to build: test-kubernetes runs them.
kubernetes_packages := ./services/actuator
e2e_packages = $(filter-out $(kubernetes_packages),$(addprefix ./,$(sort $(patsubst %/,%,$(dir $(shell \
	grep -rl --include='*_test.go' --exclude-dir=node_modules '^//go:build .*\<e2e\>' $(modules)))))))

# Tools are pinned here, and are no part of any module: none of what they need
# raises a version that the project is built with.
define tool
tools += $(CURDIR)/.cache/tools/$(notdir $(2))@$(3)/$(notdir $(2))
$(1)  := $(CURDIR)/.cache/tools/$(notdir $(2))@$(3)/$(notdir $(2))
$$($(1)):
	GOWORK=off GOBIN=$$(@D) go install $(2)@$(3)
endef
$(eval $(call tool,golangci_lint,github.com/golangci/golangci-lint/v2/cmd/golangci-lint,v2.15.0))
$(eval $(call tool,gotestsum,gotest.tools/gotestsum,v1.13.0))
$(eval $(call tool,gofumpt,mvdan.cc/gofumpt,v0.12.0))
$(eval $(call tool,benchstat,golang.org/x/perf/cmd/benchstat,v0.0.0-20260908200009-22c9c6c9d4da))

# Where a C compiler is missing, Go has no race detector.
RACE := $(if $(filter 1,$(shell go env CGO_ENABLED)),-race)

## Build and run

.PHONY: help
help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } \
		/^## / { printf "\n%s\n", substr($$0, 4) } \
		/^[a-z0-9-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: build
build: ## Build tidemark and the four services into bin/
	go build -trimpath -o bin/ $(addprefix ./,$(programs))

.PHONY: demo
demo: web build ## Run the whole pipeline on a simulated fleet (DEMO="--trace FILE --speed 200")
	bin/tidemark demo --dir out/demo $(DEMO)

# The front end's bundle is embedded into the reporter. Nothing of it is
# committed, and without it Go builds all the same: pages then say what is missing.
web_dir     := services/reporter/web
web_sources := $(shell find $(web_dir) -type f -not -path '*/node_modules/*' -not -path '*/dist/*' 2>/dev/null)
web_modules := $(web_dir)/node_modules/.package-lock.json
web_bundle  := $(web_dir)/dist/.built

.PHONY: web
web: $(web_bundle) ## Build the front end's bundle, if its sources changed

$(web_bundle): $(web_modules) $(web_sources)
	cd $(web_dir) && npm run build
	@mkdir -p $(@D) && touch $@

$(web_modules): $(web_dir)/package.json $(web_dir)/package-lock.json
	cd $(web_dir) && npm ci --no-audit --no-fund
	@touch $@

## Test

# Results are never taken from Go's cache: what the tests read outside of their
# module, the tree itself in e2e, is not part of the cache's key.
GOTEST = $(gotestsum) --format pkgname-and-test-fails --jsonfile $(1) -- -count=1 -timeout 20m $(RACE)

.PHONY: test
test: web browser $(gotestsum) ## Run all tests: the front end's, then Go's under the race detector
	cd $(web_dir) && npm run check
	@mkdir -p out
	$(if $(RACE),,@echo "No C compiler was found: Go's tests run without the race detector.")
	$(call GOTEST,out/test.json) work

.PHONY: race
race: $(gotestsum) ## Run Go's tests RACECOUNT times (3) in random order, to meet rare interleavings
	$(gotestsum) --format pkgname -- -race -count=$(or $(RACECOUNT),3) -shuffle=on -timeout 60m work

.PHONY: e2e
e2e: web build browser prometheus dynamo $(gotestsum) ## Run the suites under the build tag e2e: the real parts, across processes
	@mkdir -p out
	$(call GOTEST,out/e2e.json) -tags e2e $(e2e_packages)

.PHONY: test-kafka
test-kafka: $(gotestsum) ## Run what concerns Kafka on Apache Kafka (the driver's tests on yours: KAFKA_BROKERS=HOST:PORT,...)
	@mkdir -p out
	export TIDEMARK_KAFKA_LIBS="$$(tools/kafka)" TIDEMARK_REQUIRE_KAFKA=1; \
	$(call GOTEST,out/kafka.json) ./pkg/events/kafka/...; \
	$(call GOTEST,out/kafka-e2e.json) -tags e2e -run '^TestKafka' ./e2e/pipeline

.PHONY: test-kubernetes
test-kubernetes: $(gotestsum) ## Run the actuator's suites on a real Kubernetes control plane, built if it is missing
	@mkdir -p out
	assets=$$(tools/kubernetes/build) && export TIDEMARK_KUBERNETES=$$assets && \
	$(call GOTEST,out/kubernetes.json) -tags e2e -run '^TestKubernetes' $(kubernetes_packages)

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (30s)
	@tools/fuzz $(or $(FUZZTIME),30s) $(modules)

.PHONY: bench
bench: $(benchstat) ## Run every benchmark COUNT times (6) into out/bench.txt (OLD=FILE compares)
	@mkdir -p out
	go test -run '^$$' -bench . -benchmem -count=$(or $(COUNT),6) -timeout 60m work | tee out/bench.txt
	$(benchstat) $(OLD) out/bench.txt

.PHONY: bench-kubernetes
bench-kubernetes: ## Measure the actuator on a real Kubernetes control plane: from decision to write, a thousand active deployments
	assets=$$(tools/kubernetes/build) && export TIDEMARK_KUBERNETES=$$assets && \
	go test -tags e2e -run '^$$' -bench '^BenchmarkKubernetes' -benchtime 5s -timeout 20m $(kubernetes_packages)

.PHONY: browser
browser: ## Find Chromium for the tests of pages, or install it
	@tools/browser

.PHONY: prometheus
prometheus: ## Find a Prometheus server for the tests of its source, or install it
	@tools/prometheus

.PHONY: dynamo
dynamo: ## Install the reference stack's frontend and simulated engine, for the test against them
	@tools/dynamo

## Keep in shape

# each runs a command in every module, and names those in which it failed.
each = failed=; for module in $(modules); do echo "== $$module"; (cd "$$module" && $(1)) || failed+=" $$module"; done; \
	if [ -n "$$failed" ]; then echo "$@: problems in$$failed" >&2; exit 1; fi

.PHONY: lint
lint: $(golangci_lint) ## Lint every module
	@$(call each,$(golangci_lint) run --allow-parallel-runners ./...)

.PHONY: gowork-off
gowork-off: export GOWORK := off
gowork-off: ## Build, vet and check the tidiness of every module without go.work
	@$(call each,go build -o /dev/null ./... && go vet -tags e2e ./... && go mod tidy -diff)

.PHONY: tidy
tidy: export GOWORK := off
tidy: ## Tidy every go.mod
	@$(call each,go mod tidy)

.PHONY: fmt
fmt: $(gofumpt) ## Format all Go code
	$(gofumpt) -l -w $(modules)

.PHONY: generate
generate: ## Write all generated files anew
	go generate $(addprefix ./,$(addsuffix /...,$(modules)))

.PHONY: golden
golden: ## Write all golden files anew; look at the difference before you commit it
	@grep -rl --include='*_test.go' --exclude-dir=node_modules 'flag.Bool("update"' $(modules) | xargs -r -n 1 dirname | sort -u | \
	while read -r package; do go test -count=1 "./$$package" -update; done

.PHONY: tools
tools: $(tools) ## Install the pinned tools into .cache

.PHONY: clean
clean: ## Remove what was built, the tools included
	rm -rf bin out .cache $(web_dir)/node_modules $(web_dir)/dist
