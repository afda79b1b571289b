package cli

import (
	"slices"
	"strings"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/launch"
)

// noShimVariable switches shims off for every run: names separated by commas, or
// "all".
const noShimVariable = "AUTHSOME_NO_SHIM"

// withoutShims are the shims that the flags switch off, or, where there is no
// flag, the environment.
func (o runOptions) withoutShims(environment string) ([]string, error) {
	var all []string
	for _, s := range launch.Shims {
		all = append(all, s.Name)
	}
	if o.noShims {
		return all, nil
	}
	names, from := o.noShim, "--no-shim"
	if len(names) == 0 {
		names, from = strings.FieldsFunc(environment, func(r rune) bool { return r == ',' || r == ' ' }), noShimVariable
	}
	var off []string
	for _, name := range names {
		switch {
		case name == "all":
			off = append(off, all...)
		case slices.Contains(all, name):
			off = append(off, name)
		default:
			return nil, authsome.E(authsome.Usage, "%s names a shim that there is not", from).
				WithHint("one of %s, or all", strings.Join(all, ", "))
		}
	}
	return off, nil
}

// shimsFor are those that are on.
func shimsFor(off []string, changes []launch.Change) []launch.Shim {
	on := []launch.Shim{}
	for _, s := range launch.Shims {
		// One whose runtime is not there, or that the person has overridden,
		// changes nothing.
		changed := slices.ContainsFunc(changes, func(c launch.Change) bool { return strings.HasPrefix(c.Why, "shim "+s.Name+": ") })
		if changed && !slices.Contains(off, s.Name) {
			on = append(on, s)
		}
	}
	return on
}
