package authsome

import (
	"errors"
	"fmt"
)

// Code says what kind of failure an Error is. Its text is the class name that
// `--json` prints as "error" and that scripts match on, so it never changes.
// Exit codes are mapped from it in cli/exit.go and HTTP statuses in
// api/status.go; nowhere else.
type Code string

// The kinds of failure, with the exit code that each maps to.
const (
	Internal           Code = "InternalError"        // 1: a bug or a broken machine
	Invalid            Code = "InvalidInput"         // 1: input that cannot be accepted
	NotReady           Code = "NotReady"             // 1: a check of doctor failed
	StoreFailed        Code = "StoreError"           // 1: the database or its disk
	VaultFailed        Code = "VaultError"           // 1: the master key, or a record that does not open
	AuthFailed         Code = "AuthenticationFailed" // 2: the service refused
	Cancelled          Code = "InputCancelled"       // 2: the person said no, or went away
	TimedOut           Code = "LoginTimedOut"        // 2: nobody finished the login in time
	ConnectionNotFound Code = "ConnectionNotFound"   // 3
	ProviderNotFound   Code = "ProviderNotFound"     // 4
	Forbidden          Code = "OperationNotAllowed"  // 4: refused by a rule, or to a run's descendant
	Ambiguous          Code = "AmbiguousRoute"       // 4: two providers claim a request alike, so neither gets it
	CredentialMissing  Code = "CredentialMissing"    // 5: log in first
	TokenExpired       Code = "TokenExpired"         // 5
	RefreshFailed      Code = "RefreshFailed"        // 5
	ConnectionExists   Code = "ConnectionExists"     // 6
	ProviderExists     Code = "ProviderExists"       // 7
	Unreachable        Code = "EndpointUnreachable"  // 8: an upstream did not answer
	DaemonUnavailable  Code = "DaemonUnavailable"    // 9
	CommandNotFound    Code = "CommandNotFound"      // 127, as shells say
	NotExecutable      Code = "CommandNotExecutable" // 126, as shells say
	Usage              Code = "UsageError"           // 64, EX_USAGE of sysexits.h
)

// Error is the one error type that crosses a package's edge to a person.
//
// Message is for the person: what was being done and what went wrong, without
// a trailing period and without a secret. Hint is the next thing to do, usually
// a command; it may be empty. Err is the cause, for logs and errors.Is; it is
// never shown on its own.
type Error struct {
	Code    Code
	Message string
	Hint    string
	Err     error
	// Provider names the provider that the failure is about, for an agent that
	// reads the proxy's answer; it may be empty.
	Provider string
	// Field is the KeyField.Name of the value that was refused, so that a form
	// can say so next to it; it may be empty.
	Field string
}

// E makes an *Error with a formatted message. A %w verb also sets Err.
func E(code Code, format string, args ...any) *Error {
	wrapped := fmt.Errorf(format, args...)
	return &Error{Code: code, Message: wrapped.Error(), Err: errors.Unwrap(wrapped)}
}

// WithHint returns the same error with the next command to run.
func (e *Error) WithHint(format string, args ...any) *Error {
	c := *e
	c.Hint = fmt.Sprintf(format, args...)
	return &c
}

// Error implements error: the message, without the hint.
func (e *Error) Error() string { return e.Message }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// CodeOf returns the code of the first *Error in err's chain, Internal when
// there is none, and "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return Internal
}

// HintOf returns the hint of the first *Error in err's chain, or "".
func HintOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Hint
	}
	return ""
}
