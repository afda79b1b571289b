package cli

import (
	"errors"
	"os/exec"
	"runtime"
	"strings"

	"github.com/authsome/authsome"
)

// display reports whether a browser that is opened here appears before the
// person.
func (a *app) display() bool {
	switch runtime.GOOS {
	case "windows":
		return true
	case "darwin":
		// A session over the network has no screen, though the machine does.
		return a.getenv("SSH_CONNECTION") == "" && a.getenv("SSH_TTY") == ""
	default:
		return a.getenv("DISPLAY") != "" || a.getenv("WAYLAND_DISPLAY") != "" || a.getenv("WSL_DISTRO_NAME") != ""
	}
}

// openers are the commands that open an address, the first that exists is
// taken. (github.com/cli/browser knows the same, but can neither be given an
// environment nor goes on while the browser that it started is open.)
func openers() [][]string {
	switch runtime.GOOS {
	case "darwin":
		return [][]string{{"/usr/bin/open"}}
	case "windows":
		return [][]string{{"rundll32", "url.dll,FileProtocolHandler"}}
	default:
		return [][]string{{"xdg-open"}, {"gio", "open"}, {"x-www-browser"}, {"wslview"}}
	}
}

// openBrowser starts the person's browser and does not wait for it.
func (a *app) openBrowser(url string) error {
	for _, o := range openers() {
		exe, err := exec.LookPath(o[0])
		if err != nil {
			continue
		}
		cmd := exec.Command(exe, append(o[1:len(o):len(o)], url)...)
		cmd.Env = browserEnvironment(a.Environ, a.insideRun())
		// No streams: what browsers say belongs neither in a result nor between
		// messages.
		if err := cmd.Start(); err != nil {
			return err
		}
		go func() { _ = cmd.Wait() }()
		return nil
	}
	return errors.New("there is no program that opens one")
}

// desktopVariables are what a browser needs of the environment of a run: the
// rest, where the run's proxy, its certificates and placeholders are among, is
// left out. A trailing * stands for any rest.
var desktopVariables = []string{
	"HOME", "PATH", "USER", "LOGNAME", "SHELL", "TMPDIR", "TZ", "LANG", "LANGUAGE", "LC_*",
	"DISPLAY", "XAUTHORITY", "WAYLAND_DISPLAY", "XDG_*", "DBUS_SESSION_BUS_ADDRESS",
	"DESKTOP_SESSION", "GNOME_*", "KDE_*", "BROWSER", "WSL_*", "WSLENV",
	"SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "USERPROFILE", "USERNAME", "APPDATA", "LOCALAPPDATA",
	"PROGRAMDATA", "PROGRAMFILES*", "TEMP", "TMP", "COMSPEC", "PATHEXT",
}

// browserEnvironment is what the browser gets. Outside a run that is what the
// person has, without authsome's own variables, a master key among them.
func browserEnvironment(environ []string, insideRun bool) []string {
	var out []string
	for _, kv := range environ {
		name, value, ok := strings.Cut(kv, "=")
		if !ok || name == "" || strings.HasPrefix(strings.ToUpper(name), "AUTHSOME_") || strings.HasPrefix(value, authsome.Placeholder) {
			continue
		}
		if !insideRun || onList(desktopVariables, name) {
			out = append(out, kv)
		}
	}
	return out
}

// onList matches a variable's name; upper and lower case are one to Windows.
func onList(list []string, name string) bool {
	if runtime.GOOS == "windows" {
		name = strings.ToUpper(name)
	}
	for _, entry := range list {
		prefix, open := strings.CutSuffix(entry, "*")
		if name == entry || open && strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
