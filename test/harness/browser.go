package harness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/authsome/authsome/test/internet"
	"github.com/chromedp/chromedp"
)

// Browser is a real headless Chromium whose internet is the fake one. Addresses
// of 127.0.0.1 are reached directly. It does what internet.Person does, with
// what a person would see.
type Browser struct {
	Login string // typed where a page asks who it is; "" leaves what is there

	ctx  context.Context // of the first tab
	stop func()
}

// ErrNoBrowser is returned where no Chromium is installed.
var ErrNoBrowser = errors.New("there is no Chromium: run test/install.sh")

// nowhere is an address at which nobody listens: the discard port.
const nowhere = "http://127.0.0.1:9"

// StartBrowser starts Chromium with a profile of its own. n's certificates are
// told to it by their key, so that no other is trusted.
func StartBrowser(ctx context.Context, n *internet.Internet, login string) (*Browser, error) {
	program := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			program = p
			break
		}
	}
	if program == "" {
		return nil, ErrNoBrowser
	}
	key, err := n.Key()
	if err != nil {
		return nil, err
	}
	home, err := os.MkdirTemp("", "authsome-chromium-")
	if err != nil {
		return nil, err
	}
	ctx, cancel := chromedp.NewExecAllocator(ctx,
		chromedp.ExecPath(program), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		// What Chromium asks its makers for would be among what the tests see
		// arrive; where nobody listens it does not arrive.
		chromedp.Flag("gaia-url", nowhere), chromedp.Flag("variations-server-url", nowhere),
		chromedp.Flag("component-updater", "url-source="+nowhere), chromedp.Flag("disable-domain-reliability", true),
		chromedp.Flag("disable-features", "AutofillServerCommunication,NetworkTimeServiceQuerying,OptimizationHints,MediaRouter"),
		chromedp.Flag("proxy-server", n.Proxy()), chromedp.Flag("ignore-certificate-errors-spki-list", key),
		chromedp.UserDataDir(filepath.Join(home, "profile")), chromedp.Env("HOME="+home),
		chromedp.WindowSize(900, 800), chromedp.WSURLReadTimeout(time.Minute),
	)
	tab, closeTab := chromedp.NewContext(ctx)
	b := &Browser{Login: login, ctx: tab, stop: func() {
		closeTab()
		cancel()
		_ = os.RemoveAll(home)
	}}
	if err := chromedp.Do(tab); err != nil {
		b.stop()
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	return b, nil
}

// Close ends Chromium.
func (b *Browser) Close() { b.stop() }

// Consent opens an authorization request, signs in, consents, and returns the
// callback's page.
func (b *Browser) Consent(ctx context.Context, address string) (internet.Page, error) {
	return b.walk(ctx, address, "consent", "")
}

// Deny signs in and says no. It returns the callback's page.
func (b *Browser) Deny(ctx context.Context, address string) (internet.Page, error) {
	return b.walk(ctx, address, "deny", "")
}

// Device opens the address that a device shows, types its code, and consents.
func (b *Browser) Device(ctx context.Context, address, userCode string) (internet.Page, error) {
	return b.walk(ctx, address, "consent", userCode)
}

// Open shows a page and returns what is to be read on it.
func (b *Browser) Open(ctx context.Context, address string) (internet.Page, error) {
	return b.walk(ctx, address, "", "")
}

// Form opens one of authsome's own pages, types the values by the names of their
// fields, sends the form, and goes on as Consent to where that leads. A question
// without fields is answered with yes.
func (b *Browser) Form(ctx context.Context, address string, values map[string]string) (internet.Page, error) {
	return b.walkWith(ctx, address, "consent", "", values)
}

