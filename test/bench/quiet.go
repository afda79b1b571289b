package main

import (
	"fmt"
	"os"
	"time"
)

// disturbed is the share of the machine that others may have: beyond it a round
// is taken again while there is patience, and then its row is marked.
const disturbed = .05

// quiet takes rounds while others leave the machine alone, as far as that can be
// had.
type quiet struct {
	lab  *lab
	left *time.Duration // what may still be spent on waiting and repeating
	log  bool
}

func (l *lab) quiet(set settings) *quiet { return &quiet{l, set.patience, set.verbose} }

// round runs a round, and again after undo as long as it was disturbed and there
// is patience. It gives the share of the machine that others had.
func (q *quiet) round(take func() error, undo func()) (float64, error) {
	for {
		q.await()
		w, err := watch()
		if err != nil {
			return 0, err
		}
		if err := take(); err != nil {
			return 0, err
		}
		share, err := w.others()
		if err != nil || share <= disturbed || *q.left <= 0 {
			return share, err
		}
		*q.left -= time.Since(w.began)
		if q.log {
			fmt.Fprintf(os.Stderr, "others had %.0f %%: once more\n", 100*share)
		}
		undo()
	}
}

// await waits for a moment in which others do little.
func (q *quiet) await() {
	for *q.left > 0 {
		w, err := watch()
		if err != nil {
			return
		}
		time.Sleep(500 * time.Millisecond)
		if share, err := w.others(); err != nil || share <= disturbed {
			return
		}
		time.Sleep(time.Second)
		*q.left -= time.Since(w.began)
	}
}

// watcher compares what the machine does with what our processes do: this one,
// and all that descend from it.
type watcher struct {
	began time.Time
	busy  time.Duration
	ours  time.Duration
}

func watch() (w watcher, err error) {
	w.began = time.Now()
	if w.busy, err = busy(); err != nil {
		return w, err
	}
	w.ours, err = family()
	return w, err
}

// others is the share of the machine that others had since watch, from 0 to 1.
func (w watcher) others() (float64, error) {
	now, err := busy()
	if err != nil {
		return 0, err
	}
	ours, err := family()
	if err != nil {
		return 0, err
	}
	whole := time.Since(w.began).Seconds() * float64(processors)
	return max(0, ((now-w.busy)-(ours-w.ours)).Seconds()/whole), nil
}

// family is what this process and its descendants have used, those included
// that have ended and been waited for.
func family() (time.Duration, error) {
	pids, err := descendants()
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, pid := range append(pids, os.Getpid()) {
		if t, err := cpuWithDead(pid); err == nil { // it may have ended just now
			sum += t
		}
	}
	return sum, nil
}
