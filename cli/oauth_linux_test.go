package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/authsome/authsome/internal/oauthtest"
	"github.com/creack/pty"
)

// line waits for a text and returns the line that it begins or stands in.
func (x *terminal) line(from string) string {
	x.t.Helper()
	x.mu.Lock()
	at := x.from
	x.mu.Unlock()
	x.sees(from)
	x.sees("\n")
	x.mu.Lock()
	defer x.mu.Unlock()
	text := x.text.String()[at:x.from]
	return text[strings.LastIndex(text, from):]
}

// TestPromptForApp: on a terminal without a display the OAuth app is asked for
// there, with what the person needs to create it.
func TestPromptForApp(t *testing.T) {
	t.Parallel()
	p, s := acme(t)
	x := p.types("login", "acme", "--flow", "pkce")
	x.sees("Visit: http://127.0.0.1:")
	x.sees("acme lets a program log in only by way of an OAuth app")
	x.sees("  at            https://acme.example/apps")
	x.sees("  redirect URI  http://127.0.0.1:")
	x.sees("Client ID: ")
	x.presses("app\r")
	x.sees("Client secret (may be left empty): ")
	x.presses(oauthtest.Secret + "\r")
	at := address(t, x.line("Visit: https://auth.example.com/authorize?"))
	x.sees("With one elsewhere: authsome login acme --flow device_code")
	comesBack(t, s, at)
	c, text := x.ends()
	if c != 0 || !strings.Contains(text, "Logged in to acme (default) as octocat.") {
		t.Errorf("exit code %d\n%s", c, text)
	}
	if !strings.Contains(text, "Client ID: app") || !strings.Contains(text, "****") || strings.Contains(text, canary) {
		t.Errorf("the ID is not shown, or the secret is:\n%s", text)
	}
	// Asked only once.
	x = p.types("login", "acme", "--flow", "pkce", "--force")
	comesBack(t, s, address(t, x.line("Visit: https://")))
	if c, text := x.ends(); c != 0 || strings.Contains(text, "Client ID") {
		t.Errorf("exit code %d\n%s", c, text)
	}
}

// TestPromptForAppTakenBack: the page asks as well, and is quicker.
func TestPromptForAppTakenBack(t *testing.T) {
	t.Parallel()
	p, s := acme(t)
	x := p.types("login", "acme", "--flow", "pkce")
	x.sees("Client ID: ")
	x.mu.Lock()
	id := loginID(t, x.text.String())
	x.mu.Unlock()
	if _, err := p.client().SubmitLogin(t.Context(), id, oauthApp()); err != nil {
		t.Fatal(err)
	}
	comesBack(t, s, address(t, x.line("Visit: https://")))
	if c, text := x.ends(); c != 0 || !strings.Contains(text, "Logged in to acme (default) as octocat.") {
		t.Errorf("exit code %d\n%s", c, text)
	}
}

