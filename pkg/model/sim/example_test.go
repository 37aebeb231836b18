package sim_test

import (
	"fmt"
	"log"
	"time"

	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/sim"
)

// A burst is too much for one engine; a second one helps after its cold start.
func Example() {
	figures, err := sim.FiguresOf("h200-llama-3.1-70b-fp8-tp2")
	if err != nil {
		log.Fatal(err)
	}
	config := sim.Config{Topology: model.TopologyAggregated}
	config.Roles.Set(model.Aggregated, sim.RoleConfig{
		Replicas: 1, GPUsPerReplica: figures.GPUs, ColdStart: 30 * time.Second,
		Engine: figures.Engine(model.Aggregated),
	})
	var burst []sim.Request
	for i := range 1500 {
		burst = append(burst, sim.Request{At: time.Duration(i) * 80 * time.Millisecond, ISL: 1024, OSL: 128})
	}
	fleet, err := sim.New(config, sim.NewRequests(burst))
	if err != nil {
		log.Fatal(err)
	}
	for fleet.Now() < 2*time.Minute {
		if err := fleet.Advance(fleet.Now() + 30*time.Second); err != nil {
			log.Fatal(err)
		}
		if fleet.Now() == 30*time.Second {
			if err := fleet.Scale(model.Aggregated, 2); err != nil {
				log.Fatal(err)
			}
		}
		replicas, _ := fleet.Inventory().Get(model.Aggregated)
		traffic, err := fleet.Traffic(30 * time.Second)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("at %3.0f s %d of %d ready, %d requests, mean TTFT %5.0f ms\n",
			fleet.Now().Seconds(), replicas.Ready, replicas.Desired, traffic.Requests, *traffic.MeanTTFTMs)
	}
	// Output:
	// at  30 s 1 of 2 ready, 375 requests, mean TTFT   846 ms
	// at  60 s 2 of 2 ready, 375 requests, mean TTFT  4674 ms
	// at  90 s 2 of 2 ready, 375 requests, mean TTFT  1395 ms
	// at 120 s 2 of 2 ready, 374 requests, mean TTFT   138 ms
}
