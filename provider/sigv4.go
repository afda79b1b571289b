package provider

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/route"
)

// denyEntry is one element of `deny`.
type denyEntry struct {
	Name    string   `json:"name"`
	Methods []string `json:"methods"`
	Path    string   `json:"path"`
	Service string   `json:"service"`
	Query   string   `json:"query"`
	Actions []string `json:"actions"`
	Except  []string `json:"except"`
}

// maxDeny bounds the denials of one route, and the actions of one denial.
const maxDeny = 256

// awsName is a service's signing name, or an action's.
var awsName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]*$`)

// signature reads {"sigv4": {}}.
func signature(s *source, p *authsome.Provider, at string, e injectEntry) (authsome.Injection, error) {
	in := authsome.Injection{
		Slot: authsome.SlotSigV4, When: authsome.Always,
		Value: "{" + authsome.FieldAccessKeyID + "}{" + authsome.FieldSecretAccessKey + "}",
	}
	e.SigV4 = nil
	switch {
	case e.When != "" && e.When != string(authsome.Always):
		return in, s.fail(at+"/when", "is %q: what a program has signed is always signed again, and nothing else", clip(e.When))
	case e != injectEntry{When: e.When}:
		return in, s.fail(at, "has sigv4 and something else: it stands alone")
	case !keyHas(p, authsome.FieldAccessKeyID) || !keyHas(p, authsome.FieldSecretAccessKey):
		return in, s.fail(at+"/sigv4", "needs the fields %s and %s of api_key.fields", authsome.FieldAccessKeyID, authsome.FieldSecretAccessKey)
	}
	return in, nil
}

// denials reads the calls that are denied on a route, whose injections are known.
func denials(s *source, at string, entries []denyEntry, r *authsome.Route) error {
	if len(entries) > maxDeny {
		return s.fail(at, "has more than %d elements", maxDeny)
	}
	signed := slices.ContainsFunc(r.Inject, func(in authsome.Injection) bool { return in.Slot == authsome.SlotSigV4 })
	if signed && len(r.Inject) > 1 {
		return s.fail(strings.TrimSuffix(at, "/deny")+"/inject", "has sigv4 and something else: it stands alone")
	}
	for i, e := range entries {
		at := fmt.Sprintf("%s/%d", at, i)
		d := authsome.Denial{Name: e.Name, Methods: e.Methods, Path: e.Path, Service: e.Service, Query: e.Query, Actions: e.Actions, Except: e.Except}
		switch {
		case unreadable(d.Name, maxText):
			return s.fail(at+"/name", "is longer than %d bytes, or holds what cannot be printed", maxText)
		case d.Service == "" && len(d.Actions)+len(d.Except)+len(d.Query) > 0:
			return s.fail(at+"/service", "is missing: actions, except and query are for services of AWS")
		case d.Service == "" && d.Path == "":
			return s.fail(at, "denies nothing: it needs a path, or a service")
		case d.Service != "" && (!signed || !awsName.MatchString(d.Service)):
			return s.fail(at+"/service", "is %q: it is for routes with sigv4, and the name in their signatures", clip(d.Service))
		case len(d.Actions) > 0 && len(d.Except) > 0:
			return s.fail(at+"/except", "is there beside actions: it is all but some, or some")
		case d.Query != "" && unfitField(authsome.SlotQuery, d.Query) != "":
			return s.fail(at+"/query", "%s", unfitField(authsome.SlotQuery, d.Query))
		case d.ByAction() && (d.Path != "" || d.Query != "" || d.Name != ""):
			return s.fail(at, "goes by the action, and has path, query or name as well")
		}
		for _, list := range [][]string{d.Actions, d.Except} {
			if len(list) > maxDeny || slices.ContainsFunc(list, func(a string) bool { return len(a) > maxText || !awsName.MatchString(a) }) {
				return s.fail(at, "names an action that is none")
			}
		}
		if err := methods(s, at, d.Methods); err != nil {
			return err
		}
		if d.Path != "" {
			path, err := route.Path(d.Path)
			if err != nil {
				return s.fail(at+"/path", "cannot be routed: %v", err)
			}
			d.Path = strings.TrimSuffix(path, "/")
			if d.Path == "" {
				return s.fail(at+"/path", "is the whole of the host")
			}
		}
		if !d.ByAction() && d.Name == "" {
			d.Name = strings.TrimSpace(strings.Join(d.Methods, " or ") + " " + d.Path + d.Query)
		}
		r.Deny = append(r.Deny, d)
	}
	return nil
}
