package proxy

import (
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/route"
)

// line is what a request asks for.
type line struct {
	path  string
	query string
	asked bool // whether there is a "?"
}

// inspect looks into the places of a service that are not whole headers, so
// that the broker can choose by what stands there.
func (x *exchange) inspect(res *authsome.Resolution) *problem {
	in := &authsome.Inspection{Path: x.path}
	var inBody []authsome.Place
	cookies := ""
	var part authsome.Found
	for _, at := range res.Look {
		switch at.Slot {
		case authsome.SlotQuery:
			in.Found = append(in.Found, lookForField(at, x.query, betweenParameters)...)
		case authsome.SlotCookie:
			if cookies == "" {
				cookies = strings.Join(x.r.Header["Cookie"], "; ")
			}
			in.Found = append(in.Found, lookForField(at, cookies, betweenCookies)...)
		case authsome.SlotPath:
			// Of several templates that the path is like, the one that says most.
			if f, shown, ok := lookForPart(at, x.path); ok && len(at.Name) > len(part.Name) {
				part, in.Path = f, shown
			}
		case authsome.SlotJSON, authsome.SlotForm:
			inBody = append(inBody, at)
		case authsome.SlotSigV4:
			x.inspectSignature(in, at, res.Deny)
		}
	}
	if part.Name != "" {
		in.Found = append(in.Found, part)
	}
	x.req.Inspection = in
	if x.full != nil {
		return x.full
	}
	if len(inBody) == 0 {
		return nil
	}
	found, prob := x.inspectBody(inBody)
	in.Found = append(in.Found, found...)
	return prob
}

// lookForPart looks into a path. shown is the path without what the child has
// put there.
func lookForPart(at authsome.Place, path string) (f authsome.Found, shown string, ok bool) {
	t, err := route.ParseTemplate(at.Name)
	if err != nil {
		return f, "", false
	}
	part, ok := t.Part(path)
	if !ok {
		return f, "", false
	}
	f.Place = at
	text, err := url.PathUnescape(part)
	if err != nil {
		text = part
	}
	f.Connection, f.Placeholder = authsome.FindPlaceholder(text)
	// A token of the child's own may stand around the placeholder as well.
	name := authsome.Placeholder
	if f.Connection != "" {
		name += "." + f.Connection
	}
	shown, err = t.Fill(path, name)
	return f, shown, err == nil
}

// kindOfBody says which slots a body may have: SlotJSON, SlotForm, or "".
func kindOfBody(h http.Header) authsome.Slot {
	media, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	switch {
	case err != nil && media == "":
		return ""
	case media == "application/x-www-form-urlencoded":
		return authsome.SlotForm
	case media == "application/json", media == "text/json", strings.HasPrefix(media, "application/") && strings.HasSuffix(media, "+json"):
		return authsome.SlotJSON
	default:
		return ""
	}
}

// inspectBody reads the beginning of the body.
func (x *exchange) inspectBody(look []authsome.Place) ([]authsome.Found, *problem) {
	kind := kindOfBody(x.r.Header)
	var fields []*bodyField
	for _, at := range look {
		if at.Slot == kind {
			fields = append(fields, &bodyField{at: at})
		}
	}
	if x.body = newBody(x.r); x.body == nil || len(fields) == 0 {
		return nil, nil
	}
	for _, name := range [...]string{"Content-Type", "Content-Encoding"} {
		if len(x.r.Header[name]) > 1 {
			return nil, errBody("the request has two headers " + name)
		}
	}
	if coding := x.r.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return nil, &problem{
			Code: badRequest, Host: x.host, Fix: "send the body without Content-Encoding",
			Message: "the credential belongs into the body, and nothing can be put into one that is compressed",
		}
	}
	if prob := x.keepRoom(maxReplay); prob != nil {
		return nil, prob
	}
	beginning, all, err := x.body.peek(maxReplay)
	if malformedBody(err) {
		return nil, errChunks()
	}
	if err != nil {
		panic(http.ErrAbortHandler) // the child has gone
	}
	e := newEditor(kind, fields, "")
	_, err = e.feed(nil, beginning)
	if err == nil && all {
		_, err = e.end(nil)
	}
	if err == errNoObject {
		return nil, nil
	}
	if err != nil {
		return nil, errBody(err.Error())
	}
	var found []authsome.Found
	for _, f := range fields {
		if !f.blocked {
			found = append(found, authsome.Found{Place: f.at, Placeholder: f.held, Connection: f.wants})
		}
	}
	x.beginning, x.allOfIt = beginning, all
	return found, nil
}

// errBody refuses a body that nothing can be put into.
func errBody(why string) *problem {
	return &problem{Code: badRequest, Message: why + ", so the credential could not be put into it", Fix: "send one valid JSON object, or one form, with each field once"}
}

