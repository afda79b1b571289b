package launch

import (
	"crypto/sha1"
	"crypto/x509"
	"encoding/binary"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// JVMs have their own roots and read no variable but JAVA_TOOL_OPTIONS, which
// each of them names on its standard error. So it is set only where there is a
// JVM. The route cannot be given in this way: properties have no place for the
// token, and the proxy answers 407 to who comes without.
const (
	javaFile       = "trust.jks"
	javaOptions    = "JAVA_TOOL_OPTIONS"
	javaTrustStore = "-Djavax.net.ssl.trustStore="
	// javaPassword guards nothing: the store holds certificates, and its digest
	// wants one. It is what Java's own store has.
	javaPassword = "changeit"
)

// findJava reports whether programs of the child's will find a JVM.
func findJava(env *variables, goos string) bool {
	if home, _ := env.get("JAVA_HOME"); home != "" {
		return true
	}
	name := "java"
	if goos == "windows" {
		name = "java.exe"
	}
	list, _ := env.get("PATH")
	for _, dir := range strings.Split(list, string(listSeparator(goos))) {
		if dir == "" {
			continue
		}
		if fi, err := os.Stat(filepath.Join(dir, name)); err == nil && fi.Mode().IsRegular() {
			return true
		}
	}
	return false
}

// keyStore is a file in the format JKS, which every JVM reads:
//
//	4  magic FEEDFEED
//	4  version 2
//	4  number of entries
//	   for each: 4 the tag 2, UTF alias, 8 date, UTF "X.509", 4 length, DER
//	20 SHA-1 over the password in UTF-16BE, "Mighty Aphrodite", and all above
//
// Numbers are big-endian, UTF is a length of two bytes and the text.
type keyStore struct {
	entries []byte
	count   uint32
}

// add takes a certificate that is not in the store. One that cannot be parsed is
// left out, since one that Java cannot parse makes it refuse the whole store.
// Parsing the system's hundred and fifty would take 3 ms of every start.
func (k *keyStore) add(der []byte, vouched bool) {
	if !vouched {
		if _, err := x509.ParseCertificate(der); err != nil {
			return
		}
	}
	k.count++
	b := binary.BigEndian.AppendUint32(k.entries, 2)
	b = appendUTF(b, "authsome-"+strconv.FormatUint(uint64(k.count), 10))
	b = binary.BigEndian.AppendUint64(b, 0) // always the same, so that the file is
	b = appendUTF(b, "X.509")
	b = binary.BigEndian.AppendUint32(b, uint32(len(der)))
	k.entries = append(b, der...)
}

func appendUTF(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

func (k *keyStore) bytes() []byte {
	out := binary.BigEndian.AppendUint32(nil, 0xfeedfeed)
	out = binary.BigEndian.AppendUint32(out, 2)
	out = binary.BigEndian.AppendUint32(out, k.count)
	out = append(out, k.entries...)
	h := sha1.New()
	for _, c := range []byte(javaPassword) {
		h.Write([]byte{0, c})
	}
	h.Write([]byte("Mighty Aphrodite"))
	h.Write(out)
	return h.Sum(out)
}

// Java is the trust store for JVMs, where there is one.
func (t *Trust) Java() string { return filepath.Join(t.dir, javaFile) }

func (t *Trust) javaOptions() string {
	store := javaTrustStore + t.Java()
	if strings.ContainsAny(store, " \t") {
		store = `"` + store + `"`
	}
	return store + " -Djavax.net.ssl.trustStorePassword=" + javaPassword + " -Djavax.net.ssl.trustStoreType=JKS"
}

// withoutTrustStore takes what an outer run has set out of JAVA_TOOL_OPTIONS.
func withoutTrustStore(options string) string {
	before, rest, ok := strings.Cut(options, javaTrustStore)
	if !ok {
		return options
	}
	path, after, ok := strings.Cut(rest, " -Djavax.net.ssl.trustStorePassword="+javaPassword+" -Djavax.net.ssl.trustStoreType=JKS")
	if !ok || !inTrust(strings.TrimSuffix(path, `"`), javaFile) {
		return options
	}
	return strings.TrimSpace(strings.TrimSuffix(before, `"`) + after)
}
