# Fairway: `make help` lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

BIN := $(CURDIR)/bin
# The tests run the programs with the race detector in them.
RACE := $(BIN)/race
PURE := ./api/... ./controller/... ./dataplane/... ./speaker/... ./cmd/...

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
	go test -race $(PURE)

.PHONY: test-cluster
test-cluster: install build-race kubernetes ## Run the tests on a real API server, in network namespaces (root)
	cd test/controlplane && go vet ./pki ./acceptance && go test -race ./pki
	cd test/controlplane && FAIRWAY_BIN=$(BIN) go test -count=1 ./acceptance
	FAIRWAY_BIN=$(RACE) go test -race -count=1 -p 1 -timeout 40m ./test/...

.PHONY: bench
bench: ## Run the benchmarks
	go test -run '^$$' -bench . -benchmem $(PURE)

.PHONY: lint
lint: ## Check formatting, go vet, staticcheck and the modules
	@unformatted=$$(gofmt -l api cmd controller dataplane speaker test); \
		if [[ -n $$unformatted ]]; then echo "gofmt would change:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	go tool staticcheck ./...
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
	@CGO_ENABLED=0 go build -trimpath -o $(BIN)/fairway-controller ./cmd/controller
	@CGO_ENABLED=0 go build -trimpath -o $(BIN)/fairway-speaker ./cmd/speaker
	@CGO_ENABLED=0 go build -trimpath -o $(BIN)/lab-pod ./test/lab/podserver
	@CGO_ENABLED=0 go build -trimpath -o $(BIN)/demo ./test/demo

.PHONY: build-race
build-race:
	go build -race -o $(RACE)/fairway-controller ./cmd/controller
	go build -race -o $(RACE)/fairway-speaker ./cmd/speaker
	CGO_ENABLED=0 go build -o $(RACE)/lab-pod ./test/lab/podserver

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
