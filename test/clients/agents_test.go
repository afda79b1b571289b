package clients

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/authsome/authsome/test/harness"
)

// A step of a person at an agent's screen: when see stands there, type. Each is
// done once, but the question again and again, since what is typed while a
// screen is loading may be lost.
type step struct {
	see, typed string
}

// never must not be on a screen: the agent would be asking about the key.
var never = []string{"Do you want to use this API key", "Select login method", "Sign in with ChatGPT"}

var escapes = regexp.MustCompile(`\x1b(\[[0-9;?<>=]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[()][0-9A-B]|[=>78cM])|\x1b[P_][^\x1b]*\x1b\\`)

// A screen is how a person gets to the place where an agent takes questions.
type screen struct {
	ready string
	steps []step
}

var (
	codexScreen    = &screen{"OpenAI Codex", []step{{"Do you trust", "\r"}}}
	claudeScreen   = &screen{"for shortcuts", []step{{"Choose the text style", "\r"}, {"Press Enter to continue", "\r"}, {"trust this folder", "\r"}}}
	geminiScreen   = &screen{"Type your message", []step{{"Do you trust", "\r"}, {"Use Enter to select", "\r"}, {"Press Enter to submit", "\r"}}}
	openCodeScreen = &screen{"Ask anything", nil}
)

// drive runs an agent's screen: it takes the steps, asks when ready is there, and
// waits for the answer. It gives up as soon as the agent asks about the key.
func (s *screen) drive(t *testing.T, w *harness.World, flags, argv []string) (int, string) {
	t.Helper()
	const answer = "fake internet says hello"
	term, err := harness.OnTerminal(w.Command(append(append(append([]string{"run"}, flags...), "--"), argv...)...).Cmd())
	if err != nil {
		t.Fatal(err)
	}
	defer term.Close()
	plain := func() string { return escapes.ReplaceAllString(term.Text(), "") }
	// Spaces are drawn by moving the cursor, too.
	squeezed := func() string { return strings.Join(strings.Fields(plain()), "") }
	squeeze := func(s string) string { return strings.Join(strings.Fields(s), "") }
	done := make([]bool, len(s.steps))
	var asked time.Time
	for deadline := time.Now().Add(90 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		text := squeezed()
		if strings.Contains(text, squeeze(answer)) {
			return 0, answer + "\n" + plain()
		}
		for _, n := range never {
			if strings.Contains(text, squeeze(n)) {
				return 1, fmt.Sprintf("it asks: %s\n%s", n, plain())
			}
		}
		stepped := false
		for i, step := range s.steps {
			if !done[i] && strings.Contains(text, squeeze(step.see)) {
				time.Sleep(500 * time.Millisecond)
				_ = term.Type(step.typed)
				done[i], stepped = true, true
				break
			}
		}
		if !stepped && strings.Contains(text, squeeze(s.ready)) && time.Since(asked) > 10*time.Second {
			time.Sleep(1500 * time.Millisecond)
			_ = term.Type("hello")
			time.Sleep(300 * time.Millisecond)
			_ = term.Type("\r")
			asked = time.Now()
		}
	}
	return 1, "no answer in time\n" + plain()
}
