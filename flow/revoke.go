package flow

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/authsome/authsome"
)

// revokeTime bounds a revocation, as in the Python authsome: a logout must not
// hang on a server that is not there.
const revokeTime = 15 * time.Second

// goneCodes are the errors that say that a token is not valid any more, which is
// what was wanted (RFC 7009, section 2.2).
var goneCodes = []string{"invalid_token", "token_revoked", "token_expired", "invalid_auth", "not_authed", "account_inactive"}

// Revoke ends a token at the server. hint says which it is: "access_token" or
// "refresh_token". The vendors' own styles know access tokens only and do nothing
// for others.
func (c *Client) Revoke(ctx context.Context, s Server, token authsome.Secret, hint string) error {
	ctx, cancel := context.WithTimeout(ctx, revokeTime)
	defer cancel()
	r := request{
		doing: "revoke the token at " + hostOf(s.RevocationURL), method: http.MethodPost, url: s.RevocationURL, private: s.Private,
		header: http.Header{"Accept": {"application/json"}}, secrets: []authsome.Secret{token},
	}
	switch s.Revocation {
	case authsome.RevokeGitHub:
		if hint == authsome.FieldRefreshToken {
			return nil
		}
		r.method = http.MethodDelete
		r.url = strings.ReplaceAll(s.RevocationURL, "{client_id}", url.PathEscape(s.App.ID))
		basic := base64.StdEncoding.EncodeToString([]byte(s.App.ID + ":" + s.App.Secret.Reveal()))
		r.header = http.Header{"Accept": {"application/vnd.github+json"}, "Content-Type": {"application/json"}, "Authorization": {"Basic " + basic}}
		r.body, _ = json.Marshal(map[string]string{"access_token": token.Reveal()})
		r.secrets = append(r.secrets, s.App.Secret, authsome.NewSecret(basic))
	case authsome.RevokeBearer:
		if hint == authsome.FieldRefreshToken {
			return nil
		}
		r.header.Set("Authorization", "Bearer "+token.Reveal())
		r.header.Set("Content-Type", "application/x-www-form-urlencoded")
	default:
		form := url.Values{"token": {token.Reveal()}}
		if hint != "" {
			form.Set("token_type_hint", hint)
		}
		if err := s.authenticate(c, &r, form); err != nil {
			return err
		}
		r.setBody(form, authsome.EncodeForm)
	}
	a, err := c.do(ctx, r)
	if err != nil {
		return err
	}
	v, ok := decode(a)
	no, refused := refusalOf(v, a.status)
	switch {
	case !refused && (ok || a.status < 300):
		return nil // RFC 7009 wants nothing in the body, and some send a page
	case slices.Contains(goneCodes, no.code):
		return nil
	case s.Revocation == authsome.RevokeGitHub && (a.status == http.StatusNotFound || a.status == http.StatusUnprocessableEntity):
		return nil
	case !ok:
		return r.unreadable(a)
	}
	return r.refused(a, no)
}
