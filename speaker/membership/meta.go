package membership

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// A member's gossiped meta says which pools it can serve: a version, then for
// each pool four bytes of the hash of its name, in ascending order. Names
// themselves, up to 253 bytes each, would not fit into gossip's 512 bytes. Two
// of 1,000 pools share a hash with a chance of 1 in 8,600; a member that
// serves one of them then counts as serving both, on every node alike.
const (
	metaVersion = 1
	poolHashLen = 4
	// metaSize is memberlist.MetaMaxSize.
	metaSize = 512
	// maxPools is how many pools a member can stand for.
	maxPools = (metaSize - 1) / poolHashLen
)

type poolHash uint32

func hashPool(name string) poolHash {
	sum := sha256.Sum256([]byte(name))
	return poolHash(binary.BigEndian.Uint32(sum[:]))
}

// encodeMeta returns the meta of a member that serves these pools, and how
// many of them it could not say: those that come last by name.
func encodeMeta(pools []string) (meta []byte, left int) {
	pools = slices.Clone(pools)
	slices.Sort(pools)
	pools = slices.Compact(pools)
	if len(pools) > maxPools {
		left = len(pools) - maxPools
		pools = pools[:maxPools]
	}
	hashes := make([]poolHash, len(pools))
	for i, pool := range pools {
		hashes[i] = hashPool(pool)
	}
	slices.Sort(hashes)
	meta = append(make([]byte, 0, 1+poolHashLen*len(hashes)), metaVersion)
	for _, hash := range slices.Compact(hashes) {
		meta = binary.BigEndian.AppendUint32(meta, uint32(hash))
	}
	return meta, left
}

// decodeMeta returns the hashes of the pools that a member serves, in
// ascending order: none if the meta is of another version or garbled.
func decodeMeta(meta []byte) []poolHash {
	if len(meta) == 0 || meta[0] != metaVersion || (len(meta)-1)%poolHashLen != 0 || len(meta) > metaSize {
		return nil
	}
	meta = meta[1:]
	hashes := make([]poolHash, 0, len(meta)/poolHashLen)
	for ; len(meta) > 0; meta = meta[poolHashLen:] {
		hash := poolHash(binary.BigEndian.Uint32(meta))
		if n := len(hashes); n > 0 && cmp.Compare(hashes[n-1], hash) >= 0 {
			return nil
		}
		hashes = append(hashes, hash)
	}
	return hashes
}
