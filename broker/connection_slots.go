package broker

import (
	"strings"

	"github.com/authsome/authsome"
)

// forConnection takes an injection that concerns the connection to the service
// into res; false for those that concern a request. Messages are those of a
// WebSocket: on any other request there is nothing to do.
func forConnection(res *authsome.Resolution, req *authsome.Request, in authsome.Injection, r *record) bool {
	switch in.Slot {
	case authsome.SlotMessage:
		if strings.EqualFold(req.Upgrade, "websocket") {
			res.Message = &authsome.Message{At: in.Name, Value: fill(in, r.cred)}
			res.Guard = r.guard(res.Guard, in)
		}
	case authsome.SlotCertificate:
		res.Certificate = authsome.NewSecret(r.cred.Get(authsome.FieldCertificate).Reveal() + "\n" + r.cred.Get(authsome.FieldPrivateKey).Reveal() + "\n")
	default:
		return false
	}
	return true
}
