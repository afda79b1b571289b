//go:build darwin || windows

package vault

// reachable has nothing to ask: the keyring is a part of the system.
func reachable() error { return nil }
