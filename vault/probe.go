package vault

import (
	"context"
	"errors"
	"time"
)

// ProbeKeyring reports whether a keyring answers; an entry need not exist. It
// waits 3 s at most.
func ProbeKeyring(ctx context.Context, k Keyring) error {
	if k == nil {
		return errors.New("there is no keyring")
	}
	limit := keyringProbe
	if d, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(d))
	}
	_, err := within(limit, func() (string, error) { return k.Get(keyringService, "probe") })
	if errors.Is(err, ErrNoKey) {
		return nil
	}
	return err
}
