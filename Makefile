# The named tasks of the project. `make` alone lists them.

GO        ?= go
FUZZTIME  ?= 20s
SOAK      ?= 30m
BIN       := $(CURDIR)/.cache/bin

# Tools are built once into .cache/bin, each at the version named here.
GOLANGCI_LINT_VERSION := v2.15.0
GOTESTSUM_VERSION     := v1.13.0
GOLANGCI_LINT := $(BIN)/golangci-lint-$(GOLANGCI_LINT_VERSION)
GOTESTSUM     := $(BIN)/gotestsum-$(GOTESTSUM_VERSION)

# Where the slow suites are: packages with a test file behind the build tag e2e.
E2E_PACKAGES = $(sort $(dir $(shell grep -rl --include='*_test.go' --exclude-dir=.cache '^//go:build e2e' .)))

.DEFAULT_GOAL := help
.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: setup
setup: $(GOLANGCI_LINT) $(GOTESTSUM) ## get all that the other targets need: modules, tools, DuckDB and pyarrow for tests
	$(GO) mod download
	$(GO) test -count=1 ./testing/python

.PHONY: build
build: ## build bin/backbone
	$(GO) build -o bin/backbone .

.PHONY: test
test: $(GOTESTSUM) ## run the tests: all but the slow suites
	$(GOTESTSUM) --format pkgname-and-test-fails -- ./...

.PHONY: e2e
e2e: $(GOTESTSUM) ## run the slow suites: crashes, faults, whole pipelines (build tag e2e)
	@if [ -n "$(E2E_PACKAGES)" ]; then \
		$(GOTESTSUM) --format standard-verbose -- -tags=e2e -count=1 -timeout=75m $(E2E_PACKAGES); fi

.PHONY: soak
soak: ## let events flow for half an hour, and watch what the stream takes of the machine (SOAK=30m)
	$(GO) test -tags=e2e -count=1 -v -timeout=24h -run='^TestSoak$$' ./testing/e2e -args -e2e.soak=$(SOAK)

.PHONY: race
race: $(GOTESTSUM) ## run the tests with the race detector (needs a C compiler)
	CGO_ENABLED=1 $(GOTESTSUM) --format pkgname-and-test-fails -- -race ./...

.PHONY: lint
lint: $(GOLANGCI_LINT) ## check style and common mistakes (.golangci.yml)
	$(GOLANGCI_LINT) run

.PHONY: fix
fix: $(GOLANGCI_LINT) ## repair what lint can repair by itself
	$(GOLANGCI_LINT) run --fix

.PHONY: tidy
tidy: ## bring go.mod and go.sum up to date
	$(GO) mod tidy

.PHONY: check-tidy
check-tidy: ## fail where go.mod or go.sum are not up to date
	$(GO) mod tidy -diff

.PHONY: generate
generate: ## write the generated files again
	$(GO) generate ./...

.PHONY: check-generated
check-generated: ## fail where a generated file is not up to date
	@state() { git diff | git hash-object --stdin; git status --porcelain; }; \
	before=$$(state) && $(MAKE) --no-print-directory generate && after=$$(state) && \
	if [ "$$before" != "$$after" ]; then git status --short; echo "generated files were not up to date; they are now: commit them"; exit 1; fi

.PHONY: fuzz
fuzz: ## run each fuzz test for a short time (FUZZTIME=20s)
	@grep -rHo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sed 's/:func / /' | while read -r file name; do \
		echo "$$name in $$(dirname $$file)"; \
		$(GO) test -run='^$$' -fuzz="^$$name\$$" -fuzztime=$(FUZZTIME) "$$(dirname $$file)" || exit 1; done

.PHONY: bench
bench: ## compare with the same job in plain Go, DuckDB and Bytewax, and on Flink: tables of ratios
	$(GO) run ./testing/bench

.PHONY: ci
ci: ## all that continuous integration runs
	.ci/run

.PHONY: clean
clean: ## remove what was built here: bin and .cache
	rm -rf bin .cache

$(GOLANGCI_LINT):
	GOBIN=$(BIN) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	mv $(BIN)/golangci-lint $@

$(GOTESTSUM):
	GOBIN=$(BIN) $(GO) install gotest.tools/gotestsum@$(GOTESTSUM_VERSION)
	mv $(BIN)/gotestsum $@
