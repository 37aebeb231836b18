package lint

import (
	"tidemark.dev/pkg/model"
)

// Check holds deployments against themselves and against all that there are.
// Its findings are in the order of the deployments.
func Check(deployments, all []*model.Deployment) []Finding {
	others := indexTargets(all)
	readers := ReadersOf(all)
	engines := indexEngines(all)
	var found []Finding
	for _, d := range deployments {
		f := &Findings{Deployment: d.Name}
		sources(f, d)
		gpus(f, d)
		targets(f, d)
		others.check(f, d)
		readers.check(f, d)
		engines.check(f, d)
		found = append(found, f.All...)
	}
	return found
}

// sources finds loops that nothing feeds. A deployment without a source is
// observed by somebody else.
func sources(f *Findings, d *model.Deployment) {
	s := d.Source
	if s == nil || !s.Real() {
		return
	}
	if s.Fleet == nil {
		f.Add(Error, "source.fleet", "is missing, so that nobody knows how many replicas there are and every decision holds; count them by kubernetes or static")
	}
	if d.Load.Enabled && s.Engines == nil {
		f.Add(Error, "source.engines", "is missing, so that the load loop never decides; name the engines, or write load.enabled: false")
	}
	if d.Target == model.TargetSLA && d.Throughput.Enabled && s.Prometheus == nil {
		f.Add(Error, "source.prometheus", "is missing, so that the throughput loop never decides; name the server, or write throughput.enabled: false")
	}
	if p := s.Prometheus; p != nil && p.Preset == model.PresetDynamo && p.Namespace == "" && p.Queries.KVHitRate == "" {
		f.Add(Warning, "source.prometheus.namespace", "is missing, and by it alone the router's hit rate is found: without kv_hit_rate prompts count in full")
	}
}

// gpus finds roles whose GPUs nobody counted. Validate refuses them where there
// is a budget.
func gpus(f *Findings, d *model.Deployment) {
	for _, role := range d.Topology.Roles() {
		if spec, _ := d.Roles.Get(role); spec.GPUsPerReplica == 0 && (d.Source != nil || d.Actuator != nil) {
			f.Add(Warning, "roles."+string(role)+".gpus_per_replica", "is missing, so that no decision and no report says what it costs; write the GPUs of one replica")
		}
	}
}
