package clients

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/net/dns/dnsmessage"
)

// insideVariable says that this process is in the namespace already.
const insideVariable = "AUTHSOME_TEST_NAMESPACE"

// outside is where every name leads in the namespace: an address of its
// loopback that looks like the internet's (RFC 5737).
var outside = [4]byte{198, 51, 100, 7}

// enter starts this program again in a network of its own, and returns its exit
// code. There every name leads to one address, at which nobody but directs
// listens, so that a client that goes round the proxy is seen and reaches
// nothing.
func enter() (int, error) {
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideVariable+"=1", "AUTHSOME_TEST_BINARY="+binary)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// network sets the namespace up from inside.
func network() (*directs, error) {
	if err := upLoopback(); err != nil {
		return nil, fmt.Errorf("set up loopback: %w", err)
	}
	if err := resolver(); err != nil {
		return nil, fmt.Errorf("answer for names: %w", err)
	}
	ln, err := net.Listen("tcp4", net.JoinHostPort(net.IP(outside[:]).String(), "443"))
	if err != nil {
		return nil, err
	}
	d := &directs{}
	go d.serve(ln)
	return d, nil
}

// upLoopback does `ip link set lo up; ip address add 198.51.100.7/32 dev lo`.
func upLoopback() error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer func() { _ = syscall.Close(fd) }()
	ioctl := func(request uintptr, arg unsafe.Pointer) error {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), request, uintptr(arg)); errno != 0 {
			return errno
		}
		return nil
	}
	flags := struct { // struct ifreq of netdevice(7)
		name  [syscall.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}{flags: syscall.IFF_UP | syscall.IFF_RUNNING}
	copy(flags.name[:], "lo")
	if err := ioctl(syscall.SIOCSIFFLAGS, unsafe.Pointer(&flags)); err != nil {
		return err
	}
	address := struct {
		name [syscall.IFNAMSIZ]byte
		addr syscall.RawSockaddrInet4
		_    [8]byte
	}{addr: syscall.RawSockaddrInet4{Family: syscall.AF_INET, Addr: outside}}
	copy(address.name[:], "lo:1")
	return ioctl(syscall.SIOCSIFADDR, unsafe.Pointer(&address))
}

// resolver answers every question for an address with outside, and has the
// processes of this namespace ask it.
func resolver() error {
	conn, err := net.ListenPacket("udp4", "127.0.0.1:53")
	if err != nil {
		return err
	}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) == 0 {
				continue
			}
			m.Header = dnsmessage.Header{ID: m.ID, Response: true, RecursionAvailable: true, RecursionDesired: m.RecursionDesired}
			m.Answers, m.Authorities, m.Additionals = nil, nil, nil
			if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
				m.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 60},
					Body:   &dnsmessage.AResource{A: outside},
				}}
			}
			if out, err := m.Pack(); err == nil {
				_, _ = conn.WriteTo(out, from)
			}
		}
	}()
	dir, err := os.MkdirTemp("", "authsome-resolv-")
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "resolv.conf")
	if err := os.WriteFile(file, []byte("nameserver 127.0.0.1\n"), 0o644); err != nil {
		return err
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := syscall.Mount(file, "/etc/resolv.conf", "", syscall.MS_BIND, ""); err != nil {
		return err
	}
	return os.RemoveAll(dir) // the mount keeps the file
}

// directs are the connections that came without the proxy.
type directs struct {
	mu    sync.Mutex
	hosts []string
}

func (d *directs) serve(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer func() { _ = conn.Close() }()
			// The name is in the first message; more is not needed.
			_ = tls.Server(conn, &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
				d.mu.Lock()
				d.hosts = append(d.hosts, strings.ToLower(hello.ServerName))
				d.mu.Unlock()
				return nil, io.EOF
			}}).Handshake()
		}()
	}
}

// take returns the names that were asked for since the last time.
func (d *directs) take() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	hosts := d.hosts
	d.hosts = nil
	return hosts
}
