package api

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
)

// maxSiblings bounds how many sockets of other homes are looked at.
const maxSiblings = 32

// Siblings are clients of the daemons that the same person runs for other homes.
// Only one daemon can have port 7998, and hands on what browsers bring for the
// others. Whether anything listens there is not known yet.
func Siblings(home string) []*Client {
	own, err := SocketPath(home)
	if err != nil || privateDir(filepath.Dir(own), false) != nil {
		return nil
	}
	entries, err := os.ReadDir(filepath.Dir(own))
	if err != nil {
		return nil
	}
	var out []*Client
	for _, e := range entries {
		path := filepath.Join(filepath.Dir(own), e.Name())
		if filepath.Ext(path) != filepath.Ext(own) || path == own {
			continue
		}
		if out = append(out, &Client{socket: path}); len(out) == maxSiblings {
			break
		}
	}
	return out
}

// Callback hands a redirect's query to the daemon whose login it belongs to. The
// error is of code ConnectionNotFound when it knows no such login.
func (c *Client) Callback(ctx context.Context, query string) (Login, error) {
	var out Login
	err := c.call(ctx, http.MethodPost, PathCallback, nil, Callback{Query: query}, &out)
	return out, err
}
