package sigv4

import "testing"

// BenchmarkResign is what signing again adds to a request.
func BenchmarkResign(b *testing.B) {
	r := header("POST", "dynamodb.us-east-1.amazonaws.com", "/", "dynamodb", "us-east-1", "Content-Type", "application/x-amz-json-1.0", "X-Amz-Target", "DynamoDB_20120810.GetItem")
	keys := keysOf("AKIDTEST", "secret", "token")
	b.ReportAllocs()
	for b.Loop() {
		s, err := Find(r)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.Sign(r, keys, emptyHash, testNow); err != nil {
			b.Fatal(err)
		}
	}
}
