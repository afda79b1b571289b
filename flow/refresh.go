package flow

import (
	"context"
	"errors"
	"net/url"

	"github.com/authsome/authsome"
)

// Refresh gets a new access token (RFC 6749, section 6). Token.Refresh is the
// rotated token, or empty when the server keeps the old one. With scopes the new
// token is for those only; none leaves them as they are. When the refresh token
// is not accepted any more, the error is of code TokenExpired and is
// ErrInvalidGrant; whatever else goes wrong may pass.
func (c *Client) Refresh(ctx context.Context, s Server, refresh authsome.Secret, scopes []string) (*Token, error) {
	const doing = "refresh the token at "
	if refresh.IsZero() {
		return nil, request{doing: doing + hostOf(s.TokenURL)}.fail(authsome.TokenExpired, "there is no refresh token", ErrInvalidGrant)
	}
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh.Reveal()}}
	s.addScopes(form, scopes)
	token, err := c.token(ctx, s, doing, form, refresh)
	var e *authsome.Error
	if errors.Is(err, ErrInvalidGrant) && errors.As(err, &e) {
		expired := *e
		expired.Code = authsome.TokenExpired
		return nil, &expired
	}
	return token, err
}
