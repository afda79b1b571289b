package proxy

import (
	"testing"
	"time"

	"github.com/authsome/authsome"
)

// TestIdleStreamsAreNotPingedAway: servers of gRPC allow a ping in five minutes
// without data and end the connection at the third that comes too early
// (keepalive.EnforcementPolicy of grpc-go, GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS
// of the others), and with it a stream that merely waits. Nothing else on the way
// to a service may run out while an answer is awaited.
func TestIdleStreamsAreNotPingedAway(t *testing.T) {
	t.Parallel()
	n := New(Config{}).newPool(poolKey{}, nil, authsome.Secret{})
	tr := n.http2()
	if every := tr.HTTP2.SendPingTimeout; every != 0 && every <= 5*time.Minute {
		t.Errorf("a silent connection is pinged every %s", every)
	}
	for _, tr := range n.made {
		if tr.ResponseHeaderTimeout != 0 || tr.HTTP2.WriteByteTimeout != 0 {
			t.Errorf("an answer is awaited for %s, and a write for %s", tr.ResponseHeaderTimeout, tr.HTTP2.WriteByteTimeout)
		}
	}
}
