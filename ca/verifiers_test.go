package ca

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// target is a server that answers as one host.
type target struct {
	host, port string
	files      string // directory with leaf.pem and chain.pem
}

// verifier is one implementation of certificate verification, set to be as
// strict as it can be.
type verifier struct {
	name string
	// can leaves out hosts that the verifier takes from nobody; nil takes all.
	can func(host string) bool
	// verify says for each target why it was not accepted, "" where it was. root
	// is a file with the only certificate that is trusted.
	verify func(t *testing.T, root string, at []target) []string
}

// each makes a verifier of a command that tries one target.
func each(command func(t *testing.T, root string, at target) *exec.Cmd, accepted func(out string) bool) func(*testing.T, string, []target) []string {
	return func(t *testing.T, root string, at []target) []string {
		var why []string
		for _, to := range at {
			cmd := command(t, root, to)
			out, err := cmd.CombinedOutput()
			switch {
			case err != nil:
				why = append(why, fmt.Sprintf("%v: %s", err, out))
			case accepted != nil && !accepted(string(out)):
				why = append(why, "not accepted: "+string(out))
			default:
				why = append(why, "")
			}
		}
		return why
	}
}

func isName(host string) bool { return net.ParseIP(host) == nil }

// verifiers are all that Debian has packages for. rustls is tried through a real
// program, in test/journey.
var verifiers = []verifier{
	{"Go", nil, func(t *testing.T, root string, at []target) []string {
		data, err := os.ReadFile(root)
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(data)
		var why []string
		for _, to := range at {
			conn, err := tls.Dial("tcp", "127.0.0.1:"+to.port, &tls.Config{ServerName: to.host, RootCAs: roots})
			if err != nil {
				why = append(why, err.Error())
				continue
			}
			_ = conn.Close()
			why = append(why, "")
		}
		return why
	}},
	{"OpenSSL", nil, each(func(t *testing.T, root string, to target) *exec.Cmd {
		kind := "-verify_ip"
		if isName(to.host) {
			kind = "-verify_hostname"
		}
		return exec.Command(tool(t, "openssl"), "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", root,
			"-untrusted", filepath.Join(to.files, "chain.pem"), kind, to.host, filepath.Join(to.files, "leaf.pem"))
	}, nil)},
	// The checks that Python 3.13 turns on by default.
	{"Python", nil, printed(func(t *testing.T, root string) *exec.Cmd {
		return exec.Command(tool(t, "python3"), "-c", pythonVerifier, root)
	})},
	{"curl", nil, each(func(t *testing.T, root string, to target) *exec.Cmd {
		url := to.host
		if strings.Contains(url, ":") {
			url = "[" + url + "]"
		}
		return exec.Command(tool(t, "curl"), "-sS", "--noproxy", "*", "--cacert", root, "--connect-to", "::127.0.0.1:"+to.port, "https://"+url+":"+to.port+"/")
	}, func(out string) bool { return out == "ok" })},
	{"GnuTLS certtool", isName, each(func(t *testing.T, root string, to target) *exec.Cmd {
		return exec.Command(tool(t, "certtool"), "--verify", "--load-ca-certificate", root, "--verify-hostname", to.host, "--infile", filepath.Join(to.files, "chain.pem"))
	}, nil)},
	{"GnuTLS", isName, each(func(t *testing.T, root string, to target) *exec.Cmd {
		return exec.Command(tool(t, "gnutls-cli"), "--x509cafile", root, "--sni-hostname", to.host, "--verify-hostname", to.host, "-p", to.port, "127.0.0.1")
	}, func(out string) bool { return strings.Contains(out, "The certificate is trusted") })},
	{"NSS", isName, func(t *testing.T, root string, at []target) []string {
		db := nssDatabase(t, t.TempDir(), root)
		var why []string
		for _, to := range at {
			why = append(why, tryNSS(t, db, to))
		}
		return why
	}},
	// Java takes no underscore in a name, whoever signed it.
	{"Java", func(host string) bool { return !strings.Contains(host, "_") }, printed(func(t *testing.T, root string) *exec.Cmd {
		source := filepath.Join(t.TempDir(), "Verify.java")
		if err := os.WriteFile(source, []byte(javaVerifier), 0o600); err != nil {
			t.Fatal(err)
		}
		return exec.Command(tool(t, "java"), "-XX:TieredStopAtLevel=1", source, root)
	})},
}

// printed makes a verifier of a command that takes hosts and ports as its last
// arguments and prints a line for each: empty, or why it was refused.
func printed(command func(t *testing.T, root string) *exec.Cmd) func(*testing.T, string, []target) []string {
	return func(t *testing.T, root string, at []target) []string {
		cmd := command(t, root)
		for _, to := range at {
			cmd.Args = append(cmd.Args, to.host, to.port)
		}
		out, err := cmd.Output()
		why := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
		if err != nil || len(why) != len(at) {
			t.Fatalf("%v: %q", err, out)
		}
		return why
	}
}

