package journey

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/authsome/authsome/test/harness"
)

// ssh is the environment of a session from elsewhere: a terminal, and no display.
var ssh = []string{"SSH_CONNECTION=192.0.2.7 50022 192.0.2.1 22", "SSH_TTY=/dev/pts/0"}

// TestLoginOverSSH has no display. The login is by a code, which is entered
// elsewhere; who wants the other way is told what it needs.
func TestLoginOverSSH(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.Internet.OAuth("github.com")
	o.PollInterval(time.Second)
	app := o.App()
	phone := person(t, w, "octocat")

	// The app is asked for on the terminal; only its ID is shown.
	first := onTerminal(t, w.Command("login", "github").Env(ssh...).Cmd())
	first.sees("There is no display here, so this login is by a code")
	first.sees("Client ID: ")
	first.typed(app.ID + "\r")
	first.sees("Client secret (may be left empty): ")
	first.typed(app.Secret + "\r")
	at, code := first.line("Visit: https:"), first.line("Code:")
	if at != "//github.com/login/device" || len(code) != 9 {
		t.Errorf("what is to be entered is %q at %q", code, at)
	}
	first.sees("█▀▀▀▀▀█") // the corner of a QR code
	if _, err := phone.Device(within(t), "https:"+at, code); err != nil {
		t.Fatal(err)
	}
	first.ends(0, "Logged in to github (default) as octocat.")

	// A service whose address has the code in it: the QR code leads there.
	named := onTerminal(t, w.Command("login", "github", "--flow", "device_code", "--connection", "named").Env(ssh...).Cmd())
	if _, err := phone.Device(within(t), named.line("Visit:"), named.line("Code:")); err != nil {
		t.Fatal(err)
	}
	named.ends(0, "this is the same account as default (octocat)")

	pkce := onTerminal(t, w.Command("login", "github", "--flow", "pkce", "--connection", "forwarded").Env(ssh...).Cmd())
	consentAt := "https:" + pkce.line("Visit: https:")
	pkce.sees("It has to be a browser on this machine. With one elsewhere: authsome login github --flow device_code")
	consents(t, w, consentAt) // by a port that SSH leads here
	pkce.ends(0, "Logged in to github (forwarded) as octocat.")

	for _, x := range o.Exchanges() {
		if x.Error != "" && x.Error != "authorization_pending" {
			t.Errorf("GitHub has refused %s %s: %s", x.Method, x.Path, x.Error)
		}
	}
	holds(t, w, "github/default connected", "github/named connected", "github/forwarded connected")
	printed := first.text() + named.text() + pkce.text()
	sweep(t, w, printed, append(o.Secrets(), app.Secret)...)
}

// agent runs a command as an agent's tool does: no terminal at all, and a program
// reads what it prints.
func agent(t *testing.T, w *harness.World, printed *strings.Builder, args ...string) map[string]any {
	t.Helper()
	cmd := w.Command(args...).Cmd()
	cmd.Stdin = nil
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	printed.Write(out)
	printed.WriteString(stderr.String())
	if err != nil {
		t.Fatalf("%q: %v\n%s%s", args, err, out, stderr.String())
	}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	var doc map[string]any
	if err := dec.Decode(&doc); err != nil {
		t.Fatalf("%q prints %q: %v", args, out, err)
	}
	if rest, _ := io.ReadAll(dec.Buffered()); strings.TrimSpace(string(rest)) != "" {
		t.Errorf("%q prints more than its document: %q", args, rest)
	}
	return doc
}

// TestLoginByAgent has an agent start logins, show the person an address or a
// code, and ask how they stand: by the command that the document names.
func TestLoginByAgent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := appIsSet(t, w, w.Internet.OAuth("github.com").App().Secret)
	o.PollInterval(time.Second)
	var printed strings.Builder
	poll := func(doc map[string]any) map[string]any {
		t.Helper()
		argv := strings.Fields(doc["poll"].(string))
		if len(argv) < 2 || argv[0] != "authsome" {
			t.Fatalf("the command to poll with is %q", doc["poll"])
		}
		return agent(t, w, &printed, argv[1:]...)
	}
	expect := func(doc map[string]any, want map[string]any) {
		t.Helper()
		for k, v := range want {
			if doc[k] != v {
				t.Errorf("%s is %v, want %v, in %v", k, doc[k], v, doc)
			}
		}
	}

	link := agent(t, w, &printed, "login", "github", "--json", "--no-wait", "--flow", "pkce")
	expect(link, map[string]any{"status": "started", "step": "authorize", "provider": "github", "connection": "default", "record_status": "not_connected"})
	if id, _ := link["session_id"].(string); !strings.HasPrefix(id, "sess_") || link["poll"] != "authsome login --status "+id {
		t.Errorf("the session is %v, and asked for by %v", link["session_id"], link["poll"])
	}
	expect(poll(link), map[string]any{"status": "waiting_for_user", "step": "authorize", "auth_url": link["auth_url"]})
	callback := returns(t, w, link["auth_url"].(string))
	if code, page := visit(t, http.MethodGet, callback.String(), nil); code != http.StatusOK {
		t.Errorf("the callback's page is %d: %s", code, page)
	}
	done := poll(link)
	expect(done, map[string]any{"status": "completed", "record_status": "connected", "is_default": true})
	if who, _ := done["account"].(map[string]any); who["label"] != "octocat" {
		t.Errorf("the account is %v", done["account"])
	}

	// Without a display the usual way is a code; and an agent may be inside a run.
	code := agent(t, w, &printed, "run", "--quiet", "--", binary, "login", "github", "--json", "--no-wait", "--connection", "work")
	expect(code, map[string]any{"status": "started", "step": "device", "connection": "work", "verification_uri": "https://github.com/login/device"})
	if _, err := person(t, w, "hubot").Device(within(t), code["verification_uri"].(string), code["user_code"].(string)); err != nil {
		t.Fatal(err)
	}
	until(t, patience, "the login by code is completed", func() bool { return poll(code)["status"] == "completed" })
	// The way that needs no login answers in the same shape.
	again := agent(t, w, &printed, "login", "github", "--json", "--no-wait")
	expect(again, map[string]any{"status": "success", "already_connected": true, "record_status": "connected"})

	// What a person refuses is told with the next command.
	no := agent(t, w, &printed, "login", "github", "--json", "--no-wait", "--flow", "pkce", "--connection", "third")
	if _, err := person(t, w, "octocat").Deny(within(t), no["auth_url"].(string)); err != nil {
		t.Fatal(err)
	}
	argv := strings.Fields(no["poll"].(string))
	r := w.Command(argv[1:]...).Run()
	v := verdictOf(t, r.Code, r.Stdout)
	v.refusal(t, "after a no")
	if v.Status != "failed" && v.Status != "cancelled" || v.Error != "InputCancelled" || v.Code != 2 {
		t.Errorf("after a no: %+v", v)
	}
	holds(t, w, "github/default connected", "github/work connected")
	sweep(t, w, printed.String(), o.Secrets()...)
}
