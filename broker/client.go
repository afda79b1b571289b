package broker

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/flow"
)

// Client records are what authorization servers know this program as: the
// person's own OAuth apps, and registrations. They are kept apart from
// connections, so that a second account needs no second app.

// sealedClient is the sealed form of an authsome.OAuthClient.
type sealedClient struct {
	ID          string              `json:"id,omitempty"`
	Secret      string              `json:"secret,omitempty"`
	Key         string              `json:"key,omitempty"`
	Auth        authsome.ClientAuth `json:"auth,omitempty"`
	Registered  bool                `json:"registered,omitempty"`
	RedirectURI string              `json:"redirect_uri,omitempty"`
	ExpiresAt   time.Time           `json:"expires_at,omitzero"`
	CreatedAt   time.Time           `json:"created_at,omitzero"`
}

func sealClient(c *authsome.OAuthClient) sealedClient {
	return sealedClient{
		ID: c.ID, Secret: c.Secret.Reveal(), Key: c.Key.Reveal(), Auth: c.Auth, Registered: c.Registered,
		RedirectURI: c.RedirectURI, ExpiresAt: c.ExpiresAt, CreatedAt: c.CreatedAt,
	}
}

func (s sealedClient) client() authsome.OAuthClient {
	return authsome.OAuthClient{
		ID: s.ID, Secret: authsome.NewSecret(s.Secret), Key: authsome.NewSecret(s.Key), Auth: s.Auth,
		Registered: s.Registered, RedirectURI: s.RedirectURI, ExpiresAt: s.ExpiresAt, CreatedAt: s.CreatedAt,
	}
}

const clientKind = "oauth-client"

// clientName is under what a server's client is stored: everything that says
// whose it is. A server with the same issuer that sends people, codes or secrets
// elsewhere is another server, so no definition borrows another one's client.
func clientName(o *authsome.OAuth) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{
		o.Issuer, o.AuthorizationURL, o.TokenURL, o.DeviceURL, o.RevocationURL, o.Resource,
	}, "\x00")))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func clientBinding(vault, name string, version int64) authsome.Binding {
	return authsome.Binding{Kind: clientKind, Vault: vault, Name: name, Version: version}
}

// clientOf reads the stored client for a server. Neither client nor error: there
// is none.
func (b *Broker) clientOf(ctx context.Context, vault string, o *authsome.OAuth) (*authsome.OAuthClient, error) {
	name := clientName(o)
	sealed, version, err := b.Records.Item(ctx, vault, clientKind, name)
	if err != nil || sealed == nil {
		return nil, err
	}
	plain, err := b.Sealer.Unseal(clientBinding(vault, name, version), sealed)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	var s sealedClient
	if err := json.Unmarshal(plain, &s); err != nil || s.ID == "" {
		return nil, authsome.E(authsome.VaultFailed, "open the OAuth client for %s: the record is not what this version writes", hostOf(o.TokenURL)).
			WithHint("authsome provider set-client PROVIDER")
	}
	c := s.client()
	return &c, nil
}

// saveClient stores a server's client over the one that is there.
func (b *Broker) saveClient(ctx context.Context, vault string, o *authsome.OAuth, c *authsome.OAuthClient, ev ...authsome.Event) error {
	name := clientName(o)
	unlock, err := b.Records.Lock(ctx, clientKind+" "+name)
	if err != nil {
		return err
	}
	defer unlock()
	_, version, err := b.Records.Item(ctx, vault, clientKind, name)
	if err != nil {
		return err
	}
	plain, err := json.Marshal(sealClient(c))
	if err != nil {
		return authsome.E(authsome.Internal, "store an OAuth client: %w", err)
	}
	defer clear(plain)
	sealed, err := b.Sealer.Seal(clientBinding(vault, name, version+1), plain)
	if err != nil {
		return err
	}
	return b.Records.SaveItem(ctx, vault, clientKind, name, sealed, version+1, ev...)
}

// SetClient stores the person's own OAuth app at a provider, under the names of
// flow.ClientForm. baseURL is that of a service of their own, or "". Connections
// that exist keep the client that they were made with; when it is the same app
// with a new secret, their next refresh takes that.
func (b *Broker) SetClient(ctx context.Context, id authsome.Identity, provider, baseURL string, given map[string]authsome.Secret) error {
	if err := b.outsideRun(ctx, id, "set an OAuth client", provider, ""); err != nil {
		return err
	}
	p, o, err := b.serverFor(provider, baseURL)
	if err != nil {
		return err
	}
	c, err := b.clientFrom(p, o, given)
	if err != nil {
		return err
	}
	ev := b.event(id, authsome.EventClientSet, "ok")
	ev.Provider, ev.Detail = p.Name, "for "+hostOf(o.TokenURL)
	return b.saveClient(ctx, id.Vault, o, c, ev)
}

// ForgetClient deletes the client at a provider; the next login asks for one, or
// registers anew.
func (b *Broker) ForgetClient(ctx context.Context, id authsome.Identity, provider, baseURL string) error {
	if err := b.outsideRun(ctx, id, "forget an OAuth client", provider, ""); err != nil {
		return err
	}
	p, o, err := b.serverFor(provider, baseURL)
	if err != nil {
		return err
	}
	ev := b.event(id, authsome.EventClientSet, "ok")
	ev.Provider, ev.Detail = p.Name, "forgotten"
	return b.Records.DeleteItem(ctx, id.Vault, clientKind, clientName(o), ev)
}

// serverFor gives the authorization server of a provider.
func (b *Broker) serverFor(name, baseURL string) (*authsome.Provider, *authsome.OAuth, error) {
	p, err := b.provider(name)
	if err != nil {
		return nil, nil, err
	}
	if p.OAuth == nil {
		return nil, nil, authsome.E(authsome.Invalid, "%s has no login by OAuth, so it has no client", p.Name).
			WithHint("authsome login %s", p.Name)
	}
	o, err := flow.At(p.OAuth, baseURL)
	return p, &o, err
}

// clientFrom makes a client of what a person typed.
func (b *Broker) clientFrom(p *authsome.Provider, o *authsome.OAuth, given map[string]authsome.Secret) (*authsome.OAuthClient, error) {
	fields, err := flow.Fields(p.Name, flow.ClientForm(o), given)
	if err != nil {
		return nil, err
	}
	c := &authsome.OAuthClient{
		ID: fields[authsome.FieldClientID].Reveal(), Secret: fields[authsome.FieldClientSecret],
		Key: fields[authsome.FieldPrivateKey], CreatedAt: b.Now().UTC(),
	}
	if c.Secret.IsZero() && c.Key.IsZero() {
		c.Auth = authsome.ClientNone
	}
	return c, nil
}
