package nftables

import (
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/fairway-lb/fairway/dataplane"
	"github.com/fairway-lb/fairway/dataplane/dataplanetest"
	"github.com/fairway-lb/fairway/internal/netnstest"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

var subject = dataplanetest.Subject{
	New:     func(config dataplane.Config) (dataplane.Backend, error) { return New(config) },
	Cleanup: Cleanup,
	Content: content,

	AffinityByFrontend: true,
	Damage: []dataplanetest.Damage{
		damage("flush", "ruleset"),
		damage("delete", "table", "ip6", tableName),
		damage("flush", "map", "ip", tableName, endpointsSet),
		damage("delete", "element", "ip", tableName, clusterIPsSet, "{", dataplanetest.Frontends{Number: 1}.ClusterIP()[0].String(), "}"),
		damage("insert", "rule", "ip6", tableName, dispatchChain, "drop"),
		damage("flush", "chain", "ip", tableName, dispatchChain),
		damage("add", "chain", "ip", tableName, "foreign"),
	},
}

func TestBackend(t *testing.T) { dataplanetest.Run(t, subject) }

func TestIPv6Disabled(t *testing.T) { dataplanetest.WithoutIPv6(t, subject) }

func start(t testing.TB, config dataplane.Config) *Backend {
	return subject.Start(t, config).(*Backend)
}

func damage(args ...string) dataplanetest.Damage {
	return dataplanetest.Damage{Name: strings.Join(args, " "), Do: func() error { return run(args...) }}
}

func run(args ...string) error {
	if out, err := exec.Command("nft", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("nft %v: %w: %s", args, err, out)
	}
	return nil
}

func nft(t testing.TB, args ...string) {
	t.Helper()
	must(t, run(args...))
}

// listing returns a table as nft prints it, nothing if there is none.
func listing(family string) (string, error) {
	tables, err := exec.Command("nft", "list", "tables").Output()
	if err != nil {
		return "", fmt.Errorf("nft list tables: %w", err)
	}
	if !strings.Contains(string(tables), "table "+family+" "+tableName+"\n") {
		return "", nil
	}
	out, err := exec.Command("nft", "--stateless", "list", "table", family, tableName).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("nft list table %s %s: %w: %s", family, tableName, err, out)
	}
	return string(out), nil
}

func list(t testing.TB, family string) string {
	t.Helper()
	text, err := listing(family)
	must(t, err)
	return text
}

// content is what nft lists of both tables but the clients that it remembers,
// in no order: sets have none, and chains that of their creation.
func content() ([]string, error) {
	var lines []string
	for _, family := range []string{"ip", "ip6"} {
		text, err := listing(family)
		if err != nil {
			return nil, err
		}
		text = nameTables(text)
		chain := ""
		for line := range strings.Lines(text) {
			line = strings.Trim(strings.TrimSpace(line), ",")
			if strings.HasSuffix(line, "{") {
				chain = line
			}
			line = strings.TrimSuffix(strings.TrimPrefix(line, "elements = { "), " }")
			if line == "" || line == "}" {
				continue
			}
			for part := range strings.SplitSeq(line, ", ") {
				if strings.HasSuffix(chain, "affinity {") && strings.Contains(part, " timeout ") {
					continue
				}
				lines = append(lines, family+" "+chain+" "+part)
			}
		}
	}
	return lines, nil
}

var (
	hashChain  = regexp.MustCompile(`-(source|source-port)-(\d+)(-l0)?\b`)
	hashTarget = regexp.MustCompile(`([^{},\t\n]+) : goto \S+-(?:source|source-port)-(\d+)\b`)
	hashRule   = regexp.MustCompile(`seed 0x46616972(?: offset (\d+))?`)
	hashMap    = regexp.MustCompile(`(?s)map hashed \{.*?\n\t\}`)
	hashSlot   = regexp.MustCompile(`(\d+) : `)
)

// nameTables calls the tables of hashing by a frontend instead of by a number:
// that depends on what was there before.
func nameTables(text string) string {
	names := map[string]string{}
	for _, m := range hashTarget.FindAllStringSubmatch(text, -1) {
		key, number := strings.TrimSpace(m[1]), m[2]
		if names[number] == "" || key < names[number] {
			names[number] = key
		}
	}
	place := func(at string) string {
		n, _ := strconv.Atoi(at)
		return fmt.Sprintf("%s/%d/%d", names[strconv.Itoa(n/tableSize/tablesPerPort)], n/tableSize%tablesPerPort, n%tableSize)
	}
	text = hashMap.ReplaceAllStringFunc(text, func(m string) string {
		head, elements, _ := strings.Cut(m, "elements")
		return head + "elements" + hashSlot.ReplaceAllStringFunc(elements, func(slot string) string { return place(strings.TrimSuffix(slot, " : ")) + " : " })
	})
	text = hashRule.ReplaceAllStringFunc(text, func(rule string) string {
		return "seed at " + place(hashRule.FindStringSubmatch(rule)[1])
	})
	return hashChain.ReplaceAllStringFunc(text, func(chain string) string {
		m := hashChain.FindStringSubmatch(chain)
		return "-" + m[1] + "-(" + names[m[2]] + ")" + m[3]
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
