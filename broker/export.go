package broker

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/authsome/authsome"
)

// Variable is one environment variable with a credential in plaintext, or the
// address of a service.
type Variable struct {
	Name       string
	Value      authsome.Secret
	Provider   string
	Connection string
}

// Export gives a person the credentials of one connection (c "" is the
// default), or of all when p is "", as the variables that tools read. Refresh
// tokens are never among them. It is refused to the descendants of a run.
//
// Names that clash get the suffix _PROVIDER_CONNECTION, and a number when that
// clashes too; a provider's default connection keeps the plain name.
func (b *Broker) Export(ctx context.Context, id authsome.Identity, p, c string) ([]Variable, error) {
	if err := b.outsideRun(ctx, id, "export a credential", p, c); err != nil {
		return nil, err
	}
	var chosen []*held
	if p != "" {
		x, _, err := b.lookup(id, p, c)
		if err != nil {
			return nil, err
		}
		chosen = append(chosen, x)
	} else {
		chosen = b.snapshot.Load().of(ownerOf(id)).all()
	}
	var out []Variable
	var events []authsome.Event
	taken := map[string]bool{}
	for _, x := range chosen {
		// What leaves has its full life before it: nobody refreshes it there.
		x, r, err := b.fresh(ctx, x, 0)
		if err != nil {
			return nil, err
		}
		for _, v := range b.variables(x, r.cred) {
			v.Name = unique(v.Name, x, taken)
			out = append(out, v)
		}
		ev := b.event(id, authsome.EventExported, "ok")
		ev.Provider, ev.Connection = x.Provider, x.Name
		events = append(events, ev)
	}
	if len(events) > 0 {
		if err := b.Records.Append(ctx, events...); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// variables are one connection's, under the names of the definition.
func (b *Broker) variables(x *held, cred *authsome.Credential) []Variable {
	var out []Variable
	p, known := b.Catalog.Get(x.Provider)
	if known {
		for _, e := range p.Env {
			v := Variable{Name: e.Name, Provider: x.Provider, Connection: x.Name}
			switch {
			case e.URL != "":
				v.Value = authsome.NewSecret(e.URL)
			case e.Field == authsome.FieldRefreshToken:
				continue
			default:
				v.Value = cred.Get(e.Field)
			}
			if !v.Value.IsZero() {
				out = append(out, v)
			}
		}
	}
	if len(out) > 0 {
		return out
	}
	for field := range cred.Fields {
		if field != authsome.FieldRefreshToken {
			out = append(out, Variable{
				Name: envName(x.Provider) + "_" + envName(field), Value: cred.Fields[field],
				Provider: x.Provider, Connection: x.Name,
			})
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// all returns every connection, by provider, each provider's default first.
func (h *holdings) all() []*held {
	providers := make([]string, 0, len(h.byProvider))
	for p := range h.byProvider {
		providers = append(providers, p)
	}
	sort.Strings(providers)
	var out []*held
	for _, p := range providers {
		for _, c := range h.list(p, time.Time{}) {
			out = append(out, h.byProvider[p].byName[c.Name])
		}
	}
	return out
}

func unique(name string, x *held, taken map[string]bool) string {
	candidate := name
	for n := 1; taken[candidate]; n++ {
		candidate = name + "_" + envName(x.Provider) + "_" + envName(x.Name)
		if n > 1 {
			candidate = fmt.Sprintf("%s_%d", candidate, n)
		}
	}
	taken[candidate] = true
	return candidate
}

// envName spells a name as a variable: upper-case, other characters as "_".
func envName(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		default:
			return '_'
		}
	}, s)
}
