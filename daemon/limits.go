package daemon

import (
	"context"
	"math"
	"strconv"
	"strings"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
	"github.com/authsome/authsome/proxy"
)

// limitsVariable sets limits: names with numbers, separated by spaces.
const limitsVariable = "AUTHSOME_LIMITS"

// limitNames are what may be set, as documented in docs/limits.md.
var limitNames = []struct {
	name  string
	field func(*proxy.Limits) any // *int, or *int64 for megabytes
}{
	{"connections", func(l *proxy.Limits) any { return &l.Connections }},
	{"run-connections", func(l *proxy.Limits) any { return &l.RunConnections }},
	{"requests", func(l *proxy.Limits) any { return &l.Requests }},
	{"run-requests", func(l *proxy.Limits) any { return &l.RunRequests }},
	{"run-hosts", func(l *proxy.Limits) any { return &l.RunHosts }},
	{"memory", func(l *proxy.Limits) any { return &l.Memory }},
	{"run-memory", func(l *proxy.Limits) any { return &l.RunMemory }},
}

// parseLimits reads what limitsVariable says, and fits it to the descriptors that
// the process may have.
func parseLimits(text string) (l proxy.Limits, err error) {
	for _, part := range strings.Fields(strings.ReplaceAll(text, ",", " ")) {
		if err := setLimit(&l, part); err != nil {
			return l, err
		}
	}
	return l.ForDescriptors(maxDescriptors()), nil
}

func setLimit(l *proxy.Limits, part string) error {
	bad := func(why string) error {
		var names []string
		for _, n := range limitNames {
			names = append(names, n.name)
		}
		return authsome.E(authsome.Invalid, "start the daemon: %s: %s", limitsVariable, why).
			WithHint("give for example %s=\"run-connections=8000 memory=1024MB\"; the names are %s", limitsVariable, strings.Join(names, ", "))
	}
	name, value, ok := strings.Cut(part, "=")
	if !ok {
		return bad(strconv.Quote(part) + " is not NAME=NUMBER")
	}
	for _, known := range limitNames {
		if known.name != name {
			continue
		}
		switch field := known.field(l).(type) {
		case *int:
			n, err := strconv.ParseUint(value, 10, 31)
			if err != nil || n == 0 {
				return bad(strconv.Quote(part) + " is no number from 1")
			}
			*field = int(n)
		case *int64:
			digits, ok := strings.CutSuffix(value, "MB")
			n, err := strconv.ParseUint(digits, 10, 32)
			if !ok || err != nil || n == 0 {
				return bad(strconv.Quote(part) + " is no number of megabytes, such as 256MB")
			}
			*field = int64(n) << 20
		}
		return nil
	}
	return bad("there is no limit " + strconv.Quote(name))
}

// fewConnections is what a single agent with its subagents may come to.
const fewConnections = 256

// checkLimits shows what runs may use, and use.
func (d *Daemon) checkLimits(context.Context) api.Check {
	l, u := d.limits, d.proxy.Usage()
	text := "connections " + shareOf(u.Connections, l.Connections, l.RunConnections) +
		", requests under way " + shareOf(u.Requests, l.Requests, l.RunRequests) +
		", memory for bodies " + shareOf(int(u.Memory>>20), int(l.Memory>>20), int(l.RunMemory>>20)) + " MB"
	if files := maxDescriptors(); files != math.MaxInt32 {
		text += "; files that may be open: " + strconv.Itoa(files)
	}
	if l.RunConnections < fewConnections {
		return warning("raise the limit of open files (ulimit -Hn, or LimitNOFILE of systemd), then: authsome daemon restart", "few files may be open, so a run may have few connections: %s", text)
	}
	return ok("%s", text)
}

func shareOf(used, total, each int) string {
	return strconv.Itoa(used) + " of " + strconv.Itoa(total) + " (a run: " + strconv.Itoa(each) + ")"
}
