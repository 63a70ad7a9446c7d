package e2e

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// seedVariable is the environment variable that repeats the operations of an
// earlier run, in their order. When the controller is killed still differs.
const seedVariable = "FAIRWAY_KILL_SEED"

// TestControllerKilledAtRandom has pools and Services changed at random while
// the controller is killed with SIGKILL again and again, in the middle of what
// it does. A witness watches that no address is given to two, and that none is
// taken from a Service whose owner did not ask for that. At the end everybody
// has what can be had, the Eips count it right, and everything can be deleted.
func TestControllerKilledAtRandom(t *testing.T) {
	const kills = 50
	seed := seedOf(t)
	t.Logf("%s=%d repeats the operations", seedVariable, seed)

	c := newCluster(t, 0)
	world := newChaos(c, seed)
	witness := newWitness(c, world)
	world.witness = witness
	timing := world.timing
	world.createPools()
	for range 30 {
		world.createService(world.pick(false))
	}
	writing := 0
	for round := range kills {
		world.round = round
		// A killed leader's Lease would stand in the way of the next.
		c.startController("--leader-elect=false")
		works := world.works
		if timing.IntN(5) == 0 {
			works = nil // kill it perhaps while it starts
		}
		if world.disturb(witness.afterWrites(1+timing.IntN(15)), works, between(timing, 0, 1500*time.Millisecond)) {
			writing++
		}
		if err := c.controller.Kill(); err != nil {
			t.Fatal(err)
		}
		for range timing.IntN(6) {
			world.operate() // nobody looks
		}
		witness.check()
		if round%10 == 9 {
			c.startController("--leader-elect=false")
			witness.consistent()
			if err := c.controller.Kill(); err != nil {
				t.Fatal(err)
			}
			t.Logf("%d kills, %d of them just after a write; %d operations; %v", round+1, writing, world.count, witness.summary())
		}
	}

	c.startController("--leader-elect=false")
	world.makeRoom()
	witness.consistent()
	witness.served()
	world.deleteServices()
	witness.consistent()
	world.deletePools()
	witness.check()
}

func seedOf(t *testing.T) uint64 {
	t.Helper()
	text := cmp.Or(os.Getenv(seedVariable), strconv.FormatInt(time.Now().UnixNano()%1_000_000, 10))
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatal(fmt.Errorf("%s: %w", seedVariable, err))
	}
	return seed
}

// between returns a random duration.
func between(rng *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(rng.Int64N(int64(most-least)))
}
