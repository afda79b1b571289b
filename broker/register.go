package broker

import (
	"context"
	"slices"
	"strings"

	"github.com/authsome/authsome"
)

// Registration says what registering a definition did, or would do.
type Registration struct {
	Provider *authsome.Provider
	Replaced bool     // a registered definition of this name existed
	Shadows  bool     // a bundled one of this name exists
	Notes    []string // one line each for the person
}

// Register adds a definition. A name that exists is replaced only with force,
// and a run's descendants may never force, since a definition says where
// credentials go. Existing connections keep the hosts that they were made for
// in either case.
func (b *Broker) Register(ctx context.Context, id authsome.Identity, filename string, definition []byte, force, dryRun bool) (Registration, error) {
	if force {
		if err := b.outsideRun(ctx, id, "replace a provider definition", "", ""); err != nil {
			return Registration{}, err
		}
	}
	out, err := b.register(ctx, id, filename, definition, force, dryRun)
	if err == nil && !dryRun {
		b.changed()
	}
	return out, err
}

func (b *Broker) register(ctx context.Context, id authsome.Identity, filename string, definition []byte, force, dryRun bool) (Registration, error) {
	p, err := b.Parse(filename, definition)
	if err != nil {
		return Registration{}, err
	}
	if err := b.Check(p); err != nil {
		return Registration{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	out := Registration{Provider: p, Shadows: b.Catalog.Bundled(p.Name)}
	old, exists := b.Catalog.Get(p.Name)
	out.Replaced = exists && old.Source == authsome.Custom
	if exists && !force && !dryRun {
		what := "is registered already"
		if !out.Replaced {
			what = "comes with authsome, and this file would take its place"
		}
		return out, authsome.E(authsome.ProviderExists, "register %s: a provider of that name %s", p.Name, what).
			WithHint("give the definition another name, or pass --force to replace it")
	}
	if note := b.movedHosts(id, p); note != "" {
		out.Notes = append(out.Notes, note)
	}
	if dryRun {
		return out, nil
	}
	p.Source = authsome.Custom
	t := authsome.EventRegistered
	if out.Replaced {
		t = authsome.EventUpdated
	}
	ev := b.event(id, t, "ok")
	ev.Provider, ev.Detail = p.Name, "hosts: "+strings.Join(boundHosts(p, ""), " ")
	row := authsome.DefinitionRow{Vault: id.Vault, Name: p.Name, Definition: definition}
	if err := b.Records.SaveDefinition(ctx, row, ev); err != nil {
		return out, err
	}
	b.Catalog.SetCustom(p)
	return out, b.publish(ownerOf(id), b.snapshot.Load().of(ownerOf(id)).clone())
}

// movedHosts says which connections will not serve a definition's new hosts.
func (b *Broker) movedHosts(id authsome.Identity, p *authsome.Provider) string {
	a := b.snapshot.Load().of(ownerOf(id)).byProvider[p.Name]
	if a == nil {
		return ""
	}
	stale := slices.DeleteFunc(a.names(), func(name string) bool { return b.current(p, a.byName[name]) })
	if len(stale) == 0 {
		return ""
	}
	return "the existing login (" + strings.Join(stale, ", ") + ") stays bound to the hosts it was made for; run `authsome login " +
		p.Name + " --force` to use the new ones"
}
