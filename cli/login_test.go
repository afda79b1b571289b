package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
	"rsc.io/qr"
)

// TestDrawQR reads the code back from what is drawn of it.
func TestDrawQR(t *testing.T) {
	for _, address := range []string{"https://github.com/login/device", "https://example.com/device?user_code=WDJB-MJHT&x=" + strings.Repeat("y", 300)} {
		code, err := qr.Encode(address, qr.L)
		if err != nil {
			t.Fatal(err)
		}
		for _, colours := range []bool{true, false} {
			text := drawQR(code, colours)
			upper, lower := "▀█", "▄█" // the characters whose half is dark
			if !colours {
				upper, lower = "▄ ", "▀ "
			}
			lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
			for row, line := range lines {
				if colours {
					if !strings.HasPrefix(line, "\x1b[30;47m") || !strings.HasSuffix(line, "\x1b[0m") {
						t.Fatalf("a line leaves the terminal coloured: %q", line)
					}
					line = strings.TrimSuffix(strings.TrimPrefix(line, "\x1b[30;47m"), "\x1b[0m")
				}
				cells := []rune(line)
				if len(cells) != code.Size+8 {
					t.Fatalf("a line has %d modules, of %d and twice 4", len(cells), code.Size)
				}
				for column, c := range cells {
					x, y := column-4, 2*row-4
					if strings.ContainsRune(upper, c) != code.Black(x, y) || strings.ContainsRune(lower, c) != code.Black(x, y+1) {
						t.Fatalf("the modules at %d, %d are drawn as %q", x, y, c)
					}
				}
			}
			if 2*len(lines) < code.Size+8 {
				t.Errorf("%d lines show %d modules", len(lines), code.Size)
			}
		}
	}
}

func TestUnicodeTerminal(t *testing.T) {
	for environ, want := range map[string]bool{
		"LANG=C.UTF-8": true, "LANG=de_DE.utf8": true, "LANG=C LC_ALL=en_US.UTF-8": true, "LANG=en_US.UTF-8 LC_ALL=C": false,
		"LC_CTYPE=C.UTF-8": true, "LANG=": false, "LANG=POSIX": false,
	} {
		a := &app{Program: Program{Environ: strings.Fields(environ)}}
		if got := a.unicode(); got != want && os.PathSeparator == '/' {
			t.Errorf("%s: %v", environ, got)
		}
	}
}

func TestPlainHTTPS(t *testing.T) {
	for address, want := range map[string]bool{
		"https://github.com/login/oauth/authorize?a=b&c=%20": true,
		"https://127.0.0.1:8443/x":                           true,
		"http://github.com/":                                 false,
		"":                                                   false,
		"https://":                                           false,
		"https:github.com":                                   false,
		"https://github.com@evil.example/":                   false,
		"https://github.com/\u202e":                          false,
		"https://github.com/\x1b]0;x\x07":                    false,
		"https://github.com/\nVisit: https://evil.example": false,
		"javascript:alert(1)":                              false,
		"file:///etc/passwd":                               false,
		"ms-msdt:/id":                                      false,
		"-flag":                                            false,
		"//github.com":                                     false,
	} {
		if got := plainHTTPS(address); got != want {
			t.Errorf("%q: %v", address, got)
		}
	}
}

