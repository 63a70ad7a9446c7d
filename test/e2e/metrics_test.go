package e2e

import (
	"fmt"
	"strconv"
	"strings"
)

// hasMetric waits until a metric of a node's speaker has a value; its name has
// the labels in it.
func (c *cluster) hasMetric(node, name, value string) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("%s of %s is %s", name, node, value), func() string {
		metrics, err := c.metrics(node)
		if err != nil {
			return err.Error()
		}
		if got := metrics[name]; got != value {
			return fmt.Sprintf("it is %q", got)
		}
		return ""
	})
}

// counter is the value of a metric of a node's speaker, 0 if there is none.
func (c *cluster) counter(node, name string) int {
	c.t.Helper()
	metrics, err := c.metrics(node)
	if err != nil {
		c.t.Fatalf("reading the metrics of %s: %v", node, err)
	}
	text, ok := metrics[name]
	if !ok {
		return 0
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		c.t.Fatalf("%s of %s: %v", name, node, err)
	}
	return n
}

// metrics are the metrics of a node's speaker, by name with labels.
func (c *cluster) metrics(node string) (map[string]string, error) {
	body, err := c.Get(c.t.Context(), fmt.Sprintf("http://%s:50053/metrics", c.Node(node).Addr4()))
	if err != nil {
		return nil, err
	}
	metrics := map[string]string{}
	for line := range strings.Lines(body) {
		line = strings.TrimSpace(line)
		if end := strings.LastIndex(line, " "); end > 0 && !strings.HasPrefix(line, "#") {
			metrics[line[:end]] = line[end+1:]
		}
	}
	return metrics, nil
}
