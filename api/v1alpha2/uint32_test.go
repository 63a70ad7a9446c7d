package v1alpha2

import (
	"encoding/json"
	"testing"
)

// Numbers that an older schema admitted do not keep the object from being
// read.
func TestUint32(t *testing.T) {
	for text, want := range map[string]Uint32{
		`{"peerAs":4200000000}`:     4200000000,
		`{"peerAs":0}`:              0,
		`{"peerAs":-7}`:             0,
		`{"peerAs":4294967296}`:     0,
		`{"peerAs":99999999999999}`: 0,
		`{"peerAs":null}`:           0,
		`{}`:                        0,
	} {
		var conf PeerConf
		if err := json.Unmarshal([]byte(text), &conf); err != nil || conf.PeerAS != want {
			t.Errorf("%s: %d, %v, want %d", text, conf.PeerAS, err, want)
		}
	}
	var conf PeerConf
	if err := json.Unmarshal([]byte(`{"peerAs":"65000"}`), &conf); err == nil {
		t.Error("a text was read as a number")
	}
}
