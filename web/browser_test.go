package web_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// chromium starts a real browser with a profile of its own, and returns a
// context in which chromedp drives its first tab.
func chromium(t *testing.T, more ...chromedp.ExecAllocatorOption) context.Context {
	t.Helper()
	if testing.Short() {
		t.Skip("a browser takes its time")
	}
	program := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			program = p
			break
		}
	}
	if program == "" {
		if _, err := os.Stat("/etc/debian_version"); err == nil {
			t.Fatal("there is no Chromium; install the Debian package chromium: apt-get install chromium")
		}
		t.Skip("there is no Chromium; on Debian it is the package chromium")
	}
	// Not t.TempDir: a process of Chromium's that dies late may write there
	// while it is being removed, which is no failure of the test.
	home, err := os.MkdirTemp("", "authsome-web-chromium-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // a browser that hangs
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, append(more,
		chromedp.ExecPath(program), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("no-proxy-server", true),
		chromedp.UserDataDir(filepath.Join(home, "profile")), chromedp.Env("HOME="+home),
		chromedp.WindowSize(900, 800), chromedp.WSURLReadTimeout(time.Minute),
	)...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start %s: %v", program, err)
	}
	return ctx
}

// served is the pages behind a real port.
func served(t *testing.T) (*bench, string) {
	var b *bench
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { b.pages.ServeHTTP(w, r) }))
	t.Cleanup(srv.Close)
	b = newBench(t, srv.Listener.Addr().String())
	return b, srv.URL
}

