package daemon

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
	"github.com/authsome/authsome/provider"
	"github.com/authsome/authsome/vault"
)

// check is one line of `doctor`. It fills in everything but the name.
type check struct {
	name string
	run  func(d *Daemon, ctx context.Context) api.Check
}

// checks are run in this order, which is that in which one failure explains the
// next.
var checks = []check{
	{"daemon", (*Daemon).checkDaemon},
	{"port", (*Daemon).checkPort},
	{"home", (*Daemon).checkHome},
	{"clock", (*Daemon).checkClock},
	{"keyring", (*Daemon).checkKeyring},
	{"vault", (*Daemon).checkVault},
	{"providers", (*Daemon).checkProviders},
	{"ca", (*Daemon).checkAuthority},
	{"credentials", (*Daemon).checkCredentials},
	{"proxy", (*Daemon).checkProxy},
	{"limits", (*Daemon).checkLimits},
}

// checkTimeout bounds one check.
const checkTimeout = 5 * time.Second

func ok(format string, args ...any) api.Check {
	return api.Check{OK: true, Text: fmt.Sprintf(format, args...)}
}

func warning(fix, format string, args ...any) api.Check {
	return api.Check{OK: true, Warn: true, Text: fmt.Sprintf(format, args...), Fix: fix}
}

func broken(fix, format string, args ...any) api.Check {
	return api.Check{Text: fmt.Sprintf(format, args...), Fix: fix}
}

// brokenBy is broken by an error that has words for people.
func brokenBy(err error, fix string) api.Check {
	if hint := authsome.HintOf(err); hint != "" {
		fix = hint
	}
	return api.Check{Text: err.Error(), Fix: fix}
}

func (d *Daemon) doctor(ctx context.Context, _ *call) (any, error) {
	return api.Doctor{Checks: d.checkAll(ctx)}, nil
}

func (d *Daemon) checkAll(ctx context.Context) []api.Check {
	var out []api.Check
	for _, c := range checks {
		out = append(out, c.do(ctx, d))
	}
	return out
}

func (c check) do(ctx context.Context, d *Daemon) api.Check {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	got := c.run(d, ctx)
	got.Name = c.name
	return got
}

func (d *Daemon) checkDaemon(context.Context) api.Check {
	return ok("version %s, process %d, socket %s", d.cfg.Version, d.pid, d.socket.Path())
}

func (d *Daemon) checkPort(ctx context.Context) api.Check {
	if d.browser.note == "" {
		return ok("the browser's pages are on %s", d.browser.host())
	}
	// It may have become free since.
	if free, err := listenLoopback(d.cfg.Port); err == nil {
		_ = free.Close()
		return warning("authsome daemon restart", "port %d was taken when the daemon started, and is free now", d.cfg.Port)
	}
	return warning("end that process, then: authsome daemon restart",
		"port %d is held by %s; logins by form work on port %d, but those that come back from a service's own page need port %d",
		d.cfg.Port, findHolder(ctx, d.cfg.Port), d.browser.port(), d.cfg.Port)
}

// maxListed bounds what one check lists, and how many files it looks at.
const (
	maxListed = 5
	maxFiles  = 10_000
)

func (d *Daemon) checkHome(ctx context.Context) api.Check {
	var open []string
	files, wrong := 0, 0
	err := filepath.WalkDir(d.home, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone while we looked
		}
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if files++; files > maxFiles {
			return filepath.SkipAll
		}
		fi, err := e.Info()
		if err != nil || fi.Mode()&fs.ModeSymlink != 0 {
			return nil
		}
		if why := exposed(fi); why != "" {
			if wrong++; wrong <= maxListed {
				open = append(open, path+" "+why)
			}
		}
		return nil
	})
	switch {
	case err != nil:
		return broken("ls -la "+d.home, "the home cannot be read: %v", err)
	case wrong > 0:
		if wrong > maxListed {
			open = append(open, fmt.Sprintf("and %d more", wrong-maxListed))
		}
		return broken("chmod -R go-rwx "+d.home, "%s", strings.Join(open, "; "))
	}
	probe, err := os.CreateTemp(d.home, ".probe-*")
	if err != nil {
		return broken("make room, or make the directory writable", "the home is not writable: %v", err)
	}
	_ = probe.Close()
	_ = os.Remove(probe.Name())
	return ok("%s, closed to other users", d.home)
}

