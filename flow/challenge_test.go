package flow

import (
	"reflect"
	"strings"
	"testing"
)

func TestParseChallenges(t *testing.T) {
	type m = map[string]string
	tests := []struct {
		header string
		want   []challenge
	}{
		{`Bearer`, []challenge{{"bearer", m{}}}},
		{`Bearer realm="a, b", scope="x y" , resource_metadata="https://h/.well-known/x?a=b,c"`, []challenge{{"bearer", m{"realm": "a, b", "scope": "x y", "resource_metadata": "https://h/.well-known/x?a=b,c"}}}},
		{`Bearer resource_metadata=https://h/x=y, error=invalid_token`, []challenge{{"bearer", m{"resource_metadata": "https://h/x=y", "error": "invalid_token"}}}},
		{`BEARER Realm = "q\"u\\o"`, []challenge{{"bearer", m{"realm": `q"u\o`}}}},
		{`Basic realm="a", Bearer scope="b"`, []challenge{{"basic", m{"realm": "a"}}, {"bearer", m{"scope": "b"}}}},
		{`Negotiate YWJj/+==, Bearer scope="b"`, []challenge{{"negotiate", m{}}, {"bearer", m{"scope": "b"}}}},
		{`Negotiate, , Bearer`, []challenge{{"negotiate", m{}}, {"bearer", m{}}}},
		{`Bearer scope="a", scope="b"`, []challenge{{"bearer", m{"scope": "a"}}}},
		{`Bearer scope="open`, []challenge{{"bearer", m{}}}},
		{`Bearer scope=`, []challenge{{"bearer", m{}}}},
		{`Bearer error="x" scope="y"`, []challenge{{"bearer", m{"error": "x", "scope": "y"}}}},
		{`scope="a"`, []challenge{{"scope", m{}}}},
		{`"quoted"`, nil},
		{`, ,`, nil},
		{"", nil},
		{"Bearer \x00scope=a", []challenge{{"bearer", m{}}}},
	}
	for _, tt := range tests {
		if got := parseChallenges([]string{tt.header}); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s\n got %v\nwant %v", tt.header, got, tt.want)
		}
	}
	if got := parseChallenges([]string{`"`, "Bearer", "Basic"}); len(got) != 2 {
		t.Errorf("a broken header hides others: %v", got)
	}
	if got := parseChallenges([]string{"Bearer " + strings.Repeat("a=b,", 1<<20), "Basic"}); len(got) != 1 {
		t.Errorf("a huge header gives %d challenges", len(got))
	}
}
