//go:build !linux && !darwin && !windows

package launch

var systemFiles = []string{"/etc/ssl/cert.pem", "/usr/local/etc/ssl/cert.pem", "/usr/local/share/certs/ca-root-nss.crt"}

var systemDirs = []string{"/etc/ssl/certs", "/usr/local/share/certs"}

func addSystemStore(*pemSet) error { return nil }