// step fills in one page and presses its button; what is on it decides. It
// returns what was pressed, or "" when there was nothing to press.
const step = `((login, code, answer, values) => {
  const at = id => document.getElementById(id);
  const press = (button, id) => { document.documentElement.dataset.pressed = "yes"; button.click(); return id; };
  if (values && location.hostname === "127.0.0.1") {
    for (const [name, value] of Object.entries(values)) {
      const field = document.querySelector("main form [name=\"field." + name + "\"]");
      if (!field) return "";
      field.value = value;
    }
    const send = document.querySelector("main form button[type=submit]:not(.quiet), main button[form=confirm]");
    return send ? press(send, "sent") : "";
  }
  const type = (field, text) => { if (field && text) field.value = text; };
  type(at("login") || document.querySelector("input[name=login]"), login);
  const asked = at("user_code") || document.querySelector("input[type=text][name=user_code]");
  type(asked, code);
  if (!answer || asked && !asked.value) return "";
  for (const id of [answer, "signin", "continue"]) {
    const button = at(id);
    if (button) return press(button, id);
  }
  return "";
})(%s, %s, %s, %s)`

// settled tells that the page is there, is not the one whose button was pressed,
// and does not lead on by itself at once.
const settled = `document.readyState === "complete" && !document.documentElement.dataset.pressed &&
  !document.querySelector('meta[http-equiv=refresh][content^="0;"]')`

func (b *Browser) walk(ctx context.Context, address, answer, userCode string) (internet.Page, error) {
	return b.walkWith(ctx, address, answer, userCode, nil)
}

// script is step with its arguments.
func script(arguments ...any) (string, error) {
	written := make([]any, len(arguments))
	for i, a := range arguments {
		text, err := json.Marshal(a)
		if err != nil {
			return "", err
		}
		written[i] = text
	}
	return fmt.Sprintf(step, written...), nil
}

func (b *Browser) walkWith(ctx context.Context, address, answer, userCode string, values map[string]string) (internet.Page, error) {
	start, err := url.Parse(address)
	if err != nil {
		return internet.Page{}, err
	}
	tab, closeTab := chromedp.NewContext(b.ctx)
	defer closeTab()
	unhook := context.AfterFunc(ctx, closeTab)
	defer unhook()
	if err := chromedp.Do(tab, chromedp.Navigate(address)); err != nil {
		return internet.Page{}, fmt.Errorf("open %s: %w", start.Redacted(), err)
	}
	left := false // the place where it began
	for range 12 {
		at, text, err := b.read(tab)
		if err != nil {
			return internet.Page{}, err
		}
		page := internet.Page{URL: at, Text: strings.Join(strings.Fields(text), " ")}
		left = left || at.Host != start.Host
		if ip := net.ParseIP(at.Hostname()); left && ip != nil && ip.IsLoopback() {
			return page, nil // the callback
		}
		code, err := script(b.Login, userCode, answer, values)
		if err != nil {
			return page, err
		}
		pressed, err := chromedp.Run(tab, chromedp.Evaluate[string](code))
		if err != nil {
			return page, fmt.Errorf("on %s: %w", at.Redacted(), err)
		}
		if pressed == "" {
			return page, nil
		}
		userCode, values = "", nil
	}
	return internet.Page{}, errors.New("the pages go on and on")
}

// read waits for a page that nobody has answered yet. While pages change,
// questions to them fail, so it asks again.
func (b *Browser) read(tab context.Context) (*url.URL, string, error) {
	for {
		ready, err := chromedp.Run(tab, chromedp.Evaluate[bool](settled))
		if err == nil && ready {
			place, err := chromedp.Run(tab, chromedp.Location())
			if err != nil {
				return nil, "", err
			}
			at, err := url.Parse(place)
			if err != nil {
				return nil, "", err
			}
			text, err := chromedp.Run(tab, chromedp.Evaluate[string](`document.body ? document.body.innerText : ""`))
			return at, text, err
		}
		select {
		case <-tab.Done():
			return nil, "", fmt.Errorf("wait for a page: %w", context.Cause(tab))
		case <-time.After(20 * time.Millisecond):
		}
	}
}
