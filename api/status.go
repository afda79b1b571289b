package api

import (
	"errors"
	"net/http"

	"github.com/authsome/authsome"
)

// statuses is the one table from a kind of failure to an HTTP status. The body
// carries the code itself, so several may share a status.
var statuses = map[authsome.Code]int{
	authsome.Internal:           http.StatusInternalServerError,
	authsome.Invalid:            http.StatusBadRequest,
	authsome.NotReady:           http.StatusServiceUnavailable,
	authsome.StoreFailed:        http.StatusInternalServerError,
	authsome.VaultFailed:        http.StatusInternalServerError,
	authsome.AuthFailed:         http.StatusUnauthorized,
	authsome.Cancelled:          http.StatusConflict,
	authsome.TimedOut:           http.StatusGone, // not 408, which HTTP clients repeat by themselves
	authsome.ConnectionNotFound: http.StatusNotFound,
	authsome.ProviderNotFound:   http.StatusNotFound,
	authsome.Forbidden:          http.StatusForbidden,
	authsome.Ambiguous:          http.StatusForbidden,
	authsome.CredentialMissing:  http.StatusUnauthorized,
	authsome.TokenExpired:       http.StatusUnauthorized,
	authsome.RefreshFailed:      http.StatusBadGateway,
	authsome.ConnectionExists:   http.StatusConflict,
	authsome.ProviderExists:     http.StatusConflict,
	authsome.Unreachable:        http.StatusBadGateway,
	authsome.DaemonUnavailable:  http.StatusServiceUnavailable,
	authsome.CommandNotFound:    http.StatusNotFound,
	authsome.NotExecutable:      http.StatusBadRequest,
	authsome.Usage:              http.StatusBadRequest,
}

// Status is the HTTP status for a kind of failure; 500 for one that is not in
// the table.
func Status(code authsome.Code) int {
	if s, ok := statuses[code]; ok {
		return s
	}
	return http.StatusInternalServerError
}

// FailureOf is what the daemon answers for an error. One that is no
// *authsome.Error has no words for people: its text stays in the daemon's log.
func FailureOf(err error) *Failure {
	var e *authsome.Error
	if !errors.As(err, &e) {
		return &Failure{
			Error:   string(authsome.Internal),
			Message: "something went wrong inside the daemon",
			Hint:    "authsome daemon logs",
		}
	}
	return &Failure{Error: string(e.Code), Message: e.Message, Hint: e.Hint}
}

// Err turns a Failure back into the error that it was made from, without the
// cause. A code that this version does not know becomes Internal.
func (f *Failure) Err() *authsome.Error {
	code := authsome.Code(f.Error)
	if _, ok := statuses[code]; !ok {
		code = authsome.Internal
	}
	return &authsome.Error{Code: code, Message: f.Message, Hint: f.Hint}
}
