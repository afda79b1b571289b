package journey

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// greedy opens as many tunnels as it can, says what it was answered, and holds what
// it has until its input ends.
const greedy = `
import base64, collections, os, socket, sys, urllib.parse
proxy = urllib.parse.urlparse(os.environ["HTTPS_PROXY"])
token = base64.b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()
held, seen = [], collections.Counter()
for i in range(300):
    c = socket.create_connection((proxy.hostname, proxy.port))
    c.sendall(f"CONNECT api.openai.com:443 HTTP/1.1\r\nProxy-Authorization: Basic {token}\r\n\r\n".encode())
    answer = c.recv(4096).decode()
    seen[answer.split(" ", 2)[1]] += 1
    if " 200 " in answer: held.append(c)
    elif "Retry-After: 1" not in answer or "too_many_connections" not in answer: print("odd:", answer)
print(dict(seen), flush=True)
open(sys.argv[1], "w").close()
sys.stdin.read()
`

// TestGreedyRun has what a system with few descriptors leaves it, and not more: the
// daemon goes on answering, another run is served meanwhile, and it is on record.
func TestGreedyRun(t *testing.T) {
	w := newWorld(t)
	python, curl := tool(t, "python3"), tool(t, "curl")
	login(t, w, openaiKey, "openai")
	w.KillDaemon()
	script := filepath.Join(w.Dir, "few-files")
	if err := os.WriteFile(script, fmt.Appendf(nil, "#!/bin/sh\nulimit -n 400\nexec %q \"$@\"\n", w.Binary), 0o755); err != nil {
		t.Fatal(err)
	}
	real := w.Binary
	w.Binary = script
	if err := w.Serve(); err != nil {
		t.Fatal(err)
	}
	w.Binary = real
	ready := filepath.Join(w.Work(), "ready")
	cmd := w.Command("run", "--", python, "-c", greedy, ready).Cmd()
	var out strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = nil, &out, &out
	hold, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(ready); err == nil {
			break
		}
		if time.Now().After(end) {
			_ = cmd.Process.Kill()
			t.Fatalf("the greedy run has not come to its end: %s", out.String())
		}
	}
	for range 5 {
		contains(t, must(t, w.Command("run", "--", curl, "-fsS", "https://api.openai.com/v1/models")), "gpt")
	}
	doctor := ""
	for end := time.Now().Add(20 * time.Second); !strings.Contains(doctor, "connections 36 of 72 (a run: 36)") && time.Now().Before(end); {
		doctor = w.Command("doctor").Run().Stdout // those of curl are still being closed at first
	}
	contains(t, doctor, "connections 36 of 72 (a run: 36)", "files that may be open: 400", "ulimit -Hn")
	_ = hold.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	contains(t, out.String(), "{'200': 36, '429': 264}")
	lacks(t, out.String(), "odd:")
	events := must(t, w.Command("log", "--json", "-n", "100000"))
	contains(t, events, "too many connections are open")
	if n := strings.Count(events, "too many connections are open"); n != 1 {
		t.Errorf("the limit is %d times on record", n)
	}
}
