package broker

import (
	"maps"
	"slices"
	"strings"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/scrub"
)

// Weak lists the connections whose credential is too short or too common to be
// looked for in answers, by provider and then by name.
func (b *Broker) Weak(id authsome.Identity) []authsome.Connection {
	var out []authsome.Connection
	h := b.snapshot.Load().of(ownerOf(id))
	for _, name := range slices.Sorted(maps.Keys(h.byProvider)) {
		p, ok := b.Catalog.Get(name)
		if !ok {
			continue
		}
		a := h.byProvider[name]
		for _, c := range a.names() {
			if r, err := b.unseal(a.byName[c]); err == nil && weak(p, r, r.cred) {
				out = append(out, a.byName[c].Connection)
			}
		}
	}
	return out
}

// weak reports whether a secret that a provider's routes put on requests is not
// looked for.
func weak(p *authsome.Provider, r *record, c *authsome.Credential) bool {
	for _, route := range p.Routes {
		for _, in := range route.Inject {
			value := fill(in, c)
			switch {
			case in.Slot == authsome.SlotCertificate:
				continue // its key never leaves
			case in.Slot == authsome.SlotSigV4:
				value = c.Get(authsome.FieldSecretAccessKey)
			case !r.inValue(in.Value, c):
				continue
			}
			if scrub.Weak(value) {
				return true
			}
		}
	}
	return false
}

// inValue reports whether an injection's template takes a field that is a secret.
func (r *record) inValue(template string, c *authsome.Credential) bool {
	if strings.Contains(template, "{"+authsome.FieldToken+"}") {
		return !c.Get(authsome.FieldToken).IsZero()
	}
	for name, v := range r.Fields {
		if v != "" && !slices.Contains(r.Public, name) && strings.Contains(template, "{"+name+"}") {
			return true
		}
	}
	return false
}

// noteWeak tells the person at login, who may be able to choose another one.
func noteWeak(p *authsome.Provider, r *record, c *authsome.Credential) []string {
	if !weak(p, r, c) {
		return nil
	}
	return []string{"this credential is too short or too common to be overwritten where a service repeats it in an answer; choose a longer one if you can"}
}
