package daemon

import (
	"encoding/json"
	"net"
	"strconv"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/api"
	"github.com/authsome/authsome/broker"
)

// providerView is a provider with its connections, as commands see it.
func providerView(v broker.View, definition bool) api.Provider {
	p := v.Provider
	out := api.Provider{
		Name: p.Name, DisplayName: p.DisplayName, AuthType: string(p.AuthType), Source: string(p.Source), DocsURL: p.DocsURL,
		Flows: []string{}, Hosts: []string{}, Warnings: p.Warnings, Connections: []api.Connection{},
	}
	for _, f := range p.Flows {
		out.Flows = append(out.Flows, string(f))
	}
	seen := map[string]bool{}
	for _, r := range p.Routes {
		h := r.Host
		if r.Port != 0 && r.Port != 443 {
			h = net.JoinHostPort(h, strconv.Itoa(r.Port))
		}
		if !seen[h] {
			seen[h] = true
			out.Hosts = append(out.Hosts, h)
		}
	}
	if definition && json.Valid(p.Definition) {
		out.Definition = p.Definition
	}
	for _, c := range v.Connections {
		out.Connections = append(out.Connections, connectionView(c))
	}
	return out
}

func connectionView(c authsome.Connection) api.Connection {
	out := api.Connection{
		Provider: c.Provider, ConnectionName: c.Name, IsDefault: c.IsDefault, AuthType: string(c.AuthType), Flow: string(c.Flow),
		Status: string(c.Status), Scopes: c.Scopes, BaseURL: c.BaseURL, Hosts: append([]string{}, c.Hosts...),
	}
	if c.Account != (authsome.Account{}) {
		out.Account = &c.Account
	}
	if !c.ObtainedAt.IsZero() {
		out.ObtainedAt = &c.ObtainedAt
	}
	if !c.ExpiresAt.IsZero() {
		out.ExpiresAt = &c.ExpiresAt
	}
	if !c.LastRefreshAt.IsZero() {
		out.LastRefreshAt = &c.LastRefreshAt
	}
	out.LastRefreshError = c.LastRefreshError
	return out
}

func removedView(r broker.Removal, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return api.Removed{
		Provider: r.Provider, Connections: append([]string{}, r.Connections...), Definition: r.Definition, Notes: r.Notes,
	}, nil
}

// healthNow is what the socket tells; the browser's port tells less.
func (d *Daemon) healthNow() api.Health {
	return api.Health{
		Status: "ok", Version: d.cfg.Version, Mode: "local", PID: d.pid, Home: d.home,
		Browser: "http://" + d.browser.host(), BrowserNote: d.browser.note,
	}
}

// publicHealth is for anybody on this machine who asks the browser's port.
func (d *Daemon) publicHealth() any {
	return api.Health{Status: "ok", Version: d.cfg.Version, Mode: "local"}
}
