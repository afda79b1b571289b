package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
)

// readPiped reads what standard input gives, up to the size of the longest keys,
// and refuses nothing at all. doing begins the errors, which quote nothing.
func readPiped(r io.Reader, doing string) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxTyped+1))
	switch {
	case err != nil:
		return nil, authsome.E(authsome.Invalid, "%s: standard input cannot be read: %w", doing, cause(err))
	case len(data) > maxTyped:
		return nil, authsome.E(authsome.Invalid, "%s: standard input is longer than 64 KiB, and no key is", doing)
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff")) // which PowerShell puts in front
	data = bytes.TrimRight(data, "\r\n")
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, authsome.E(authsome.Invalid, "%s: standard input is empty: no key came", doing)
	}
	return data, nil
}

// pipedFields makes the fields of a login from lines, one for each in the
// definition's order. A field of several lines in the middle is a text in PEM, with
// all the blocks of its kind; one that comes last takes the rest.
func pipedFields(l api.Login, data []byte) (map[string]authsome.Secret, error) {
	bad := func(why string, args ...any) error {
		labels := make([]string, len(l.Fields))
		for i, f := range l.Fields {
			labels[i] = f.Label
		}
		return authsome.E(authsome.Invalid, "log in to %s: %s", l.Provider, fmt.Sprintf(why, args...)).
			WithHint("give %d line(s) on standard input: %s", len(l.Fields), strings.Join(labels, ", "))
	}
	given := bytes.Split(data, []byte("\n"))
	var lines [][]byte
	for i, f := range l.Fields {
		n := min(1, len(given))
		switch last := i == len(l.Fields)-1; {
		case last && (f.Multiline || len(given) == 0):
			n = len(given)
		case f.Multiline:
			n = max(n, pemLines(given))
		}
		if n > 0 {
			lines = append(lines, bytes.Join(given[:n], []byte("\n")))
		}
		given = given[n:]
	}
	lines = append(lines, given...)
	// Empty lines at the end went with the last line's end.
	for len(lines) < len(l.Fields) && l.Fields[len(lines)].Optional {
		lines = append(lines, nil)
	}
	if len(lines) != len(l.Fields) {
		return nil, bad("standard input has %d lines, not %d", len(lines), len(l.Fields))
	}
	fields := map[string]authsome.Secret{}
	for i, line := range lines {
		f := l.Fields[i]
		line = bytes.TrimSuffix(line, []byte("\r"))
		harmful := unicode.IsControl
		if f.Multiline {
			harmful = func(r rune) bool { return unicode.IsControl(r) && !strings.ContainsRune("\t\r\n", r) }
		}
		switch {
		case len(bytes.TrimSpace(line)) == 0 && f.Optional:
			continue
		case len(bytes.TrimSpace(line)) == 0:
			return nil, bad("line %d is empty", i+1)
		case !utf8.Valid(line):
			return nil, bad("line %d is not text in UTF-8", i+1)
		case bytes.ContainsFunc(line, harmful):
			return nil, bad("line %d has a control character in it", i+1)
		}
		fields[f.Name] = authsome.NewSecret(string(line))
	}
	return fields, nil
}

// pemLines is how many lines the blocks of the first one's kind take, in a text
// that begins with one.
func pemLines(lines [][]byte) int {
	const begin, end = "-----BEGIN ", "-----END "
	kind, found := bytes.CutPrefix(lines[0], []byte(begin))
	if !found {
		return 0
	}
	n := 0
	for i, line := range lines {
		switch {
		case bytes.HasPrefix(line, []byte(end)):
			n = i + 1
		case bytes.HasPrefix(line, []byte(begin)) && !bytes.Equal(line[len(begin):], kind):
			return n
		}
	}
	return n
}

// loginPiped finishes a login with what came from standard input. It answers for
// a key only: what an OAuth app is known by is no key.
func (a *app) loginPiped(ctx context.Context, l api.Login, data []byte) error {
	defer clear(data)
	if l.Step != authsome.StepKey {
		a.cancelLogin(l)
		return authsome.E(authsome.Usage, "log in to %s: --stdin gives a key, and --flow %s takes none", l.Provider, l.Flow).
			WithHint("authsome login %s --flow %s", l.Provider, l.Flow)
	}
	fields, err := pipedFields(l, data)
	if err == nil {
		var done api.Login
		if done, err = a.api.SubmitLogin(ctx, l.ID, fields); err == nil {
			return a.loginEnded(ctx, done)
		}
	}
	a.cancelLogin(l)
	return err
}
