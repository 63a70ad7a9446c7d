package kubeproxy

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// attempts is how often a transaction is tried that another came before. It is
// CNI and the like that do that, some times a second at most.
const attempts = 10

// nftTables is what kube-proxy leaves in nftables mode.
type nftTables struct{}

func (p nftTables) find(ctx context.Context) ([]Leftover, error) {
	var names []string
	_, err := p.removal(ctx, func(name string) { names = append(names, name) })
	if len(names) == 0 {
		return nil, wrap(err, "look for tables of kube-proxy")
	}
	return []Leftover{{Mode: modeNFTables, Place: "tables of nftables", Names: names}}, wrap(err, "look for tables of kube-proxy")
}

func (p nftTables) remove(ctx context.Context) error {
	err := transact(ctx, func() (transaction, error) { return p.removal(ctx, func(string) {}) })
	if errors.Is(err, unix.EPERM) {
		err = fmt.Errorf("another process owns one, which `nft list ruleset` names, or this one lacks CAP_NET_ADMIN: %w", err)
	}
	return wrap(err, "remove the tables of kube-proxy from nftables")
}

// removal returns the transaction that removes the tables, and names each.
func (nftTables) removal(ctx context.Context, each func(name string)) (t transaction, err error) {
	n, err := openNFT(ctx)
	if n == nil || err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, n.close()) }()
	t.generation = n.generation
	for _, f := range []service.Family{service.IPv4, service.IPv6} {
		var e encoder
		e.string(unix.NFTA_TABLE_NAME, tableName)
		_, err := n.ask(unix.NFT_MSG_GETTABLE, 0, f, e)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return t, fmt.Errorf("look for table %s %s: %w", nftFamily(f), tableName, err)
		}
		each(nftFamily(f) + " " + tableName)
		t.add(unix.NFT_MSG_DELTABLE, f, e)
	}
	return t, nil
}

// nftChains is what kube-proxy leaves in iptables and IPVS mode on nodes where
// iptables is iptables-nft: tables of nf_tables, from which it is removed
// without that program, of whatever version it is.
type nftChains struct{ family service.Family }

func (p nftChains) find(ctx context.Context) ([]Leftover, error) {
	removals, _, err := p.removals(ctx)
	return leftoverChains("iptables-nft", p.family, removals), wrap(err, "look for chains of kube-proxy in iptables-nft (%s)", p.family)
}

// remove removes the chains of all tables in one transaction.
func (p nftChains) remove(ctx context.Context) error {
	err := transact(ctx, func() (transaction, error) {
		removals, generation, err := p.removals(ctx)
		t := transaction{generation: generation}
		for _, table := range iptablesTables() {
			p.encode(&t, table, removals[table])
		}
		return t, err
	})
	return wrap(err, "remove the chains of kube-proxy from iptables-nft (%s)", p.family)
}

// encode appends what removes something of a table: first all rules that lead
// to a chain, so that nothing does any more when it goes.
func (p nftChains) encode(t *transaction, table string, r removal) {
	rule := func(chain string) (e encoder) {
		e.string(unix.NFTA_RULE_TABLE, table)
		e.string(unix.NFTA_RULE_CHAIN, chain)
		return e
	}
	for _, j := range r.jumps {
		e := rule(j.from)
		e.bytes(unix.NFTA_RULE_HANDLE, binary.BigEndian.AppendUint64(nil, j.handle))
		t.add(unix.NFT_MSG_DELRULE, p.family, e)
	}
	for _, chain := range r.chains {
		t.add(unix.NFT_MSG_DELRULE, p.family, rule(chain)) // all of them
	}
	for _, chain := range r.chains {
		var e encoder
		e.string(unix.NFTA_CHAIN_TABLE, table)
		e.string(unix.NFTA_CHAIN_NAME, chain)
		t.add(unix.NFT_MSG_DELCHAIN, p.family, e)
	}
}

// removals returns what there is to remove, by table, and as of when.
func (p nftChains) removals(ctx context.Context) (_ map[string]removal, generation uint32, err error) {
	n, err := openNFT(ctx)
	if n == nil || err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, n.close()) }()
	rulesets, err := n.chains(p.family)
	if err != nil {
		return nil, 0, err
	}
	removals := map[string]removal{}
	for name, r := range rulesets {
		if !r.hasOurs() {
			continue // and its rules, which may be many, are not asked for
		}
		if r.jumps, err = n.jumps(p.family, name); err != nil {
			return nil, 0, err
		}
		removals[name] = r.removal()
	}
	return removals, n.generation, nil
}

// kernelTables is a socket to nf_tables.
type kernelTables struct {
	conn       *netlink.Conn
	generation uint32 // when it was opened
}

// openNFT returns nil where the kernel has no nf_tables.
func openNFT(ctx context.Context) (*kernelTables, error) {
	conn, err := dial(ctx)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	n := &kernelTables{conn: conn}
	answers, err := conn.Execute(message(unix.NFNL_SUBSYS_NFTABLES, unix.NFT_MSG_GETGEN, 0, unix.AF_UNSPEC, nil))
	if noSubsystem(err) {
		return nil, conn.Close()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("ask nf_tables for its generation: %w", err), conn.Close())
	}
	for _, a := range answers {
		n.generation = uint32(number(nested(payload(a), unix.NFTA_GEN_ID)))
	}
	return n, nil
}

func (n *kernelTables) close() error { return n.conn.Close() }

