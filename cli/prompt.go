package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
	"golang.org/x/term"
)

// maxTyped bounds one typed or piped value, as the daemon does.
const maxTyped = 64 << 10

// maxMask is how many characters are shown as stars: enough to see that
// something arrives, too few to wrap the line.
const maxMask = 40

var (
	errInterrupted = errors.New("interrupted")
	errEndOfInput  = errors.New("end of input")
	errLongInput   = errors.New("too long")
)

// prompter asks on a terminal. It reads it byte by byte in raw mode, because a
// line that the terminal collects is cut at 4095 bytes without a word
// (termios(3), canonical mode), and keys may be longer.
type prompter struct {
	in    *os.File
	out   io.Writer
	close func()
	state *term.State
	read  chan []byte // what was typed; closed at the end of input
	rest  []byte      // read and not used yet
	shown string      // what stands behind the question
}

// newPrompter takes the terminal that stdin is. It reports false when stdin is
// none. The questions go to stderr, or to the same terminal when that leads
// elsewhere.
func (a *app) newPrompter() (*prompter, bool) {
	if !term.IsTerminal(int(a.Stdin.Fd())) {
		return nil, false
	}
	p := &prompter{in: a.Stdin, out: a.Stderr, close: func() {}}
	if !term.IsTerminal(int(a.Stderr.Fd())) {
		if tty, err := os.OpenFile("/dev/tty", os.O_WRONLY, 0); err == nil {
			p.out, p.close = tty, func() { _ = tty.Close() }
		}
	}
	return p, true
}

// start puts the terminal into raw mode until stop.
func (p *prompter) start() error {
	state, err := term.MakeRaw(int(p.in.Fd()))
	if err != nil {
		return authsome.E(authsome.Internal, "ask on the terminal: %w", err)
	}
	p.state = state
	p.read = make(chan []byte)
	go func() {
		// Left behind in its Read when the prompt ends: the process ends soon
		// after, and a terminal's read cannot be broken off.
		defer close(p.read)
		for {
			buf := make([]byte, 4096)
			n, err := p.in.Read(buf)
			if n > 0 {
				p.read <- buf[:n]
			}
			if err != nil {
				return
			}
		}
	}()
	return nil
}

// stop gives the terminal back as it was. What was typed ahead is dropped, so
// that the rest of a pasted key does not become a command of the shell.
func (p *prompter) stop() {
	discardInput(p.in)
	_ = term.Restore(int(p.in.Fd()), p.state)
	p.close()
}

// askField asks for one field of a form.
func (p *prompter) askField(ctx context.Context, f api.LoginField) (authsome.Secret, error) {
	question := f.Label
	if f.Optional {
		question += " (may be left empty)"
	}
	if !f.Multiline {
		return p.ask(ctx, question, f.Public)
	}
	return p.askText(ctx, question, f.Public)
}

// ask shows a question and returns the line that is typed, masked unless
// public.
func (p *prompter) ask(ctx context.Context, question string, public bool) (authsome.Secret, error) {
	_, _ = fmt.Fprintf(p.out, "%s: ", cleanLine(question))
	line, err := p.line(ctx, public)
	defer clear(line)
	return authsome.NewSecret(string(line)), err
}

// askPublic is ask for what is no secret.
func (p *prompter) askPublic(ctx context.Context, question string) (string, error) {
	_, _ = fmt.Fprintf(p.out, "%s: ", cleanLine(question))
	line, err := p.line(ctx, true)
	return strings.TrimSpace(string(line)), err
}

// askText shows a question and returns the lines that are pasted or typed: a key in
// PEM or a JSON object up to where it ends, all else up to an empty line or
// Ctrl-D.
func (p *prompter) askText(ctx context.Context, question string, public bool) (authsome.Secret, error) {
	_, _ = fmt.Fprintf(p.out, "%s, then an empty line:\r\n", cleanLine(question))
	var text []byte
	defer func() { clear(text) }()
	for {
		line, err := p.line(ctx, public)
		blank := len(bytes.TrimSpace(line)) == 0
		if len(text) > 0 {
			text = append(text, '\n')
		}
		text = append(text, line...)
		clear(line)
		switch {
		case errors.Is(err, errEndOfInput) && len(bytes.TrimSpace(text)) > 0:
			return authsome.NewSecret(string(text)), nil
		case err != nil:
			return authsome.Secret{}, err
		case len(text) > maxTyped:
			return authsome.Secret{}, errLongInput
		case blank || wholeText(text):
			return authsome.NewSecret(string(text)), nil
		}
	}
}

