package speaker

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/speaker/layer2"
	"github.com/fairway-lb/fairway/speaker/plan"
)

// pool is an Eip and whether this node can announce its addresses by layer 2.
type pool struct {
	plan.Pool
	uid types.UID
	// link is the name of the interface that a layer2 Eip chooses on this node,
	// "" if that cannot announce the pool.
	link string
	// refusal says why this node cannot announce a layer2 pool, "" if it can.
	refusal string
}

func (s *Speaker) readPools(ctx context.Context) (map[string]pool, error) {
	var list v1alpha2.EipList
	if err := s.Reader.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing Eips: %w", err)
	}
	pools := make(map[string]pool, len(list.Items))
	for i := range list.Items {
		eip := &list.Items[i]
		p := pool{Pool: plan.Pool{Name: eip.Name, Protocol: eip.Spec.Protocol}, uid: eip.UID}
		if eip.Spec.Protocol == v1alpha2.ProtocolLayer2 {
			p.link, p.refusal = s.chooseLink(eip.Spec)
		}
		pools[eip.Name] = p
	}
	return pools, nil
}

// chooseLink returns the link that a layer2 pool is announced on, or why it
// cannot be announced from this node.
func chooseLink(spec v1alpha2.EipSpec) (name, refusal string) {
	addresses, err := v1alpha2.ParseAddress(spec.Address)
	if err != nil {
		return "", fmt.Sprintf("spec.address %q: %v", spec.Address, err)
	}
	link, err := layer2.Choose(spec.Interface)
	if err != nil {
		return "", err.Error()
	}
	if ok, reason := link.CanServe(addresses, spec.AllowOffSubnet); !ok {
		return "", reason
	}
	return link.Name, ""
}
