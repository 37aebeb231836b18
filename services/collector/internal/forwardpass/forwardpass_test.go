package forwardpass

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-zeromq/zmq4"
	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/vmihailenco/msgpack/v5"

	"tidemark.dev/pkg/model"
)

var origin = time.Date(2026, 11, 23, 20, 0, 0, 0, time.UTC)

var quiet = slog.New(slog.DiscardHandler)

// bare returns a message as an engine publishes it, with all that engines send.
func bare(worker string, rank int, wallTimeS float64, prefillTokens, kv int) []byte {
	data, err := msgpack.Marshal(map[string]any{
		"version": 1, "worker_id": worker, "dp_rank": rank, "counter_id": 7, "wall_time": wallTimeS,
		"scheduled_requests": map[string]any{
			"num_prefill_requests": 2, "sum_prefill_tokens": prefillTokens, "var_prefill_length": 1.5, "sum_prefill_kv_tokens": 9,
			"num_decode_requests": 3, "sum_decode_kv_tokens": kv, "var_decode_kv_tokens": 0.25,
		},
		"queued_requests": map[string]any{
			"num_prefill_requests": 1, "sum_prefill_tokens": 500, "var_prefill_length": 0.0,
			"num_decode_requests": 0, "sum_decode_kv_tokens": 0, "var_decode_kv_tokens": 0.0,
		},
	})
	if err != nil {
		panic(err)
	}
	return data
}

func loadOf(prefillRequests, prefillTokens, decodeRequests, kv int) model.EngineLoad {
	return model.EngineLoad{PrefillRequests: &prefillRequests, PrefillTokens: &prefillTokens, DecodeRequests: &decodeRequests, DecodeKVTokens: &kv}
}

func TestMessagesBecomeSamples(t *testing.T) {
	s := NewStore(10 * time.Second)
	for _, m := range []struct {
		data []byte
		at   float64
	}{
		{bare("w-1", 0, 0.02, 100, 900), 0}, {bare("w-1", 1, 0.03, 200, 800), 2}, {bare("w-1", 0, 0.025, 400, 1000), 4}, {bare("", 0, 0, 0, 0), 4},
	} {
		if err := s.Take(model.Aggregated, "tcp://a:1", m.data, origin.Add(time.Duration(m.at*float64(time.Second)))); err != nil {
			t.Fatal(err)
		}
	}
	seen := s.At(model.Aggregated, origin.Add(5*time.Second))
	want := []model.EngineSample{
		{Role: model.Aggregated, Worker: "tcp://a:1", AgeS: new(1.0), WallTimeS: new(0.0), Scheduled: loadOf(2, 0, 3, 0), Queued: loadOf(1, 500, 0, 0)},
		{Role: model.Aggregated, Worker: "w-1", AgeS: new(5.0), WallTimeS: new(0.025), Scheduled: loadOf(2, 400, 3, 1000), Queued: loadOf(1, 500, 0, 0)},
		{Role: model.Aggregated, Worker: "w-1", DPRank: 1, AgeS: new(3.0), WallTimeS: new(0.03), Scheduled: loadOf(2, 200, 3, 800), Queued: loadOf(1, 500, 0, 0)},
	}
	if diff := cmp.Diff(want, seen.Samples); diff != "" || seen.Oldest != 3*time.Second {
		t.Errorf("oldest is %v, samples (-want +got):\n%s", seen.Oldest, diff)
	}
	if other := s.At(model.Decode, origin); len(other.Samples) != 0 {
		t.Errorf("%d samples of a role that published nothing", len(other.Samples))
	}
	seen = s.At(model.Aggregated, origin.Add(13*time.Second))
	if len(seen.Samples) != 2 || seen.Stale != 1 || seen.Newest != 11*time.Second {
		t.Errorf("have %d samples, %d stale, the newest %v old; want 2 and one that is 11 s old", len(seen.Samples), seen.Stale, seen.Newest)
	}
	if seen = s.At(model.Aggregated, origin.Add(time.Hour)); len(seen.Samples)+seen.Stale != 0 {
		t.Errorf("an engine that is gone for an hour is remembered: %+v", seen)
	}
}

// dynamoMessages returns the frames that the simulated engine of Dynamo 1.6.1
// published over ZeroMQ: its heartbeat twice, the prefill of a prompt of five
// tokens, and two iterations that decoded after it. They were captured at the
// socket that its discovery names, with DYN_EVENT_PLANE=zmq.
func dynamoMessages(t testing.TB) [][][]byte {
	t.Helper()
	data, err := os.ReadFile("testdata/dynamo-1.6.1-fpm-zmq-frames.json")
	if err != nil {
		t.Fatal(err)
	}
	var messages [][]string
	if err := json.Unmarshal(data, &messages); err != nil {
		t.Fatal(err)
	}
	var all [][][]byte
	for _, message := range messages {
		var frames [][]byte
		for _, text := range message {
			frame, err := hex.DecodeString(text)
			if err != nil {
				t.Fatal(err)
			}
			frames = append(frames, frame)
		}
		all = append(all, frames)
	}
	return all
}

func TestMessagesOfDynamoAreRead(t *testing.T) {
	const worker = "15989748884877313564"
	want := []model.EngineSample{
		{WallTimeS: new(0.0), Scheduled: loadOf(0, 0, 0, 0)},
		{WallTimeS: new(0.0), Scheduled: loadOf(0, 0, 0, 0)},
		{WallTimeS: new(0.0165773479999998), Scheduled: loadOf(1, 5, 0, 0)},
		{WallTimeS: new(0.005740308999999798), Scheduled: loadOf(0, 0, 1, 6)},
		{WallTimeS: new(0.005740361000000121), Scheduled: loadOf(0, 0, 1, 7)},
	}
	messages := dynamoMessages(t)
	if len(messages) != len(want) {
		t.Fatalf("%d messages, want %d", len(messages), len(want))
	}
	s := NewStore(10 * time.Second)
	for i, frames := range messages {
		if len(frames) != 4 || string(frames[0]) != dynamoTopic {
			t.Fatalf("message %d has %d frames, the first of them %q", i, len(frames), frames[0])
		}
		if err := s.Take(model.Aggregated, "tcp://dynamo:1", frames[3], origin); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
		want[i].Role, want[i].Worker, want[i].AgeS, want[i].Queued = model.Aggregated, worker, new(0.0), loadOf(0, 0, 0, 0)
		if diff := cmp.Diff(want[i:i+1], s.At(model.Aggregated, origin).Samples); diff != "" {
			t.Errorf("message %d (-want +got):\n%s", i, diff)
		}
	}
}

func TestWhatNoEngineCanSayIsRefused(t *testing.T) {
	encode := func(value any) []byte {
		data, err := msgpack.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	for name, data := range map[string][]byte{
		"empty": {}, "text": []byte("hello"), "a list": encode([]int{1, 2}), "half": bare("w", 0, 1, 1, 1)[:40],
		"NaN": bare("w", 0, math.NaN(), 1, 1), "infinite": bare("w", 0, math.Inf(1), 1, 1), "negative time": bare("w", 0, -1, 1, 1),
		"negative tokens": bare("w", 0, 1, -1, 1), "negative rank": bare("w", -1, 1, 1, 1), "no time": encode(map[string]any{"worker_id": "w"}),
		"two": append(bare("w", 0, 1, 1, 1), bare("w", 0, 1, 1, 1)...), "huge": make([]byte, maxMessage+1),
		"empty envelope": {1, 0, 0, 0, 1, 0x80}, "nested too deep": append([]byte{1, 0, 0, 0, 2}, 0x91, 0x91),
	} {
		s := NewStore(time.Minute)
		if err := s.Take(model.Decode, "a", data, origin); err == nil {
			t.Errorf("%s is taken", name)
		}
		if seen := s.At(model.Decode, origin); len(seen.Samples) != 0 || seen.Refused == nil {
			t.Errorf("%s: have %+v", name, seen)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(bare("w", 0, 0.1, 10, 10))
	f.Add([]byte{1, 0, 0, 0, 1, 0x80})
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := decode(data)
		if err != nil {
			return
		}
		sample := m.sample(model.Decode)
		if err := sample.Validate(); err != nil {
			t.Errorf("a message that is taken gives a sample that is not valid: %v", err)
		}
	})
}

func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited a minute until %s", what)
		}
	}
}

func publisher(t *testing.T, address string) (zmq4.Socket, string) {
	t.Helper()
	socket := zmq4.NewPub(t.Context())
	var err error
	until(t, "the address is free", func() bool { err = socket.Listen(address); return err == nil })
	return socket, "tcp://" + socket.Addr().String()
}