// checkClock compares the clock with what was written by an earlier one.
func (d *Daemon) checkClock(ctx context.Context) api.Check {
	const slack = 2 * time.Minute
	now := time.Now()
	fix := "set the clock, for example: timedatectl set-ntp true"
	late := func(what string, t time.Time) (api.Check, bool) {
		if t.After(now.Add(slack)) {
			return broken(fix, "the clock says %s, but %s %s", stamp(now), what, stamp(t)), true
		}
		return api.Check{}, false
	}
	if cert, err := d.rootCertificate(); err == nil {
		if c, bad := late("the certificate authority is valid from", cert.NotBefore); bad {
			return c
		}
	}
	if fi, err := os.Stat(filepath.Join(d.home, databaseFile)); err == nil {
		if c, bad := late("the database was written", fi.ModTime()); bad {
			return c
		}
	}
	events, err := d.store.LastEvents(ctx, authsome.LocalVault, 1)
	if err != nil {
		return brokenBy(err, "authsome daemon logs")
	}
	for _, ev := range events {
		if c, bad := late("the newest event is of", ev.Time); bad {
			return c
		}
	}
	return ok("%s", stamp(now))
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// checkVault seals and opens a value that is thrown away.
func (d *Daemon) checkVault(context.Context) api.Check {
	const text = "round trip"
	b := authsome.Binding{Kind: "check", Vault: authsome.LocalVault, Name: "doctor", Version: 1}
	sealed, err := d.vault.Seal(b, []byte(text))
	if err != nil {
		return brokenBy(err, "authsome daemon logs")
	}
	plain, err := d.vault.Unseal(b, sealed)
	if err != nil {
		return brokenBy(err, "authsome daemon logs")
	}
	if string(plain) != text {
		return broken("authsome daemon logs", "what was sealed came back as something else")
	}
	return ok("master key from %s", d.vault.Source())
}

func (d *Daemon) checkProviders(ctx context.Context) api.Check {
	rows, err := d.store.Definitions(ctx, authsome.LocalVault)
	if err != nil {
		return brokenBy(err, "authsome daemon logs")
	}
	for _, r := range rows {
		if _, err := provider.Parse(r.Name, r.Definition); err != nil {
			return broken("authsome remove "+r.Name, "the registered definition of %s cannot be read: %v", r.Name, err)
		}
	}
	var unrouted []string
	all := d.catalog.All()
	for _, p := range all {
		if p.Source == authsome.Custom && len(p.Warnings) > 0 {
			unrouted = append(unrouted, p.Name)
		}
	}
	if len(unrouted) > 0 {
		return warning("authsome inspect "+unrouted[0], "%d definitions; not all of %s could be taken over", len(all), strings.Join(unrouted, ", "))
	}
	return ok("%d definitions, %d of them registered", len(all), len(rows))
}

func (d *Daemon) rootCertificate() (*x509.Certificate, error) {
	block, _ := pem.Decode(d.authorities.current().CertPEM())
	if block == nil {
		return nil, errors.New("the root certificate is no PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}

// checkAuthority verifies a leaf as a child would.
func (d *Daemon) checkAuthority(context.Context) api.Check {
	const fix = "authsome ca rotate"
	a := d.authorities.current()
	root, err := d.rootCertificate()
	if err != nil {
		return broken(fix, "%v", err)
	}
	leaf, err := a.issuer.Leaf(authsome.SelfCheckHost)
	if err != nil {
		return broken(fix, "no certificate can be issued: %v", err)
	}
	cert, err := x509.ParseCertificate(leaf.Certificate[0])
	if err != nil {
		return broken(fix, "an issued certificate cannot be read: %v", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(root)
	if _, err := cert.Verify(x509.VerifyOptions{DNSName: authsome.SelfCheckHost, Roots: roots}); err != nil {
		return broken(fix, "a certificate of ours does not verify: %v", err)
	}
	text := "valid until " + stamp(root.NotAfter)
	if n := len(d.authorities.now.Load().all) - 1; n > 0 {
		text += fmt.Sprintf(", and %d former for the runs that were started with it", n)
	}
	if why := d.authorities.repeat(localIdentity); why != "" {
		return warning("authsome ca install", "%s; %s", text, why)
	}
	left := time.Until(root.NotAfter)
	switch {
	case a.root != nil && left < renewAuthority:
		return warning("authsome ca install", "%s; what is installed ends then, too", text)
	case left < renewAuthority:
		return warning(fix, "%s; a new one should have been made", text)
	case a.root != nil:
		text += "; a root is installed that permits " + someOf(a.root.Permitted())
	}
	return ok("%s", text)
}

func (d *Daemon) checkProxy(ctx context.Context) api.Check {
	if err := d.tryProxy(ctx); err != nil {
		return broken("authsome daemon restart", "a request through the proxy fails: %v", err)
	}
	return ok("a request through the proxy and its certificate works")
}

// checkCredentials names those that are not overwritten in answers.
func (d *Daemon) checkCredentials(context.Context) api.Check {
	weak := d.broker.Weak(localIdentity)
	if len(weak) == 0 {
		return ok("all can be found where a service repeats them")
	}
	var names []string
	for _, c := range weak[:min(len(weak), maxListed)] {
		names = append(names, c.Provider+" ("+c.Name+")")
	}
	if n := len(weak) - len(names); n > 0 {
		names = append(names, fmt.Sprintf("%d more", n))
	}
	return warning(fmt.Sprintf("authsome login %s --connection %s --force", weak[0].Provider, weak[0].Name),
		"too short or too common to be overwritten where a service repeats them: %s; log in with longer ones", strings.Join(names, ", "))
}

// checkKeyring asks the keyring, in a time that a locked one would use up. It
// only matters to a vault that is opened by it.
func (d *Daemon) checkKeyring(ctx context.Context) api.Check {
	err := vault.ProbeKeyring(ctx, d.cfg.Keyring)
	switch {
	case err == nil:
		return ok("reachable")
	case d.vault.Source() == "keyring":
		return broken("unlock the keyring, or log in to the desktop session", "the master key is in the keyring, which does not answer: %v", err)
	default:
		return ok("not reachable, and not needed: the master key is from %s", d.vault.Source())
	}
}

// readiness remembers an answer for a moment: anybody on this machine may ask
// the browser's port, and the checks are not free.
type readiness struct {
	mu     sync.Mutex
	at     time.Time
	ok     bool
	answer api.Ready
}

const readyFor = 2 * time.Second

// publicReady is the doctor in the words of /ready, without paths.
func (d *Daemon) publicReady(ctx context.Context) (bool, any) {
	d.ready.mu.Lock()
	defer d.ready.mu.Unlock()
	if time.Since(d.ready.at) < readyFor {
		return d.ready.ok, d.ready.answer
	}
	out := api.Ready{Status: "ready", Checks: map[string]string{}, Issues: []string{}, Warnings: []string{}}
	for _, c := range d.checkAll(ctx) {
		text := c.Name + ": " + strings.ReplaceAll(c.Text, d.home, "AUTHSOME_HOME")
		if c.Name == "credentials" && c.Warn {
			text = c.Name + ": authsome doctor" // which are easily guessed is not for everybody
		}
		switch {
		case !c.OK:
			out.Status, out.Checks[c.Name] = "not_ready", "failed"
			out.Issues = append(out.Issues, text)
		case c.Warn:
			out.Checks[c.Name] = "warning"
			out.Warnings = append(out.Warnings, text)
		default:
			out.Checks[c.Name] = "ok"
		}
	}
	d.ready.at, d.ready.ok, d.ready.answer = time.Now(), out.Status == "ready", out
	return d.ready.ok, out
}
