package main

import (
	"maps"
	"testing"
)

func TestReceivedUpdatesOfNeighborsOnly(t *testing.T) {
	got, err := parseReceived(`{"192.0.2.11":{"bgpState":"Established","messageStats":{"updatesSent":1,"updatesRecv":7}},
		"192.0.2.12":{"messageStats":{"updatesRecv":2}},"totalNeighbors":2}`)
	if err != nil {
		t.Fatal(err)
	}
	if want := map[string]int{"192.0.2.11": 7, "192.0.2.12": 2}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
