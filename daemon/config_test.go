package daemon

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
)

func env(vars map[string]string) func(string) string {
	return func(name string) string { return vars[name] }
}

func TestConfig(t *testing.T) {
	c, err := Config{Getenv: env(nil)}.withDefaults()
	if err != nil || c.Port != authsome.BrowserPort || c.Version != authsome.Version || c.Level.Level() != slog.LevelInfo || c.Drain != defaultDrain {
		t.Errorf("defaults: %+v, %v", c, err)
	}
	c, err = Config{Getenv: env(map[string]string{"AUTHSOME_PORT": "8001", "AUTHSOME_LOG": "debug"})}.withDefaults()
	if err != nil || c.Port != 8001 || c.Level.Level() != slog.LevelDebug {
		t.Errorf("from the environment: %+v, %v", c, err)
	}
	c, err = Config{Port: 9000, Level: slog.LevelWarn, Getenv: env(map[string]string{"AUTHSOME_PORT": "8001", "AUTHSOME_LOG": "debug"})}.withDefaults()
	if err != nil || c.Port != 9000 || c.Level.Level() != slog.LevelWarn {
		t.Errorf("fields go before the environment: %+v, %v", c, err)
	}
	for name, vars := range map[string]map[string]string{
		"AUTHSOME_PORT": {"AUTHSOME_PORT": "http"},
		"is no port":    {"AUTHSOME_PORT": "0"},
		"65536":         {"AUTHSOME_PORT": "65536"},
		"AUTHSOME_LOG":  {"AUTHSOME_LOG": "loud"},
	} {
		if _, err := (Config{Getenv: env(vars)}).withDefaults(); authsome.CodeOf(err) != authsome.Invalid || !strings.Contains(err.Error(), name) || authsome.HintOf(err) == "" {
			t.Errorf("%v: %v", vars, err)
		}
	}
	if _, err := (Config{Port: -1, Getenv: env(nil)}).withDefaults(); authsome.CodeOf(err) != authsome.Invalid {
		t.Errorf("port -1: %v", err)
	}
}

