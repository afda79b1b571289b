// Command fakeinternet runs the fake internet by itself, for demonstrations and
// for trying things by hand. It prints one line of JSON with the address for
// HTTPS_PROXY and the OAuth apps of its services, and then a line for every
// request that arrives: which credential the real host would have seen, by its
// first characters and fingerprint.
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/authsome/authsome/test/internet"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "fakeinternet:", err)
		os.Exit(1)
	}
}

func run() error {
	dir := flag.String("dir", "", "directory for root.pem and the git repositories")
	keys := flag.String("keys", "", "JSON file with the credentials that the services accept: {\"OpenAI\":…,\"Anthropic\":…,\"GitHub\":[…]}")
	flag.Parse()
	if *dir == "" || *keys == "" {
		return fmt.Errorf("usage: fakeinternet -dir DIR -keys FILE")
	}
	data, err := os.ReadFile(*keys)
	if err != nil {
		return err
	}
	var cred internet.Credentials
	if err := json.Unmarshal(data, &cred); err != nil {
		return err
	}
	n, err := internet.Start(*dir, cred)
	if err != nil {
		return err
	}
	defer n.Close()
	n.Watch(func(r internet.Request) {
		fmt.Printf("%s %s%s -> %d, credential: %s\n", r.Method, r.Host, strings.SplitN(r.Path, "?", 2)[0], r.Status, credential(r))
	})
	root := *dir + "/root.pem"
	if err := os.WriteFile(root, n.RootPEM(), 0o600); err != nil {
		return err
	}
	apps := map[string]map[string]string{}
	for _, host := range []string{"github.com", "ghe.example.com", "accounts.google.com", "api.notion.com", "slack.com"} {
		app := n.OAuth(host).App()
		apps[host] = map[string]string{"client_id": app.ID, "client_secret": app.Secret}
	}
	if err := json.NewEncoder(os.Stdout).Encode(map[string]any{"proxy": n.Proxy(), "root": root, "apps": apps}); err != nil {
		return err
	}
	done := make(chan os.Signal, 1)
	signal.Notify(done, os.Interrupt, syscall.SIGTERM)
	<-done
	return nil
}

// credential describes what came in the usual headers without giving it away.
func credential(r internet.Request) string {
	for _, name := range []string{"Authorization", "X-Api-Key", "X-Goog-Api-Key"} {
		if v := r.Header.Get(name); v != "" {
			_, token, ok := strings.Cut(v, " ")
			if !ok {
				token = v
			}
			sum := sha256.Sum256([]byte(token))
			return fmt.Sprintf("%s… (sha256 %s)", token[:min(len(token), 8)], hex.EncodeToString(sum[:4]))
		}
	}
	return "none"
}
