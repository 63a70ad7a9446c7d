// Package sessions tells the API server what this node's BGP sessions are: in
// the status of each BgpPeer and of the BgpConf an entry of this node's, and
// events for what an operator would ask about.
//
// Nothing is written periodically. A status is written when something about it
// changed that an operator acts on: a session came up or was lost, another
// reason keeps it down, BFD, what the node makes of the object. The states
// that a session runs through while it tries to come up are shown as they were
// at the last such change. One session's changes are written at once while
// they are few, and thinned out with the latest state winning when they go on.
//
// Each node applies its own entry, with a field manager of its own, so nodes
// neither conflict nor read what the others wrote.
package sessions