// TestUpstream: which proxy is taken to which host, by which variables.
func TestUpstream(t *testing.T) {
	const corporate, other = "http://10.0.0.1:3128", "socks5h://me:p%40ss@10.0.0.2:1080"
	for name, tt := range map[string]struct {
		vars   map[string]string
		target string // https://api.openai.com/v1 when empty
		want   string
	}{
		"none":                        {want: ""},
		"upper case":                  {vars: map[string]string{"HTTPS_PROXY": corporate}, want: corporate},
		"lower case":                  {vars: map[string]string{"https_proxy": corporate}, want: corporate},
		"upper before lower":          {vars: map[string]string{"HTTPS_PROXY": corporate, "https_proxy": other}, want: corporate},
		"all":                         {vars: map[string]string{"ALL_PROXY": other}, want: other},
		"all, lower case":             {vars: map[string]string{"all_proxy": other}, want: other},
		"all, for http too":           {vars: map[string]string{"all_proxy": other}, target: "http://example.com/", want: other},
		"all, with one of its own":    {vars: map[string]string{"ALL_PROXY": other, "https_proxy": corporate}, want: corporate},
		"all, with an empty one":      {vars: map[string]string{"ALL_PROXY": other, "HTTPS_PROXY": ""}, want: other},
		"all, with one for http":      {vars: map[string]string{"ALL_PROXY": other, "HTTP_PROXY": corporate}, want: other},
		"plain only":                  {vars: map[string]string{"HTTP_PROXY": corporate}, want: ""},
		"plain, for plain":            {vars: map[string]string{"http_proxy": corporate}, target: "http://example.com/", want: corporate},
		"https of the proxy":          {vars: map[string]string{"HTTPS_PROXY": "https://me@proxy.example"}, want: "https://me@proxy.example"},
		"no scheme":                   {vars: map[string]string{"HTTPS_PROXY": "proxy.example:3128"}, want: "http://proxy.example:3128"},
		"no scheme, a user":           {vars: map[string]string{"HTTPS_PROXY": "me:secret@proxy.example"}, want: "http://me:secret@proxy.example"},
		"blanks around":               {vars: map[string]string{"HTTPS_PROXY": " " + corporate + "\n"}, want: corporate},
		"not for a domain":            {vars: map[string]string{"HTTPS_PROXY": corporate, "NO_PROXY": "example.com, openai.com"}, want: ""},
		"not for, lower case":         {vars: map[string]string{"HTTPS_PROXY": corporate, "no_proxy": ".openai.com"}, want: ""},
		"not for another":             {vars: map[string]string{"HTTPS_PROXY": corporate, "NO_PROXY": "notopenai.com"}, want: corporate},
		"not for any":                 {vars: map[string]string{"ALL_PROXY": other, "NO_PROXY": "*"}, want: ""},
		"not for a port":              {vars: map[string]string{"HTTPS_PROXY": corporate, "NO_PROXY": "openai.com:443"}, want: ""},
		"not for another port":        {vars: map[string]string{"HTTPS_PROXY": corporate, "NO_PROXY": "openai.com:8443"}, want: corporate},
		"not for that port":           {vars: map[string]string{"HTTPS_PROXY": corporate, "NO_PROXY": "openai.com:8443"}, target: "https://api.openai.com:8443/", want: ""},
		"not for a block":             {vars: map[string]string{"HTTPS_PROXY": corporate, "NO_PROXY": "192.168.0.0/16"}, target: "https://192.168.7.7/", want: ""},
		"not for another block":       {vars: map[string]string{"HTTPS_PROXY": corporate, "NO_PROXY": "192.168.0.0/16"}, target: "https://192.169.7.7/", want: corporate},
		"not for a block of IPv6":     {vars: map[string]string{"HTTPS_PROXY": corporate, "NO_PROXY": "fd00::/8"}, target: "https://[fd00::7]/", want: ""},
		"never for this machine":      {vars: map[string]string{"HTTPS_PROXY": corporate}, target: "https://127.0.0.1:8443/", want: ""},
		"never for this machine's ::": {vars: map[string]string{"ALL_PROXY": other}, target: "https://[::1]:8443/", want: ""},
	} {
		up, err := upstream(env(tt.vars))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if tt.target == "" {
			tt.target = "https://api.openai.com/v1"
		}
		target, err := url.Parse(tt.target)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if up.Proxy != nil {
			if u, err := up.Proxy(target); err != nil {
				t.Errorf("%s: %v", name, err)
			} else if u != nil {
				got = u.String()
			}
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
	// One that cannot be read must not mean none, nor be quoted.
	for _, name := range []string{"https_proxy", "HTTP_PROXY", "ALL_PROXY"} {
		for _, bad := range []string{
			"ftp://me:hunter2@10.0.0.1", "socks4://10.0.0.1", "http://", "http://user:hunter2@[::1", "://hunter2", "http://10.0.0.1:http", "http://10.0.0.1:0", "http:hunter2",
			"http://10.0.0.1:99999", "socks5://hunter2@10.0.0.1", "socks5h://me:" + strings.Repeat("hunter2", 40) + "@10.0.0.1",
		} {
			_, err := upstream(env(map[string]string{name: bad}))
			if authsome.CodeOf(err) != authsome.Invalid || strings.Contains(fmt.Sprint(err, authsome.HintOf(err)), "hunter2") || !strings.Contains(err.Error(), name) {
				t.Errorf("%s=%q: %v", name, bad, err)
			}
		}
	}
}

func TestLogRotates(t *testing.T) {
	home := t.TempDir()
	l, err := openLog(home)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	line := bytes.Repeat([]byte("x"), maxLog/2+1)
	for i := range 6 {
		line[0] = byte('0' + i)
		if _, err := l.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]byte{"": '5', ".1": '4', ".2": '3', ".3": '2'} {
		data, err := os.ReadFile(filepath.Join(home, api.LogFile+name))
		if err != nil || len(data) != len(line) || data[0] != want {
			t.Errorf("daemon.log%s: %d bytes, %v", name, len(data), err)
		}
		if fi, err := os.Stat(filepath.Join(home, api.LogFile+name)); err == nil && fi.Mode().Perm() != 0o600 {
			t.Errorf("daemon.log%s has mode %v", name, fi.Mode())
		}
	}
	if _, err := os.Stat(filepath.Join(home, api.LogFile+".4")); !os.IsNotExist(err) {
		t.Errorf("a fifth file was kept: %v", err)
	}
}

func TestLogGoesToStderrOnceOnly(t *testing.T) {
	home := t.TempDir()
	l, err := openLog(home)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	same, err := os.OpenFile(filepath.Join(home, api.LogFile), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer same.Close()
	l.logger(Config{Level: slog.LevelInfo, Stderr: same}).Info("once")
	var other bytes.Buffer
	l.logger(Config{Level: slog.LevelInfo, Stderr: &other}).Info("twice", "key", authsome.NewSecret("hunter2"))
	l.logger(Config{Level: slog.LevelWarn, Stderr: &other}).Info("never")
	data, err := os.ReadFile(filepath.Join(home, api.LogFile))
	if err != nil || strings.Count(string(data), "msg=once") != 1 || strings.Count(string(data), "msg=twice") != 1 {
		t.Errorf("%v: %s", err, data)
	}
	if got := other.String(); !strings.Contains(got, "msg=twice") || strings.Contains(got, "hunter2") || strings.Contains(got, "never") {
		t.Errorf("stderr: %s", got)
	}
}

func TestHolderForPeople(t *testing.T) {
	for want, h := range map[string]holder{
		"process 7 (nginx)":    {PID: 7, Program: "nginx", UID: 33},
		"process 7":            {PID: 7, UID: 33},
		"a process of user 33": {UID: 33},
		"another process":      {UID: -1},
		"process 7 (python3), the daemon of another authsome": {PID: 7, Program: "python3", Version: "0.3.1"},
	} {
		if got := h.String(); got != want {
			t.Errorf("%+v is %q, want %q", h, got, want)
		}
	}
	if got := fmt.Sprint(holder{UID: -1}); got != "another process" {
		t.Error(got)
	}
}

// TestLimitsAreSet by AUTHSOME_LIMITS, and what cannot be read is named.
func TestLimitsAreSet(t *testing.T) {
	l, err := parseLimits(" run-connections=100, run-memory=64MB\tmemory=128MB run-hosts=7")
	if err != nil || l.RunConnections != 100 || l.RunMemory != 64<<20 || l.Memory != 128<<20 || l.RunHosts != 7 || l.Requests == 0 {
		t.Errorf("%+v, %v", l, err)
	}
	for text, want := range map[string]string{
		"connections":         `"connections" is not NAME=NUMBER`,
		"run-connections=0":   "is no number from 1",
		"run-requests=-1":     "is no number from 1",
		"memory=256":          "is no number of megabytes",
		"tunnels=3":           `no limit "tunnels"`,
		"requests=5000000000": "is no number from 1",
	} {
		_, err := parseLimits(text)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(authsome.HintOf(err), "run-connections") {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := open(t.Context(), Config{Home: t.TempDir(), Getenv: env(map[string]string{"AUTHSOME_LIMITS": "x"})}); err == nil {
		t.Error("a daemon starts with limits that it cannot read")
	}
}
