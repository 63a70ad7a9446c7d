package bgp

import "github.com/prometheus/client_golang/prometheus"

// collector reads the metrics of a Server when they are asked for.
type collector struct{ s *Server }

// The labels: the BgpPeer's name, the neighbor's address, the address family as in
// Kubernetes, and the name of a message type.
const (
	labelPeer     = "peer"
	labelNeighbor = "neighbor"
	labelFamily   = "family"
	labelType     = "type"
)

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("fairway_bgp_"+name, help, append([]string{labelPeer, labelNeighbor}, labels...), nil)
}

// Describe describes nothing: which metrics there are depends on the sessions.
func (c collector) Describe(chan<- *prometheus.Desc) {}

// Collect writes the metrics of all sessions.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	up := describe("session_up", "Whether the session with a neighbor is established.")
	flaps := describe("session_flaps_total", "How often an established session with a neighbor has ended.")
	announced := describe("announced_prefixes", "Paths that are announced to a neighbor.", labelFamily)
	received := describe("received_prefixes", "Paths that a neighbor announces to this node.", labelFamily)
	accepted := describe("accepted_prefixes", "Paths of a neighbor that this node uses: none, whatever it announces.", labelFamily)
	sent := describe("messages_sent_total", "BGP messages sent to a neighbor.", labelType)
	heard := describe("messages_received_total", "BGP messages received from a neighbor.", labelType)
	for _, s := range c.s.Sessions() {
		emit := func(desc *prometheus.Desc, kind prometheus.ValueType, value uint64, labels ...string) {
			neighbor := ""
			if s.Neighbor.IsValid() {
				neighbor = s.Neighbor.String()
			}
			ch <- prometheus.MustNewConstMetric(desc, kind, float64(value), append([]string{s.Name, neighbor}, labels...)...)
		}
		isUp := uint64(0)
		if s.Established() {
			isUp = 1
		}
		emit(up, prometheus.GaugeValue, isUp)
		emit(flaps, prometheus.CounterValue, s.Flaps)
		for _, f := range s.Families {
			family := "IPv4"
			if f.IPv6 {
				family = "IPv6"
			}
			emit(announced, prometheus.GaugeValue, f.Announced, family)
			emit(received, prometheus.GaugeValue, f.Received, family)
			emit(accepted, prometheus.GaugeValue, f.Accepted, family)
		}
		for desc, m := range map[*prometheus.Desc]Messages{sent: s.Sent, heard: s.Received} {
			emit(desc, prometheus.CounterValue, m.Open, "open")
			emit(desc, prometheus.CounterValue, m.Update, "update")
			emit(desc, prometheus.CounterValue, m.Notification, "notification")
			emit(desc, prometheus.CounterValue, m.Keepalive, "keepalive")
			emit(desc, prometheus.CounterValue, m.Refresh, "refresh")
			emit(desc, prometheus.CounterValue, m.Discarded, "discarded")
		}
	}
}
