package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"

	"tidemark.dev/pkg/model"
	"tidemark.dev/services/actuator/internal/connector"
)

// classify says of an answer of the API server what it is about, whether it is
// worth asking again, and in one line what a person can do.
func classify(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case apierrors.IsConflict(err):
		return fmt.Errorf("%s changed while it was written: %w", what, connector.ErrConflict)
	case apierrors.IsNotFound(err):
		return connector.Refuse(model.RejectedNotReady, "%s does not exist", what)
	case meta.IsNoMatchError(err):
		return connector.Refuse(model.RejectedNotReady, "%s: the API server knows no such kind", what)
	case apierrors.IsUnauthorized(err):
		return fmt.Errorf("%s: the API server does not accept the actuator's credentials: %w", what, err)
	case apierrors.IsForbidden(err), apierrors.IsInvalid(err):
		return fmt.Errorf("%s: %s: %w", what, refusal(err), err)
	case apierrors.IsTooManyRequests(err):
		return fmt.Errorf("%s: the API server throttles: %w", what, errors.Join(err, connector.ErrTransient))
	case apierrors.IsServerTimeout(err), apierrors.IsTimeout(err), apierrors.IsServiceUnavailable(err), apierrors.IsInternalError(err):
		return fmt.Errorf("%s: the API server cannot answer now: %w", what, errors.Join(err, connector.ErrTransient))
	case unreachable(err):
		return fmt.Errorf("%s: the API server cannot be reached: %w", what, errors.Join(err, connector.ErrTransient))
	}
	return fmt.Errorf("%s: %w", what, err)
}

// refusal says who refused a write: the API server answers in the same way for
// access, quota and admission, and differs in the text.
func refusal(err error) string {
	switch text := err.Error(); {
	case strings.Contains(text, "exceeded quota"):
		return "a quota has no room for it"
	case strings.Contains(text, "admission webhook"), strings.Contains(text, "ValidatingAdmissionPolicy"):
		return "admission refused it"
	case apierrors.IsInvalid(err):
		return "the API server takes it for invalid"
	}
	return "the actuator may not do this; grant it by a role"
}

// unreachable reports whether there was no answer at all.
func unreachable(err error) bool {
	_, network := errors.AsType[net.Error](err)
	return network || errors.Is(err, context.DeadlineExceeded)
}
