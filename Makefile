# Fairway: `make help` lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

BIN := $(CURDIR)/bin
# The tests run the programs with the race detector in them, but for those that
# run in a guest, where it does not work.
RACE := $(BIN)/race
# GoBGP with a guard around what it decodes, see build/gobgp.
GUARDED := bin/guarded
PURE := ./api/... ./cmd/... ./controller/... ./dataplane/... ./internal/... ./speaker/...

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: install build kubernetes ## Show Fairway at work: three nodes, a pool, a Service, a failover. KEEP=1 leaves it running
	@FAIRWAY_BIN=$(BIN) $(BIN)/demo $(if $(KEEP),-keep)

.PHONY: demo-down
demo-down: ## Remove what `make demo KEEP=1` left running
	@go build -o $(BIN)/demo ./test/demo
	@$(BIN)/demo -down

.PHONY: test
test: install lint check-generated test-pure test-cluster ## Install what is missing and run all tests

.PHONY: test-pure
test-pure: ## Run the tests that need no cluster (root for those with packets)
	go test -race -timeout 40m $(PURE)
	@go run ./build/gobgp $(GUARDED)
	go test -race -tags guarded -modfile=$(GUARDED)/go.mod ./speaker/bgp

.PHONY: test-cluster
test-cluster: install build build-race kubernetes ## Run the tests on a real API server, in network namespaces (root)
	cd test/controlplane && go test -race ./pki
	cd test/controlplane && FAIRWAY_BIN=$(BIN) go test -count=1 ./acceptance
	FAIRWAY_BIN=$(RACE) go test -race -count=1 -p 1 -timeout 75m ./test/...

.PHONY: bench
bench: install build kubernetes ## Run the benchmarks, at last those on a real API server (root, more than an hour)
	@go run ./build/gobgp $(GUARDED)
	go test -modfile=$(GUARDED)/go.mod -run '^$$' -bench . -benchmem $(PURE)
	@go build -o $(BIN)/bench ./test/bench
	@FAIRWAY_BIN=$(BIN) $(BIN)/bench

.PHONY: lint
lint: ## Check formatting, go vet, staticcheck and the modules
	@unformatted=$$(gofmt -l api build cmd controller dataplane internal speaker test); \
		if [[ -n $$unformatted ]]; then echo "gofmt would change:"; echo "$$unformatted"; exit 1; fi
	@test/progress.sh "go vet" go vet ./... && go vet -tags guarded ./speaker/bgp
	@test/progress.sh "staticcheck" go tool staticcheck ./...
	@cd test/controlplane && go vet ./pki ./acceptance && go tool -modfile=../../go.mod staticcheck ./pki ./acceptance
	go mod verify >/dev/null

.PHONY: generate
generate: ## Generate deepcopy functions and CRDs from api/
	go tool controller-gen object paths=./api/...
	go tool controller-gen crd paths=./api/... output:crd:dir=config/crd

.PHONY: check-generated
check-generated: ## Fail if `make generate` would change a file
	@before=$$(sha256sum api/*/zz_generated* config/crd/*); $(MAKE) generate >/dev/null; \
		after=$$(sha256sum api/*/zz_generated* config/crd/*); \
		if [[ $$before != "$$after" ]]; then \
			echo "Generated files are not up to date. Run make generate and commit what it changes:"; \
			diff <(echo "$$before") <(echo "$$after") || true; exit 1; fi

.PHONY: build
build: ## Build controller, speaker and the demo into bin/
	@test/progress.sh "building Fairway (a few minutes with an empty build cache)" $(MAKE) binaries OUT=$(BIN) CGO_ENABLED=0 BUILD='go build -trimpath'

.PHONY: build-race
build-race: ## Build controller and speaker with the race detector into bin/race/
	@test/progress.sh "building Fairway with the race detector" $(MAKE) binaries OUT=$(RACE) BUILD='go build -race'

.PHONY: binaries
binaries: ## What build and build-race run: the command BUILD for each program, into OUT
	@$(BUILD) -o $(OUT)/fairway-controller ./cmd/controller
	@go run ./build/gobgp $(GUARDED)
	@$(BUILD) -modfile=$(GUARDED)/go.mod -o $(OUT)/fairway-speaker ./cmd/speaker
	@$(BUILD) -o $(OUT)/lab-pod ./test/lab/podserver
	@$(BUILD) -o $(OUT)/demo ./test/demo

.PHONY: kubernetes
kubernetes: ## Build the upstream control plane, kube-proxy and kubectl into bin/ (once; minutes)
	@test/controlplane/build.sh $(BIN)
	@mkdir -p $(RACE)
	@for program in kubernetes etcd kube-apiserver kube-controller-manager kube-proxy kubectl; do ln -sfn ../$$program $(RACE)/$$program; done

.PHONY: install
install: ## Install the Debian packages that tests and demo need
	@test/install.sh

.PHONY: clean
clean: ## Remove bin/
	rm -rf $(BIN)
