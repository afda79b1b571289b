// Package clients runs real clients under `authsome run`, each as a person
// would, and holds docs/clients.md to what was seen.
//
//	table_test.go      the clients: what to run, and what is expected of each
//	clients_test.go    runs them
//	agents_test.go     agents on a terminal
//	page_test.go       makes and reads the tables of docs/clients.md
//	namespace*_test.go a network in which going round the proxy shows
//	testdata           what the clients run
//
// `go test` runs those that the other tests have installed anyway. With -all,
// as `make test-clients` has it, it runs all; with -update it writes the page.
package clients

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/authsome/authsome/test/harness"
)

var (
	all    = flag.Bool("all", false, "run every client, not just those that are installed for other tests")
	update = flag.Bool("update", false, "with -all: write docs/clients.md")
)

var (
	// binary is the program under test.
	binary string
	// direct sees what goes round the proxy.
	direct *directs
)

func TestMain(m *testing.M) {
	if os.Getenv(insideVariable) == "" {
		os.Exit(harness.Main(&binary, outer))
	}
	os.Exit(func() int {
		binary = os.Getenv("AUTHSOME_TEST_BINARY")
		var err error
		if direct, err = network(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// outer goes on inside.
func outer() int {
	code, err := enter()
	if err == nil {
		return code
	}
	fmt.Fprintf(os.Stderr, "no network of its own, so no client is run: %v\n", err)
	if _, derr := os.Stat("/etc/debian_version"); derr == nil && os.Geteuid() == 0 {
		return 1
	}
	return 0
}