// watch collects what a tab complains about, and what it asks of other hosts.
func watch(t *testing.T, ctx context.Context, base string) func() []string {
	t.Helper()
	var mu sync.Mutex
	var seen []string
	err := chromedp.Listen(ctx, func(ev any) {
		mu.Lock()
		defer mu.Unlock()
		switch ev := ev.(type) {
		case *log.EventEntryAdded:
			// The status of a refused form is an entry as well.
			if ev.Entry.Source != log.EntrySourceNetwork {
				seen = append(seen, ev.Entry.Text)
			}
		case *network.EventRequestWillBeSent:
			if !strings.HasPrefix(ev.Request.URL, base+"/") {
				seen = append(seen, "request to "+ev.Request.URL)
			}
			for name, value := range ev.Request.Headers {
				if v := fmt.Sprint(value); strings.EqualFold(name, "Referer") && strings.Contains(v, "ticket") {
					seen = append(seen, "the ticket in a Referer")
				}
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return seen
	}
}

// contrasts is a script that names each piece of text whose contrast against
// what is behind it is under 4.5 (WCAG 2.2, 1.4.3).
const contrasts = `
(() => {
  const rgb = c => c.match(/[\d.]+/g).map(Number);
  const lum = c => rgb(c).slice(0, 3).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = el => { for (; el; el = el.parentElement) { const c = getComputedStyle(el).backgroundColor; if (rgb(c)[3] !== 0) return c; } return "rgb(255, 255, 255)"; };
  const poor = [];
  for (const el of document.querySelectorAll("h1, p, li, dt, dd, label, input, textarea, button, a, code, header, footer, .note")) {
    if (!el.textContent.trim() && el.localName !== "input" && el.localName !== "textarea" || el.offsetParent === null) continue;
    const [a, b] = [lum(getComputedStyle(el).color), lum(behind(el))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push(el.localName + "." + el.className + " " + ratio.toFixed(2));
  }
  return poor;
})()`

// do runs steps in a tab.
func do(t *testing.T, ctx context.Context, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(ctx, steps...); err != nil {
		t.Fatal(err)
	}
}

// get runs a step that yields something.
func get[T any](t *testing.T, ctx context.Context, step chromedp.Action[T]) T {
	t.Helper()
	v, err := chromedp.Run(ctx, step)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// js evaluates a script, and waits for it if it is a promise.
func js[T any](t *testing.T, ctx context.Context, script string) T {
	t.Helper()
	return get(t, ctx, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
}

// active is a script that names what has the focus.
const active = `document.activeElement.id || document.activeElement.textContent`

// TestBrowser walks through a login in Chromium with the keyboard alone: a
// wrong key, the hint, the right key, the end; once in light, once in dark.
func TestBrowser(t *testing.T) {
	b, base := served(t)
	tab := chromium(t)
	paper := map[string]string{}
	for _, scheme := range []string{"light", "dark"} {
		t.Run(scheme, func(t *testing.T) {
			ctx, cancel := chromedp.NewContext(tab)
			defer cancel()
			complaints := watch(t, ctx, base)
			legible := func() {
				t.Helper()
				if poor := js[[]string](t, ctx, contrasts); len(poor) > 0 {
					t.Errorf("hard to read: %v", poor)
				}
			}
			l := b.begin(twilio(), "work")
			_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
				Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
			})
			if err != nil {
				t.Fatal(err)
			}

			do(t, ctx, chromedp.Navigate(base+link(l)), chromedp.WaitVisible(chromedp.CSS("#field-0")))
			if got := get(t, ctx, chromedp.Title()); got != "Connect Twilio · authsome" {
				t.Errorf("the title is %q", got)
			}
			if got := get(t, ctx, chromedp.Location()); got != base+path(l) {
				t.Errorf("the form is at %s", got)
			}
			if got := js[string](t, ctx, active); got != "field-0" {
				t.Errorf("the focus is on %q", got)
			}
			if got := js[string](t, ctx, "document.cookie"); got != "" {
				t.Error("a script can read the cookie")
			}
			paper[scheme] = js[string](t, ctx, `getComputedStyle(document.documentElement).backgroundColor`)
			legible()

			// Each control is reached by Tab, in reading order.
			do(t, ctx, chromedp.KeyEvent(" AC00ff "))
			for _, want := range []string{"field-1", "Connect", "Cancel"} {
				do(t, ctx, chromedp.KeyEvent(kb.Tab))
				if got := js[string](t, ctx, active); got != want {
					t.Errorf("Tab leads to %q, want %q", got, want)
				}
			}

			// A wrong key: said next to its field, which is empty and has the focus.
			do(t, ctx, chromedp.Focus(chromedp.CSS("#field-1")), chromedp.KeyEvent("CANARY"+kb.Enter), chromedp.WaitVisible(chromedp.CSS("#field-1-problem")))
			if got := get(t, ctx, chromedp.Text(chromedp.CSS("#field-1-problem"))); got != "The auth token does not look right." {
				t.Errorf("the problem is %q", got)
			}
			if got := get(t, ctx, chromedp.Text(chromedp.CSS("#field-1-hint"))); got != "An auth token has 8 letters or more." {
				t.Errorf("the hint is %q", got)
			}
			if got := js[string](t, ctx, active); got != "field-1" {
				t.Errorf("the focus is on %q", got)
			}
			if get(t, ctx, chromedp.Value(chromedp.CSS("#field-1"))) != "" {
				t.Error("the secret is in the form again")
			}
			if got := get(t, ctx, chromedp.Value(chromedp.CSS("#field-0"))); got != "AC00ff" {
				t.Errorf("the public field came back as %q", got)
			}
			legible()
			b.untouched(l)

			// The right one.
			do(t, ctx, chromedp.KeyEvent("canary-token"+kb.Enter), chromedp.WaitVisible(chromedp.CSS("h1.good")))
			if got := get(t, ctx, chromedp.Text(chromedp.CSS("main"))); !strings.HasPrefix(got, "Twilio (work) is connected") || !strings.Contains(got, "You can close this tab.") {
				t.Errorf("the end reads %q", got)
			}
			legible()
			if s, stored := b.state(l.ID); s != authsome.LoginCompleted || stored["account_sid"] != "AC00ff" || stored["auth_token"] != "canary-token" {
				t.Errorf("the login is %s with %d fields", s, len(stored))
			}
			for _, e := range get(t, ctx, chromedp.NavigationEntries()).Entries {
				if strings.Contains(e.URL, "ticket") {
					t.Errorf("the history has the ticket: %s", e.URL)
				}
			}
			// Reloading does not send the key again.
			do(t, ctx, chromedp.Reload(), chromedp.WaitVisible(chromedp.CSS("h1.good")))
			if c := complaints(); len(c) > 0 {
				t.Errorf("Chromium complains: %q", c)
			}
		})
	}
	if paper["light"] == paper["dark"] || paper["light"] == "" {
		t.Errorf("light and dark look alike: %v", paper)
	}
}

// TestBrowserCancel presses the other button.
func TestBrowserCancel(t *testing.T) {
	b, base := served(t)
	ctx := chromium(t)
	l := b.begin(openai(), "default")
	do(t, ctx, chromedp.Navigate(base+link(l)), chromedp.WaitVisible(chromedp.CSS("#field-0")),
		chromedp.Click(chromedp.CSS("button.quiet")), chromedp.WaitNotPresent(chromedp.CSS("form")))
	if got := get(t, ctx, chromedp.Text(chromedp.CSS("h1"))); got != "This login was cancelled" {
		t.Errorf("the page says %q", got)
	}
	if s, _ := b.state(l.ID); s != authsome.LoginCancelled {
		t.Errorf("the login is %s", s)
	}
}

// TestBrowserStrangers opens pages of other sites in Chromium that link to,
// read, frame and post to the form.
func TestBrowserStrangers(t *testing.T) {
	b, base := served(t)
	var body atomic.Value
	stranger := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<!doctype html><title>stranger</title>"+body.Load().(string))
	}))
	defer stranger.Close()
	_, port, err := net.SplitHostPort(stranger.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	ctx := chromium(t)
	complaints := watch(t, ctx, "http:/") // any address
	l := b.begin(openai(), "default")

	// A link in another site's page opens the form all the same.
	body.Store(`<a id="link" href="` + base + link(l) + `">log in</a>`)
	do(t, ctx, chromedp.Navigate("http://localhost:"+port), chromedp.Click(chromedp.CSS("#link")), chromedp.WaitVisible(chromedp.CSS("#field-0")))
	if got := get(t, ctx, chromedp.Location()); got != base+path(l) {
		t.Errorf("the link ends at %s", got)
	}
	token := get(t, ctx, chromedp.Value(chromedp.CSS(`input[name="form_token"]`)))

	// This browser has the cookie now. Another site does not get it sent along;
	// another port of 127.0.0.1 is the same site, and does.
	for name, site := range map[string]string{"another site": "http://localhost:" + port, "another port": "http://127.0.0.1:" + port} {
		t.Run(name, func(t *testing.T) {
			body.Store(`<form method="post" action="` + base + path(l) + `"><input name="form_token" value="` + token + `">` +
				`<input name="field.api_key" value="` + goodKey + `"><button id="send">send</button></form>`)
			do(t, ctx, chromedp.Navigate(site), chromedp.Click(chromedp.CSS("#send")), chromedp.WaitVisible(chromedp.CSS("h1.bad")))
			if got := get(t, ctx, chromedp.Text(chromedp.CSS("h1"))); got != "Refused" {
				t.Errorf("its form is answered with %q", got)
			}
			b.untouched(l)

			body.Store("")
			do(t, ctx, chromedp.Navigate(site))
			read := js[string](t, ctx, `fetch("`+base+path(l)+`", {credentials: "include"}).then(r => "read " + r.status, () => "refused")`)
			if read != "refused" {
				t.Errorf("its script can read the form: %s", read)
			}
			js[string](t, ctx, `fetch("`+base+path(l)+`", {method: "POST", mode: "no-cors", credentials: "include",
				body: new URLSearchParams({form_token: "`+token+`", "field.api_key": "`+goodKey+`"})}).then(() => "sent", () => "refused")`)
			b.untouched(l)

			before := len(complaints())
			body.Store(`<iframe src="` + base + path(l) + `"></iframe>`)
			do(t, ctx, chromedp.Navigate(site))
			if c := fmt.Sprint(complaints()[before:]); !strings.Contains(c, "frame-ancestors") {
				t.Errorf("it can put the form into a frame: %s", c)
			}
		})
	}

	// The person's own tab still works.
	do(t, ctx, chromedp.Navigate(base+path(l)), chromedp.WaitVisible(chromedp.CSS("#field-0")), chromedp.SendKeys(chromedp.CSS("#field-0"), goodKey+kb.Enter), chromedp.WaitVisible(chromedp.CSS("h1.good")))
	if s, _ := b.state(l.ID); s != authsome.LoginCompleted {
		t.Errorf("the login is %s", s)
	}
}
