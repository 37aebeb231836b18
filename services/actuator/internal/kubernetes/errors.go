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
		return &connector.Refusal{Reason: model.RejectedNotReady, Detail: what + " does not exist", Cause: err}
	case meta.IsNoMatchError(err):
		return &connector.Refusal{Reason: model.RejectedNotReady, Detail: what + ": the API server knows no such kind", Cause: err}
	case apierrors.IsUnauthorized(err):
		return fmt.Errorf("%s: the API server does not accept the actuator's credentials: %w", what, err)
	case apierrors.IsForbidden(err), apierrors.IsInvalid(err):
		return fmt.Errorf("%s: %s: %w", what, refusal(err), err)
	case apierrors.IsTooManyRequests(err):
		return fmt.Errorf("%s: the API server throttles: %w", what, errors.Join(err, connector.ErrTransient))
	case apierrors.IsServerTimeout(err), apierrors.IsTimeout(err), apierrors.IsServiceUnavailable(err), apierrors.IsInternalError(err):
		return fmt.Errorf("%s: the API server cannot answer now: %w", what, errors.Join(err, connector.ErrTransient))
	case strings.Contains(err.Error(), "client rate limiter"):
		// Its error wraps nothing that says what it is.
		return fmt.Errorf("%s: there are more requests than --kubernetes-qps lets through in time: %w", what, errors.Join(err, connector.ErrTransient))
	case unreachable(err):
		return fmt.Errorf("%s: the API server cannot be reached: %w", what, errors.Join(err, connector.ErrTransient))
	}
	return fmt.Errorf("%s: %w", what, err)
}

// refusal says who refused a write, in a way that a person can act on.
func refusal(err error) string {
	switch reasonOf(err) {
	case ReasonQuota:
		return "a quota has no room for it"
	case ReasonForbidden:
		return "the actuator may not do this; grant it by a role"
	case ReasonInvalid:
		return "the API server takes it for invalid"
	}
	return "admission refused it"
}

// Reason classifies what the API server has against a write.
type Reason string

// The reasons.
const (
	// ReasonForbidden: no role grants it.
	ReasonForbidden Reason = "forbidden"
	// ReasonAdmission: a policy, a webhook or another part of admission refuses it.
	ReasonAdmission Reason = "admission"
	// ReasonQuota: a quota has no room for it.
	ReasonQuota Reason = "quota"
	// ReasonInvalid: the API server does not take it for what the kind allows.
	ReasonInvalid Reason = "invalid"
	// ReasonNotFound: the object, or its kind, does not exist.
	ReasonNotFound Reason = "not_found"
	// ReasonNotReady: the object is paused or goes away.
	ReasonNotReady Reason = "not_ready"
	// ReasonOwned: another autoscaler scales it.
	ReasonOwned Reason = "owned"
	// ReasonConflict: it changed at every attempt.
	ReasonConflict Reason = "conflict"
	// ReasonCredentials: the API server does not accept them.
	ReasonCredentials Reason = "credentials"
	// ReasonUnavailable: the API server cannot be reached, throttles, or fails.
	ReasonUnavailable Reason = "unavailable"
	// ReasonUnknown is any other.
	ReasonUnknown Reason = "unknown"
)

// reasonOf returns the reason of an error of the API server, classified or not.
// Access, quota and admission are answered alike, and differ in the text.
func reasonOf(err error) Reason {
	text := err.Error()
	_, refused := connector.RefusalOf(err)
	switch {
	case apierrors.IsNotFound(err), meta.IsNoMatchError(err):
		return ReasonNotFound
	case apierrors.IsForbidden(err) && strings.Contains(text, "exceeded quota"):
		return ReasonQuota
	case apierrors.IsForbidden(err) && strings.Contains(text, `User "`) && strings.Contains(text, "cannot "):
		return ReasonForbidden
	case apierrors.IsForbidden(err), apierrors.IsInvalid(err) && strings.Contains(text, "ValidatingAdmissionPolicy"), strings.Contains(text, "admission webhook"):
		return ReasonAdmission
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		return ReasonInvalid
	case apierrors.IsUnauthorized(err):
		return ReasonCredentials
	case errors.Is(err, connector.ErrConflict):
		return ReasonConflict
	case errors.Is(err, connector.ErrTransient):
		return ReasonUnavailable
	case refused:
		return ReasonNotReady
	}
	return ReasonUnknown
}

// unreachable reports whether there was no answer at all.
func unreachable(err error) bool {
	_, network := errors.AsType[net.Error](err)
	return network || errors.Is(err, context.DeadlineExceeded)
}