// rewrite makes what goes upstream of what the child sent, but for whole
// headers: the line, the cookies in header, and what the body's editors are made
// of. It starts from the child's own each time, since another attempt may have
// another credential.
func (x *exchange) rewrite(header http.Header) *problem {
	x.sent, x.edits = x.line, nil
	rw := x.res.Rewrite
	if rw == nil || x.res.Verdict != authsome.Inject {
		return nil
	}
	var parameters, cookies []field
	for _, s := range rw.Set {
		value := s.Value.Reveal()
		switch s.Slot {
		case authsome.SlotQuery:
			parameters = append(parameters, field{s.Name, encodeField(value)})
		case authsome.SlotCookie:
			if !fitsCookie(value) {
				return x.unfit(s.Slot)
			}
			cookies = append(cookies, field{s.Name, value})
		case authsome.SlotPath:
			t, err := route.ParseTemplate(s.Name)
			if err == nil {
				x.sent.path, err = t.Fill(x.sent.path, value)
			}
			if err != nil {
				return x.unfit(s.Slot)
			}
		case authsome.SlotForm:
			x.edits = append(x.edits, field{s.Name, encodeField(value)})
			x.kind = s.Slot
		case authsome.SlotJSON:
			if !utf8.ValidString(value) {
				return x.unfit(s.Slot)
			}
			x.edits = append(x.edits, field{s.Name, `"` + string(jsonEscaped(s.Value)) + `"`})
			x.kind = s.Slot
		}
	}
	if names := namesOf(rw.Strip, authsome.SlotQuery); len(names)+len(parameters) > 0 {
		x.sent.query = replaceFields(x.query, betweenParameters, "&", names, parameters)
		x.sent.asked = x.asked || x.sent.query != ""
	}
	if names := namesOf(rw.Strip, authsome.SlotCookie); len(names)+len(cookies) > 0 {
		own := strings.Join(header["Cookie"], "; ")
		switch line := strings.TrimLeft(replaceFields(own, betweenCookies, "; ", names, cookies), " "); {
		case line == "":
			delete(header, "Cookie")
		case line != own:
			header["Cookie"] = []string{line}
		}
	}
	return nil
}

// unfit refuses a credential that is not what its place can hold.
func (x *exchange) unfit(slot authsome.Slot) *problem {
	return &problem{
		Code: reauthenticationRequired, Provider: x.res.Provider, Host: x.host,
		Message: "the credential of " + x.res.Provider + " (" + x.res.Connection + ") has characters that a " + string(slot) + " cannot hold",
		Fix:     "authsome login " + x.res.Provider + " --connection " + x.res.Connection + " --force",
	}
}

func namesOf(places []authsome.Place, slot authsome.Slot) []string {
	var names []string
	for _, p := range places {
		if p.Slot == slot {
			names = append(names, p.Name)
		}
	}
	return names
}

// fields are those that an attempt fills. Each editor has its own.
func (x *exchange) fields() []*bodyField {
	var out []*bodyField
	for _, e := range x.edits {
		out = append(out, &bodyField{at: authsome.Place{Slot: x.kind, Name: e.name}, value: []byte(e.value)})
	}
	return out
}

// content is the body of an attempt, and its length, -1 when that is open.
func (x *exchange) content() (io.ReadCloser, int64, error) {
	a, err := x.body.attempt()
	if err != nil {
		return nil, 0, err
	}
	if x.chunks != nil {
		return &resigned{x, a, x.chunks(a)}, x.r.ContentLength, nil
	}
	if len(x.edits) == 0 {
		return a, x.r.ContentLength, nil
	}
	return &edited{x: x, src: a, editor: newEditor(x.kind, x.fields(), x.res.Connection)}, x.length(), nil
}

// length is that of the body as it goes upstream. It is known when the whole
// body is at hand, and when all fields are in what was looked at: a second one
// of the same name is refused wherever it comes.
func (x *exchange) length() int64 {
	if x.r.ContentLength < 0 {
		return -1
	}
	fields := x.fields()
	e := newEditor(x.kind, fields, "")
	out, err := e.feed(nil, x.beginning)
	if err == nil && x.allOfIt {
		if out, err = e.end(out); err == nil {
			return int64(len(out))
		}
	}
	if err != nil {
		return -1
	}
	n := x.r.ContentLength
	for _, f := range fields {
		if !f.whole {
			return -1
		}
		n += f.grown()
	}
	return n
}

// edited is the body on its way through an editor.
type edited struct {
	x       *exchange
	src     *attempt
	editor  editor
	in, out []byte
	ready   []byte // of out
	err     error
}

func (r *edited) Read(p []byte) (int, error) {
	for len(r.ready) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		if r.in == nil {
			r.in = make([]byte, smallBuffer)
		}
		n, err := r.src.Read(r.in)
		r.ready, r.err = r.editor.feed(r.out[:0], r.in[:n])
		if r.err == nil && err == io.EOF {
			r.ready, r.err = r.editor.end(r.ready)
		}
		r.out = r.ready
		if r.err != nil {
			// net/http may say no more of it than that the connection broke.
			prob := errBody(r.err.Error())
			r.x.broken.Store(prob)
			return 0, r.err
		}
		r.err = err
	}
	n := copy(p, r.ready)
	r.ready = r.ready[n:]
	return n, nil
}

func (r *edited) Close() error { return r.src.Close() }

// returning are headers of an answer that may quote the address of the request,
// and make the child send it.
var returning = [...]string{"Location", "Content-Location", "Refresh", "Link"}

// hideAddress puts the placeholder where an answer quotes what was put into the
// path or the query, so that the child is redirected without having seen it.
func (x *exchange) hideAddress(h http.Header) {
	x.hideSignature(h)
	if x.res.Rewrite == nil || x.res.Verdict != authsome.Inject {
		return
	}
	for _, s := range x.res.Rewrite.Set {
		value := s.Value.Reveal()
		if s.Slot != authsome.SlotQuery && s.Slot != authsome.SlotPath || len(value) < 4 {
			continue
		}
		stand := authsome.Placeholder + "." + x.res.Connection
		hide := strings.NewReplacer(
			encodeField(value), stand, route.EscapeSegment(value), stand, url.QueryEscape(value), stand,
			url.PathEscape(value), stand, value, stand,
		)
		for _, name := range returning {
			for i, v := range h[name] {
				h[name][i] = hide.Replace(v)
			}
		}
	}
}
