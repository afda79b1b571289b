package broker_test

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/broker"
	"github.com/authsome/authsome/internal/oauthtest"
	"go.uber.org/goleak"
)

// childEnv makes this binary a process that a test kills; its value is what the
// process does, os.Args[1] its home; the others say where the server is.
const (
	childEnv = "AUTHSOME_BROKER_TEST_CHILD"
	rootEnv  = "AUTHSOME_BROKER_TEST_ROOT"
	viaEnv   = "AUTHSOME_BROKER_TEST_VIA"
)

func TestMain(m *testing.M) {
	switch os.Getenv(childEnv) {
	case "":
		goleak.VerifyTestMain(m)
	case "refresh":
		refreshForever()
	case "login":
		loginOnce()
	}
}

// outside is a testing.TB for the process that is no test.
type outside struct{ testing.TB }

func (outside) Helper() {}

func (outside) Fatal(args ...any) {
	fmt.Println(append([]any{"failed:"}, args...)...)
	os.Exit(1)
}

func childWorld() *world {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(os.Getenv(rootEnv)))
	w := &world{t: outside{}, home: os.Args[1], now: time.Now().UTC().Truncate(time.Second), auth: oauthtest.Elsewhere(roots, os.Getenv(viaEnv))}
	w.open()
	return w
}

// refreshForever refreshes as often as it can.
func refreshForever() {
	w := childWorld()
	g := w.grant(broker.GrantSpec{})
	fmt.Println("ready")
	for {
		w.near(10 * time.Second)
		if _, err := w.ask(g); err != nil {
			fmt.Println("failed:", err)
		}
	}
}

// loginOnce begins a login, says where the consent is, and takes the callback
// from standard input.
func loginOnce() {
	w := childWorld()
	req := acmeLogin("")
	req.Force = true
	l := w.begin(req)
	fmt.Println(l.ID, l.AuthorizeURL)
	in := bufio.NewScanner(os.Stdin)
	in.Scan()
	query, err := url.ParseQuery(in.Text())
	if err != nil {
		w.t.Fatal(err)
	}
	_, _, err = w.Callback(context.Background(), query)
	fmt.Println("done:", err)
	select {}
}

// victim starts the process that is to be killed, and reads its first line.
func (w *world) victim(part string) (cmd *exec.Cmd, out *bufio.Scanner, in *os.File) {
	w.t.Helper()
	cmd = exec.Command(os.Args[0], w.home)
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.auth.Certificate().Raw})
	cmd.Env = append(os.Environ(), childEnv+"="+part, rootEnv+"="+string(root), viaEnv+"="+w.auth.Via)
	stdin, in, err := os.Pipe()
	if err != nil {
		w.t.Fatal(err)
	}
	cmd.Stdin = stdin
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	_ = stdin.Close()
	out = bufio.NewScanner(pipe)
	if !out.Scan() || strings.HasPrefix(out.Text(), "failed") {
		w.t.Fatalf("the process does not start: %q", out.Text())
	}
	return cmd, out, in
}

// kill is kill -9.
func kill(cmd *exec.Cmd, in *os.File) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	_ = in.Close()
}

// TestKilledWhileRefreshing kills a broker at a hundred random moments of a
// refresh. The server takes a refresh token again whose successor was never
// used, as RFC 9700 section 4.14.2 leaves to servers; so afterwards there is
// always one that works.
func TestKilledWhileRefreshing(t *testing.T) {
	w := newOAuthWorld(t, "")
	w.connect(acmeLogin(""))
	w.auth.Set(func(s *oauthtest.Server) { s.Lenient = true })
	// How long the first refresh of a process takes depends on the machine, and on the
	// race detector.
	w.close()
	cmd, _, in := w.victim("refresh")
	begun := time.Now()
	for before := w.auth.Count("refresh_token"); w.auth.Count("refresh_token") == before; {
		time.Sleep(time.Millisecond)
	}
	within := max(20*time.Millisecond, 3*time.Since(begun))
	kill(cmd, in)
	w.open()
	kills := 100
	if testing.Short() {
		kills = 20
	}
	for i := range kills {
		w.close()
		cmd, _, in := w.victim("refresh")
		time.Sleep(rand.N(within))
		kill(cmd, in)
		w.auth.Settle() // a request that comes after its sender's end would be another one's reuse
		w.open()
		w.near(10 * time.Second)
		header, err := w.ask(w.grant(broker.GrantSpec{}))
		if err != nil || !w.auth.Valid(header) {
			t.Fatalf("kill %d: neither the old nor the new token works: %v", i, err)
		}
	}
	if n := w.auth.Count("refresh_token"); n <= kills*11/10 {
		t.Errorf("%d refreshes: the processes were killed before they did anything", n)
	}
}

