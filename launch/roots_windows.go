package launch

import (
	"encoding/base64"
	"unsafe"

	"golang.org/x/sys/windows"
)

var (
	systemFiles []string
	systemDirs  []string
)

// addSystemStore copies the roots of the Windows certificate store. Windows
// fetches some roots only when they are first needed, so the list may lack one
// that a browser would accept; SSL_CERT_FILE, where the person sets it, is used
// instead.
func addSystemStore(set *pemSet) error {
	name, err := windows.UTF16PtrFromString("ROOT")
	if err != nil {
		return err
	}
	store, err := windows.CertOpenSystemStore(0, name)
	if err != nil {
		return err
	}
	defer func() { _ = windows.CertCloseStore(store, 0) }()
	var cert *windows.CertContext
	for {
		// Each call frees the context of the one before.
		if cert, err = windows.CertEnumCertificatesInStore(store, cert); cert == nil {
			return nil // CRYPT_E_NOT_FOUND at the end
		}
		der := unsafe.Slice(cert.EncodedCert, cert.Length)
		if isSequence(der) && set.isNew(der, base64.StdEncoding.AppendEncode(nil, der)) {
			set.write(der, nil, nil)
		}
	}
}
