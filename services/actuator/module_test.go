package actuator

import (
	"testing"

	"go.uber.org/fx"

	"tidemark.dev/pkg/events/drivers"
	"tidemark.dev/pkg/service"
)

// TestModule: the application's parts fit together.
func TestModule(t *testing.T) {
	config := service.DefaultConfig("actuator")
	config.Log = "memory://"
	if err := fx.ValidateApp(service.Module(config, t.Output(), drivers.OpenURL), Module(DefaultConfig())); err != nil {
		t.Error(err)
	}
}
