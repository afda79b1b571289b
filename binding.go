package authsome

// Binding says what a sealed record is and whose it is. It becomes the
// associated data of the encryption, so that a ciphertext opens only in the
// place for which it was made: rows cannot be swapped, nor an older version put
// back under a newer number.
type Binding struct {
	Kind     string // "connection", "login", "grant", "ca"
	Vault    string
	User     string
	Provider string
	Name     string
	Version  int64
}

// ConnectionRow is a connection as it is stored.
type ConnectionRow struct {
	Connection Connection
	Vault      string
	User       string
	Sealed     []byte // the credential, its hosts and all else that must not be changed
}

// DefinitionRow is a registered provider definition as it is stored.
type DefinitionRow struct {
	Vault      string
	Name       string
	Definition []byte // the file as it was given
}

// SealedRow is a row whose content only the vault can read: a login in
// progress, a grant.
type SealedRow struct {
	ID        string
	User      string // whose it is; empty when it is the vault's
	Version   int64
	ExpiresAt int64 // Unix seconds; 0 means never
	Sealed    []byte
}