// TestPrefersCode: nobody's choice is overruled.
func TestPrefersCode(t *testing.T) {
	conn := func(name, status string) []api.Connection {
		return []api.Connection{{ConnectionName: name, Status: status}}
	}
	for _, tt := range []struct {
		name  string
		flows string
		conns []api.Connection
		o     loginOptions
		want  bool
	}{
		{"a browser first, a code too", "pkce device_code", nil, loginOptions{}, true},
		{"registered by itself, a code too", "dcr_pkce device_code", nil, loginOptions{}, true},
		{"no code", "pkce api_key", nil, loginOptions{}, false},
		{"a key first", "api_key pkce device_code", nil, loginOptions{}, false},
		{"a code first", "device_code pkce", nil, loginOptions{}, false},
		{"no flows", "", nil, loginOptions{}, false},
		{"connected", "pkce device_code", conn("default", "connected"), loginOptions{}, false},
		{"connected, and again", "pkce device_code", conn("default", "connected"), loginOptions{force: true}, true},
		{"another one connected", "pkce device_code", conn("default", "connected"), loginOptions{connection: "work"}, true},
		{"not any more", "pkce device_code", conn("work", "invalid"), loginOptions{connection: "work"}, true},
	} {
		if got := prefersCode(api.Provider{Flows: strings.Fields(tt.flows), Connections: tt.conns}, tt.o); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

func TestPipedFields(t *testing.T) {
	id := api.LoginField{Name: "app_id", Label: "App ID", Public: true}
	secret := api.LoginField{Name: "secret", Label: "Secret", Optional: true}
	key := api.LoginField{Name: "private_key", Label: "Private key", Multiline: true}
	const pem = "-----BEGIN PRIVATE KEY-----\ncanary\n\n-----END PRIVATE KEY-----"
	cert := api.LoginField{Name: "certificate", Label: "Certificate", Multiline: true}
	const chain = "-----BEGIN CERTIFICATE-----\nleaf\n-----END CERTIFICATE-----\nissued by\n-----BEGIN CERTIFICATE-----\nroot\n-----END CERTIFICATE-----"
	for _, tt := range []struct {
		name   string
		fields []api.LoginField
		in     string
		want   map[string]string // nil: refused
	}{
		{"a line", []api.LoginField{id}, "1", map[string]string{"app_id": "1"}},
		{"Windows", []api.LoginField{id, secret}, "1\r\ncanary\r", map[string]string{"app_id": "1", "secret": "canary"}},
		{"a whole file", []api.LoginField{key}, "{\n\t\"canary\": 1\r\n}", map[string]string{"private_key": "{\n\t\"canary\": 1\r\n}"}},
		{"lines, then a file", []api.LoginField{id, key}, "1\n" + pem, map[string]string{"app_id": "1", "private_key": pem}},
		{"what is optional is empty", []api.LoginField{id, secret, key}, "1\n\n" + pem, map[string]string{"app_id": "1", "private_key": pem}},
		{"what is optional is left out at the end", []api.LoginField{id, secret}, "1", map[string]string{"app_id": "1"}},
		{"two files", []api.LoginField{cert, key}, chain + "\n" + pem, map[string]string{"certificate": chain, "private_key": pem}},
		{"two files and lines", []api.LoginField{id, cert, key, secret}, "1\n" + chain + "\n" + pem + "\ncanary", map[string]string{"app_id": "1", "certificate": chain, "private_key": pem, "secret": "canary"}},
		{"two files from Windows", []api.LoginField{cert, key}, strings.ReplaceAll(chain+"\n"+pem, "\n", "\r\n"), map[string]string{"certificate": strings.ReplaceAll(chain, "\n", "\r\n"), "private_key": strings.ReplaceAll(pem, "\n", "\r\n")}},
		{"a certificate alone", []api.LoginField{cert, key}, chain, nil},
		{"half a file", []api.LoginField{cert, key}, "-----BEGIN CERTIFICATE-----\ncanary", map[string]string{"certificate": "-----BEGIN CERTIFICATE-----", "private_key": "canary"}},
		{"too few", []api.LoginField{id, key}, "canary", nil},
		{"too many", []api.LoginField{id}, "canary\ncanary", nil},
		{"an empty line", []api.LoginField{id, key}, "\ncanary", nil},
		{"a control character", []api.LoginField{id}, "canary\x07", nil},
		{"one in a file", []api.LoginField{key}, "canary\n\x1b[2J", nil},
		{"not UTF-8", []api.LoginField{key}, "canary\n\xff", nil},
		{"nothing to ask", nil, "canary", nil},
	} {
		got, err := pipedFields(api.Login{Provider: "p", Fields: tt.fields}, []byte(tt.in))
		if tt.want == nil {
			if authsome.CodeOf(err) != authsome.Invalid || strings.Contains(err.Error()+authsome.HintOf(err), "canary") {
				t.Errorf("%s: %v", tt.name, err)
			}
			continue
		}
		if err != nil || len(got) != len(tt.want) {
			t.Errorf("%s: %d fields, %v", tt.name, len(got), err)
		}
		for name, value := range tt.want {
			if !got[name].Equal(authsome.NewSecret(value)) {
				t.Errorf("%s: %s arrived otherwise", tt.name, name)
			}
		}
	}
}

// TestAskText holds where a pasted text ends.
func TestAskText(t *testing.T) {
	const pem = "-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----"
	for _, tt := range []struct{ name, typed, want, rest string }{
		{"PEM", strings.ReplaceAll(pem, "\n", "\r") + "\rmore", pem, "more"},
		{"a chain of certificates", "-----BEGIN CERTIFICATE-----\r-----END CERTIFICATE-----\r-----BEGIN CERTIFICATE-----\r-----END CERTIFICATE-----\r\rmore", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", "more"},
		{"JSON", "{\r  \"canary\": [\"}\"]\r}\rmore", "{\n  \"canary\": [\"}\"]\n}", "more"},
		{"JSON in a line", "{\"canary\":1}\r", `{"canary":1}`, ""},
		{"else an empty line", "canary\rtwo\r\rmore", "canary\ntwo\n", "more"},
		{"or Ctrl-D", "canary\r\x04more", "canary\n", "more"},
		{"nothing", "\rmore", "", "more"},
	} {
		p := &prompter{out: io.Discard, read: make(chan []byte, 1)}
		p.read <- []byte(tt.typed)
		got, err := p.askField(context.Background(), api.LoginField{Label: "Key", Multiline: true, Optional: true})
		if err != nil || !got.Equal(authsome.NewSecret(tt.want)) || string(p.rest) != tt.rest {
			t.Errorf("%s: %d bytes, %v; %q is left", tt.name, got.Len(), err, p.rest)
		}
	}
	var shown strings.Builder
	p := &prompter{out: &shown, read: make(chan []byte, 1)}
	p.read <- []byte(strings.ReplaceAll(pem, "\n", "\r") + "\r")
	if _, err := p.askField(context.Background(), api.LoginField{Label: "Key\x1b", Multiline: true}); err != nil || strings.Contains(shown.String(), "canary") || strings.Contains(shown.String(), "\x1b") {
		t.Errorf("it shows %q, %v", shown.String(), err)
	}
	for typed, want := range map[string]error{"\x03": errInterrupted, "canary\r\x03": errInterrupted, "\x04": errEndOfInput} {
		p := &prompter{out: io.Discard, read: make(chan []byte, 1)}
		p.read <- []byte(typed)
		if _, err := p.askText(context.Background(), "Key", false); !errors.Is(err, want) {
			t.Errorf("%q: %v", typed, err)
		}
	}
	p = &prompter{out: io.Discard, read: make(chan []byte, 1)}
	p.read <- []byte(strings.Repeat(strings.Repeat("x", 99)+"\r", 700))
	if _, err := p.askText(context.Background(), "Key", false); !errors.Is(err, errLongInput) {
		t.Errorf("70 KB: %v", err)
	}
}
