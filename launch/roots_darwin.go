package launch

import (
	"context"
	"fmt"
	"os/exec"
	"time"
)

// systemFiles is what macOS ships for LibreSSL: Apple's roots without those
// that an administrator added.
var systemFiles = []string{"/etc/ssl/cert.pem"}

var systemDirs = []string{"/etc/ssl/certs"}

// keychains hold the roots that an administrator or a device management added.
var keychains = []string{"/Library/Keychains/System.keychain"}

// addSystemStore asks the keychains, which have no file format of their own
// that could be read.
func addSystemStore(set *pemSet) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	list := keychains
	if set.count == 0 {
		list = append([]string{"/System/Library/Keychains/SystemRootCertificates.keychain"}, keychains...)
	}
	out, err := exec.CommandContext(ctx, "/usr/bin/security", append([]string{"find-certificate", "-a", "-p"}, list...)...).Output()
	if err != nil {
		return fmt.Errorf("security find-certificate: %w", err)
	}
	set.addPEM(out)
	return nil
}
