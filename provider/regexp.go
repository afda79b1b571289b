package provider

import (
	"fmt"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/net/publicsuffix"

	"github.com/authsome/authsome/route"
)

// narrowed are expressions of known files that match strangers' hosts
// ("googleapis.evil.example", "evilgithubusercontent.com"), with what their
// authors meant. Anchors at either end are left out.
var narrowed = map[string][]string{
	`.*googleapis.*`:              {"*.googleapis.com"},
	`.*googleapis\.com`:           {"*.googleapis.com"},
	`.*githubusercontent\.com`:    {"*.githubusercontent.com"},
	`.*\.?githubusercontent\.com`: {"*.githubusercontent.com"},
}

// fromRegexp turns an expression into patterns, if it can be proven that all
// hosts that it matches are inside one registrable domain. why says what was
// changed, or why there is none and what to write instead.
//
// authsome matches the expression against the whole host, so a missing anchor
// changes nothing.
func fromRegexp(expr string) (hosts []string, why string) {
	bare := strings.TrimSuffix(strings.TrimPrefix(expr, "^"), "$")
	if meant, ok := narrowed[bare]; ok {
		return meant, "matches hosts of strangers, too; it is taken as " + strings.Join(meant, ", ")
	}
	if len(expr) > maxLongText {
		return nil, "is not routed: it is too long"
	}
	re, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return nil, "is not routed: it is no regular expression"
	}
	words, ok := expand(re)
	if !ok {
		return nil, "is not routed: it cannot be proven to stay inside one domain; " + advice(expr)
	}
	owner := ""
	for _, w := range words {
		w, ok := unanchored(w)
		if !ok {
			continue // no text is like that
		}
		host := strings.ToLower(string(w))
		if strings.HasPrefix(host, ".") {
			continue // no host begins with a dot
		}
		// A star that is not followed by a dot would match evilexample.com.
		if i := strings.LastIndexByte(host, star); i > 0 || i == 0 && !strings.HasPrefix(host, "*.") {
			return nil, "is not routed: it cannot be proven to stay inside one domain; " + advice(expr)
		}
		normal, err := pattern(host)
		if err != nil {
			return nil, fmt.Sprintf("is not routed: %v", err)
		}
		domain, wild := strings.CutPrefix(normal, "*.")
		site, err := publicsuffix.EffectiveTLDPlusOne(domain)
		suffix, icann := publicsuffix.PublicSuffix(domain)
		switch private := !icann && strings.Contains(suffix, "."); {
		case slices.Contains(answeredByOwner, domain):
			site, err = domain, nil
		case wild && private:
			// There (github.io) tenants run code: only an exact host is
			// somebody's own.
			return nil, fmt.Sprintf("is not routed: strangers have names under %s; write the exact host", suffix)
		}
		if err != nil || owner != "" && site != owner {
			return nil, "is not routed: it is not about hosts of one domain; write each host"
		}
		owner = site
		if !slices.Contains(hosts, normal) {
			hosts = append(hosts, normal)
		}
	}
	if len(hosts) == 0 {
		return nil, "is not routed: no host matches it"
	}
	return hosts, ""
}

// star stands for "anything" in what expand gives, and two numbers that are no
// characters for the anchors.
const (
	star  = '*'
	begin = unicode.MaxRune + 1
	end   = unicode.MaxRune + 2
)

// unanchored takes the anchors off a word's ends. One in the middle, as of
// "a^b.example.com", is nowhere.
func unanchored(w []rune) (bare []rune, ok bool) {
	for len(w) > 0 && w[0] == begin {
		w = w[1:]
	}
	for len(w) > 0 && w[len(w)-1] == end {
		w = w[:len(w)-1]
	}
	return w, !slices.Contains(w, begin) && !slices.Contains(w, end)
}

// maxWords bounds how many hosts one expression may stand for.
const maxWords = 32

// expand lists the texts that an expression matches, with a star for any run of
// characters. It understands literals, groups, alternatives, options, short
// classes and runs of broad ones; everything else is not proven.
func expand(re *syntax.Regexp) (words [][]rune, ok bool) {
	switch re.Op {
	case syntax.OpEmptyMatch:
		return [][]rune{nil}, true
	case syntax.OpBeginText:
		return [][]rune{{begin}}, true
	case syntax.OpEndText:
		return [][]rune{{end}}, true
	case syntax.OpLiteral:
		if slices.Contains(re.Rune, star) {
			return nil, false
		}
		return [][]rune{re.Rune}, true
	case syntax.OpCapture:
		return expand(re.Sub[0])
	case syntax.OpQuest:
		words, ok = expand(re.Sub[0])
		return append(words, nil), ok && len(words) < maxWords
	case syntax.OpStar, syntax.OpPlus:
		return [][]rune{{star}}, broad(re.Sub[0])
	case syntax.OpCharClass:
		for i := 0; i+1 < len(re.Rune); i += 2 {
			for r := re.Rune[i]; r <= re.Rune[i+1]; r++ {
				if words = append(words, []rune{r}); len(words) > maxWords || r == star {
					return nil, false
				}
			}
		}
		return words, len(words) > 0
	case syntax.OpAlternate:
		for _, sub := range re.Sub {
			more, ok := expand(sub)
			if words = append(words, more...); !ok || len(words) > maxWords {
				return nil, false
			}
		}
		return words, true
	case syntax.OpConcat:
		words = [][]rune{nil}
		for _, sub := range re.Sub {
			tails, ok := expand(sub)
			if !ok || len(words)*len(tails) > maxWords {
				return nil, false
			}
			var next [][]rune
			for _, w := range words {
				for _, tail := range tails {
					next = append(next, slices.Concat(w, tail))
				}
			}
			words = next
		}
		return words, true
	}
	return nil, false
}

// broad reports whether a repeated expression is any letter at least: then a
// pattern's star, which stands for labels of any letters, matches nothing that
// its author left out on purpose.
func broad(re *syntax.Regexp) bool {
	switch re.Op {
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return true
	case syntax.OpCapture:
		return broad(re.Sub[0])
	case syntax.OpCharClass:
		for i := 0; i+1 < len(re.Rune); i += 2 {
			if re.Rune[i] <= 'a' && re.Rune[i+1] >= 'z' {
				return true
			}
		}
	}
	return false
}

// advice says what to write instead of an expression, from the domain that it
// ends in, if it shows one.
func advice(expr string) string {
	text := strings.TrimSuffix(strings.ReplaceAll(expr, `\.`, "."), "$")
	tail := text[strings.LastIndexAny(text, `*+?)]}|\^`)+1:]
	tail = strings.TrimPrefix(tail, ".")
	if host, err := route.Host(tail); err == nil {
		if _, err := pattern("*." + host); err == nil {
			return fmt.Sprintf("write %q for the names under it, or %q", "*."+host, host)
		}
	}
	return `write a host, or a pattern such as "*.example.com"`
}
