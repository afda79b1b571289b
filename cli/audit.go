package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
	"github.com/spf13/cobra"
)

const (
	// followWait is how long one question of `log -f` waits for an event.
	followWait = 50 * time.Second
	// maxEvents is the most that one question answers.
	maxEvents = 1000
)

func newLogCmd(a *app) *cobra.Command {
	var n int
	var follow, raw bool
	cmd := &cobra.Command{
		Use:   "log",
		Short: "Show what was done with credentials",
		Long: `Show the audit: logins, requests that got a credential or were denied, exports,
changes; the newest last. It never holds a secret.

A request has one line, once it is over. One that is under way, or that the end
of the daemon cut short, is shown as "started". --json shows what is
stored, in the order in which it was recorded: a request that takes longer than
the log is gathered, a fifth of a second, has an event for its beginning as well.

With -f it goes on as events come, requests as they end; with --json as well,
each event is one document on a line. With --raw it shows this command's own log file instead.`,
		Example: `  authsome log -n 20
  authsome log -f
  authsome log --json | jq '.entries[] | select(.status == "denied")'`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case n < 1 || n > 100_000:
				return usage(cmd, "-n is from 1 to 100000")
			case raw && follow:
				return usage(cmd, "--raw and -f do not go together")
			case raw:
				return a.rawLog(n)
			}
			return a.showLog(cmd.Context(), n, follow)
		},
	}
	cmd.Flags().IntVarP(&n, "lines", "n", 50, "how many to show")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on as events come")
	cmd.Flags().BoolVar(&raw, "raw", false, "show the command's own log file")
	return cmd
}

// auditLog is the document of log.
type auditLog struct {
	LogFile string           `json:"log_file"`
	Entries []authsome.Event `json:"entries"`
}

func (a *app) showLog(ctx context.Context, n int, follow bool) error {
	ctx, stop := interruptible(ctx)
	defer stop()
	c, err := a.client(ctx)
	if err != nil {
		return err
	}
	look := n
	if !a.opt.json {
		look = 2 * n // a request has two events at most, and one line
	}
	page, err := lastEvents(ctx, c, look)
	if err != nil {
		return err
	}
	if !a.opt.json {
		page.Entries = oncePerRequest(page.Entries, follow)
		page.Entries = page.Entries[max(len(page.Entries)-n, 0):]
	}
	if !follow {
		path, err := a.logPath()
		if err != nil {
			return err
		}
		return a.result(auditLog{path, page.Entries}, func() string {
			if len(page.Entries) == 0 {
				a.note("No audit entries found.")
				return ""
			}
			return eventTable(page.Entries).String()
		})
	}
	if err := a.printEvents(page.Entries); err != nil {
		return err
	}
	for {
		q := api.EventsQuery{After: page.Next, FromStart: page.Next == 0, Limit: maxEvents, Wait: followWait}
		page, err = c.Events(ctx, q)
		switch {
		case ctx.Err() != nil:
			return nil // Ctrl-C is how this ends
		case err != nil:
			return err
		}
		if !a.opt.json {
			page.Entries = oncePerRequest(page.Entries, true)
		}
		if err := a.printEvents(page.Entries); err != nil {
			return err
		}
	}
}

// oncePerRequest makes of events what people read: of a request that is over
// its end only, and all by time. They were recorded in another order: requests
// are stored a little after everything else, the end of their run included.
// With follow no request is shown before it is over, since it comes again then.
func oncePerRequest(events []authsome.Event, follow bool) []authsome.Event {
	type request struct{ run, id string }
	over := map[request]bool{}
	for _, e := range events {
		if e.Request != "" && e.Status != "started" {
			over[request{e.Run, e.Request}] = true
		}
	}
	out := slices.DeleteFunc(slices.Clone(events), func(e authsome.Event) bool {
		return e.Request != "" && e.Status == "started" && (follow || over[request{e.Run, e.Request}])
	})
	slices.SortStableFunc(out, func(a, b authsome.Event) int { return a.Time.Compare(b.Time) })
	return out
}

