package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/authsome/authsome/api"
	"github.com/spf13/cobra"
)

func newCAShowCmd(a *app) *cobra.Command {
	var onlyPEM bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show the authority, what it is limited to, and where it is installed",
		Long: `Show the certificate authority of new runs, the root that was made of it to be
installed, the hosts which that is limited to, and the stores that hold it.`,
		Example: `  authsome ca show
  authsome ca show --pem > authsome.pem`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			info, err := a.authority(ctx)
			if err != nil {
				return err
			}
			if onlyPEM && !a.opt.json {
				return a.write([]byte(info.PEM))
			}
			shown := caShown{PEM: info.PEM, Path: info.Path, Former: info.Former, Routed: info.Routed, Repeat: info.Repeat, Stores: []storeShown{}}
			if shown.Certificate, err = certificateOf(info.PEM); err != nil {
				return err
			}
			if info.Root != "" {
				root, err := certificateOf(info.Root)
				if err != nil {
					return err
				}
				shown.Root = &root
			}
			if !onlyPEM {
				if shown.Stores, err = a.storesShown(ctx, info); err != nil {
					return err
				}
			}
			return a.result(shown, shown.text)
		},
	}
	cmd.Flags().BoolVar(&onlyPEM, "pem", false, "print the certificate, and nothing else")
	return cmd
}

// caShown is what `ca show --json` prints.
type caShown struct {
	Certificate certificate  `json:"certificate"`
	PEM         string       `json:"pem"`
	Path        string       `json:"path"`
	Former      int          `json:"former"`         // authorities that living runs still have
	Root        *certificate `json:"root,omitempty"` // what is to be installed
	Routed      []string     `json:"routed"`
	Repeat      string       `json:"repeat,omitempty"` // why to install again
	Stores      []storeShown `json:"stores"`
}

type storeShown struct {
	Store     string `json:"store"`
	Where     string `json:"where"`
	Installed string `json:"installed"` // current, outdated, none or unknown
	Note      string `json:"note,omitempty"`
}

func (s caShown) text() string {
	var b strings.Builder
	line := func(name, value string) { fmt.Fprintf(&b, "%-10s %s\n", name+":", cleanLine(value)) }
	show := func(c certificate) {
		line("Subject", c.Subject)
		line("SHA-256", c.SHA256)
		line("Valid", c.NotBefore.Format(time.DateOnly)+" to "+c.NotAfter.Format(time.DateOnly))
	}
	show(s.Certificate)
	line("File", s.Path)
	if s.Former > 0 {
		line("Former", fmt.Sprintf("%d, for the runs that were started with it", s.Former))
	}
	if s.Root != nil {
		b.WriteString("\nRoot to install, which may sign for nothing but what it permits:\n")
		show(*s.Root)
		line("Permits", strings.Join(s.Root.Permitted, ", "))
	}
	if len(s.Stores) > 0 {
		b.WriteString("\nInstalled:\n")
	}
	words := map[string]string{inCurrent: "yes", inOutdated: "only an earlier one", inNone: "no", inUnknown: "unknown"}
	for _, st := range s.Stores {
		text := words[st.Installed]
		if st.Note != "" {
			text += ": " + st.Note
		}
		fmt.Fprintf(&b, "  %-6s  %s  %s\n", st.Store, cleanLine(st.Where), cleanLine(text))
	}
	if s.Repeat != "" {
		fmt.Fprintf(&b, "\nTo do: %s: authsome ca install\n", cleanLine(s.Repeat))
	}
	return b.String()
}

// storesShown are all stores, with what of ours is in each.
func (a *app) storesShown(ctx context.Context, info api.Authority) ([]storeShown, error) {
	r, err := rootsOf(info)
	if err != nil {
		return nil, err
	}
	out := []storeShown{}
	for _, p := range a.places(ctx, r) {
		out = append(out, storeShown{string(p.Kind), p.Where, p.state, p.note})
	}
	return out, nil
}
