package membership

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// A member's gossiped meta says which scopes it can serve, a scope being a pool
// or a part of one: a version, then for each scope four bytes of the hash of its
// name, in ascending order. Names themselves, of pools alone up to 253 bytes
// each, would not fit into gossip's 512 bytes. Two of 1,000 scopes share a hash
// with a chance of 1 in 8,600; a member that serves one of them then counts as
// serving both, on every node alike.
const (
	metaVersion  = 1
	scopeHashLen = 4
	// metaSize is memberlist.MetaMaxSize.
	metaSize = 512
	// maxScopes is how many scopes a member can stand for.
	maxScopes = (metaSize - 1) / scopeHashLen
)

type scopeHash uint32

func hashScope(name string) scopeHash {
	sum := sha256.Sum256([]byte(name))
	return scopeHash(binary.BigEndian.Uint32(sum[:]))
}

// encodeMeta returns the meta of a member that serves these scopes, and how
// many of them it could not say: those that come last by name.
func encodeMeta(scopes []string) (meta []byte, left int) {
	scopes = slices.Clone(scopes)
	slices.Sort(scopes)
	scopes = slices.Compact(scopes)
	if len(scopes) > maxScopes {
		left = len(scopes) - maxScopes
		scopes = scopes[:maxScopes]
	}
	hashes := make([]scopeHash, len(scopes))
	for i, scope := range scopes {
		hashes[i] = hashScope(scope)
	}
	slices.Sort(hashes)
	meta = append(make([]byte, 0, 1+scopeHashLen*len(hashes)), metaVersion)
	for _, hash := range slices.Compact(hashes) {
		meta = binary.BigEndian.AppendUint32(meta, uint32(hash))
	}
	return meta, left
}

// decodeMeta returns the hashes of the scopes that a member serves, in
// ascending order: none if the meta is of another version or garbled.
func decodeMeta(meta []byte) []scopeHash {
	if len(meta) == 0 || meta[0] != metaVersion || (len(meta)-1)%scopeHashLen != 0 || len(meta) > metaSize {
		return nil
	}
	meta = meta[1:]
	hashes := make([]scopeHash, 0, len(meta)/scopeHashLen)
	for ; len(meta) > 0; meta = meta[scopeHashLen:] {
		hash := scopeHash(binary.BigEndian.Uint32(meta))
		if n := len(hashes); n > 0 && cmp.Compare(hashes[n-1], hash) >= 0 {
			return nil
		}
		hashes = append(hashes, hash)
	}
	return hashes
}
