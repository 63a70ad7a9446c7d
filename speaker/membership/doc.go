// Package membership makes the speakers of all nodes one cluster: who lives,
// which pools, or parts of them, each can serve, and which member holds which layer-2
// address. Gossip and failure detection are hashicorp/memberlist's.
//
// Every node's plan computes alone who should own an address. Views differ
// for moments, so what a plan wants (Want) is held, and announced (Config.Apply),
// only with the consent of all other live members: mutual exclusion in the
// manner of Ricart and Agrawala (1981), with ranks for time stamps, batched.
//
//  1. A claim has a number, new at every start, unique with the process's epoch.
//  2. A node holds v once every member it sees has consented to its newest claim.
//  3. A node consents to X's claim only while it neither holds nor claims v; if
//     it does and X outranks it (sha256(name+"#"+v), the smaller is better), it
//     first gives v up, its Apply returns, and only then the consent is sent.
//     Otherwise it refuses, and X, should it hold v, gives v up.
//  4. Safety: let A and B hold v, each by a claim (a, b) the other consented to.
//     B had no claim for v when it consented to a, so it started b after that,
//     hence after a was started. By symmetry A started a after b: contradiction.
//     No packet's time was used: they may be lost, late, repeated, in any order.
//  5. So two nodes can answer only if one, when it took v, did not see the other
//     as a member (partition, false death), or overrode it (7). A process that
//     was stopped for as long as it takes to be declared dead is silent at once
//     when it goes on (Awake), and claims anew what it held.
//  6. This heals: whoever sees a member join or return asserts to it what it
//     holds, by a claim sent again until answered; by 3 one of the two gives up.
//  7. Liveness: claims are sent again every 100 ms; the dead leave the view; a
//     live member silent for 2 s is overridden, and asked on. Ranks are a strict
//     order, so among those that want v the best is never refused; the others
//     try again after 250 ms, when a member left, or when told that v is free.
//     Once plans agree, the only one that wants v gets it within a round trip.
//  8. No gap: a holder that is outranked, or leaves, gives v up only to a claim
//     that nobody else's consent is missing for, so v is silent for a round trip.
//
// A node that starts is alone and may take everything: Join first, then Want.
package membership
