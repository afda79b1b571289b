package cli

import (
	"fmt"

	"github.com/authsome/authsome"
)

// exitCodes is the one table from a kind of failure to the program's exit code.
// 0 to 9 are those of the Python authsome, but usage errors, which it gives 2
// as well, are EX_USAGE of sysexits.h; 126 and 127 are what shells say.
var exitCodes = map[authsome.Code]int{
	authsome.Internal:           1,
	authsome.Invalid:            1,
	authsome.NotReady:           1,
	authsome.StoreFailed:        1,
	authsome.VaultFailed:        1,
	authsome.AuthFailed:         2,
	authsome.Cancelled:          2,
	authsome.TimedOut:           2,
	authsome.ConnectionNotFound: 3,
	authsome.ProviderNotFound:   4,
	authsome.Forbidden:          4,
	authsome.Ambiguous:          4,
	authsome.CredentialMissing:  5,
	authsome.TokenExpired:       5,
	authsome.RefreshFailed:      5,
	authsome.ConnectionExists:   6,
	authsome.ProviderExists:     7,
	authsome.Unreachable:        8,
	authsome.DaemonUnavailable:  9,
	authsome.Usage:              64,
	authsome.NotExecutable:      126,
	authsome.CommandNotFound:    127,
}

// exitCode maps an error; nil is 0, and a kind that is not in the table 1.
func exitCode(err error) int {
	if err == nil {
		return 0
	}
	if code, ok := exitCodes[authsome.CodeOf(err)]; ok {
		return code
	}
	return 1
}

// exitStatus is an error that ends the program with this code and says nothing
// more: everything was printed, or it is a child's code passed on.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }
