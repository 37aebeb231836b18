// Package forwardpass receives the forward-pass metrics that engines publish, one
// MessagePack message for each iteration, over ZeroMQ, NATS or HTTP POST. It keeps
// the newest of each rank: what an engine did at its last iteration, and what
// waits.
package forwardpass

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/vmihailenco/msgpack/v5"

	"tidemark.dev/pkg/model"
)

// maxMessage bounds a message; real ones have about half a kilobyte.
const maxMessage = 1 << 16

// message is what one engine rank says of one iteration. Engines send what is
// not here too; those of later versions may send more.
type message struct {
	WorkerID  string  `msgpack:"worker_id"`
	DPRank    int     `msgpack:"dp_rank"`
	WallTimeS float64 `msgpack:"wall_time"`
	Scheduled load    `msgpack:"scheduled_requests"`
	Queued    load    `msgpack:"queued_requests"`
}

// load is the work in one state. What a message lacks is not known.
type load struct {
	PrefillRequests *int `msgpack:"num_prefill_requests"`
	PrefillTokens   *int `msgpack:"sum_prefill_tokens"`
	DecodeRequests  *int `msgpack:"num_decode_requests"`
	DecodeKVTokens  *int `msgpack:"sum_decode_kv_tokens"`
}

func (l load) of() model.EngineLoad {
	return model.EngineLoad{
		PrefillRequests: l.PrefillRequests, PrefillTokens: l.PrefillTokens, DecodeRequests: l.DecodeRequests, DecodeKVTokens: l.DecodeKVTokens,
	}
}

// envelope wraps a message in the event plane of Dynamo.
type envelope struct {
	Payload []byte `msgpack:"payload"`
}

const (
	envelopeVersion = 1
	envelopeHeader  = 5 // a byte for the version, and the length as big-endian uint32
)

// decode reads a message, bare or in an envelope.
func decode(data []byte) (message, error) {
	if len(data) > maxMessage {
		return message{}, fmt.Errorf("message has %d bytes, more than %d", len(data), maxMessage)
	}
	if len(data) > envelopeHeader && data[0] == envelopeVersion && binary.BigEndian.Uint32(data[1:]) == uint32(len(data)-envelopeHeader) {
		var e envelope
		if err := msgpack.Unmarshal(data[envelopeHeader:], &e); err != nil {
			return message{}, fmt.Errorf("read envelope: %w", err)
		}
		data = e.Payload
	}
	all, err := decodeAll(data)
	if err != nil {
		return message{}, err
	}
	if len(all) != 1 {
		return message{}, fmt.Errorf("want one message, have %d", len(all))
	}
	return all[0], nil
}

// decodeAll reads messages that stand one after another.
func decodeAll(data []byte) ([]message, error) {
	var all []message
	for decoder := msgpack.NewDecoder(bytes.NewReader(data)); ; {
		var m message
		m.WallTimeS = math.NaN()
		switch err := decoder.Decode(&m); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, fmt.Errorf("read message: %w", err)
		}
		if err := m.check(); err != nil {
			return nil, err
		}
		all = append(all, m)
	}
}

// check refuses what no engine can say.
func (m *message) check() error {
	if m.DPRank < 0 {
		return fmt.Errorf("dp_rank is %d", m.DPRank)
	}
	if math.IsInf(m.WallTimeS, 0) || !(m.WallTimeS >= 0) {
		return fmt.Errorf("wall_time is %v, want seconds", m.WallTimeS)
	}
	sample := m.sample(model.Aggregated)
	return sample.Validate()
}

func (m *message) sample(role model.Role) model.EngineSample {
	return model.EngineSample{
		Role: role, Worker: m.WorkerID, DPRank: m.DPRank, WallTimeS: &m.WallTimeS, Scheduled: m.Scheduled.of(), Queued: m.Queued.of(),
	}
}