func (n *kernelTables) ask(kind uint16, flags netlink.HeaderFlags, f service.Family, e encoder) ([]netlink.Message, error) {
	return n.conn.Execute(message(unix.NFNL_SUBSYS_NFTABLES, kind, flags, netfilterFamily(f), e))
}

// chains returns the tables of iptables that there are, without rules.
func (n *kernelTables) chains(f service.Family) (map[string]ruleset, error) {
	answers, err := n.ask(unix.NFT_MSG_GETCHAIN, netlink.Dump, f, nil)
	if err != nil {
		return nil, fmt.Errorf("list chains: %w", err)
	}
	tables := map[string]ruleset{}
	for _, a := range answers {
		table := text(nested(payload(a), unix.NFTA_CHAIN_TABLE))
		if !slices.Contains(iptablesTables(), table) {
			continue
		}
		if _, ok := tables[table]; !ok {
			tables[table] = ruleset{table: table, chains: map[string]bool{}}
		}
		hook := nested(payload(a), unix.NFTA_CHAIN_HOOK)
		tables[table].chains[text(nested(payload(a), unix.NFTA_CHAIN_NAME))] = hook != nil
	}
	return tables, nil
}

// jumps returns the rules of a table that lead to a chain.
func (n *kernelTables) jumps(f service.Family, table string) (jumps []jump, err error) {
	var e encoder
	e.string(unix.NFTA_RULE_TABLE, table)
	answers, err := n.ask(unix.NFT_MSG_GETRULE, netlink.Dump, f, e)
	if err != nil {
		return nil, fmt.Errorf("list rules of table %s: %w", table, err)
	}
	for _, a := range answers {
		if text(nested(payload(a), unix.NFTA_RULE_TABLE)) != table {
			continue // Linux before 4.9 lists the rules of all
		}
		if to := destination(nested(payload(a), unix.NFTA_RULE_EXPRESSIONS)); to != "" {
			jumps = append(jumps, jump{
				from:   text(nested(payload(a), unix.NFTA_RULE_CHAIN)),
				to:     to,
				handle: number(nested(payload(a), unix.NFTA_RULE_HANDLE)),
			})
		}
	}
	return jumps, nil
}

// destination returns the chain that the expressions of a rule lead to, or "".
// iptables-nft makes rules with one verdict; verdict maps are another's, and
// not in its tables.
func destination(expressions []byte) string {
	for _, expression := range attributes(expressions) {
		if text(nested(attributes(expression), unix.NFTA_EXPR_NAME)) != "immediate" {
			continue
		}
		data := nested(attributes(expression), unix.NFTA_EXPR_DATA)
		value := nested(attributes(data), unix.NFTA_IMMEDIATE_DATA)
		verdict := nested(attributes(value), unix.NFTA_DATA_VERDICT)
		if chain := nested(attributes(verdict), unix.NFTA_VERDICT_CHAIN); chain != nil {
			return text(chain)
		}
	}
	return ""
}

// transaction is what the kernel does as a whole or not at all. It refuses it
// if there was another since the generation that it was made for.
type transaction struct {
	generation uint32
	messages   []netlink.Message
}

func (t *transaction) add(kind uint16, f service.Family, e encoder) {
	t.messages = append(t.messages, message(unix.NFNL_SUBSYS_NFTABLES, kind, 0, netfilterFamily(f), e))
}

// transact makes a transaction and has the kernel do it, and anew if it was
// made for a state that is no longer.
func transact(ctx context.Context, next func() (transaction, error)) (err error) {
	for range attempts {
		var t transaction
		if t, err = next(); err != nil || len(t.messages) == 0 {
			return err
		}
		if err = t.commit(ctx); !errors.Is(err, unix.ERESTART) {
			return err
		}
	}
	return fmt.Errorf("nf_tables was changed by another, %d times in a row: %w", attempts, err)
}

func (t transaction) commit(ctx context.Context) (err error) {
	border := func(kind netlink.HeaderType, e encoder) netlink.Message {
		data := binary.BigEndian.AppendUint16([]byte{unix.AF_UNSPEC, unix.NFNETLINK_V0}, unix.NFNL_SUBSYS_NFTABLES)
		return netlink.Message{Header: netlink.Header{Type: kind, Flags: netlink.Request}, Data: append(data, e...)}
	}
	conn, err := dial(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()

	var e encoder
	e.bytes(unix.NFNL_BATCH_GENID, binary.BigEndian.AppendUint32(nil, t.generation))
	all := slices.Concat([]netlink.Message{border(unix.NFNL_MSG_BATCH_BEGIN, e)}, t.messages,
		[]netlink.Message{border(unix.NFNL_MSG_BATCH_END, nil)})
	all[len(all)-2].Header.Flags |= netlink.Acknowledge
	sent, err := conn.SendMessages(all)
	if err != nil {
		return fmt.Errorf("send a transaction of %d messages: %w", len(t.messages), err)
	}
	// What cannot be done is answered in the order of messages, so that nothing
	// comes after the answer to the last.
	last := sent[len(sent)-2].Header.Sequence
	for {
		answers, err := conn.Receive()
		if err != nil {
			return fmt.Errorf("transaction of %d messages: %w", len(t.messages), err)
		}
		if slices.ContainsFunc(answers, func(a netlink.Message) bool { return a.Header.Sequence == last }) {
			return nil
		}
	}
}

// nftFamily returns a family as nft names it.
func nftFamily(f service.Family) string {
	if f == service.IPv6 {
		return "ip6"
	}
	return "ip"
}
