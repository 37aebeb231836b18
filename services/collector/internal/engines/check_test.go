package engines

import (
	"log/slog"
	"net"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/lint"
	"tidemark.dev/services/collector/internal/fleets"
)

func TestCheck(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	vllm, sglang, trtllm := serve(t, page(t, "vllm-1")).URL, serve(t, page(t, "sglang-1")).URL, serve(t, page(t, "trtllm-1")).URL
	gone := httptest.NewServer(nil)
	gone.Close()
	usage := serve(t, "trtllm_num_requests_running 1\ntrtllm_num_requests_waiting 0\ntrtllm_kv_cache_utilization 0.5\n").URL
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	listening, silent := listener.Addr().String(), strings.TrimPrefix(gone.URL, "http://")
	for name, test := range map[string]struct {
		preset   model.Preset
		role     model.Role
		pool     model.EnginePool
		capacity int // as it is written
		want     []string
	}{
		"well":          {model.PresetVLLM, model.Decode, model.EnginePool{Endpoints: []string{vllm}}, 40000, nil},
		"not written":   {model.PresetVLLM, model.Decode, model.EnginePool{Endpoints: []string{vllm}}, 0, nil},
		"one is gone":   {model.PresetVLLM, model.Decode, model.EnginePool{Endpoints: []string{vllm, gone.URL}}, 40000, []string{"warning: chat: source.engines.roles.decode: 1 of 2 engines cannot be read from here: " + silent + ": dial tcp"}},
		"all are gone":  {model.PresetVLLM, model.Decode, model.EnginePool{Endpoints: []string{gone.URL}}, 40000, []string{"error: chat: source.engines.roles.decode: 1 of 1 engines cannot be read"}},
		"another kind":  {model.PresetVLLM, model.Prefill, model.EnginePool{Endpoints: []string{sglang}}, 40000, []string{"error: chat: source.engines.roles.prefill: 1 of 1 engines cannot be read from here: " + strings.TrimPrefix(sglang, "http://") + ": exports no metric of such an engine"}},
		"never crossed": {model.PresetVLLM, model.Decode, model.EnginePool{Endpoints: []string{vllm}}, 80000, []string{"error: chat: roles.decode.engine.max_kv_tokens: is 80000, and the engines hold 40000: what is in use never passes 50 %, and load.decode_scale_up_kv_percent is 80; write 40000"}},
		"crossed early": {model.PresetVLLM, model.Aggregated, model.EnginePool{Endpoints: []string{vllm}}, 20000, []string{"warning: chat: roles.aggregated.engine.max_kv_tokens: is 20000, and the engines hold 40000; write 40000"}},
		"not known":     {model.PresetTRTLLM, model.Decode, model.EnginePool{Endpoints: []string{usage}}, 0, []string{"error: chat: roles.decode.engine.max_kv_tokens: is missing, and the engines do not say"}},
		"blocks":        {model.PresetTRTLLM, model.Decode, model.EnginePool{Endpoints: []string{trtllm}}, 40000, nil},
		"sockets":       {"", model.Decode, model.EnginePool{ZMQ: []string{"tcp://" + listening, "tcp://" + silent}}, 40000, []string{"error: chat: source.engines.roles.decode.zmq[1]: cannot be reached from here: dial tcp"}},
		"nats":          {"", model.Decode, model.EnginePool{NATS: &model.NATSStream{URL: "nats://" + silent}}, 40000, []string{"error: chat: source.engines.roles.decode.nats.url: cannot be reached from here: dial tcp"}},
		"push":          {"", model.Decode, model.EnginePool{Push: &model.PushStream{TokenFile: filepath.Join(t.TempDir(), "token")}}, 40000, []string{"unchecked: chat: source.engines.roles.decode.push.token_file"}},
		"pods":          {model.PresetVLLM, model.Decode, model.EnginePool{Kubernetes: &model.EnginePods{Namespace: "chat"}}, 40000, []string{"unchecked: chat: source.engines.roles.decode.kubernetes: is not looked at: name the API server by --kubernetes-url"}},
		"no such name":  {model.PresetVLLM, model.Decode, model.EnginePool{DNS: "http://engines.invalid:8000"}, 40000, []string{"error: chat: source.engines.roles.decode: "}},
	} {
		t.Run(name, func(t *testing.T) {
			spec := &model.EnginesSource{Preset: test.preset, MaxAgeS: 30, TimeoutS: 30}
			spec.Roles.Set(test.role, test.pool)
			d := &model.Deployment{
				Name: "chat", Target: model.TargetLoad, Source: &model.Source{Engines: spec},
				Load: model.LoadLoop{Enabled: true, DecodeScaleUpKVPercent: new(80.0)},
			}
			d.Roles.Set(test.role, model.RoleSpec{Engine: model.Engine{MaxKVTokens: test.capacity}})
			source := Look(d, fleets.NewKubernetes(fleets.Access{}), slog.New(slog.DiscardHandler))
			defer source.Close()
			f := &lint.Findings{Deployment: "chat"}
			source.Check(t.Context(), f, d)
			if len(f.All) != len(test.want) {
				t.Fatalf("have %v, want %v", f.All, test.want)
			}
			for i, finding := range f.All {
				if text := finding.String(); !strings.HasPrefix(text, test.want[i]) || strings.Contains(text, "\n") {
					t.Errorf("have %q, want one line that begins with %q", text, test.want[i])
				}
			}
		})
	}
}
