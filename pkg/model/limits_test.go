package model_test

import (
	"strings"
	"testing"

	"tidemark.dev/pkg/model"
)

// TestLimitsAreChecked: each problem is named with its key, all at once.
func TestLimitsAreChecked(t *testing.T) {
	const file = `deployments: [{name: chat, topology: aggregated, target: latency, roles: {aggregated: {min_replicas: 3, max_replicas: 9}}, throughput: {enabled: false}, load: {max_step: 2}, limits: %s}]`
	for _, c := range []struct {
		limits string
		want   []string // none: it is right
	}{
		{"{}", nil},
		{"{max_replicas: 3, max_change_replicas: 2, change_interval_s: 600}", nil},
		{"{freeze_windows: [{cron: '0 22 * * FRI', duration_s: 3600}, {cron: '*/5 0-6,22 1 JAN-MAR *', duration_s: 60, time_zone: America/New_York}]}", nil},
		{"{freeze_windows: [{cron: '0 0 29 2 *', duration_s: 86400}]}", nil},
		{"{max_replicas: 2}", []string{"limits.max_replicas: is 2, less than min_replicas of aggregated, which is 3"}},
		{"{max_replicas: -1, max_change_replicas: -1}", []string{"limits.max_replicas: is -1, want at least 0", "limits.max_change_replicas: is -1, want at least 0"}},
		{"{max_change_replicas: 4}", []string{"limits.change_interval_s: is 0, want more than 0 and at most 86400"}},
		{"{max_change_replicas: 4, change_interval_s: 86401}", []string{"limits.change_interval_s: is 86401"}},
		{"{change_interval_s: 60}", []string{"limits.change_interval_s: is given without max_change_replicas"}},
		{"{max_change_replicas: 1, change_interval_s: 60}", nil}, // less than load.max_step: by steps
		{"{freeze_windows: [{cron: '@every 1h', duration_s: 60}]}", []string{`limits.freeze_windows[0].cron: is "@every 1h", want five fields`}},
		{"{freeze_windows: [{cron: 'TZ=UTC 0 22 * * *', duration_s: 60}]}", []string{"limits.freeze_windows[0].cron: is"}},
		{"{freeze_windows: [{cron: '0 22 * *', duration_s: 0}]}", []string{"limits.freeze_windows[0].duration_s: is 0", "limits.freeze_windows[0].cron: is"}},
		{"{freeze_windows: [{cron: '0 0 30 2 *', duration_s: 60}]}", []string{`limits.freeze_windows[0].cron: is "0 0 30 2 *", which never comes`}},
		{"{freeze_windows: [{cron: '0 22 * * *', duration_s: 60, time_zone: ../etc/passwd}]}", []string{`limits.freeze_windows[0].time_zone: is "../etc/passwd", want an IANA name`}},
		{"{freeze_windows: [{cron: '0 22 * * *', duration_s: 60, time_zone: Local}]}", []string{`limits.freeze_windows[0].time_zone: is "Local"`}},
		{"{most: 3}", []string{"limits.most: "}},
	} {
		_, err := model.DecodeDeployments([]byte(strings.ReplaceAll(file, "%s", c.limits)))
		if (err == nil) != (len(c.want) == 0) {
			t.Errorf("%s: error %v", c.limits, err)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), "deployments[0]."+want) {
				t.Errorf("%s: error lacks %q:\n%v", c.limits, want, err)
			}
		}
	}
}