// TestZMQ publishes over real sockets, with a publisher that goes away and one
// that takes its place.
func TestZMQ(t *testing.T) {
	first, address := publisher(t, "tcp://127.0.0.1:0")
	s := NewStore(2 * time.Second)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.SubscribeZMQ(ctx, model.Decode, address, quiet) }()
	heard := func(worker string) bool {
		for _, sample := range s.At(model.Decode, time.Now()).Samples {
			if sample.Worker == worker {
				return true
			}
		}
		return false
	}
	until(t, "a message of one frame is heard", func() bool { _ = first.Send(zmq4.NewMsg(bare("w-1", 0, 0.1, 1, 1))); return heard("w-1") })
	frames := zmq4.NewMsgFrom([]byte(dynamoTopic), make([]byte, 8), make([]byte, 8), bare("w-2", 0, 0.1, 1, 1))
	until(t, "a message of Dynamo's frames is heard", func() bool { _ = first.SendMulti(frames); return heard("w-2") })
	_ = first.SendMulti(zmq4.NewMsgFrom([]byte("kv-events"), bare("stranger", 0, 0.1, 1, 1)))
	first.Close()
	second, _ := publisher(t, address)
	defer second.Close()
	until(t, "the socket in its place is heard", func() bool { _ = second.Send(zmq4.NewMsg(bare("w-3", 0, 0.1, 1, 1))); return heard("w-3") })
	if heard("stranger") {
		t.Error("a message of another topic is taken")
	}
	cancel()
	<-done
}

// TestNATS publishes over a real server that restarts.
func TestNATS(t *testing.T) {
	run := func(port int) *server.Server {
		s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, NoSigs: true, NoLog: true})
		if err != nil {
			t.Fatal(err)
		}
		go s.Start()
		if !s.ReadyForConnections(30 * time.Second) {
			t.Fatal("the server is not ready")
		}
		return s
	}
	first := run(server.RANDOM_PORT)
	url := first.ClientURL()
	s := NewStore(time.Minute)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.SubscribeNATS(ctx, model.Prefill, &model.NATSStream{URL: url, Subject: "engines.prefill.*"}, model.ClientTLS{}, quiet)
	}()
	publish := func(worker string) func() bool {
		return func() bool {
			if connection, err := nats.Connect(url); err == nil {
				_ = connection.Publish("engines.prefill."+worker, bare(worker, 0, 0.1, 1, 1))
				_ = connection.Flush()
				connection.Close()
			}
			for _, sample := range s.At(model.Prefill, time.Now()).Samples {
				if sample.Worker == worker {
					return true
				}
			}
			return false
		}
	}
	until(t, "a message is heard", publish("w-1"))
	var port int
	if _, err := fmt.Sscanf(url[strings.LastIndex(url, ":")+1:], "%d", &port); err != nil {
		t.Fatal(err)
	}
	first.Shutdown()
	first.WaitForShutdown()
	second := run(port)
	defer second.Shutdown()
	until(t, "a message after the restart is heard", publish("w-2"))
	cancel()
	<-done
}

func TestPush(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	inlet, s := NewInlet(), NewStore(time.Minute)
	closeDoor := inlet.Open("chat", model.Decode, s, token)
	mux := http.NewServeMux()
	mux.Handle(PushPath, inlet)
	post := func(path, authorization string, body []byte) int {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(string(body)))
		r.Header.Set("Authorization", authorization)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		return w.Code
	}
	const path, bearer = "/v1/forward-pass/chat/decode", "Bearer s3cret"
	two := append(bare("w-1", 0, 0.1, 1, 1), bare("w-2", 0, 0.2, 1, 1)...)
	for name, test := range map[string]struct {
		path, authorization string
		body                []byte
		want                int
	}{
		"two messages": {path, bearer, two, 204}, "no token": {path, "", two, 401}, "wrong token": {path, "Bearer x", two, 401},
		"another scheme": {path, "Basic s3cret", two, 401}, "another deployment": {"/v1/forward-pass/x/decode", bearer, two, 404},
		"another role": {"/v1/forward-pass/chat/prefill", bearer, two, 404}, "broken": {path, bearer, two[:len(two)-5], 400},
		"nameless": {path, bearer, bare("", 0, 0.1, 1, 1), 400}, "too much": {path, bearer, make([]byte, maxPush+1), 413},
	} {
		if got := post(test.path, test.authorization, test.body); got != test.want {
			t.Errorf("%s: status %d, want %d", name, got, test.want)
		}
	}
	if seen := s.At(model.Decode, time.Now()); len(seen.Samples) != 2 || seen.Samples[1].Worker != "w-2" {
		t.Errorf("have %+v", seen.Samples)
	}
	closeDoor()
	if got := post(path, bearer, two); got != 404 {
		t.Errorf("status %d after the door is closed", got)
	}
}

// BenchmarkTake takes one message, as an engine may publish it and as Dynamo does.
func BenchmarkTake(b *testing.B) {
	captured := dynamoMessages(b)[4]
	for name, data := range map[string][]byte{"bare": bare("w-1", 3, 0.02, 8192, 400_000), "dynamo": captured[len(captured)-1]} {
		b.Run(name, func(b *testing.B) {
			s := NewStore(time.Minute)
			b.ReportAllocs()
			for b.Loop() {
				if err := s.Take(model.Decode, "a", data, origin); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
