package journey

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestRotationUnderARun: a run that lives while the certificate authority is
// replaced, and the daemon after that, goes on with the one that its child
// trusts; a new run has the new one.
func TestRotationUnderARun(t *testing.T) {
	w := newWorld(t)
	login(t, w, openaiKey, "openai")
	const show = `cat "$NODE_EXTRA_CA_CERTS"`
	before := must(t, w.Command("run", "--", "sh", "-c", show))
	cmd := w.Command("run", "--", "sh", "-c", poll).Cmd()
	out := lines(t, cmd)
	next(t, out, "200")
	for range 2 {
		must(t, w.Command("ca", "rotate"))
		for len(out) > 0 {
			<-out
		}
		next(t, out, "200")
		next(t, out, "200")
	}
	contains(t, must(t, w.Command("ca", "show", "--json")), `"former": 1`) // nobody has the second one
	replaceDaemon(t, w, cmd)
	for len(out) > 0 {
		<-out
	}
	next(t, out, "200")
	next(t, out, "200")
	after := must(t, w.Command("run", "--", "sh", "-c", show+`; curl -sS https://api.openai.com/v1/models`))
	contains(t, after, "gpt-5", "BEGIN CERTIFICATE")
	lacks(t, after, strings.TrimSpace(before))
	file, err := os.ReadFile(strings.TrimSpace(must(t, w.Command("ca", "path"))))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(file); !strings.HasSuffix(got, before) || got == before {
		t.Errorf("the file holds %s, and not both of:\n%s%s", got, after, before)
	}
}

// TestInstalledRoot: programs that trust nothing but the root that was installed
// accept the hosts that were routed then, and no other.
func TestInstalledRoot(t *testing.T) {
	t.Parallel()
	certutil := installed(t, "certutil")
	codex := tool(t, "codex")
	w := newWorld(t)
	login(t, w, openaiKey, "openai")
	db := filepath.Join(w.Home(), ".pki", "nssdb")
	if err := os.MkdirAll(db, 0o700); err != nil {
		t.Fatal(err)
	}
	nss := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(certutil, append(args, "-d", "sql:"+db)...).CombinedOutput()
		if err != nil {
			t.Fatalf("certutil %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	nss("-N", "--empty-password")
	root := filepath.Join(w.Work(), "root.pem")
	install := func() {
		t.Helper()
		must(t, w.Command("ca", "install", "--store", "nss", "--yes"))
		for _, line := range strings.Split(nss("-L"), "\n") {
			if name, _, ok := strings.Cut(line, " "); ok && strings.HasPrefix(name, "authsome-") {
				if err := os.WriteFile(root, []byte(nss("-L", "-n", name, "-a")), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
		}
		t.Fatalf("there is no root of ours in\n%s", nss("-L"))
	}
	install()
	contains(t, must(t, w.Command("run", "--", "curl", "-sS", "--cacert", root, "--capath", "/dev/null", "https://api.openai.com/v1/models")), "gpt-5")

	// rustls, which has no option for it: the variables, over those of the run.
	w.Internet.Say("The answer is forty-two.")
	codexUnder := func(root string) string {
		r := w.Command("run", "--", "sh", "-c",
			`CODEX_CA_CERTIFICATE="$1" SSL_CERT_FILE="$1" timeout 60 "$2" exec --skip-git-repo-check "what is the answer"`,
			"-", root, codex).Run()
		return r.Stdout + r.Stderr
	}
	contains(t, codexUnder(root), "forty-two")

	// GitHub is routed from now on, and not permitted by what is installed.
	login(t, w, personalKey, "github")
	user := []string{"https://api.github.com/user"}
	r := w.Command(append([]string{"run", "--", "curl", "-sS", "--cacert", root, "--capath", "/dev/null"}, user...)...).Run()
	if r.Code != 60 {
		t.Errorf("a host that is not permitted: curl ends with %d: %s%s", r.Code, r.Stdout, r.Stderr)
	}
	contains(t, must(t, w.Command(append([]string{"run", "--", "curl", "-sS"}, user...)...)), "octocat")
	contains(t, must(t, w.Command("doctor")), "does not permit")
	install()
	contains(t, must(t, w.Command(append([]string{"run", "--", "curl", "-sS", "--cacert", root, "--capath", "/dev/null"}, user...)...)), "octocat")
	contains(t, codexUnder(root), "forty-two")

	must(t, w.Command("ca", "uninstall", "--yes"))
	lacks(t, nss("-L"), "authsome")
	r = w.Command(append([]string{"run", "--", "curl", "-sS", "--cacert", root, "--capath", "/dev/null"}, user...)...).Run()
	if r.Code != 60 {
		t.Errorf("what was uninstalled is still served: curl ends with %d", r.Code)
	}
}
