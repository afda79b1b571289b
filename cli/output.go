package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"unicode"

	"github.com/authsome/authsome"
	"golang.org/x/term"
)

// The rules of output, which every command keeps:
//
//   - What was asked for goes to stdout; everything else goes to stderr:
//     messages, warnings, prompts, progress, errors.
//   - With --json, stdout holds exactly one JSON document, {"v":1,…}, indented
//     by two, and nothing else; an error is such a document too. (A stream
//     that follows something, `log -f`, is one compact document a line.)
//   - --quiet hides messages and, without --json, errors, of which the exit
//     code remains. It hides neither tables nor JSON, nor a question that must
//     be answered, nor an address that must be opened.
//   - Colour is for terminals, and for those who have not set NO_COLOR.
//   - A result is written in one piece, and a result that cannot be written is
//     an error.
//   - Text that comes from elsewhere (definitions, requests of a child) is
//     printed with its control characters made visible: see clean.
//   - A secret is printed by `get --show-secret` and `export` only.

// jsonVersion is "v" of every document.
const jsonVersion = 1

// document encodes v, which must become a JSON object, with "v" in front.
func document(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false) // & in an address stays an &
	if err := enc.Encode(v); err != nil {
		return nil, authsome.E(authsome.Internal, "write the result: %w", err)
	}
	body, ok := bytes.CutPrefix(bytes.TrimSpace(buf.Bytes()), []byte("{"))
	if !ok {
		return nil, authsome.E(authsome.Internal, "write the result: %T is no JSON object", v)
	}
	out := fmt.Appendf(nil, `{"v":%d`, jsonVersion)
	if !bytes.HasPrefix(body, []byte("}")) {
		out = append(out, ',')
	}
	return append(out, body...), nil
}

// printJSON prints a command's only document.
func (a *app) printJSON(v any) error {
	doc, err := document(v)
	if err != nil {
		return err
	}
	var buf bytes.Buffer
	if err := json.Indent(&buf, doc, "", "  "); err != nil {
		return authsome.E(authsome.Internal, "write the result: %w", err)
	}
	buf.WriteByte('\n')
	return a.write(buf.Bytes())
}

// write puts a result on stdout.
func (a *app) write(data []byte) error {
	if _, err := a.Stdout.Write(data); err != nil {
		return authsome.E(authsome.Internal, "write the result: %w", cause(err))
	}
	return nil
}

// result prints v as JSON with --json, else the text that human makes.
func (a *app) result(v any, human func() string) error {
	if a.opt.json {
		return a.printJSON(v)
	}
	if text := human(); text != "" {
		return a.write([]byte(text))
	}
	return nil
}

// done reports an act: v with --json, else a line, which --quiet hides. The
// line is what was asked for, so it goes to stdout.
func (a *app) done(v any, format string, args ...any) error {
	return a.result(v, func() string {
		if a.opt.quiet {
			return ""
		}
		return clean(fmt.Sprintf(format, args...)) + "\n"
	})
}

// note tells the person something on the way; --quiet hides it.
func (a *app) note(format string, args ...any) {
	if !a.opt.quiet {
		a.tell(format, args...)
	}
}

// tell is note that --quiet does not hide: the command cannot go on unless the
// person knows.
func (a *app) tell(format string, args ...any) {
	_, _ = fmt.Fprintln(a.Stderr, clean(fmt.Sprintf(format, args...)))
}

// warn is a note that something is not as it should be.
func (a *app) warn(format string, args ...any) {
	if !a.opt.quiet {
		_, _ = fmt.Fprintln(a.Stderr, a.paint(a.Stderr, yellow, "Warning:"), clean(fmt.Sprintf(format, args...)))
	}
}

// failure is the document of an error.
type failure struct {
	Error   authsome.Code `json:"error"`
	Message string        `json:"message"`
	Hint    string        `json:"hint,omitempty"`
}

// printError says what went wrong: the message, and the next thing to do.
func (a *app) printError(err error) {
	f := failure{authsome.CodeOf(err), err.Error(), authsome.HintOf(err)}
	var known *authsome.Error
	if errors.As(err, &known) {
		f.Message = known.Message
	}
	switch {
	case a.opt.json:
		_ = a.printJSON(f) // when stdout is what is broken, the exit code remains
	case !a.opt.quiet:
		_, _ = fmt.Fprintln(a.Stderr, a.paint(a.Stderr, red, "Error:"), clean(f.Message))
		if f.Hint != "" {
			_, _ = fmt.Fprintln(a.Stderr, "Hint:", clean(f.Hint))
		}
	}
}

// The colours, as SGR parameters (ECMA-48 section 8.3.117).
const (
	red    = "31"
	green  = "32"
	yellow = "33"
	dim    = "2"
)

// paint colours text that is for f, if f shows colours.
func (a *app) paint(f *os.File, colour, text string) string {
	if !a.colours(f) {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

func (a *app) colours(f *os.File) bool {
	return !a.opt.noColor && a.getenv("NO_COLOR") == "" && a.getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))
}

// clean makes text from elsewhere harmless on a terminal: a control character
// could move the cursor, change the title or hide what follows, and a
// bidirectional override could show another host than the one that is meant.
// Line breaks stay, for text that has them on purpose; see cleanLine.
func clean(s string) string {
	if strings.IndexFunc(s, harmful) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if harmful(r) {
			fmt.Fprintf(&b, "\\u%04x", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// cleanLine is clean for what must stay on one line.
func cleanLine(s string) string { return strings.ReplaceAll(clean(s), "\n", `\n`) }

func harmful(r rune) bool {
	switch {
	case r == '\n', r == '\t':
		return false
	case unicode.IsControl(r):
		return true
	}
	return unicode.Is(unicode.Cf, r) // format characters: overrides, zero-width
}

// cause takes the path and the operation off a file's error; the message that
// it goes into says both in words.
func cause(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
