package measure

import (
	"fmt"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// sample is one counter or gauge of a program's metrics.
type sample struct {
	labels map[string]string
	value  float64
}

// samplesOf returns the samples of one family in a text of metrics, none if
// the family is not there: a counter that never counted is not shown.
func samplesOf(text, family string) ([]sample, error) {
	metrics, err := metricsOf(text, family)
	if err != nil {
		return nil, err
	}
	var samples []sample
	for _, m := range metrics {
		labels := map[string]string{}
		for _, pair := range m.GetLabel() {
			labels[pair.GetName()] = pair.GetValue()
		}
		samples = append(samples, sample{labels, valueOf(m)})
	}
	return samples, nil
}

// metricsOf returns the metrics of one family in a text of metrics.
func metricsOf(text, family string) ([]*dto.Metric, error) {
	var lines strings.Builder // the API server has 50,000, and parsing all takes a second
	for line := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(line, family) || strings.HasPrefix(line, "# TYPE "+family+" ") {
			lines.WriteString(line + "\n")
		}
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(lines.String()))
	if err != nil {
		return nil, fmt.Errorf("reading metrics: %w", err)
	}
	return families[family].GetMetric(), nil
}

func valueOf(m *dto.Metric) float64 {
	if c := m.GetCounter(); c != nil {
		return c.GetValue()
	}
	return m.GetGauge().GetValue()
}
