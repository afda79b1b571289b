package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"github.com/authsome/authsome"
)

// asked is how a way of asking ended.
type asked int

const (
	confirmed asked = iota
	refused
	impossible // nobody could be asked this way
)

// presence makes sure that a person is there and wants what is about to be
// done. The system's own dialogue is the best witness, since a program cannot
// answer it; a question on the controlling terminal is the last resort. An
// agent without a terminal gets nothing.
//
// This stops a program from doing it unnoticed, not a person's own programs
// from ever seeing their secrets: see docs/threat-model.md.
func (a *app) presence(ctx context.Context, what string) error {
	ways := []func(context.Context, string) asked{}
	switch runtime.GOOS {
	case "darwin":
		ways = append(ways, a.askMac)
	case "windows":
	default:
		ways = append(ways, a.askPolkit, a.askSudo)
	}
	for _, ask := range append(ways, a.askTerminal) {
		switch ask(ctx, what) {
		case confirmed:
			return nil
		case refused:
			return authsome.E(authsome.Cancelled, "%s: it was not confirmed", what)
		}
	}
	return authsome.E(authsome.Cancelled, "%s: there is nobody to confirm it, neither a terminal nor a desktop", what).
		WithHint("run it in a terminal")
}

// systemDirs are where programs that check a person may come from: not
// wherever PATH leads.
var systemDirs = []string{"/run/wrappers/bin", "/usr/bin", "/bin", "/usr/local/bin", "/opt/homebrew/bin"}

// systemProgram finds one; "" when it is not there.
func systemProgram(name string) string {
	for _, dir := range systemDirs {
		path := dir + "/" + name
		if fi, err := os.Stat(path); err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 {
			return path
		}
	}
	return ""
}

// askMac asks for an administrator's password or fingerprint.
func (a *app) askMac(ctx context.Context, what string) asked {
	exe := systemProgram("osascript")
	if exe == "" || a.getenv("SSH_CONNECTION") != "" {
		return impossible
	}
	script := fmt.Sprintf("do shell script \"true\" with prompt %s with administrator privileges", quoteAppleScript("authsome wants to "+what))
	if err := exec.CommandContext(ctx, exe, "-e", script).Run(); err != nil {
		return refused
	}
	return confirmed
}

// quoteAppleScript makes a string literal of AppleScript.
func quoteAppleScript(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(cleanLine(s)) + `"`
}

// askPolkit asks through the desktop's authentication agent.
func (a *app) askPolkit(ctx context.Context, what string) asked {
	exe := systemProgram("pkexec")
	if exe == "" || os.Geteuid() == 0 || !a.display() {
		return impossible
	}
	a.tell("Confirm in the window that opens: %s.", what)
	// Exit codes by pkexec(1): 126 when the dialogue was dismissed, 127 when
	// there is no agent or no right to ask.
	err := exec.CommandContext(ctx, exe, "--disable-internal-agent", "/bin/true").Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return confirmed
	case errors.As(err, &exit) && exit.ExitCode() == 126:
		return refused
	default:
		return impossible
	}
}

// askSudo asks for the person's password. It counts only where sudo really
// asks: not as root, nor where no password is needed, nor within the minutes
// for which it remembers one (-k).
func (a *app) askSudo(ctx context.Context, what string) asked {
	exe := systemProgram("sudo")
	if exe == "" || os.Geteuid() == 0 {
		return impossible
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return impossible // sudo would have nobody to ask either
	}
	defer func() { _ = tty.Close() }()
	if exec.CommandContext(ctx, exe, "-k", "-n", "-v").Run() == nil {
		return impossible
	}
	_, _ = fmt.Fprintf(tty, "To %s, sudo asks for your password.\n", cleanLine(what))
	cmd := exec.CommandContext(ctx, exe, "-k", "-v")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	if cmd.Run() == nil {
		return confirmed
	}
	return refused
}

// askTerminal asks on the controlling terminal, wherever the standard streams
// go.
func (a *app) askTerminal(ctx context.Context, what string) asked {
	name := "/dev/tty"
	if runtime.GOOS == "windows" {
		name = "CONIN$"
	}
	tty, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return impossible
	}
	out := tty
	if runtime.GOOS == "windows" {
		out = a.Stderr
	}
	_, _ = fmt.Fprintf(out, "Do you want to %s? Type yes: ", cleanLine(what))
	type answer struct {
		text string
		err  error
	}
	got := make(chan answer, 1)
	go func() {
		text, err := bufio.NewReader(io.LimitReader(tty, 256)).ReadString('\n')
		got <- answer{text, err}
	}()
	select {
	case <-ctx.Done():
		return refused
	case in := <-got:
		_ = tty.Close()
		if in.err == nil && strings.EqualFold(strings.TrimSpace(in.text), "yes") {
			return confirmed
		}
		return refused
	}
}
