# The two commands of the README are `make demo` and `make test`.

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS  = -s -w -X github.com/authsome/authsome.Version=$(VERSION)

# As the program is built, so that what its tests need is not compiled once more.
export CGO_ENABLED = 0
export GOFLAGS    += -trimpath

.PHONY: build demo test test-clients install-test-tools lint bench bench-curves bench-tools fuzz soak clean

# One static binary, without cgo.
build:
	$(GO) build -ldflags '$(LDFLAGS)' -o bin/authsome ./cmd/authsome

# Needs Go, make and git only.
demo: build
	cd test && $(GO) run ./demo ../bin/authsome

# Installs what is missing, then runs every test. TESTFLAGS=-v shows each.
test: install-test-tools
	$(GO) test $(TESTFLAGS) -timeout 20m ./...
	cd test && $(GO) test $(TESTFLAGS) -timeout 20m ./...

# Runs every client of docs/clients.md and writes its tables. It installs 2 GB,
# and fails where a client does not do what the page said.
test-clients:
	./test/install.sh --clients
	cd test && $(GO) test $(TESTFLAGS) -count=1 -timeout 30m ./clients -all -update

install-test-tools:
	./test/install.sh

lint:
	$(GO) vet ./...
	cd test && $(GO) vet ./...
	@out="$$(cd tools && $(GO) tool gofumpt -l ..)" || exit 1; \
	if [ -n "$$out" ]; then echo "not formatted by gofumpt:"; echo "$$out"; exit 1; fi
	cd tools && $(GO) build -o ../bin/staticcheck honnef.co/go/tools/cmd/staticcheck
	bin/staticcheck ./...
	cd test && ../bin/staticcheck ./...

# Every fuzz target for a moment; FUZZTIME=1h for longer. The default is a count,
# because Go 1.26 may fail a target whose time is up (go.dev/issue/75804).
FUZZTIME ?= 2000x
fuzz:
	./test/fuzz.sh $(FUZZTIME)

# Half an hour of load and chaos (docs/testing.md); a short one is part of test.
# SOAKFLAGS='-time 5m -streams 200 -seed 7' for another one.
soak: build
	cd test && $(GO) run ./soak $(SOAKFLAGS) ../bin/authsome

# Prints the tables of docs/performance.md, in about 20 minutes, and installs the
# proxies that are compared with. BENCHFLAGS='-rounds 2' is shorter, and
# BENCHFLAGS='-doc ../docs/performance.md' writes them into the page.
bench: build bench-tools
	cd test && $(GO) run ./bench $(BENCHFLAGS) ../bin/authsome

# Measures whether cost grows with what is stored, and draws docs/performance-*.svg.
bench-curves: build
	cd test && $(GO) run ./bench -curves -pictures ../docs -doc ../docs/performance.md $(BENCHFLAGS) ../bin/authsome

bench-tools:
	./test/bench/install.sh

clean:
	rm -rf bin