// lastEvents collects the last n, of which one answer holds only so many.
func lastEvents(ctx context.Context, c *api.Client, n int) (api.Events, error) {
	page, err := c.Events(ctx, api.EventsQuery{Limit: min(n, maxEvents)})
	if err != nil || n <= maxEvents || len(page.Entries) < maxEvents {
		if page.Entries == nil {
			page.Entries = []authsome.Event{}
		}
		return page, err
	}
	// Further back: from n before the newest on.
	newest := page.Entries[len(page.Entries)-1].Seq
	all := api.Events{Next: max(newest-int64(n), 0)}
	for len(all.Entries) < n {
		page, err := c.Events(ctx, api.EventsQuery{After: all.Next, FromStart: all.Next == 0, Limit: maxEvents})
		if err != nil {
			return all, err
		}
		if len(page.Entries) == 0 {
			break
		}
		all.Entries, all.Next = append(all.Entries, page.Entries...), page.Next
	}
	return all, nil
}

// printEvents writes what `log -f` has got, a line each.
func (a *app) printEvents(events []authsome.Event) error {
	var b strings.Builder
	for _, e := range events {
		if !a.opt.json {
			b.WriteString(strings.Join(eventRow(e), "  ") + "\n")
			continue
		}
		doc, err := document(e)
		if err != nil {
			return err
		}
		b.Write(doc)
		b.WriteByte('\n')
	}
	if b.Len() == 0 {
		return nil
	}
	return a.write([]byte(b.String()))
}

func eventTable(events []authsome.Event) *table {
	t := newTable("Timestamp", "Event", "Provider", "Status", "Detail")
	for _, e := range events {
		t.row(eventRow(e)...)
	}
	return t
}

// eventRow is an event for people, in the local time.
func eventRow(e authsome.Event) []string {
	provider := e.Provider
	if e.Connection != "" {
		provider += " (" + e.Connection + ")"
	}
	var detail []string
	add := func(s string) {
		if s != "" {
			detail = append(detail, s)
		}
	}
	add(e.Program)
	add(strings.TrimSpace(e.Method + " " + e.Host + e.Path))
	if e.Code != 0 {
		add(fmt.Sprint(e.Code))
	}
	add(e.Detail)
	row := []string{e.Time.Local().Format("2006-01-02 15:04:05"), string(e.Type), provider, e.Status, strings.Join(detail, " ")}
	for i := range row {
		if row[i] = cleanLine(row[i]); row[i] == "" {
			row[i] = "-"
		}
	}
	return row
}

// rawLog prints the end of the command's own log.
func (a *app) rawLog(n int) error {
	path, err := a.logPath()
	if err != nil {
		return err
	}
	lines := []string{}
	if path != "" {
		if lines, err = tail(path, n); err != nil {
			return authsome.E(authsome.Invalid, "read the log %s: %w", path, cause(err))
		}
	}
	return a.result(struct {
		LogFile string   `json:"log_file"`
		Entries []string `json:"entries"`
	}{path, lines}, func() string {
		if len(lines) == 0 {
			a.note("No log entries found.")
			return ""
		}
		return clean(strings.Join(lines, "\n")) + "\n"
	})
}

// maxTail bounds how much of a file's end is looked at.
const maxTail = 8 << 20

// tail returns the last n lines of a file, none when there is no file.
func tail(path string, n int) ([]string, error) {
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return []string{}, nil
	} else if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	start := max(fi.Size()-maxTail, 0)
	data, err := io.ReadAll(io.NewSectionReader(f, start, maxTail))
	if err != nil {
		return nil, err
	}
	text := strings.TrimRight(string(data), "\n")
	if text == "" {
		return []string{}, nil
	}
	lines := strings.Split(text, "\n")
	if start > 0 {
		lines = lines[1:] // cut in the middle
	}
	return lines[max(len(lines)-n, 0):], nil
}
