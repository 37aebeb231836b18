package kubernetes

import (
	"context"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"tidemark.dev/pkg/model"
	"tidemark.dev/services/actuator/internal/connector"
)

// Trial is what the API server has to say about setting one role's replicas.
type Trial struct {
	Deployment string     `json:"deployment"`
	Role       model.Role `json:"role"`
	// Object is the kind and name of what has the replicas.
	Object string `json:"object"`
	// From is what it is set to, or nil where that could not be read; To is what
	// was tried.
	From *int `json:"from,omitempty"`
	To   int  `json:"to"`
	// Problems are what the write would come to grief on: without any, it would
	// pass.
	Problems []Problem `json:"problems"`
	// Unknown are what could not be found out.
	Unknown []string `json:"unknown,omitempty"`
}

// Problem is one thing that keeps a write, or the pods that follow it, from passing.
type Problem struct {
	Reason Reason `json:"reason"`
	Detail string `json:"detail"`
}

func (t *Trial) fail(reason Reason, detail string) {
	t.Problems = append(t.Problems, Problem{reason, strings.Join(strings.Fields(detail), " ")})
}

// failed enters an error, by the text that an actuation would have.
func (t *Trial) failed(err error) {
	detail := err.Error()
	if refusal, ok := connector.RefusalOf(err); ok {
		detail = refusal.Detail
	}
	t.fail(reasonOf(err), detail)
}

// Open finds the API server's address and the credentials. It sends nothing.
func (c *Connector) Open() error {
	_, err := c.api.client()
	return err
}

// Preflight has the API server try a target without keeping it: access,
// validation and admission are then the server's own. Whether the pods would find
// room in the quotas, which a write of replicas is never refused for, is
// computed. All is tried that can be, so that all problems show at once.
func (c *Connector) Preflight(ctx context.Context, configured *model.DeploymentConfigured, target model.PerRole[int]) []Trial {
	var trials []Trial
	var asked []demand
	for _, role := range configured.Spec.Topology.Roles() {
		to, given := target.Get(role)
		if !given {
			continue
		}
		settings := configured.Spec.Actuator.Kubernetes
		at, _ := settings.Roles.Get(role)
		trials = append(trials, Trial{
			Deployment: configured.Deployment, Role: role, To: to, Problems: []Problem{},
			Object: fmt.Sprintf("%s %s/%s", at.Kind, settings.Namespace, at.Name),
		})
		trial := &trials[len(trials)-1]
		if o := c.try(ctx, configured, trial); o != nil {
			asked = append(asked, demand{object: o, trial: len(trials) - 1, more: to - *trial.From})
		}
	}
	c.room(ctx, trials, asked)
	return trials
}

// try has one role's target tried. It returns the object if its pool was read.
func (c *Connector) try(ctx context.Context, configured *model.DeploymentConfigured, trial *Trial) *object {
	o, err := connector.Retry(ctx, c.steps, func() (*object, error) { return c.read(ctx, configured, trial.Role) })
	if err != nil {
		trial.failed(err)
		return nil
	}
	if err := o.standsStill(); err != nil {
		trial.failed(err)
	}
	if err := c.owners.check(ctx, o); err != nil {
		trial.failed(err)
		if refusal, ok := connector.RefusalOf(err); ok && refusal.Cause == nil {
			trial.Problems[len(trial.Problems)-1].Reason = ReasonOwned
		}
	}
	wasRead := false
	_, err = connector.Retry(ctx, c.steps, func() (struct{}, error) {
		pool, err := o.pool(ctx)
		if err != nil {
			return struct{}{}, err
		}
		trial.From, wasRead = &pool.Set, true
		return struct{}{}, c.set(ctx, configured, trial.Role, pool, trial.To, []string{metav1.DryRunAll})
	})
	if err != nil {
		trial.failed(err)
	}
	if !wasRead {
		return nil
	}
	return o
}
