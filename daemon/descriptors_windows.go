package daemon

import "math"

// maxDescriptors: Windows has no such limit but memory.
func maxDescriptors() int { return math.MaxInt32 }
