package journey

import "testing"

// TestLimitedRun: a run that is limited to OpenAI reaches GitHub as anybody
// does, or not at all, also after the daemon was killed under it.
func TestLimitedRun(t *testing.T) {
	w := newWorld(t)
	login(t, w, openaiKey, "openai")
	login(t, w, personalKey, "github")
	const both = `while :; do
		curl -sS -m 20 -o /dev/null -w 'openai %{http_code}\n' https://api.openai.com/v1/models
		curl -sS -m 20 -o /dev/null -w 'github %{http_code}\n' https://api.github.com/user
		sleep 0.1; done`
	cmd := w.Command("run", "--provider", "openai", "--", "sh", "-c", both).Cmd()
	out := lines(t, cmd)
	next(t, out, "openai 200")
	next(t, out, "github 401")
	replaceDaemon(t, w, cmd)
	for len(out) > 0 {
		<-out
	}
	next(t, out, "openai 200")
	next(t, out, "github 401")
	for _, q := range w.Internet.Requests("api.github.com") {
		if q.Status != 401 {
			t.Errorf("GitHub answered %d", q.Status)
		}
	}
	r := w.Command("run", "--provider", "openai", "--mode", "connected_deny", "--", "curl", "-sS", "https://api.github.com/user").Run()
	if r.Code == 0 {
		t.Errorf("a denied host answered: %s", r.Stdout)
	}
	contains(t, r.Stderr, "403")
}
