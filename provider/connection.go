package provider

import (
	"slices"

	"github.com/authsome/authsome"
)

// connectionSlot reads {"message": "{token}", "at": "d.token"} or
// {"certificate": {}}: the elements of `inject` that concern the connection to the
// service and no request on it. others is how many places of a request the element
// names as well.
func connectionSlot(s *source, p *authsome.Provider, at string, e injectEntry, others int) (authsome.Injection, error) {
	if others > 0 || e.Value != "" || (e.Message != "") == (e.Certificate != nil) {
		return authsome.Injection{}, s.fail(at, "names several places: message, with at, and certificate stand alone")
	}
	if e.Message != "" {
		in := authsome.Injection{Slot: authsome.SlotMessage, Name: e.At, Value: e.Message, When: authsome.OnPlaceholder}
		if e.When != "" && e.When != string(authsome.OnPlaceholder) {
			return in, s.fail(at+"/when", "is %q: messages are changed where the placeholder stands, and nowhere else", clip(e.When))
		}
		if e.At != "" && (len(e.At) > maxText || !jsonPlace.MatchString(e.At)) {
			return in, s.fail(at+"/at", "is %q, which names no field of a JSON message", clip(e.At))
		}
		return in, checkInjection(s, p, at+"/message", in)
	}
	in := authsome.Injection{
		Slot: authsome.SlotCertificate, When: authsome.Always,
		Value: "{" + authsome.FieldCertificate + "}{" + authsome.FieldPrivateKey + "}",
	}
	if e.When != "" && e.When != string(authsome.Always) || e.At != "" {
		return in, s.fail(at, "has something beside certificate, which is presented always or not at all")
	}
	for _, name := range []string{authsome.FieldCertificate, authsome.FieldPrivateKey} {
		i := slices.IndexFunc(p.Key.Fields, func(f authsome.KeyField) bool { return f.Name == name })
		switch {
		case i < 0:
			return in, s.fail(at+"/certificate", "needs the fields %s and %s of api_key.fields", authsome.FieldCertificate, authsome.FieldPrivateKey)
		case p.Key.Fields[i].Optional:
			return in, s.fail(at+"/certificate", "needs the field %s, which may be left empty", name)
		case name == authsome.FieldPrivateKey && p.Key.Fields[i].Public:
			return in, s.fail(at+"/certificate", "has a private key that is shown while it is typed")
		}
		p.Key.Fields[i].Multiline = true
	}
	return in, nil
}

// connectionClash says why two elements of a route do not go together where one
// of them concerns the connection; "" when they do.
func connectionClash(a, b authsome.Injection) string {
	switch {
	case a.Slot == authsome.SlotMessage && b.Slot == a.Slot:
		return "is a second message: a stream has one"
	case ofConnection(a) && b.When == authsome.OnChallenge, ofConnection(b) && a.When == authsome.OnChallenge:
		return "waits for a challenge beside a message or a certificate, with which no connection is anonymous"
	}
	return ""
}

func ofConnection(in authsome.Injection) bool {
	return in.Slot == authsome.SlotMessage || in.Slot == authsome.SlotCertificate
}
