package sessions

import (
	"errors"
	"strings"
	"unicode"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/internal/note"
	"github.com/fairway-lb/fairway/speaker/bgp"
)

// reasonConfigureFailed is the reason of a condition where the objects are
// right and the node could still not do what they ask.
const reasonConfigureFailed = "ConfigureFailed"

// wanted is what was published: the router and the sessions as they are to be.
type wanted struct {
	router *bgp.Router // nil for none
	ready  finding
	// conf tells whether there is a BgpConf. Without it, no object has entries.
	conf  bool
	peers map[string]claim
}

// claim is a BgpPeer that selects this node, and what the node makes of it.
type claim struct {
	peer     *bgp.Peer // nil where it is refused
	accepted finding
	failed   bool // the session, or the router, could not be configured
}

// finding is whether a node does what an object asks, in the words of a
// condition.
type finding struct {
	ok              bool
	reason, message string
}

// sight is a BgpPeer as it was seen at one moment.
type sight struct {
	claim
	session *bgp.Session // nil for none
}

func (s sight) established() bool { return s.session != nil && s.session.Established() }

func newWanted(config bgp.Config, findings bgp.Findings, failed error) wanted {
	peers, ours := split(failed)
	w := wanted{
		router: config.Router,
		ready:  newFinding(findings.Router, ours),
		conf:   findings.Router.Reason != bgp.ReasonBgpConfMissing,
		peers:  make(map[string]claim, len(findings.Peers)),
	}
	for name, f := range findings.Peers {
		w.peers[name] = claim{accepted: newFinding(f, peers[name]), failed: ours != nil || peers[name] != nil}
	}
	for p := range config.Peers {
		if c, ok := w.peers[config.Peers[p].Name]; ok {
			c.peer = &config.Peers[p]
			w.peers[config.Peers[p].Name] = c
		}
	}
	return w
}

// split takes joined errors apart: those of peers, by name, and the rest,
// which is about the router.
func split(err error) (peers map[string]error, router error) {
	peers = map[string]error{}
	var walk func(error)
	walk = func(err error) {
		// What a peer's error joins is that peer's, so errors.As would look too deep.
		peer, isPeer := err.(*bgp.PeerError)
		var joined interface{ Unwrap() []error }
		switch {
		case err == nil:
		case isPeer:
			peers[peer.Name] = errors.Join(peers[peer.Name], peer.Err)
		case errors.As(err, &joined):
			for _, part := range joined.Unwrap() {
				walk(part)
			}
		case errors.As(err, &peer):
			peers[peer.Name] = errors.Join(peers[peer.Name], peer.Err)
		default:
			router = errors.Join(router, err)
		}
	}
	walk(err)
	return peers, router
}

func newFinding(f bgp.Finding, failed error) finding {
	if failed == nil {
		return finding{f.OK, string(f.Reason), clean(f.Message)}
	}
	message := failed.Error()
	if !f.OK {
		message = f.Message + "; " + message
	}
	return finding{false, reasonConfigureFailed, clean(message)}
}

// clean makes a text, of which a neighbor may have said a part, fit for a
// condition and an event: one line, valid and bounded.
func clean(text string) string {
	printable := strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(text, "\uFFFD"))
	return note.Clip(strings.TrimSpace(printable))
}

// sight finds for each BgpPeer the session of now. Sessions are made and ended
// a little earlier than it is published that they are to be: then the one that
// was seen before counts until it is.
func (w *wanted) sight(now []bgp.Session, before map[string]sight) map[string]sight {
	seen := make(map[string]sight, len(w.peers))
	for name, c := range w.peers {
		s := sight{claim: c}
		if c.peer != nil && !c.failed {
			s.session = before[name].session
		}
		seen[name] = s
	}
	for i := range now {
		if s, ok := seen[now[i].Name]; ok && s.peer != nil {
			s.session = &now[i]
			seen[now[i].Name] = s
		}
	}
	return seen
}

// drafts makes the entries of what was seen.
func (w *wanted) drafts(seen map[string]sight) drafts {
	if !w.conf {
		return drafts{}
	}
	d := drafts{conf: confDraft(w.router, w.ready), peers: make(map[string]*v1alpha2.NodePeerStatus, len(seen))}
	for name, s := range seen {
		d.peers[name] = peerDraft(s)
	}
	return d
}
