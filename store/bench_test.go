package store_test

import (
	"context"
	"testing"

	"github.com/authsome/authsome"
	"github.com/authsome/authsome/store"
	"github.com/authsome/authsome/store/storetest"
)

// BenchmarkAppend commits events as the spool hands them over; one operation is
// one event.
func BenchmarkAppend(b *testing.B) {
	s, err := store.Open(context.Background(), store.Config{Path: b.TempDir() + "/authsome.db"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	const batch = 250
	b.ReportAllocs()
	for range b.N/batch + 1 {
		b.StopTimer()
		evs := make([]authsome.Event, batch)
		for i := range evs {
			evs[i] = storetest.NewEvent(authsome.LocalVault)
		}
		b.StartTimer()
		if err := s.Append(context.Background(), evs...); err != nil {
			b.Fatal(err)
		}
	}
}