// TestKilledBetweenAnswerAndCommit kills a broker when the server has rotated the
// token and before that is stored: the one window that no client can close.
func TestKilledBetweenAnswerAndCommit(t *testing.T) {
	for _, lenient := range []bool{true, false} {
		t.Run(fmt.Sprintf("lenient=%v", lenient), func(t *testing.T) {
			w := newOAuthWorld(t, "")
			w.connect(acmeLogin(""))
			first, err := w.ask(w.grant(broker.GrantSpec{}))
			if err != nil {
				t.Fatal(err)
			}
			w.auth.Set(func(s *oauthtest.Server) { s.Lenient = lenient })
			w.close()
			arrived := make(chan func(), 1)
			w.auth.Hold("refresh_token", arrived)
			cmd, _, in := w.victim("refresh")
			release := <-arrived // the family has its next tokens; the answer is held back
			kill(cmd, in)
			w.auth.Hold("", nil)
			release()
			w.open()
			w.near(60 * time.Second)
			header, err := w.ask(w.grant(broker.GrantSpec{}))
			switch {
			case err != nil:
				t.Fatalf("the access token is still valid: %v", err)
			case lenient && !w.auth.Valid(header):
				t.Error("the server would have taken the old refresh token again")
			case !lenient && header != first:
				t.Error("what was stored is not used")
			}
			if lenient {
				return
			}
			// A strict server has ended the family: the person is told.
			w.now = w.now.Add(time.Hour)
			_, err = w.ask(w.grant(broker.GrantSpec{}))
			wantCode(t, err, authsome.TokenExpired)
			if !strings.Contains(authsome.HintOf(err), "authsome login acme") {
				t.Errorf("hint %q", authsome.HintOf(err))
			}
		})
	}
}

// TestKilledWhileLoggingIn kills a broker at random moments after the callback
// has come. Either the login is there, whole, or the one before it is.
func TestKilledWhileLoggingIn(t *testing.T) {
	w := newOAuthWorld(t, "")
	ctx := context.Background()
	w.connect(acmeLogin(""))
	// start has a process take the callback of the login with that ID.
	start := func() (cmd *exec.Cmd, out *bufio.Scanner, in *os.File, id string) {
		cmd, out, in = w.victim("login")
		id, address, _ := strings.Cut(out.Text(), " ")
		if _, err := fmt.Fprintln(in, w.auth.Consent(t, address).Encode()); err != nil {
			t.Fatal(err)
		}
		return cmd, out, in, id
	}
	// How long it takes depends on the machine.
	w.close()
	cmd, out, in, _ := start()
	begun := time.Now()
	if out.Scan(); out.Text() != "done: <nil>" {
		t.Fatalf("a login that nobody disturbs ends with %q", out.Text())
	}
	within := time.Since(begun) * 3 / 2
	kill(cmd, in)
	w.open()
	completed := 0
	kills := 50
	if testing.Short() {
		kills = 10
	}
	for i := range kills {
		w.close()
		cmd, _, in, id := start()
		time.Sleep(rand.N(within))
		kill(cmd, in)
		w.now = time.Now().UTC()
		w.open()
		header, err := w.ask(w.grant(broker.GrantSpec{}))
		if err != nil || !w.auth.Valid(header) {
			t.Fatalf("kill %d: no login works: %v", i, err)
		}
		l, _, err := w.LoginByID(ctx, me, id)
		if err != nil {
			t.Fatalf("kill %d: the login is gone: %v", i, err)
		}
		switch l.Status {
		case authsome.LoginCompleted:
			completed++
		case authsome.LoginWaiting:
			if l.Step != authsome.StepAuthorize {
				t.Fatalf("kill %d: it waits for %s", i, l.Step)
			}
		case authsome.LoginFailed:
			if l.Err == nil || l.Err.Hint == "" {
				t.Fatalf("kill %d: %+v", i, l.Err)
			}
		default:
			t.Fatalf("kill %d: status %s", i, l.Status)
		}
	}
	t.Logf("%d of %d logins were complete", completed, kills)
}
