package broker

import (
	"strings"

	"github.com/authsome/authsome"
)

// forConnection takes an injection that concerns the connection to the service
// into res; false for those that concern a request. Messages are those of a
// WebSocket: on any other request there is nothing to do.
func forConnection(res *authsome.Resolution, req *authsome.Request, in authsome.Injection, c *authsome.Credential) bool {
	switch in.Slot {
	case authsome.SlotMessage:
		if strings.EqualFold(req.Upgrade, "websocket") {
			res.Message = &authsome.Message{At: in.Name, Value: fill(in, c)}
		}
	case authsome.SlotCertificate:
		res.Certificate = authsome.NewSecret(c.Get(authsome.FieldCertificate).Reveal() + "\n" + c.Get(authsome.FieldPrivateKey).Reveal() + "\n")
	default:
		return false
	}
	return true
}
