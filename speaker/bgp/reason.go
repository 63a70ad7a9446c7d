package bgp

import (
	"fmt"
	"net"
	"strings"

	gobgp "github.com/osrg/gobgp/v3/pkg/log"
	wire "github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// maxReason bounds what a neighbor can put into a reason, in bytes; RFC 9003
// allows 255.
const maxReason = 255

// notificationText puts a NOTIFICATION (RFC 4271, 6) into words, as in
// `Cease/Administrative Shutdown: "maintenance"`.
func notificationText(fields gobgp.Fields) string {
	code, _ := fields["Code"].(uint8)
	subcode, _ := fields["Subcode"].(uint8)
	text := codeText(code, subcode)
	if said, _ := fields["Communicated-Reason"].(string); said != "" {
		text += fmt.Sprintf(": %q", said[:min(len(said), maxReason)])
	}
	return text
}

// codeText names a NOTIFICATION's code and subcode as the RFCs do.
func codeText(code, subcode uint8) string {
	names := map[uint8][]string{
		wire.BGP_ERROR_MESSAGE_HEADER_ERROR: {"Message Header Error",
			"Connection Not Synchronized", "Bad Message Length", "Bad Message Type"},
		wire.BGP_ERROR_OPEN_MESSAGE_ERROR: {"OPEN Message Error",
			"Unsupported Version Number", "Bad Peer AS", "Bad BGP Identifier", "Unsupported Optional Parameter",
			"", "Unacceptable Hold Time", "Unsupported Capability", "", "", "", "Role Mismatch"},
		wire.BGP_ERROR_UPDATE_MESSAGE_ERROR: {"UPDATE Message Error",
			"Malformed Attribute List", "Unrecognized Well-known Attribute", "Missing Well-known Attribute",
			"Attribute Flags Error", "Attribute Length Error", "Invalid ORIGIN Attribute", "",
			"Invalid NEXT_HOP Attribute", "Optional Attribute Error", "Invalid Network Field", "Malformed AS_PATH"},
		wire.BGP_ERROR_HOLD_TIMER_EXPIRED: {"Hold Timer Expired"},
		wire.BGP_ERROR_FSM_ERROR:          {"Finite State Machine Error"},
		wire.BGP_ERROR_CEASE: {"Cease",
			"Maximum Number of Prefixes Reached", "Administrative Shutdown", "Peer De-configured",
			"Administrative Reset", "Connection Rejected", "Other Configuration Change",
			"Connection Collision Resolution", "Out of Resources", "Hard Reset", "BFD Down"},
		wire.BGP_ERROR_ROUTE_REFRESH_MESSAGE_ERROR: {"ROUTE-REFRESH Message Error", "Invalid Message Length"},
	}[code]
	switch {
	case names == nil:
		return fmt.Sprintf("error %d/%d", code, subcode)
	case subcode == 0:
		return names[0]
	case int(subcode) < len(names) && names[subcode] != "":
		return names[0] + "/" + names[subcode]
	}
	return fmt.Sprintf("%s/%d", names[0], subcode)
}

// messageErrorText is about a message that this node has refused.
func messageErrorText(err *wire.MessageError) string {
	var expected, received uint32
	if n, _ := fmt.Sscanf(err.Message, "as number mismatch expected %d, received %d", &expected, &received); n == 2 {
		return fmt.Sprintf("the neighbor's AS is %d, expected %d", received, expected)
	}
	return fmt.Sprintf("this node refused the neighbor's message: %s: %s", codeText(err.TypeCode, err.SubTypeCode), err.Message)
}

// lossText is why an established session ended, in the words of GoBGP that say
// no more than the kernel did.
func lossText(reason string) string {
	switch reason {
	case "read-failed", "graceful-restart":
		return "the connection was closed or reset by the neighbor"
	case "write-failed":
		return "the connection broke while sending"
	case "hold-timer-expired":
		return "hold timer expired: nothing was heard from the neighbor"
	case "admin-down":
		return "administratively down"
	}
	return reason
}

// connectText is why the neighbor could not be connected to.
func connectText(failed any) string {
	text := fmt.Sprintf("connecting: %v", failed)
	if err, ok := failed.(net.Error); ok && err.Timeout() {
		// The kernel drops what is signed with another password.
		text += ": the neighbor is not reached, or has another TCP MD5 password, or only one side has one"
	}
	return text
}

// refusalText is why a connection did not become a session.
func refusalText(state, reason string) string {
	opening := state == "OPENSENT" || state == "OPENCONFIRM"
	switch {
	case opening && reason == "invalid-msg":
		return "the neighbor refused the session: most often it expects another AS number, or a session with another address"
	case opening && reason == "read-failed":
		return "the neighbor closed the connection without a word: most often it has no session configured with this node's address"
	case opening && strings.HasPrefix(reason, "hold-timer-expired"):
		return "the neighbor accepted the connection and said nothing"
	case reason == "admin-down":
		return "administratively down"
	}
	return ""
}

// stateText turns BGP_FSM_IDLE into IDLE.
func stateText(state any) string {
	return strings.TrimPrefix(fmt.Sprint(state), "BGP_FSM_")
}
