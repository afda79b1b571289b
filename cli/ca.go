package cli

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
	"github.com/authsome/authsome/internal/truststore"
	"github.com/spf13/cobra"
)

func newCACmd(a *app) *cobra.Command {
	cmd := newGroup("ca", "See, install and replace the proxy's certificate authority",
		newCAPathCmd(a), newCAShowCmd(a), newCAInstallCmd(a), newCAUninstallCmd(a), newCARotateCmd(a))
	cmd.Long = `The proxy shows programs certificates of an authority that this home made for
itself. ` + "`authsome run`" + ` tells programs about it by variables, so it is installed
nowhere. These commands are for programs that read none.`
	return cmd
}

func newCAPathCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "path",
		Short: "Print the path of a file with the authority's certificate",
		Long: `Print the path of a PEM file with the authority's certificate, for programs that
are to be told by hand. The path stays the same; the file is renewed with the
authority. It never holds a key.`,
		Example: `  NODE_EXTRA_CA_CERTS="$(authsome ca path)" node app.js`,
		Args:    arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			info, err := a.authority(cmd.Context())
			if err != nil {
				return err
			}
			doc := struct {
				Path string `json:"path"`
			}{info.Path}
			return a.result(doc, func() string { return info.Path + "\n" })
		},
	}
}

func newCARotateCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "rotate",
		Short: "Make a new authority for the runs to come",
		Long: `Make a new certificate authority. Runs that live keep the one that they were
started with until they end; new ones get the new one. The daemon does this by
itself a month before an authority ends, so it is for one whose key may be known
to somebody. What is installed is of the old one then: ` + "`authsome ca install`" + ` again.`,
		Example: `  authsome ca rotate`,
		Args:    arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			info, err := a.changeAuthority(cmd.Context(), api.ActRotate)
			if err != nil {
				return err
			}
			c, err := certificateOf(info.PEM)
			if err != nil {
				return err
			}
			if info.Repeat != "" {
				a.note("%s: authsome ca install", cleanLine(info.Repeat))
			}
			return a.done(struct {
				Status      string      `json:"status"`
				Certificate certificate `json:"certificate"`
				Former      int         `json:"former"`
			}{"rotated", c, info.Former}, "Made a new certificate authority, valid until %s.", c.NotAfter.Format(time.DateOnly))
		},
	}
}

// authority asks the daemon.
func (a *app) authority(ctx context.Context) (api.Authority, error) {
	c, err := a.client(ctx)
	if err != nil {
		return api.Authority{}, err
	}
	return c.Authority(ctx)
}

// changeAuthority asks the daemon for an act, which it refuses inside a run.
func (a *app) changeAuthority(ctx context.Context, act string) (api.Authority, error) {
	c, err := a.client(ctx)
	if err != nil {
		return api.Authority{}, err
	}
	return c.ChangeAuthority(ctx, api.AuthorityChange{Act: act, InsideRun: a.insideRun()})
}

// certificate is what is shown of one.
type certificate struct {
	Subject   string    `json:"subject"`
	SHA256    string    `json:"sha256"` // upper-case hex with colons, as other tools print it
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	// Permitted are the names and addresses that it is limited to.
	Permitted []string `json:"permitted"`
}

func certificateOf(text string) (certificate, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return certificate{}, authsome.E(authsome.Internal, "read the certificate authority: the daemon gave no certificate").WithHint("authsome doctor")
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return certificate{}, authsome.E(authsome.Internal, "read the certificate authority: %w", err).WithHint("authsome doctor")
	}
	sum := sha256.Sum256(c.Raw)
	out := certificate{
		Subject: c.Subject.String(), SHA256: strings.ReplaceAll(fmt.Sprintf("% X", sum), " ", ":"),
		NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC(), Permitted: append([]string{}, c.PermittedDNSDomains...),
	}
	for _, n := range c.PermittedIPRanges {
		out.Permitted = append(out.Permitted, n.IP.String())
	}
	return out, nil
}

// roots are what was made to be installed: all of them, and the one that is right
// now, nil when there is none.
type roots struct {
	all     []truststore.Certificate
	current truststore.Certificate
}

func rootsOf(info api.Authority) (roots, error) {
	var r roots
	for _, text := range info.Roots {
		c, err := truststore.Parse(text)
		if err != nil {
			return r, authsome.E(authsome.Internal, "read what was installed: %w", err)
		}
		r.all = append(r.all, c)
		if text == info.Root {
			r.current = c
		}
	}
	return r, nil
}

// place is a store, and what of ours is in it.
type place struct {
	truststore.Store
	state string // one of the constants
	note  string // why it cannot be told
}

// What of ours a store holds.
const (
	inCurrent  = "current"  // the root that is right now
	inOutdated = "outdated" // only roots of earlier, which no certificate is of any more
	inNone     = "none"
	inUnknown  = "unknown" // it cannot be read
)

// places looks into every store.
func (a *app) places(ctx context.Context, r roots) []place {
	var out []place
	for _, s := range a.trustHost().Find() {
		p := place{Store: s, state: inNone}
		there, err := s.Has(ctx, r.all)
		switch {
		case err != nil:
			p.state, p.note = inUnknown, err.Error()
		case r.current != nil && slices.ContainsFunc(there, func(c truststore.Certificate) bool { return slices.Equal(c, r.current) }):
			p.state = inCurrent
		case len(there) > 0:
			p.state = inOutdated
		}
		out = append(out, p)
	}
	return out
}
