//go:build !unix

package proxy

import "net"

// transparent reports whether nothingToRead can tell; it cannot here.
func transparent(net.Conn) bool { return false }

func nothingToRead(net.Conn) bool { return false }
