package kubeproxy

import (
	"testing"

	"github.com/fairway-lb/fairway/internal/netnstest"
)

func TestMain(m *testing.M) { netnstest.Main(m) }
