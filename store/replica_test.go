package store

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"database/sql"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/audit"
	"github.com/authsome/authsome/broker"
	"github.com/authsome/authsome/flow"
	"github.com/authsome/authsome/internal/oauthtest"
	"github.com/authsome/authsome/provider"
	"github.com/authsome/authsome/vault"
)

// replicaEnv gives a replica the authorization server's certificate, in PEM, and
// replicaViaEnv the way to it.
const (
	replicaEnv    = "AUTHSOME_STORE_TEST_ROOT"
	replicaViaEnv = "AUTHSOME_STORE_TEST_VIA"
)

var replicaOwner = authsome.Identity{Vault: authsome.LocalVault, User: authsome.LocalUser}

// replica is a broker on a PostgreSQL that others use, too.
type replica struct {
	*broker.Broker
	now   atomic.Int64 // Unix seconds
	store *Store
}

func (r *replica) close() { _ = r.store.Close() }

func newReplica(ctx context.Context, source, dir string, auth *oauthtest.Server, definition []byte) (*replica, error) {
	db, err := sql.Open("pgx", source)
	if err != nil {
		return nil, err
	}
	s, err := newStore(ctx, "the database", db, db, postgresEngine)
	if err != nil {
		return nil, err
	}
	key := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))
	v, err := vault.Open(ctx, vault.Config{Home: dir, Headers: s, Getenv: func(name string) string {
		if name == "AUTHSOME_MASTER_KEY" {
			return key
		}
		return ""
	}})
	if err != nil {
		return nil, err
	}
	spool, err := audit.OpenSpool(filepath.Join(dir, "audit.spool"))
	if err != nil {
		return nil, err
	}
	catalog := provider.NewCatalog()
	r := &replica{store: s}
	r.now.Store(time.Now().Unix())
	now := func() time.Time { return time.Unix(r.now.Load(), 0) }
	r.Broker = broker.New(broker.Config{
		Records: s, Sealer: v, Recorder: spool, Catalog: catalog, Parse: provider.Parse, Check: provider.CheckRegistrable,
		Now: now, Flow: flow.New(flow.Config{Proxy: auth.Proxy(), Roots: auth.Pool(), Now: now}),
		RedirectURI: func() (string, error) { return "http://127.0.0.1:7998/auth/callback/oauth", nil },
	})
	if definition != nil {
		if _, err := r.Register(ctx, replicaOwner, "acme.jsonc", definition, true, false); err != nil {
			return nil, err
		}
	}
	return r, r.Load(ctx)
}

// ask sends requests at once and reports the first that went wrong.
func (r *replica) ask(ctx context.Context, g *authsome.Grant, n int, check func(header string) error) error {
	var wg sync.WaitGroup
	failed := make(chan error, n)
	for range n {
		wg.Go(func() {
			res, err := r.Resolve(ctx, g, &authsome.Request{
				Host: "api.acme.example", Port: 443, Method: http.MethodGet, Path: "/", Header: http.Header{}, ID: "r",
			})
			if err == nil {
				err = check(res.Set[0].Value.Reveal())
			}
			if err != nil {
				failed <- err
			}
		})
	}
	wg.Wait()
	close(failed)
	return <-failed
}

// refreshReplica is one process of the test below: for each line with a time on
// standard input it sends 100 requests at that time.
func refreshReplica(source string) error {
	ctx := context.Background()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(os.Getenv(replicaEnv))) {
		return fmt.Errorf("no certificate")
	}
	auth := oauthtest.Elsewhere(roots, os.Getenv(replicaViaEnv))
	dir, err := os.MkdirTemp("", "replica")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	r, err := newReplica(ctx, source, dir, auth, nil)
	if err != nil {
		return err
	}
	defer r.close()
	g, _, _, err := r.StartGrant(ctx, replicaOwner, broker.GrantSpec{})
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{Proxy: func(r *http.Request) (*url.URL, error) { return auth.Proxy()(r.URL) }, TLSClientConfig: oauthtest.Trusting(roots), MaxIdleConnsPerHost: 100}}
	in := bufio.NewScanner(os.Stdin)
	fmt.Println("ready")
	for in.Scan() {
		at, address, _ := strings.Cut(in.Text(), " ")
		n, err := strconv.ParseInt(at, 10, 64)
		if err != nil {
			return err
		}
		r.now.Store(n)
		err = r.ask(ctx, g, 100, func(header string) error {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
			if err != nil {
				return err
			}
			req.Header.Set("Authorization", header)
			res, err := client.Do(req)
			if err != nil {
				return err
			}
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
			if res.StatusCode != http.StatusOK {
				return fmt.Errorf("the service answers %s", res.Status)
			}
			return nil
		})
		if err != nil {
			fmt.Println("failed:", err)
			continue
		}
		fmt.Println("ok")
	}
	return in.Err()
}

// TestOneRefreshAcrossProcesses has two processes on one PostgreSQL send 200
// requests, ten seconds before a token's end, to a server that ends the family
// when a refresh token comes twice; fifty times over.
func TestOneRefreshAcrossProcesses(t *testing.T) {
	if _, err := os.Stat("/etc/debian_version"); err != nil && len(postgresPrograms()) == 0 {
		t.Skip("needs the server programs of PostgreSQL (initdb, postgres)")
	}
	ctx := t.Context()
	auth := oauthtest.New(t)
	source := postgresName(t)
	first, err := newReplica(ctx, source, t.TempDir(), auth, auth.Definition(""))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(first.close)
	l, _, err := first.Begin(ctx, replicaOwner, authsome.LoginRequest{Provider: "acme", AllowPrivate: true})
	if err != nil {
		t.Fatal(err)
	}
	l, err = first.SubmitFields(ctx, replicaOwner, l.ID, map[string]authsome.Secret{
		"client_id": authsome.NewSecret("app"), "client_secret": authsome.NewSecret(oauthtest.Secret),
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := first.Callback(ctx, auth.Consent(t, l.AuthorizeURL)); err != nil {
		t.Fatal(err)
	}

	type process struct {
		in  io.Writer
		out *bufio.Scanner
	}
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: auth.Certificate().Raw})
	var processes []process
	for range 2 {
		cmd := exec.CommandContext(ctx, os.Args[0], source)
		cmd.Env = append(os.Environ(), childEnv+"=refresh", replicaEnv+"="+string(root), replicaViaEnv+"="+auth.Via)
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
		p := process{in, bufio.NewScanner(out)}
		if !p.out.Scan() || p.out.Text() != "ready" {
			t.Fatalf("a replica does not start: %q", p.out.Text())
		}
		processes = append(processes, p)
	}
	const rounds = 50
	at := time.Now()
	for round := 1; round <= rounds; round++ {
		at = at.Add(3590 * time.Second)
		for _, p := range processes {
			if _, err := fmt.Fprintf(p.in, "%d %s/userinfo\n", at.Unix(), auth.URL); err != nil {
				t.Fatal(err)
			}
		}
		for i, p := range processes {
			if !p.out.Scan() || p.out.Text() != "ok" {
				t.Fatalf("round %d, process %d: %q", round, i, p.out.Text())
			}
		}
		if n := auth.Count("refresh_token"); n != round {
			t.Fatalf("%d refreshes in %d rounds", n, round)
		}
	}
	auth.Set(func(s *oauthtest.Server) {
		if s.Reused != 0 {
			t.Errorf("%d refresh tokens were used twice", s.Reused)
		}
	})
}
