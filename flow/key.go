// Package flow holds the ways in which a login obtains a credential, and in
// which a token is renewed and revoked. Each is one file. A flow keeps nothing
// between calls: what must survive is a row, and the broker owns it.
//
// What authorization servers answer is not trusted: answers are bounded, never
// redirected, and reach neither a log nor an error as they are.
package flow

import (
	"time"

	"github.com/authsome/authsome"
)

// Key checks what a person handed over in the API-key flow against the
// provider's form and returns it as a credential, see Fields. A client
// certificate and its key must fit together.
func Key(p *authsome.Provider, given map[string]authsome.Secret) (*authsome.Credential, error) {
	fields, err := Fields(p.Name, p.Key.Fields, given)
	if err != nil {
		return nil, err
	}
	if len(fields) == 0 {
		return nil, authsome.E(authsome.Invalid, "log in to %s: the definition asks for no key", p.Name)
	}
	if presentsCertificate(p) {
		if err := checkCertificate(p.Name, fields, time.Now()); err != nil {
			return nil, err
		}
	}
	return &authsome.Credential{Fields: fields}, nil
}
