package cli

import (
	"context"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
)

// How often a run tries to get its grant back from a new daemon.
const (
	renewSoonest = 20 * time.Millisecond
	renewLatest  = 5 * time.Second
)

// keep holds the grant while the child lives. When the daemon goes, it starts
// another and renews the grant with it; the child's connections wait in the
// backlog of the listening socket meanwhile. The returned function ends it.
func (g *heldGrant) keep(a *app) (stop func()) {
	if g.outer {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case <-g.conn.Done():
			}
			if !g.renew(ctx, a) {
				return
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// renew tries until the grant is there again. It reports false when the child
// is over, or the grant cannot come back.
func (g *heldGrant) renew(ctx context.Context, a *app) bool {
	req := g.request
	req.Salt, req.Env = "", nil // the child's environment is made
	req.Renew = &api.Renewal{ID: g.info.ID, Token: g.info.Token, Secret: g.info.Secret}
	told := false
	for pause := renewSoonest; ; pause = min(2*pause, renewLatest) {
		err := g.reopen(ctx, a, req)
		if err == nil {
			if told {
				a.warn("the daemon is back, and this run goes on")
			}
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		if authsome.CodeOf(err) == authsome.Forbidden {
			// A port on which nobody accepts would let the child wait for ever.
			_ = g.listener.Close()
			a.warn("this run has lost its grant, so the command has no credentials any more: %s", cleanLine(err.Error()))
			return false
		}
		if pause == renewLatest && !told {
			told = true
			a.warn("the daemon is gone and does not come back yet: %s", cleanLine(err.Error()))
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(pause):
		}
	}
}

func (g *heldGrant) reopen(ctx context.Context, a *app, req api.GrantRequest) error {
	client, err := api.Connect(ctx, api.Options{Home: g.home, Environ: a.Environ, AnyVersion: true})
	if err != nil {
		return err
	}
	defer client.Close()
	conn, _, err := client.OpenGrant(ctx, g.listener, req)
	if err != nil {
		return err
	}
	g.conn = conn
	return nil
}

// close ends the grant and gives the port back.
func (g *heldGrant) close() {
	if g.conn != nil {
		_ = g.conn.Close()
	}
	if g.listener != nil {
		_ = g.listener.Close()
	}
}
