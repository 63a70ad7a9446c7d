package bfd

import "fmt"

// State is the state of a session (RFC 5880, 4.1).
type State uint8

// The states have the values that they have in packets.
const (
	AdminDown State = iota
	Down
	Init
	Up
)

// String is the name that RFC 5880 uses.
func (s State) String() string {
	switch s {
	case AdminDown:
		return "AdminDown"
	case Down:
		return "Down"
	case Init:
		return "Init"
	case Up:
		return "Up"
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// Diagnostic is why a session was last changed to a state other than Up (RFC
// 5880, 4.1).
type Diagnostic uint8

// The diagnostics of RFC 5880.
const (
	NoDiagnostic                Diagnostic = 0
	ControlDetectionTimeExpired Diagnostic = 1
	EchoFunctionFailed          Diagnostic = 2
	NeighborSignaledSessionDown Diagnostic = 3
	ForwardingPlaneReset        Diagnostic = 4
	PathDown                    Diagnostic = 5
	ConcatenatedPathDown        Diagnostic = 6
	AdministrativelyDown        Diagnostic = 7
	ReverseConcatenatedPathDown Diagnostic = 8
)

// String is the text of RFC 5880, 4.1.
func (d Diagnostic) String() string {
	switch d {
	case NoDiagnostic:
		return "No Diagnostic"
	case ControlDetectionTimeExpired:
		return "Control Detection Time Expired"
	case EchoFunctionFailed:
		return "Echo Function Failed"
	case NeighborSignaledSessionDown:
		return "Neighbor Signaled Session Down"
	case ForwardingPlaneReset:
		return "Forwarding Plane Reset"
	case PathDown:
		return "Path Down"
	case ConcatenatedPathDown:
		return "Concatenated Path Down"
	case AdministrativelyDown:
		return "Administratively Down"
	case ReverseConcatenatedPathDown:
		return "Reverse Concatenated Path Down"
	}
	return fmt.Sprintf("Reserved (%d)", uint8(d))
}

// pathFailed says if a neighbor that goes down with this diagnostic has found
// the path to be gone. The others are about the session: none is what a new one
// has, and a neighbor that was signaled heard it from us.
func (d Diagnostic) pathFailed() bool {
	switch d {
	case NoDiagnostic, NeighborSignaledSessionDown, AdministrativelyDown:
		return false
	}
	return true
}
