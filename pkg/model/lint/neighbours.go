package lint

import (
	"slices"
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
	return sameFleet(a, b)
}

// sameFleet reports whether two deployments scale or count an object together.
func sameFleet(a, b *model.Deployment) bool {
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

// series are those of a preset's metrics at one server, of one model where the
// preset tells models apart: only there can two deployments read the same ones.
type series struct {
	url    string
	preset model.Preset
	model  string // without regard to case
}

// seriesOf returns what a deployment's traffic is read of, and false where nothing is.
func seriesOf(d *model.Deployment) (series, bool) {
	if d.Source == nil || d.Source.Prometheus == nil {
		return series{}, false
	}
	p := d.Source.Prometheus
	return series{strings.TrimRight(p.URL, "/"), p.Preset, strings.ToLower(p.Model)}, true
}

// Readers holds which deployments read what.
type Readers map[series][]*model.Deployment

// ReadersOf returns the readers among deployments.
func ReadersOf(all []*model.Deployment) Readers {
	readers := Readers{}
	for _, d := range all {
		if of, given := seriesOf(d); given {
			readers[of] = append(readers[of], d)
		}
	}
	return readers
}

// Beside returns the others that may read the same series as a deployment.
func (r Readers) Beside(d *model.Deployment) []*model.Deployment {
	of, given := seriesOf(d)
	if !given {
		return nil
	}
	var others []*model.Deployment
	for _, other := range r[of] {
		if other.Name != d.Name {
			others = append(others, other)
		}
	}
	return others
}

// check finds deployments whose every series this one reads as well.
func (r Readers) check(f *Findings, d *model.Deployment) {
	var names []string
	severity := Warning
	for _, other := range r.Beside(d) {
		if !Covers(d.Source.Prometheus, other.Source.Prometheus) || SameTraffic(d, other) {
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
// reading the same metrics of one server.
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

// engineIndex holds which deployments read engines, by how these are found.
type engineIndex map[string][]*model.Deployment

// eachPool calls a function with each way by which a deployment finds engines.
func eachPool(d *model.Deployment, do func(path, found string)) {
	if d.Source == nil || d.Source.Engines == nil {
		return
	}
	for _, role := range d.Topology.Roles() {
		pool, _ := d.Source.Engines.Roles.Get(role)
		path := "source.engines.roles." + string(role)
		for _, address := range slices.Concat(pool.Endpoints, pool.ZMQ) {
			do(path, strings.TrimRight(address, "/"))
		}
		if pool.DNS != "" {
			do(path+".dns", strings.TrimRight(pool.DNS, "/"))
		}
		if pods := pool.Kubernetes; pods != nil {
			do(path+".kubernetes", "the pods with "+pods.Selector+" in namespace "+pods.Namespace)
		}
		if pool.NATS != nil {
			do(path+".nats", "subject "+pool.NATS.Subject+" of "+pool.NATS.URL)
		}
	}
}

func indexEngines(all []*model.Deployment) engineIndex {
	index := engineIndex{}
	for _, d := range all {
		eachPool(d, func(_, found string) { index[found] = append(index[found], d) })
	}
	return index
}

// check finds engines that another deployment reads as well, of another fleet.
func (index engineIndex) check(f *Findings, d *model.Deployment) {
	said := map[string]bool{}
	eachPool(d, func(path, found string) {
		var names []string
		severity := Warning
		for _, other := range index[found] {
			if other.Name == d.Name || sameFleet(d, other) {
				continue
			}
			names = append(names, other.Name)
			if !d.Advisory || !other.Advisory {
				severity = Error
			}
		}
		if len(names) > 0 && !said[path] {
			said[path] = true
			f.Add(severity, path, "%s: these engines are read for deployment %s too, and their load is counted in both; leave them to one of them", found, Names(names))
		}
	})
}