const pythonVerifier = `
import socket, ssl, sys
ctx = ssl.create_default_context(cafile=sys.argv[1])
ctx.verify_flags |= ssl.VERIFY_X509_STRICT | getattr(ssl, "VERIFY_X509_PARTIAL_CHAIN", 0)
for host, port in zip(sys.argv[2::2], sys.argv[3::2]):
    try:
        with socket.create_connection(("127.0.0.1", int(port))) as s, ctx.wrap_socket(s, server_hostname=host):
            print()
    except ssl.SSLError as e:
        print(e)
`

// tryNSS makes a request with NSS's own client, which does not end by itself
// once it has an answer.
func tryNSS(t *testing.T, db string, to target) string {
	cmd := exec.Command(tool(t, "tstclnt"), "-d", db, "-h", "127.0.0.1", "-p", to.port, "-a", to.host, "-V", "tls1.2:tls1.3")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(in, "GET / HTTP/1.0\r\n\r\n")
	var all []byte
	for buf := make([]byte, 4096); !bytes.HasSuffix(all, []byte("\r\n\r\nok")); {
		n, err := out.Read(buf)
		all = append(all, buf[:n]...)
		if err != nil {
			_ = cmd.Wait()
			return string(all)
		}
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	return ""
}

const javaVerifier = `
import java.io.*; import java.net.*; import java.security.*; import java.security.cert.*; import javax.net.ssl.*;
public class Verify {
	public static void main(String[] a) throws Exception {
		KeyStore store = KeyStore.getInstance("PKCS12");
		store.load(null, null);
		store.setCertificateEntry("root", CertificateFactory.getInstance("X.509").generateCertificate(new FileInputStream(a[0])));
		TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
		trust.init(store);
		SSLContext tls = SSLContext.getInstance("TLS");
		tls.init(null, trust.getTrustManagers(), null);
		for (int i = 1; i < a.length; i += 2) {
			String why = "";
			try (Socket plain = new Socket("127.0.0.1", Integer.parseInt(a[i+1]));
				SSLSocket s = (SSLSocket) tls.getSocketFactory().createSocket(plain, a[i], 443, true)) {
				SSLParameters p = s.getSSLParameters();
				p.setEndpointIdentificationAlgorithm("HTTPS");
				s.setSSLParameters(p);
				s.startHandshake();
			} catch (Exception e) {
				why = e.toString().replace('\n', ' ');
			}
			System.out.println(why);
		}
	}
}
`

// TestVerifiers holds what every client must accept, and what it must refuse:
// children trust the authority, with and without an installed root; others trust
// the installed root alone.
func TestVerifiers(t *testing.T) {
	if testing.Short() {
		t.Skip("other programs verify")
	}
	a := newAuthority(t)
	installed, err := a.Constrain(time.Now(), hosts)
	if err != nil {
		t.Fatal(err)
	}
	names, err := a.Constrain(time.Now(), []string{"api.openai.com", "*.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	addresses, err := a.Constrain(time.Now(), []string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	const foreign = "bank.example.net"
	for _, tt := range []struct {
		name            string
		issuer          *Issuer
		always          *Constrained // goes with every leaf
		root            []byte
		accepts, denies []string
	}{
		{"authority", NewIssuer(a), nil, a.CertPEM(), append(slices.Clone(hosts), foreign), nil},
		{"authority, with an installed root", NewIssuerUnder(a, names), names, a.CertPEM(), append(slices.Clone(hosts), foreign), nil},
		{"installed root", NewIssuerUnder(a, installed), nil, installed.RootPEM(), hosts, nil},
		{"installed root, stolen key", NewIssuer(a), installed, installed.RootPEM(), nil, []string{foreign, "10.9.9.9", "openai.com", "evilapi.openai.com"}},
		{"installed root for names", NewIssuer(a), names, names.RootPEM(), []string{"api.openai.com", "under_score.example.com", "a.b.example.com"}, []string{foreign, "127.0.0.1", "::1"}},
		{"installed root for an address", NewIssuer(a), addresses, addresses.RootPEM(), []string{"127.0.0.1"}, []string{foreign, "::1", "127.0.0.2"}},
	} {
		var at []target
		for _, host := range slices.Concat(tt.accepts, tt.denies) {
			at = append(at, serve(t, tt.issuer, host, tt.always))
		}
		root := filepath.Join(t.TempDir(), "root.pem")
		if err := os.WriteFile(root, tt.root, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, v := range verifiers {
			t.Run(tt.name+"/"+v.name, func(t *testing.T) {
				t.Parallel()
				try := slices.Clone(at)
				if v.can != nil {
					try = slices.DeleteFunc(try, func(to target) bool { return !v.can(to.host) })
				}
				for i, why := range v.verify(t, root, try) {
					if want := slices.Contains(tt.accepts, try[i].host); want && why != "" {
						t.Errorf("%s is not accepted: %s", try[i].host, why)
					} else if !want && why == "" {
						t.Errorf("%s is accepted", try[i].host)
					}
				}
			})
		}
	}
}

// TestAnotherHost: a leaf is good for its host and no other, to everybody.
func TestAnotherHost(t *testing.T) {
	if testing.Short() {
		t.Skip("other programs verify")
	}
	t.Parallel()
	a := newAuthority(t)
	root := filepath.Join(t.TempDir(), "root.pem")
	if err := os.WriteFile(root, a.CertPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	at := serve(t, NewIssuer(a), "api.openai.com", nil)
	var others []target
	for _, host := range []string{"other.example.com", "x.api.openai.com", "openai.com"} {
		others = append(others, target{host, at.port, at.files})
	}
	for _, v := range verifiers {
		t.Run(v.name, func(t *testing.T) {
			for i, why := range v.verify(t, root, others) {
				if why == "" {
					t.Errorf("it takes the certificate for %s", others[i].host)
				}
			}
		})
	}
}

// TestChromium asks a real browser, which has a verifier of its own and reads
// the person's NSS database.
func TestChromium(t *testing.T) {
	if testing.Short() {
		t.Skip("another program verifies")
	}
	t.Parallel()
	chromium := tool(t, "chromium")
	a := newAuthority(t)
	c, err := a.Constrain(time.Now(), []string{"api.openai.com"})
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	root := filepath.Join(home, "root.pem")
	if err := os.WriteFile(root, c.RootPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	nssDatabase(t, filepath.Join(home, ".pki", "nssdb"), root)
	for host, want := range map[string]bool{"api.openai.com": true, "bank.example.net": false} {
		to := serve(t, NewIssuer(a), host, c)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		cmd := exec.CommandContext(ctx, chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
			"--user-data-dir="+filepath.Join(home, host), "--host-resolver-rules=MAP * 127.0.0.1:"+to.port, "--dump-dom", "https://"+host+"/")
		cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME=", "XDG_CACHE_HOME=", "XDG_DATA_HOME=")
		cmd.WaitDelay = 5 * time.Second
		out, err := cmd.Output()
		cancel()
		if got := strings.Contains(string(out), ">ok<"); got != want {
			t.Errorf("%s: accepted: %t, want %t (%v)\n%s", host, got, want, err, out)
		}
	}
}

// tool finds a program that the tests verify with. On Debian, where
// test/install.sh installs all of them, a missing one is a failure.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if _, derr := os.Stat("/etc/debian_version"); derr == nil {
		t.Fatalf("%s is missing: run test/install.sh", name)
	}
	t.Skipf("%s is not installed", name)
	return ""
}

// nssDatabase makes an NSS database in dir that trusts root, and returns its
// name.
func nssDatabase(t *testing.T, dir, root string) string {
	t.Helper()
	certutil := tool(t, "certutil")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	db := "sql:" + dir
	for _, args := range [][]string{{"-N", "-d", db, "--empty-password"}, {"-A", "-d", db, "-t", "C,,", "-n", "root", "-i", root}} {
		if out, err := exec.Command(certutil, args...).CombinedOutput(); err != nil {
			t.Fatalf("certutil: %v\n%s", err, out)
		}
	}
	return db
}

// serve answers "ok" over TLS as host. always goes with the leaf even where the
// issuer would not send it; nil leaves that to the issuer.
func serve(t *testing.T, i *Issuer, host string, always *Constrained) target {
	t.Helper()
	leaf, err := i.Leaf(host)
	if err != nil {
		t.Fatal(err)
	}
	chain := *leaf
	if always != nil {
		chain.Certificate = [][]byte{leaf.Certificate[0], always.cross.Raw}
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "ok")
	}))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // refusals are what is looked for
	// Without a server name httptest would answer with a certificate of its own.
	own := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &chain, nil }}
	srv.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return own, nil }}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	_, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	to := target{host, port, t.TempDir()}
	var all []byte
	for _, der := range chain.Certificate {
		all = append(all, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	for name, data := range map[string][]byte{
		"leaf.pem":  pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: chain.Certificate[0]}),
		"chain.pem": all,
	} {
		if err := os.WriteFile(filepath.Join(to.files, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return to
}
