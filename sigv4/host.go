package sigv4

import (
	"regexp"
	"slices"
	"strings"
)

// Endpoint is what a host says of the requests that are sent to it.
type Endpoint struct {
	// Services are the signing names that a request to the host may have, the
	// likeliest first. There are several only where the host leaves it open.
	Services []string
	// Region is the one to sign for; "" where the host leaves it open.
	Region string
	// Unsignable says why no signature of this kind is possible for the host; ""
	// when one is.
	Unsignable string
}

// suffixes are the domains of AWS's partitions, the longer ones first, as
// botocore's data/partitions.json has them (dnsSuffix and dualStackDnsSuffix).
var suffixes = []string{
	".api.amazonwebservices.com.cn", ".api.amazonwebservices.eu",
	".amazonaws.com.cn", ".amazonaws.com", ".amazonaws.eu", ".api.aws",
}

// A region's name: us-east-1, us-gov-west-1, eusc-de-east-1.
var region = regexp.MustCompile(`^[a-z]{2,4}(-[a-z]+)+-[0-9]+$`)

// oldS3 is how S3's hosts were written before regions had a label of their own:
// s3-eu-west-1.amazonaws.com.
var oldS3 = regexp.MustCompile(`^s3(?:-fips)?-([a-z]{2}(?:-[a-z]+)+-[0-9]+)$`)

// Lookup says what host, which is normalised, is at AWS. It is false for a host
// that is none of AWS's, or one under its domains at which no service of AWS
// answers: a customer's machine or load balancer.
func Lookup(host string) (Endpoint, bool) {
	base := ""
	for _, s := range suffixes {
		if b, ok := strings.CutSuffix(host, s); ok {
			base = b
			break
		}
	}
	if base == "" {
		return Endpoint{}, false
	}
	labels := strings.Split(base, ".")
	if len(labels) > 1 && slices.Contains(foreign, labels[len(labels)-1]) {
		return Endpoint{}, false
	}
	labels, at := locate(labels)
	names := make([]string, 0, len(labels))
	for _, l := range labels {
		switch l = strings.TrimSuffix(strings.Replace(l, "-fips-", "-", 1), "-fips"); l {
		case "dualstack", "fips", "global":
		default:
			names = append(names, l)
		}
	}
	if len(names) == 0 {
		return Endpoint{}, false
	}
	e := Endpoint{Services: servicesOf(names), Region: at}
	if names[len(names)-1] == "s3-global" {
		e.Unsignable = "multi-region access points take only SigV4a"
	}
	if e.Region == "" && len(names) == 1 {
		for _, g := range global {
			if g.service == names[0] && strings.HasSuffix(host, g.service+g.suffix) {
				e.Region = g.region
			}
		}
	}
	return e, true
}

// locate takes the region out of the labels in front of a partition's domain.
func locate(labels []string) (rest []string, at string) {
	last := func() string {
		if len(labels) == 0 {
			return ""
		}
		return labels[len(labels)-1]
	}
	pop := func() { labels = labels[:len(labels)-1] }
	private := last() == "vpce"
	if private {
		pop()
	}
	if last() == "us-gov" { // of the services that are global elsewhere
		at = "us-gov-west-1"
		pop()
	}
	switch old := oldS3.FindStringSubmatch(last()); {
	case region.MatchString(last()):
		at = last()
		pop()
	case old != nil:
		at = old[1]
		labels = append(slices.Clone(labels[:len(labels)-1]), "s3")
	case last() == "s3-external-1": // an old name of Northern Virginia
		at = "us-east-1"
		labels = append(slices.Clone(labels[:len(labels)-1]), "s3")
	case slices.Contains(afterRegion, last()) && len(labels) > 1 && region.MatchString(labels[len(labels)-2]):
		// search-x.us-east-1.es.amazonaws.com, eu-west-1.queue.amazonaws.com
		at = labels[len(labels)-2]
		labels = append(slices.Clone(labels[:len(labels)-2]), last())
	}
	if private && len(labels) > 1 && strings.HasPrefix(labels[0], "vpce-") {
		labels = labels[1:]
	}
	return labels, at
}

// servicesOf finds the signing names for what stands in front of the region.
func servicesOf(names []string) []string {
	joined := strings.Join(names, ".")
	if s, ok := services[joined]; ok {
		return strings.Fields(s)
	}
	// What customers' own names stand in front of: a bucket's, with dots in it
	// even, a number of an account, an API's id.
	for i := 1; i < len(names); i++ {
		if s, ok := below[strings.Join(names[i:], ".")]; ok {
			return strings.Fields(s)
		}
	}
	if s, ok := below[joined]; ok {
		return strings.Fields(s)
	}
	if strings.HasPrefix(names[len(names)-1], "s3express-") {
		return []string{"s3express"}
	}
	// Of a host that has several labels and is in neither table, the request may
	// say which of them is the service. For most others the label is the name.
	out := make([]string, 0, len(names))
	for _, n := range slices.Backward(names) {
		if s, ok := services[n]; ok {
			out = append(out, strings.Fields(s)...)
			continue
		}
		out = append(out, n)
	}
	return out
}
