package actuator

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"tidemark.dev/pkg/model"
	"tidemark.dev/services/actuator/internal/connector"
	"tidemark.dev/services/actuator/internal/kubernetes"
)

// maxTrials bounds the deployments that are tried at once.
const maxTrials = 8

// Trial is what the API server has to say about setting one role's replicas.
type Trial = kubernetes.Trial

// PreflightConfig says how the API server is reached by Preflight.
type PreflightConfig struct {
	// Kubeconfig names a file with the server's address and credentials. There
	// is no default: who may try may also write.
	Kubeconfig string
	// As is the user whose access is judged; empty is that of the credentials.
	As string
}

// PreflightFlags adds the flags of the configuration.
func PreflightFlags(flags *pflag.FlagSet, config *PreflightConfig) {
	flags.StringVar(&config.Kubeconfig, "kubeconfig", "", "file with the address of the Kubernetes API server and the credentials for --preflight")
	flags.StringVar(&config.As, "as", "", "user whose access --preflight tries, where the credentials may impersonate: system:serviceaccount:tidemark:tidemark-actuator")
}

// Intent is a deployment and the decision that would be carried out.
type Intent struct {
	Configured *model.DeploymentConfigured
	Decision   *model.ScalingDecision
}

// Preflight has the Kubernetes API server try decisions without keeping them, in
// whatever mode the deployments are. It cannot change anything: its client sends
// no request but reads and dry runs. Trials are in the order of the intents, which
// are of deployments with a Kubernetes actuator.
func Preflight(ctx context.Context, config PreflightConfig, intents []Intent, logger *slog.Logger) ([]Trial, error) {
	if config.Kubeconfig == "" {
		return nil, errors.New("a preflight needs credentials of its own; name their file by --kubeconfig")
	}
	server := kubernetes.DefaultConfig()
	server.Kubeconfig, server.As, server.TriesOnly = config.Kubeconfig, config.As, true
	steps := connector.Steps{Attempts: 2, FirstPause: 100 * time.Millisecond, LongestPause: time.Second}
	through := kubernetes.New(server, steps, logger)
	if err := through.Open(); err != nil {
		return nil, err
	}
	trials := make([][]Trial, len(intents))
	trying, ctx := errgroup.WithContext(ctx)
	trying.SetLimit(maxTrials)
	for i, intent := range intents {
		trying.Go(func() error {
			trials[i] = through.Preflight(ctx, intent.Configured, intent.Decision.Target)
			return ctx.Err()
		})
	}
	err := trying.Wait()
	inOrder := []Trial{}
	for _, of := range trials {
		inOrder = append(inOrder, of...)
	}
	return inOrder, err
}
