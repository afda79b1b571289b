package daemon

import (
	"context"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/authsome/authsome/api"
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
