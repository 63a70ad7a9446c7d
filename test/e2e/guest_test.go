package e2e

import (
	"os"
	"testing"

	"github.com/fairway-lb/fairway/internal/uml"
	"github.com/fairway-lb/fairway/test/lab"
)

// inGuest runs a test again in a guest whose kernel has IPVS, with the lab's
// hosts in there. The control plane and the controller stay here: an API server
// would take minutes to start on that kernel. It is for the beginning of the
// test: where it returns false, the test has been run and has to return.
func inGuest(t *testing.T) bool {
	t.Helper()
	if uml.Inside() {
		return true
	}
	control, err := lab.StartControlPlane(t.Context(), lab.Options{Log: t.Logf})
	if err != nil {
		t.Fatalf("starting the control plane: %v", err)
	}
	t.Cleanup(func() { closeLab(t, control) })
	uml.Guest{
		Folders: []string{control.Root()},
		Tap:     uml.Tap{Namespace: control.Switch(), Name: control.Tap()},
		Env: []string{
			"GOGC=400", // memory is there, and processors are not
			churnVariable + "=" + os.Getenv(churnVariable),
			seedVariable + "=" + os.Getenv(seedVariable),
		},
	}.Test(t)
	return false
}

// uplink is how a lab in a guest gets to the control plane.
func uplink() string {
	if uml.Inside() {
		return uml.Link
	}
	return ""
}

// unhurried are arguments of speakers in a guest. A process waits for its turn
// there, on the one CPU, for longer than others by default wait for its answer:
// speakers would think each other dead all the time.
func unhurried() []string {
	if uml.Inside() {
		return []string{"--probe-interval", "10s"}
	}
	return nil
}
