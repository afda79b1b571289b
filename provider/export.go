package provider

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/authsome/authsome"
)

// exports reads which variables tools read, in either form: variable → source,
// or, older, field → variable under "env". Without any, the names are those of
// authsome: <PROVIDER>_API_KEY, <PROVIDER>_ACCESS_TOKEN.
func exports(f *file, s *source, p *authsome.Provider) error {
	var m map[string]any
	if len(f.Export) > 0 && f.Export[0] != 'n' {
		if err := json.Unmarshal(f.Export, &m); err != nil {
			return s.fail("/export", "must be an object")
		}
	}
	if env, ok := m["env"].(map[string]any); ok {
		for _, field := range s.members("/export/env") {
			at := "/export/env/" + escape(field)
			switch variable := env[field].(type) {
			case nil:
			case string:
				if err := export(f, s, p, at, variable, field); err != nil {
					return err
				}
			default:
				return s.fail(at, "must be the name of a variable")
			}
		}
	} else {
		for _, variable := range s.members("/export") {
			at := "/export/" + escape(variable)
			switch field := m[variable].(type) {
			case nil:
			case string:
				if err := export(f, s, p, at, variable, field); err != nil {
					return err
				}
			default:
				return s.fail(at, "must be the name of a field")
			}
		}
	}
	if f.APIKey != nil && f.APIKey.EnvVar != "" {
		if err := export(f, s, p, "/api_key/env_var", f.APIKey.EnvVar, authsome.FieldToken); err != nil {
			return err
		}
	}
	if len(p.Env) == 0 {
		defaultExports(f, p)
	}
	return nil
}

// export adds one variable, unless there is nothing that it could hold.
func export(f *file, s *source, p *authsome.Provider, at, variable, field string) error {
	if !isVariable(variable) {
		return s.fail(at, "names the variable %q, which no shell could set", clip(variable))
	}
	if decides(variable) {
		return s.fail(at, "names the variable %s, which is not a credential's", variable)
	}
	e := authsome.EnvVar{Name: variable}
	switch field {
	case "ACCESS_TOKEN", "API_TOKEN", "API_KEY", authsome.FieldAccessToken, authsome.FieldToken:
		e.Field = authsome.FieldToken
	case authsome.FieldAPIKey:
		// One of several keys has it by its own name.
		e.Field = authsome.FieldToken
		if len(p.Key.Fields) > 1 {
			e.Field = authsome.FieldAPIKey
		}
	case "REFRESH_TOKEN", authsome.FieldRefreshToken:
		return nil // never exported
	case "API_URL", "BASE_URL":
		if e.URL = address(f, p, field); e.URL == "" {
			return nil
		}
	default:
		e.Field = field
	}
	if e.URL == "" && !hasField(p, e.Field) {
		p.Warnings = append(p.Warnings, fmt.Sprintf("export of %s is left out: %q is no field of the credential", variable, clip(field)))
		return nil
	}
	if !slices.ContainsFunc(p.Env, func(o authsome.EnvVar) bool { return o.Name == variable }) {
		p.Env = append(p.Env, e)
	}
	return nil
}

// defaultExports names the variables of a definition that names none.
func defaultExports(f *file, p *authsome.Provider) {
	prefix := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' {
			return r - 'a' + 'A'
		}
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, p.Name)
	add := func(suffix, field string) {
		if v := prefix + "_" + suffix; isVariable(v) && !decides(v) {
			p.Env = append(p.Env, authsome.EnvVar{Name: v, Field: field})
		}
	}
	switch {
	case f.AuthType == string(authsome.AuthOAuth2):
		add("ACCESS_TOKEN", authsome.FieldToken)
	case len(p.Key.Fields) == 1:
		add("API_KEY", authsome.FieldToken)
	default:
		for _, k := range p.Key.Fields {
			add(strings.ToUpper(k.Name), k.Name)
		}
	}
}

// deciding are variables that decide what programs run, where they look for
// things and whom they trust; a definition has no business there. Those that
// end in "_" stand for all that begin so.
var deciding = []string{
	"ALL_PROXY", "AUTHSOME_", "AWS_CA_BUNDLE", "BASHOPTS", "BASH_", "BROWSER", "CARGO_HTTP_CAINFO", "CDPATH", "CODEX_CA_CERTIFICATE",
	"CODEX_HOME", "CURL_CA_BUNDLE", "DENO_CERT", "DYLD_", "EDITOR", "ENV", "FTP_PROXY", "GIT_ASKPASS", "GIT_CONFIG", "GIT_CONFIG_", "GIT_DIR",
	"GIT_EDITOR", "GIT_EXEC_PATH", "GIT_EXTERNAL_DIFF", "GIT_PAGER", "GIT_PROXY_COMMAND", "GIT_SEQUENCE_EDITOR", "GIT_SSH", "GIT_SSH_", "GIT_SSL_",
	"GIT_TEMPLATE_DIR", "GIT_WORK_TREE", "GLOBIGNORE", "GODEBUG", "GOPROXY",
	"HOME", "HTTPS_PROXY", "HTTP_PROXY", "IFS", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "LD_", "LESSOPEN", "LOGNAME", "NODE_EXTRA_CA_CERTS",
	"NODE_OPTIONS", "NODE_PATH", "NODE_TLS_REJECT_UNAUTHORIZED", "NODE_USE_ENV_PROXY", "NO_PROXY", "NPM_CONFIG_", "OPENSSL_CONF", "PAGER",
	"PATH", "PERL5LIB", "PERL5OPT", "PHP_INI_SCAN_DIR", "PIP_", "PROMPT_COMMAND", "PS1", "PS4", "PWD", "PYTHONHOME", "PYTHONPATH",
	"PYTHONSTARTUP", "REQUESTS_CA_BUNDLE", "RUBYLIB", "RUBYOPT", "SHELL", "SHELLOPTS", "SSH_", "SSL_", "TERM", "TMPDIR", "USER", "VISUAL",
	"WGETRC", "XDG_", "ZDOTDIR", "_JAVA_OPTIONS",
}

func decides(variable string) bool {
	upper := strings.ToUpper(variable)
	return slices.ContainsFunc(deciding, func(d string) bool {
		return upper == d || strings.HasSuffix(d, "_") && strings.HasPrefix(upper, d)
	})
}

// address is what API_URL and BASE_URL stand for: the first route's address,
// and the service's own, where the definition gives one.
func address(f *file, p *authsome.Provider, source string) string {
	if source == "BASE_URL" && f.OAuth != nil && f.OAuth.BaseURL != "" {
		return strings.TrimRight(f.OAuth.BaseURL, "/")
	}
	if len(p.Routes) == 0 || origin(p.Routes[0]) == "" {
		return ""
	}
	return origin(p.Routes[0]) + p.Routes[0].Path
}