// TestLoginOpensBrowserOnce: what the person began in the browser goes on there.
func TestLoginOpensBrowserOnce(t *testing.T) {
	t.Parallel()
	p, s := acme(t)
	bin := t.TempDir()
	opened := filepath.Join(bin, "opened")
	if err := os.WriteFile(filepath.Join(bin, "xdg-open"), []byte("#!/bin/sh\necho \"$1\" >> "+opened+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	p.environ = append(p.environ, "DISPLAY=:0", "PATH="+bin+":"+os.Getenv("PATH"))
	x := p.types("login", "acme") // with a display by the first flow
	id := loginID(t, x.line("Visit: http://127.0.0.1:"))
	x.sees("It opens in your browser.")
	if _, err := p.client().SubmitLogin(t.Context(), id, oauthApp()); err != nil {
		t.Fatal(err)
	}
	at := address(t, x.line("Visit: https://"))
	x.sees("It goes on in your browser.")
	comesBack(t, s, at)
	if c, text := x.ends(); c != 0 {
		t.Errorf("exit code %d\n%s", c, text)
	}
	x = p.types("login", "acme", "--force")
	at = address(t, x.line("Visit: https://"))
	x.sees("It opens in your browser.")
	comesBack(t, s, at)
	if c, text := x.ends(); c != 0 {
		t.Errorf("exit code %d\n%s", c, text)
	}
	// The code's page opens unless it was for another device.
	x = p.types("login", "acme", "--force", "--flow", "device_code")
	x.sees("Waiting until the code is entered there")
	s.Decide("granted")
	x.ends()
	var lines []string
	for end := time.Now().Add(patience); len(lines) < 2 && time.Now().Before(end); time.Sleep(time.Millisecond) {
		data, _ := os.ReadFile(opened)
		lines = strings.Split(strings.TrimSpace(string(data)), "\n")
	}
	if len(lines) != 2 || !strings.HasPrefix(lines[0], "http://127.0.0.1:") || lines[1] != at {
		t.Errorf("the browser was opened at %q", lines)
	}
}

// TestDeviceQR: a terminal that can show it shows the address as a QR code.
func TestDeviceQR(t *testing.T) {
	t.Parallel()
	p, s := acme(t)
	p.hasApp()
	show := func(rows, columns uint16, environ ...string) string {
		t.Helper()
		q := *p
		q.environ = append(append([]string{}, p.environ...), environ...)
		x := q.typesIn(&pty.Winsize{Rows: rows, Cols: columns}, "login", "acme", "--flow", "device_code", "--force")
		x.sees("Waiting until the code is entered there")
		s.Decide("granted")
		c, text := x.ends()
		if c != 0 || !strings.Contains(text, "Visit: https://auth.example.com/activate") || !strings.Contains(text, "Code:  WDJB-MJHT") {
			t.Errorf("exit code %d\n%s", c, text)
		}
		return text
	}
	if text := show(50, 100, "LANG=C.UTF-8"); !strings.Contains(text, "\x1b[30;47m    ") || !strings.Contains(text, "█▀▀▀▀▀█") {
		t.Errorf("there is no QR code:\n%s", text)
	}
	if text := show(50, 100, "LANG=C.UTF-8", "NO_COLOR=1"); strings.Contains(text, "\x1b") || !strings.Contains(text, "████") {
		t.Errorf("without colours:\n%q", text)
	}
	for name, text := range map[string]string{
		"narrow": show(50, 30, "LANG=C.UTF-8"), "low": show(10, 100, "LANG=C.UTF-8"),
		"no UTF-8": show(50, 100, "LANG=C"), "dumb": show(50, 100, "LANG=C.UTF-8", "TERM=dumb"),
	} {
		if strings.ContainsAny(text, "▀▄█") {
			t.Errorf("%s: it is drawn all the same", name)
		}
	}
}

// TestConfirmServer asks on the terminal whether a server on another site may be
// asked; no answer but yes is one.
func TestConfirmServer(t *testing.T) {
	t.Parallel()
	p, s := newPerson(t), elsewhere(t)
	p.lives(s.via, s.certificate)
	for _, answer := range []string{"\n", "n\n", "no\n", "Y E S\n", "\x04"} {
		x := p.types("login", "https://mcp.tools.example/mcp")
		x.sees("another site")
		x.sees("Log in to mcp.tools.example at login.elsewhere.example? [y/N] ")
		x.presses(answer)
		if c, text := x.ends(); c != 2 || strings.Contains(text, "Visit: https") {
			t.Errorf("after %q: exit code %d\n%s", answer, c, text)
		}
	}
	if s.asked.Load() != 0 {
		t.Error("the server was asked all the same")
	}
	x := p.types("login", "https://mcp.tools.example/mcp", "--quiet")
	x.sees("[y/N] ") // --quiet hides no question
	x.presses("y\n")
	x.sees("Visit: https://login.elsewhere.example/authorize?")
	if err := x.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if c, text := x.ends(); c != 2 || s.asked.Load() != 1 {
		t.Errorf("exit code %d, %d registrations\n%s", c, s.asked.Load(), text)
	}
}

// TestSetClientAsks asks on the terminal for what the command line leaves out.
func TestSetClientAsks(t *testing.T) {
	t.Parallel()
	p, s := acme(t)
	x := p.types("provider", "set-client", "acme")
	x.sees("Client ID: ")
	x.presses("app\r")
	x.sees("Client secret (may be left empty): ")
	x.presses(oauthtest.Secret + "\r")
	if c, text := x.ends(); c != 0 || strings.Contains(text, canary) || !strings.Contains(text, "Set the OAuth app of acme. Next: authsome login acme") {
		t.Errorf("exit code %d\n%s", c, text)
	}
	w := p.begins("login", "acme", "--flow", "pkce")
	comesBack(t, s, address(t, w.says("Visit: https://")))
	if c, _, stderr := w.ends(); c != 0 {
		t.Errorf("exit code %d: what was typed arrived otherwise: %s", c, stderr)
	}

	x = p.types("provider", "set-client", "acme", "--client-id", "app")
	x.sees("Client secret")
	x.presses(canary + "\x03")
	if c, text := x.ends(); c != 2 || strings.Contains(text, canary) {
		t.Errorf("Ctrl-C: exit code %d\n%s", c, text)
	}
	x = p.types("provider", "set-client", "acme", "--client-id", "app")
	x.sees("Client secret")
	x.presses(canary + "\rrm -rf x\r")
	if c, text := x.ends(); c != 1 || !strings.Contains(text, "more than one line") {
		t.Errorf("two lines: exit code %d\n%s", c, text)
	}
	x = p.types("provider", "set-client", "acme", "--secret-stdin")
	if c, text := x.ends(); c != 64 || !strings.Contains(text, "this is a terminal") {
		t.Errorf("--secret-stdin on a terminal: exit code %d\n%s", c, text)
	}
	// The one that works is still there.
	w = p.begins("login", "acme", "--flow", "pkce", "--force")
	comesBack(t, s, address(t, w.says("Visit: https://")))
	if c, _, stderr := w.ends(); c != 0 {
		t.Errorf("exit code %d: %s", c, stderr)
	}
}
