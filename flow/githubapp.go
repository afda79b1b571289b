package flow

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/authsome/authsome"
)

// installationID stands in OAuth.TokenURL for the installation.
const installationID = "{installation_id}"

// GitHubApp gets an installation's token with the app's private key. TokenURL is
// https://api.github.com/app/installations/{installation_id}/access_tokens, or
// the root of the API alone, to which that path is added. The token lives for an
// hour; its scopes are the installation's permissions.
func (c *Client) GitHubApp(ctx context.Context, s Server, app, inst string, key authsome.Secret) (*Token, error) {
	r := request{doing: "get an installation's token from " + hostOf(s.TokenURL), method: http.MethodPost, private: s.Private}
	switch {
	case !madeOf(app, 64, letters+capitals+digits+"._-"): // a number, or the app's client id
		return nil, r.fail(authsome.Invalid, "the app id is not valid", nil).WithHint("it stands on the page of the GitHub App's settings")
	case !madeOf(inst, 20, digits):
		return nil, r.fail(authsome.Invalid, "the installation id is not a number", nil).WithHint("it is the number at the end of the installation's address")
	case strings.Contains(s.TokenURL, installationID):
		r.url = strings.ReplaceAll(s.TokenURL, installationID, inst)
	default:
		r.url = strings.TrimSuffix(s.TokenURL, "/") + "/app/installations/" + inst + "/access_tokens"
	}
	now := c.cfg.Now() // GitHub takes no more than ten minutes
	assertion, err := sign(key, "", jwt.Claims{
		Issuer: app, IssuedAt: jwt.NewNumericDate(now.Add(-skew)), Expiry: jwt.NewNumericDate(now.Add(8 * time.Minute)),
	})
	if err != nil {
		return nil, r.fail(authsome.Invalid, err.Error(), nil).WithHint("paste the .pem file that was downloaded for the GitHub App")
	}
	r.secrets = []authsome.Secret{assertion, key}
	r.header = http.Header{"Authorization": {"Bearer " + assertion.Reveal()}, "Accept": {"application/vnd.github+json"}}
	a, err := c.do(ctx, r)
	if err != nil {
		return nil, err
	}
	v, ok := decode(a)
	if !ok {
		return nil, r.unreadable(a)
	}
	if no, is := refusalOf(v, a.status); is {
		e := r.refused(a, no)
		if a.status == http.StatusUnauthorized || a.status == http.StatusNotFound {
			// The key was deleted, or the app is not installed there any more.
			e.Code, e.Err = authsome.AuthFailed, ErrInvalidGrant
			e.Hint = "check the app id, the installation id and the private key"
		}
		return nil, e
	}
	t := &Token{Type: "Bearer", Account: authsome.Account{ID: "installation " + inst, Label: "installation " + inst}}
	var bad string
	if t.Access, bad = tokenText(find(v, "", "token")); bad != "" {
		return nil, r.fail(authsome.AuthFailed, "the token in its answer "+bad, nil)
	}
	if text, _ := find(v, "", "expires_at").(string); text != "" {
		if at, err := time.Parse(time.RFC3339, text); err == nil && at.After(a.asked) && at.Before(a.asked.Add(longest)) {
			t.ExpiresAt = at
		}
	}
	permissions, _ := find(v, "", "permissions").(map[string]any)
	for name, level := range permissions {
		if text, ok := level.(string); ok && len(t.Scopes) < 1000 {
			t.Scopes = append(t.Scopes, clean(name+":"+text, 100))
		}
	}
	slices.Sort(t.Scopes)
	return t, nil
}
