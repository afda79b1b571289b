package flow

import (
	"context"
	"net/http"

	"github.com/authsome/authsome"
)

// Account asks the service whose token it is, as OAuth.UserInfo says.
func (c *Client) Account(ctx context.Context, s Server, access authsome.Secret) (authsome.Account, error) {
	u := s.UserInfo
	if u == nil {
		return authsome.Account{}, nil
	}
	r := request{
		doing: "ask " + hostOf(u.URL) + " whose account it is", method: u.Method, url: u.URL, private: s.Private,
		header:  http.Header{"Accept": {"application/json"}, "Authorization": {"Bearer " + access.Reveal()}},
		secrets: []authsome.Secret{access},
	}
	if r.method == "" {
		r.method = http.MethodGet
	}
	if u.Body != "" {
		r.body = []byte(u.Body)
		r.header.Set("Content-Type", "application/json")
	}
	for _, h := range u.Headers {
		r.header.Set(h.Name, h.Value)
	}
	a, err := c.do(ctx, r)
	if err != nil {
		return authsome.Account{}, err
	}
	v, ok := decode(a)
	if !ok {
		return authsome.Account{}, r.unreadable(a)
	}
	if no, is := refusalOf(v, a.status); is {
		return authsome.Account{}, r.refused(a, no)
	}
	account := authsome.Account{ID: label(find(v, u.ID, ""))}
	for _, path := range u.Label {
		if account.Label = label(find(v, path, "")); account.Label != "" {
			break
		}
	}
	if account.ID == "" && account.Label == "" {
		return account, r.fail(authsome.AuthFailed, "its answer names no account", nil)
	}
	return account, nil
}
