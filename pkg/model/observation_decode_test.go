package model

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// whole has every field that an observation can have.
func whole() *Observation {
	sample := func(role Role, worker string) EngineSample {
		return EngineSample{
			Role: role, Worker: worker, DPRank: 1, AgeS: new(611.25), WallTimeS: new(0.084),
			Scheduled: EngineLoad{PrefillRequests: new(2), PrefillTokens: new(4096), DecodeRequests: new(0), DecodeKVTokens: new(-1)},
			Queued:    EngineLoad{DecodeKVTokens: new(1 << 50)},
		}
	}
	o := &Observation{
		Deployment: "chat-70b", ConfigRevision: 3, ObservedAt: time.Date(2026, 11, 23, 20, 0, 5, 120_000_000, time.UTC), Loops: Loops{Load: true, Throughput: true},
		Fleet: &FleetObservation{Status: Measured, AgeS: new(0.4), Error: "half of it"},
		Traffic: &TrafficObservation{
			Status: Measured, AgeS: new(1e-7), WindowS: 180, Requests: new(412.5), MeanISL: new(1155.2), MeanOSL: new(211.0), KVHitRate: new(0.31),
			MeanTTFTMs: new(1e21), P95TTFTMs: new(640.0), MeanITLMs: new(21.0), P95ITLMs: new(33.0), MeanDurationS: new(4.8),
		},
		Engines: &EnginesObservation{Status: Measured, AgeS: new(0.0), Samples: []EngineSample{sample(Prefill, "w-0"), sample(Decode, "w-1"), {Role: Decode}}},
	}
	o.Fleet.Roles.Set(Prefill, RoleReplicas{Ready: 2, Desired: 3, Pending: 1})
	o.Fleet.Roles.Set(Decode, RoleReplicas{})
	return o
}

// TestDecodeObservationIsPlain: what is encoded here is read in the one pass.
func TestDecodeObservationIsPlain(t *testing.T) {
	for _, o := range []*Observation{
		whole(),
		{Deployment: "chat", ObservedAt: time.Unix(0, 0).UTC()},
		{Deployment: "chat", ObservedAt: time.Unix(0, 0).UTC(), Fleet: &FleetObservation{Status: Absent}, Traffic: &TrafficObservation{Status: Failed, Error: "no answer"}, Engines: &EnginesObservation{Status: Stale}},
	} {
		data, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		d, got := plain{text: string(data), ok: true}, &Observation{}
		if d.observation(got); !d.ok || d.at != len(data) {
			t.Errorf("not read beyond %s", data[d.at:])
		}
		if diff := cmp.Diff(o, got); diff != "" {
			t.Errorf("decoded (-want +got):\n%s", diff)
		}
	}
}

// FuzzDecodeObservation holds the decoder to encoding/json, for any bytes.
func FuzzDecodeObservation(f *testing.F) {
	data, err := json.Marshal(whole())
	if err != nil {
		f.Fatal(err)
	}
	text := string(data)
	f.Add(text)
	for _, change := range [][2]string{
		{`"pending":1`, `"pending":01`},
		{`412.5`, `412.`},
		{`412.5`, `4e400`},
		{`"w-0"`, `"w-\u0030"`},
		{`"w-0"`, "\"w-\xff\""},
		{`:2,`, `:null,`},
		{`,"traffic"`, ` ,"traffic"`},
		{`"loops"`, `"Loops"`},
		{`"ready":2,"desired":3`, `"desired":3,"ready":2`},
		{`"samples":[`, `"samples":[],"samples":[`},
		{`"20`, `"x20`},
		{`Z"`, `+01:00"`},
		{`1125899906842624`, `112589990684262411111`},
		{`{}`, `{"other":1}`},
		{`{}`, `{,}`},
		{`}]}}`, `}]}}x`},
		{`-1`, `-0`},
		{`0.31`, `-0`},
	} {
		if !strings.Contains(text, change[0]) {
			f.Fatalf("nothing to change: %s", change[0])
		}
		f.Add(strings.Replace(text, change[0], change[1], 1))
	}
	f.Fuzz(func(t *testing.T, text string) {
		want := &Observation{}
		wantErr := json.Unmarshal([]byte(text), want)
		got, err := DecodeObservation([]byte(text))
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("error is %v, encoding/json says %v", err, wantErr)
		}
		if err != nil {
			return
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("decoded (-encoding/json +got):\n%s", diff)
		}
	})
}

func BenchmarkDecodeObservation(b *testing.B) {
	data, err := json.Marshal(whole())
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeObservation(data); err != nil {
			b.Fatal(err)
		}
	}
}
