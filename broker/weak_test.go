package broker_test

import (
	"strings"
	"testing"
)

// TestWeakCredentials are named at login, and afterwards, by what is put on requests
// and not by what it is made of.
func TestWeakCredentials(t *testing.T) {
	w := newWorld(t)
	if done := w.login("brevo", "", openaiKey, false); len(done.Notes) != 0 {
		t.Errorf("a good key: %q", done.Notes)
	}
	done := w.login("brevo", "work", "password", false)
	if len(done.Notes) != 1 || !strings.Contains(done.Notes[0], "too common") || strings.Contains(done.Notes[0], "password") {
		t.Errorf("a word: %q", done.Notes)
	}
	if done := w.login("cerebras", "", "k3y", false); len(done.Notes) != 1 {
		t.Errorf("a short one: %q", done.Notes)
	}
	w.loginAWS("", "access_key_id", awsID, "secret_access_key", awsKey)
	if got := w.weak(); got != "brevo/work cerebras/default" {
		t.Errorf("weak are %q", got)
	}
	w.login("brevo", "work", openaiKey+"2", true)
	if got := w.weak(); got != "cerebras/default" {
		t.Errorf("weak are %q", got)
	}
}

func (w *world) weak() string {
	var names []string
	for _, c := range w.Weak(me) {
		names = append(names, c.Provider+"/"+c.Name)
	}
	return strings.Join(names, " ")
}
