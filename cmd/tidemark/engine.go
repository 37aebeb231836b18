package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tidemark.dev/cmd/tidemark/internal/inference"
	"tidemark.dev/pkg/model"
	"tidemark.dev/pkg/model/sim"
)

func newEngine() *cobra.Command {
	config := inference.DefaultConfig()
	api, role, listen := string(config.API), string(config.Role), "127.0.0.1:8000"
	cmd := &cobra.Command{
		Use: "engine", Short: "Serve a simulated inference engine over HTTP, with the metrics of vLLM, SGLang or TensorRT-LLM", Args: arguments(cobra.NoArgs),
		Long: `Serve one simulated engine until the process is asked to stop: OpenAI's
/v1/completions and /v1/chat/completions, and the metrics of a real engine, to
try what observes engines without a GPU. A token is a word; an answer has
max_tokens words. A stream sends the first token when it is made and the others
with the last.`,
	}
	cmd.Flags().StringVar(&listen, "listen", listen, "address to serve at")
	cmd.Flags().StringVar(&api, "api", api, "whose metrics to export: vllm, sglang or trtllm")
	cmd.Flags().StringVar(&config.Model, "model", config.Model, "name of the model")
	cmd.Flags().StringVar(&role, "role", role, "prefill, decode or aggregated")
	cmd.Flags().StringVar(&config.Figures, "figures", config.Figures, "speed of the engine: "+strings.Join(sim.FiguresNames(), ", "))
	cmd.Flags().Float64Var(&config.Speed, "speed", config.Speed, "how many times as fast the engine is")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		config.API, config.Role = model.Preset(api), model.Role(role)
		switch config.Role {
		case model.Prefill, model.Decode, model.Aggregated:
		default:
			return usageError{fmt.Errorf("--role is %q, want prefill, decode or aggregated", role)}
		}
		e, err := inference.New(config)
		if err != nil {
			return usageError{err}
		}
		var listening net.ListenConfig
		listener, err := listening.Listen(cmd.Context(), "tcp", listen)
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "Engine of %s at http://%s, metrics of %s\n", config.Model, listener.Addr(), api)
		return serveEngine(cmd.Context(), e, listener)
	}
	return cmd
}

// serveEngine serves an engine until the context is done. Requests under way
// are given up then.
func serveEngine(ctx context.Context, e *inference.Engine, listener net.Listener) error {
	server := &http.Server{Handler: e.Handler(), ReadHeaderTimeout: 10 * time.Second}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go e.Run(ctx)
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
