package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tidemark.dev/pkg/events"
)

// boundFlags are --from and --to: the range of a topic.
type boundFlags struct{ from, to string }

func addBoundFlags(cmd *cobra.Command) *boundFlags {
	b := &boundFlags{}
	const form = "an instant (2026-11-23T20:00:00Z, by the log's clock) or a position (1200; 0:1200,1:900 for partitions 0 and 1)"
	cmd.Flags().StringVar(&b.from, "from", "", "first record: "+form)
	cmd.Flags().StringVar(&b.to, "to", "", "first record that is out, likewise")
	return b
}

func (b *boundFlags) bounds() (from, to events.Bound, err error) {
	if from, err = parseBound("from", b.from); err != nil {
		return from, to, err
	}
	to, err = parseBound("to", b.to)
	return from, to, err
}

// parseBound parses a place in a topic. A position alone is one of partition 0.
func parseBound(flag, text string) (events.Bound, error) {
	if text == "" {
		return events.Bound{}, nil
	}
	if instant, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return events.Bound{Time: instant}, nil
	}
	positions := map[int32]int64{}
	for part := range strings.SplitSeq(text, ",") {
		partition, position, ok := strings.Cut(part, ":")
		if !ok {
			partition, position = "0", part
		}
		p, err := strconv.ParseUint(partition, 10, 31)
		n, again := strconv.ParseUint(position, 10, 63)
		if _, twice := positions[int32(p)]; err != nil || again != nil || twice {
			return events.Bound{}, usageError{fmt.Errorf("--%s is %q, want an instant like 2026-11-23T20:00:05Z, or a position like 1200 or 0:1200,1:900", flag, text)}
		}
		positions[int32(p)] = int64(n)
	}
	return events.Bound{Positions: positions}, nil
}
