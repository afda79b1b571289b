package daemon

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
	"github.com/authsome/authsome/audit"
	"github.com/authsome/authsome/store"
)

// TestWait: nobody is kept waiting for longer than maxWait, nor by a daemon that ends.
func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stopping, stop := context.WithCancel(t.Context())
		d := &Daemon{stopping: stopping}
		for _, tt := range []struct {
			asked string
			want  time.Duration
		}{{"1s", time.Second}, {"1m", time.Minute}, {"10000h", maxWait}, {"0s", 0}} {
			begin := time.Now()
			ctx, cancel, ok, err := d.wait(t.Context(), &call{Request: httptest.NewRequest("GET", "/?wait="+tt.asked, nil)})
			if err != nil || !ok {
				t.Fatalf("%s: %v, %v", tt.asked, ok, err)
			}
			<-ctx.Done()
			if got := time.Since(begin); got != tt.want {
				t.Errorf("wait=%s: waited %v", tt.asked, got)
			}
			cancel()
		}
		ctx, cancel, _, err := d.wait(t.Context(), &call{Request: httptest.NewRequest("GET", "/?wait=1m", nil)})
		if err != nil {
			t.Fatal(err)
		}
		defer cancel()
		begin := time.Now()
		time.AfterFunc(time.Second, stop)
		if <-ctx.Done(); time.Since(begin) != time.Second {
			t.Errorf("waited %v after the end began", time.Since(begin))
		}
		for _, asked := range []string{"-1s", "1", "soon"} {
			if _, _, _, err := d.wait(t.Context(), &call{Request: httptest.NewRequest("GET", "/?wait="+asked, nil)}); err == nil {
				t.Errorf("wait=%s is taken", asked)
			}
		}
	})
}

// TestCheckWithoutEnd: a check that hangs does not keep doctor from the others.
func TestCheckWithoutEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs := check{"clock", func(_ *Daemon, ctx context.Context) api.Check {
			<-ctx.Done()
			return brokenBy(ctx.Err(), "")
		}}
		begin := time.Now()
		if got := hangs.do(t.Context(), nil); got.Name != "clock" || got.OK || time.Since(begin) != checkTimeout {
			t.Errorf("%+v after %v", got, time.Since(begin))
		}
	})
}

// TestStoringIsTriedAgain: what could not be stored is stored when that is possible
// again, though no other event comes.
func TestStoringIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		home := t.TempDir()
		st, err := store.Open(t.Context(), store.Config{Path: filepath.Join(home, databaseFile)})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = st.Close() }()
		// A line that is no event, and no way to put it aside.
		path := filepath.Join(home, spoolFile)
		if err := os.WriteFile(path, []byte("half a li"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(path+".damaged", 0o700); err != nil {
			t.Fatal(err)
		}
		spool, err := audit.OpenSpool(path)
		if err != nil {
			t.Fatal(err)
		}
		r := newRecorder(spool, st)
		defer r.close()
		stopping, ended := make(chan struct{}), make(chan struct{})
		go func() { defer close(ended); r.run(t.Context(), stopping, slog.New(slog.DiscardHandler)) }()
		if err := r.Append(authsome.Event{ID: audit.NewID(), Time: time.Now().UTC(), Type: authsome.EventInjected, Vault: authsome.LocalVault}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if err := os.Remove(path + ".damaged"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(storeAgain + time.Second)
		if evs, err := st.Events(t.Context(), authsome.LocalVault, 0, 10); err != nil || len(evs) != 1 {
			t.Errorf("%d events are stored, %v", len(evs), err)
		}
		close(stopping)
		<-ended
	})
}
