// Command demo shows the main job in one screen: a person logs in, an agent
// works with a placeholder, and the service sees the key. The service is the
// fake internet; nothing leaves this machine.
package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/authsome/authsome/test/harness"
	"github.com/authsome/authsome/test/internet"
)

func main() {
	var err error
	if len(os.Args) == 2 && os.Args[1] == "agent" {
		err = agent()
	} else {
		err = demo()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// agent is what runs under `authsome run`: it has what is in its environment,
// and calls the real host.
func agent() error {
	key := os.Getenv("OPENAI_API_KEY")
	fmt.Printf("  the agent's OPENAI_API_KEY    %s\n", key)
	req, err := http.NewRequest(http.MethodGet, "https://api.openai.com/v1/models", nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	fmt.Printf("  GET https://api.openai.com/v1/models answers %s\n", resp.Status)
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the agent's call was refused")
	}
	return nil
}

func demo() error {
	if len(os.Args) != 2 {
		return fmt.Errorf("usage: demo PATH/TO/authsome")
	}
	binary, err := filepath.Abs(os.Args[1])
	if err != nil {
		return err
	}
	var random [12]byte
	_, _ = rand.Read(random[:])
	key := "sk-demo-" + hex.EncodeToString(random[:])

	w, err := harness.Start(binary, internet.Credentials{OpenAI: key})
	if err != nil {
		return err
	}
	defer w.Close()

	fmt.Printf("\n1. A person logs in, once. The key is %s\n\n", describe(key))
	fmt.Println("  $ authsome login openai --stdin")
	if out, err := w.Command("login", "openai", "--stdin").Input(key).Output(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	} else {
		fmt.Print("  " + strings.ReplaceAll(strings.TrimSpace(out), "\n", "\n  ") + "\n")
	}

	fmt.Printf("\n2. An agent works, without the key.\n\n")
	self, err := os.Executable()
	if err != nil {
		return err
	}
	fmt.Println("  $ authsome run -- agent")
	cmd := w.Command("run", "--", self, "agent").Cmd()
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return err
	}

	fmt.Printf("\n3. What api.openai.com received.\n\n")
	for _, r := range w.Internet.Requests("api.openai.com") {
		got := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		fmt.Printf("  %s %s with the key %s\n", r.Method, r.Path, describe(got))
		if got != key {
			return fmt.Errorf("that is not the key of step 1")
		}
	}

	fmt.Printf("\n4. What is on record.\n\n")
	fmt.Println("  $ authsome log")
	cmd = exec.Command(binary, "log")
	cmd.Env = w.Environ()
	out, err := cmd.Output()
	if err != nil {
		return err
	}
	fmt.Print("  " + strings.ReplaceAll(strings.TrimSpace(string(out)), "\n", "\n  ") + "\n\n")
	return nil
}

// describe tells keys apart without showing them.
func describe(key string) string {
	sum := sha256.Sum256([]byte(key))
	return fmt.Sprintf("%s… (sha256 %s…)", key[:min(len(key), 11)], hex.EncodeToString(sum[:4]))
}
