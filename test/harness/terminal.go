package harness

import (
	"os"
	"os/exec"
	"strings"
	"sync"

	"github.com/creack/pty"
)

// Terminal is a program on a terminal, and all that it has drawn.
type Terminal struct {
	f   *os.File
	cmd *exec.Cmd
	mu  sync.Mutex
	all strings.Builder
}

// OnTerminal starts a program on a terminal of 40 lines. It answers the
// questions that programs ask of a terminal, since some wait for the answers.
func OnTerminal(cmd *exec.Cmd) (*Terminal, error) {
	cmd.Stdin = nil
	f, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 40, Cols: 120})
	if err != nil {
		return nil, err
	}
	t := &Terminal{f: f, cmd: cmd}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := f.Read(buf)
			t.mu.Lock()
			t.all.Write(buf[:n])
			t.mu.Unlock()
			if strings.Contains(string(buf[:n]), "\x1b[6n") { // where is the cursor?
				_, _ = f.WriteString("\x1b[1;1R")
			}
			if strings.Contains(string(buf[:n]), "\x1b[c") { // what are you?
				_, _ = f.WriteString("\x1b[?1;2c")
			}
			if err != nil {
				return
			}
		}
	}()
	return t, nil
}

// Text is all that was drawn, with its escape sequences.
func (t *Terminal) Text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.all.String()
}

// Type types.
func (t *Terminal) Type(text string) error {
	_, err := t.f.WriteString(text)
	return err
}

// Close kills the program.
func (t *Terminal) Close() {
	_ = t.cmd.Process.Kill()
	_, _ = t.cmd.Process.Wait()
	_ = t.f.Close()
}