// wholeText reports whether a text says itself that it is complete. Behind a
// certificate there may be those that it was issued by.
func wholeText(text []byte) bool {
	text = bytes.TrimSpace(text)
	last := text[bytes.LastIndexByte(text, '\n')+1:]
	return bytes.HasPrefix(text, []byte("-----BEGIN ")) && bytes.HasPrefix(last, []byte("-----END ")) && !bytes.HasSuffix(last, []byte(" CERTIFICATE-----")) ||
		bytes.HasPrefix(text, []byte("{")) && json.Valid(text)
}

// line returns the line that is typed. The caller clears it.
func (p *prompter) line(ctx context.Context, public bool) ([]byte, error) {
	p.shown = ""
	var line []byte
	for {
		for i, b := range p.rest {
			done, err := p.key(&line, b, public)
			if !done && err == nil {
				continue
			}
			p.rest = p.rest[i+1:]
			if b == '\r' && bytes.HasPrefix(p.rest, []byte("\n")) {
				p.rest = p.rest[1:]
			}
			_, _ = io.WriteString(p.out, "\r\n")
			return line, err
		}
		p.rest = nil
		select {
		case <-ctx.Done():
			_, _ = io.WriteString(p.out, "\r\n")
			return line, ctx.Err()
		case chunk, ok := <-p.read:
			if !ok {
				_, _ = io.WriteString(p.out, "\r\n")
				return line, errEndOfInput
			}
			p.rest = dropEscapes(chunk)
		}
	}
}

// key applies one byte to the line. It reports true when the line is complete.
func (p *prompter) key(line *[]byte, b byte, public bool) (bool, error) {
	switch b {
	case '\r', '\n':
		return true, nil
	case 0x03: // Ctrl-C
		return false, errInterrupted
	case 0x04: // Ctrl-D: end of input on an empty line, as for a shell
		if len(*line) == 0 {
			return false, errEndOfInput
		}
		return false, nil
	case 0x7f, 0x08: // backspace
		_, size := utf8.DecodeLastRune(*line)
		*line = (*line)[:len(*line)-size]
	case 0x15: // Ctrl-U
		*line = (*line)[:0]
	default:
		if len(*line) >= maxTyped {
			return false, errLongInput
		}
		*line = append(*line, b)
	}
	if !utf8.Valid(*line) {
		return false, nil // in the middle of a character
	}
	show := strings.Repeat("*", min(utf8.RuneCount(*line), maxMask))
	if public {
		show = cleanLine(string(*line))
	}
	p.draw(show)
	return false, nil
}

// draw brings what stands behind the question up to date.
func (p *prompter) draw(show string) {
	if more, ok := strings.CutPrefix(show, p.shown); ok {
		_, _ = io.WriteString(p.out, more)
	} else {
		back := utf8.RuneCountInString(p.shown)
		_, _ = io.WriteString(p.out, strings.Repeat("\b \b", back)+show)
	}
	p.shown = show
}

// typedAhead reports whether more was typed than was asked for: a pasted key
// with a line break in it.
func (p *prompter) typedAhead() bool {
	select {
	case chunk := <-p.read:
		p.rest = append(p.rest, chunk...)
	default:
	}
	return len(bytes.Trim(p.rest, " \t\r\n\x04")) > 0
}

// dropEscapes takes the sequences of cursor keys out of what one read gave;
// terminals send each in one piece.
func dropEscapes(chunk []byte) []byte {
	out := chunk[:0:0]
	for i := 0; i < len(chunk); i++ {
		if chunk[i] != 0x1b {
			out = append(out, chunk[i])
			continue
		}
		if i+1 < len(chunk) && (chunk[i+1] == '[' || chunk[i+1] == 'O') {
			// CSI: parameters, then one final byte (ECMA-48 section 5.4); SS3:
			// one byte.
			for i += 2; i < len(chunk) && (chunk[i] < 0x40 || chunk[i] > 0x7e); i++ {
			}
		}
	}
	return out
}
