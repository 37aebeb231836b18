package lint

import (
	"strings"

	"tidemark.dev/pkg/model"
)

// scaleTarget is an object of a cluster by what it is, whatever version of the
// API names it.
type scaleTarget struct{ namespace, group, kind, name, service string }

func (t scaleTarget) String() string {
	text := t.kind + " " + t.namespace + "/" + t.name
	if t.service != "" {
		text += ", service " + t.service
	}
	return text
}

func targetOf(namespace string, t model.KubernetesTarget) scaleTarget {
	group, _, grouped := strings.Cut(t.APIVersion, "/")
	if !grouped {
		group = ""
	}
	return scaleTarget{namespace, group, t.Kind, t.Name, t.Service}
}

// eachTarget calls a function with what a deployment scales and what it counts.
func eachTarget(d *model.Deployment, do func(path string, target scaleTarget, scaled bool)) {
	for _, role := range d.Topology.Roles() {
		if a := d.Actuator; a != nil && a.Kubernetes != nil {
			if target, given := a.Kubernetes.Roles.Get(role); given {
				do("actuator.kubernetes.roles."+string(role), targetOf(a.Kubernetes.Namespace, target), true)
			}
		}
		if s := d.Source; s != nil && s.Fleet != nil && s.Fleet.Kubernetes != nil {
			if target, given := s.Fleet.Kubernetes.Roles.Get(role); given {
				do("source.fleet.kubernetes.roles."+string(role), targetOf(s.Fleet.Kubernetes.Namespace, target), false)
			}
		}
	}
}

// targetIndex holds which deployments scale and which count an object.
type targetIndex map[scaleTarget]map[string]*holder

type holder struct{ scales, active bool }

func indexTargets(all []*model.Deployment) targetIndex {
	index := targetIndex{}
	for _, d := range all {
		eachTarget(d, func(_ string, target scaleTarget, scaled bool) {
			if index[target] == nil {
				index[target] = map[string]*holder{}
			}
			h := index[target][d.Name]
			if h == nil {
				h = &holder{active: !d.Advisory}
				index[target][d.Name] = h
			}
			h.scales = h.scales || scaled
		})
	}
	return index
}

// check finds objects that another deployment has as well. Two that advise may
// be meant, to compare them; two that act undo each other's work.
func (index targetIndex) check(f *Findings, d *model.Deployment) {
	said := map[scaleTarget]bool{}
	eachTarget(d, func(path string, target scaleTarget, scaled bool) {
		var names []string
		severity := Warning
		for name, other := range index[target] {
			if name == d.Name || scaled && !other.scales {
				continue
			}
			names = append(names, name)
			if scaled && other.active && !d.Advisory {
				severity = Error
			}
		}
		if len(names) == 0 || said[target] {
			return
		}
		said[target] = true
		if scaled {
			f.Add(severity, path, "%s is the scale target of deployment %s too: when both are active they undo each other's work; retire one, or keep it advisory", target, Names(names))
			return
		}
		f.Add(severity, path, "%s is counted for deployment %s too; leave it to one of them unless they are meant to be compared", target, Names(names))
	})
}

// SameTraffic reports whether two deployments are meant to see the same
// requests: one fleet under two configurations, or the two pools of one model.
func SameTraffic(a, b *model.Deployment) bool {
	if a.Topology == model.TopologyPrefill && b.Topology == model.TopologyDecode ||
		a.Topology == model.TopologyDecode && b.Topology == model.TopologyPrefill {
		return true
	}
	own := map[scaleTarget]bool{}
	eachTarget(a, func(_ string, target scaleTarget, _ bool) { own[target] = true })
	shared := false
	eachTarget(b, func(_ string, target scaleTarget, _ bool) { shared = shared || own[target] })
	return shared
}

// Compared reports whether two deployments that read the same series may be meant
// to: both advise, on the very same ones.
func Compared(a, b *model.Deployment) bool {
	return a.Advisory && b.Advisory && Covers(a.Source.Prometheus, b.Source.Prometheus) && Covers(b.Source.Prometheus, a.Source.Prometheus)
}

// Server is the metrics of a preset at one server: only there can two
// deployments read the same series.
type Server struct {
	URL    string
	Preset model.Preset
}

// ServerOf returns where a deployment's traffic is read, and false where nowhere.
func ServerOf(d *model.Deployment) (Server, bool) {
	if d.Source == nil || d.Source.Prometheus == nil {
		return Server{}, false
	}
	p := d.Source.Prometheus
	return Server{strings.TrimRight(p.URL, "/"), p.Preset}, true
}

// prometheusIndex holds who reads what, by server and by model without regard to
// case: matchers that name a model cover none of another one.
type prometheusIndex map[Server]map[string][]*model.Deployment

func indexPrometheus(all []*model.Deployment) prometheusIndex {
	index := prometheusIndex{}
	for _, d := range all {
		server, given := ServerOf(d)
		if !given {
			continue
		}
		if index[server] == nil {
			index[server] = map[string][]*model.Deployment{}
		}
		of := strings.ToLower(d.Source.Prometheus.Model)
		index[server][of] = append(index[server][of], d)
	}
	return index
}

// candidates returns the deployments whose series a deployment might cover.
func (index prometheusIndex) candidates(server Server, d *model.Deployment) []*model.Deployment {
	if of := d.Source.Prometheus.Model; of != "" {
		return index[server][strings.ToLower(of)]
	}
	var all []*model.Deployment
	for _, of := range index[server] {
		all = append(all, of...)
	}
	return all
}

// check finds deployments whose every series this one reads as well.
func (index prometheusIndex) check(f *Findings, d *model.Deployment) {
	server, given := ServerOf(d)
	if !given {
		return
	}
	var names []string
	severity := Warning
	for _, other := range index.candidates(server, d) {
		if other.Name == d.Name || !Covers(d.Source.Prometheus, other.Source.Prometheus) || SameTraffic(d, other) {
			continue
		}
		names = append(names, other.Name)
		if !Compared(d, other) {
			severity = Error
		}
	}
	if len(names) > 0 {
		f.Add(severity, "source.prometheus.labels", "model, namespace and labels match every series of deployment %s too, whose requests are counted here as well; add a label that tells them apart", Names(names))
	}
}

// Covers reports whether the matchers of a match all that those of b do, both
// being of one server and preset.
func Covers(a, b *model.PrometheusSource) bool {
	sameModel := a.Model == b.Model || a.Preset == model.PresetDynamo && strings.EqualFold(a.Model, b.Model)
	if a.Model != "" && !sameModel || a.Namespace != "" && a.Namespace != b.Namespace {
		return false
	}
	for label, value := range a.Labels {
		if b.Labels[label] != value {
			return false
		}
	}
	return true
}
