package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// network is an API server with Nodes, BgpConfs and BgpPeers as JSON, whatever
// their types may be, and a cache of them.
type network struct {
	t       *testing.T
	k       *bgpKeeper
	version int
	live    map[request]map[string]any
	cached  map[request]*unstructured.Unstructured
	patches []string
	refuses error
}

const nodeKind requestKind = "Node"

func newNetwork(t *testing.T, nodes ...string) *network {
	n := &network{t: t, live: map[request]map[string]any{}, cached: map[request]*unstructured.Unstructured{}}
	n.k = &bgpKeeper{cached: networkReader{n: n}, live: networkReader{n: n, live: true}, client: networkWriter{n: n}}
	for _, name := range nodes {
		n.store(nodeKind, "metadata: {name: "+name+"}")
	}
	return n
}

// store writes an object, given in YAML.
func (n *network) store(kind requestKind, text string) {
	n.t.Helper()
	var object map[string]any
	if err := yaml.Unmarshal([]byte(text), &object); err != nil {
		n.t.Fatal(err)
	}
	n.put(kind, object)
}

func (n *network) put(kind requestKind, object map[string]any) {
	n.version++
	metadata := object["metadata"].(map[string]any)
	metadata["resourceVersion"] = strconv.Itoa(n.version)
	n.live[requestFor(kind, metadata["name"].(string))] = object
}

func requestFor(kind requestKind, name string) request {
	return request{kind, types.NamespacedName{Name: name}}
}

// catchUp lets the cache show what the API server has.
func (n *network) catchUp() {
	n.t.Helper()
	clear(n.cached)
	for req, object := range n.live {
		if req.kind == nodeKind {
			n.cached[req] = nil
			continue
		}
		trimmed, err := trimBgpObject(n.read(req.kind, object))
		if err != nil {
			n.t.Fatal(err)
		}
		n.cached[req] = trimmed.(*unstructured.Unstructured)
	}
}

// read returns a copy of an object.
func (n *network) read(kind requestKind, object map[string]any) *unstructured.Unstructured {
	u := (&unstructured.Unstructured{Object: object}).DeepCopy()
	u.SetGroupVersionKind(v1alpha2.GroupVersion.WithKind(string(kind)))
	return u
}

// look has the keeper look at an object. It returns the patches that it sent,
// and how it ended.
func (n *network) look(kind requestKind, name string) (patches []string, end string) {
	n.t.Helper()
	n.patches = nil
	result, err := n.k.Reconcile(n.t.Context(), requestFor(kind, name))
	switch {
	case err != nil:
		end = "failed"
	case result.RequeueAfter > 0:
		end = "again"
	}
	return n.patches, end
}

// is compares an object with YAML, but for its version.
func (n *network) is(kind requestKind, name, want string) {
	n.t.Helper()
	var wanted map[string]any
	if err := yaml.Unmarshal([]byte(want), &wanted); err != nil {
		n.t.Fatal(err)
	}
	got := n.live[requestFor(kind, name)]
	delete(got["metadata"].(map[string]any), "resourceVersion")
	if !reflect.DeepEqual(got, wanted) {
		n.t.Errorf("%s %s is %v, want %v", kind, name, got, wanted)
	}
}

const twoOfThree = `{metadata: {name: router, annotations: {lb.kubesphere.io/v1alpha1: "2024-06-14"}}, spec: {conf: {peerAs: 50001}}, status: {nodesPeerStatus: {n1: {peerState: {sessionState: ESTABLISHED}}, n2: {timersState: {}}}}}`

// The entries of Nodes that do not exist go, in one write that names nothing
// else; all others stay as they are.
func TestEntriesOfGoneNodes(t *testing.T) {
	n := newNetwork(t, "n1", "n2")
	n.store(bgpPeerRequest, `{metadata: {name: router, annotations: {lb.kubesphere.io/v1alpha1: "2024-06-14"}}, spec: {conf: {peerAs: 50001}}, status: {nodesPeerStatus: {n1: {peerState: {sessionState: ESTABLISHED}}, n2: {timersState: {}}, n3: {peerState: {}}}}}`)
	n.store(bgpConfRequest, `{metadata: {name: default}, status: {nodesConfStatus: {old1: {as: 50000}, old2: {}}}}`)
	n.catchUp()
	for _, step := range []struct {
		kind requestKind
		name string
		want []string
	}{
		{bgpPeerRequest, "router", []string{`status {"metadata":{"resourceVersion":"3"},"status":{"nodesPeerStatus":{"n3":null}}}`}},
		{bgpConfRequest, "default", []string{`status {"metadata":{"resourceVersion":"4"},"status":{"nodesConfStatus":{"old1":null,"old2":null}}}`}},
		{bgpPeerRequest, "router", nil},
		{bgpConfRequest, "default", nil},
		{bgpPeerRequest, "gone", nil},
	} {
		if got, end := n.look(step.kind, step.name); !slices.Equal(got, step.want) || end != "" {
			t.Errorf("for %s %s it writes %q (%s), want %q", step.kind, step.name, got, end, step.want)
		}
		n.catchUp()
	}
	n.is(bgpPeerRequest, "router", twoOfThree)
	n.is(bgpConfRequest, "default", `{metadata: {name: default}, status: {nodesConfStatus: {}}}`)
}

// The entry of a Node that is not in the cache yet stays.
func TestEntryOfANewNode(t *testing.T) {
	n := newNetwork(t, "n1")
	n.store(bgpPeerRequest, twoOfThree)
	n.catchUp()
	n.store(nodeKind, "metadata: {name: n2}")
	if got, end := n.look(bgpPeerRequest, "router"); got != nil || end != "" {
		t.Errorf("it writes %q (%s)", got, end)
	}
	n.is(bgpPeerRequest, "router", twoOfThree)
}

// What is written is for the version that was looked at. Another version is on
// its way; one that is refused for another reason is tried ever less often.
func TestKeeperAgainstOthers(t *testing.T) {
	const before = `{metadata: {name: router}, status: {nodesPeerStatus: {n1: {}, n2: {}}}}`
	n := newNetwork(t, "n1")
	n.store(bgpPeerRequest, before)
	n.catchUp()
	n.store(bgpPeerRequest, `{metadata: {name: router}, status: {nodesPeerStatus: {n1: {peerState: {}}, n2: {}}}}`)
	if _, end := n.look(bgpPeerRequest, "router"); end != "again" {
		t.Errorf("behind another's write it ends %q", end)
	}
	n.catchUp()
	if _, end := n.look(bgpPeerRequest, "router"); end != "" {
		t.Errorf("it ends %q", end)
	}
	n.is(bgpPeerRequest, "router", `{metadata: {name: router}, status: {nodesPeerStatus: {n1: {peerState: {}}}}}`)

	n.store(bgpPeerRequest, before)
	n.catchUp()
	for _, err := range []error{errors.New("refused"), apierrors.NewConflict(schema.GroupResource{}, "router", errors.New("by a webhook"))} {
		n.refuses = err
		if _, end := n.look(bgpPeerRequest, "router"); end != "failed" {
			t.Errorf("refused with %v, it ends %q", err, end)
		}
	}
	n.refuses = nil
	delete(n.live, requestFor(bgpPeerRequest, "router"))
	if _, end := n.look(bgpPeerRequest, "router"); end != "again" {
		t.Errorf("of an object that is gone it ends %q", end)
	}
}

// A deletion never waits for OpenELB's finalizer, whatever else is in the
// object, and waits for those of others.
func TestFinalizerOfOpenELB(t *testing.T) {
	const ours, deletedAt = "finalizer.lb.kubesphere.io/v1alpha1", `deletionTimestamp: "2025-01-01T00:00:00Z"`
	for _, kind := range []requestKind{bgpConfRequest, bgpPeerRequest} {
		for name, test := range map[string]struct{ metadata, want string }{
			"not deleted": {"finalizers: [" + ours + "]", ""},
			"none":        {deletedAt, ""},
			"of others":   {deletedAt + ", finalizers: [example.com/a]", ""},
			"alone":       {deletedAt + ", finalizers: [" + ours + "]", `object {"metadata":{"finalizers":[],"resourceVersion":"1"}}`},
			"with others": {deletedAt + ", finalizers: [example.com/a, " + ours + "]", `object {"metadata":{"finalizers":["example.com/a"],"resourceVersion":"1"}}`},
		} {
			n := newNetwork(t)
			n.store(kind, "{metadata: {name: x, labels: {openelb.kubesphere.io/cni: calico}, "+test.metadata+"}, spec: {as: -7, conf: {neighborAddress: nowhere}}}")
			if name != "not deleted" { // its entry would be looked after
				n.live[requestFor(kind, "x")]["status"] = map[string]any{"nodesPeerStatus": map[string]any{"gone": map[string]any{}}, "nodesConfStatus": map[string]any{"gone": map[string]any{}}}
			}
			n.catchUp()
			got, end := n.look(kind, "x")
			if text := fmt.Sprint(got); end != "" || text != fmt.Sprint(slices.DeleteFunc([]string{test.want}, func(s string) bool { return s == "" })) {
				t.Errorf("%s, %s: it writes %s (%s), want %s", kind, name, text, end, test.want)
			}
		}
	}
}

// The keeper is called for what may be its business, and for no write of a
// speaker about its own session.
func TestKeeperIsCalled(t *testing.T) {
	peer := func(metadata, status string) *unstructured.Unstructured {
		var object map[string]any
		if err := yaml.Unmarshal([]byte("{metadata: {"+metadata+"}, status: {nodesPeerStatus: {"+status+"}}}"), &object); err != nil {
			t.Fatal(err)
		}
		return newNetwork(t).read(bgpPeerRequest, object)
	}
	const one, two, changed = "n1: {}", "n1: {}, n2: {}", "n1: {peerState: {sessionState: IDLE}}"
	const finalizer, leaving = "finalizers: [" + finalizerBGP + "]", `deletionTimestamp: "2025-01-01T00:00:00Z"`
	for name, test := range map[string]struct {
		old, updated *unstructured.Unstructured
		want         bool
	}{
		"a session changed":       {peer("", one), peer("", changed), false},
		"a new entry":             {peer("", one), peer("", two), true},
		"an entry less":           {peer("", two), peer("", one), true},
		"deleted":                 {peer(finalizer, one), peer(finalizer+", "+leaving, one), true},
		"deleted, no finalizer":   {peer("", one), peer(leaving, one), false},
		"still there, once again": {peer(finalizer+", "+leaving, one), peer(finalizer+", "+leaving, changed), true},
	} {
		if got := mayBeUntidy(test.old, test.updated); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
	}

	n := newNetwork(t)
	n.store(bgpConfRequest, `{metadata: {name: default}, status: {nodesConfStatus: {n1: {}, n2: {}}}}`)
	n.store(bgpPeerRequest, `{metadata: {name: a}, status: {nodesPeerStatus: {n1: {}}}}`)
	n.store(bgpPeerRequest, `{metadata: {name: b}, status: {nodesPeerStatus: {n2: {}}}}`)
	n.store(bgpPeerRequest, `{metadata: {name: c}}`)
	n.catchUp()
	got := n.k.withEntryOf(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n2"}})
	if want := []request{requestFor(bgpConfRequest, "default"), requestFor(bgpPeerRequest, "b")}; !slices.Equal(got, want) {
		t.Errorf("when n2 goes, it looks at %v, want %v", got, want)
	}
}

// networkReader reads from the cache or from the API server.
type networkReader struct {
	client.Reader
	n    *network
	live bool
}

func (r networkReader) Get(_ context.Context, key client.ObjectKey, object client.Object, _ ...client.GetOption) error {
	req := request{nodeKind, key}
	into, isBGP := object.(*unstructured.Unstructured)
	if isBGP {
		req.kind = requestKind(into.GetKind())
	}
	stored, has := r.n.live[req]
	cached, shows := r.n.cached[req]
	switch {
	case r.live && !has || !r.live && !shows:
		return apierrors.NewNotFound(schema.GroupResource{Resource: string(req.kind)}, key.Name)
	case isBGP && r.live:
		into.Object = r.n.read(req.kind, stored).Object
	case isBGP:
		into.Object = cached.DeepCopy().Object
	}
	return nil
}

func (r networkReader) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	l, ok := list.(*unstructured.UnstructuredList)
	if !ok {
		return errNotFaked
	}
	for req, object := range r.n.cached {
		if string(req.kind)+"List" == l.GetKind() {
			l.Items = append(l.Items, *object)
		}
	}
	return nil
}

// networkWriter takes merge patches for one version of an object.
type networkWriter struct {
	client.Client
	n *network
}

func (w networkWriter) Patch(_ context.Context, object client.Object, patch client.Patch, _ ...client.PatchOption) error {
	return w.n.patch("object", object, patch)
}

func (w networkWriter) Status() client.SubResourceWriter { return networkStatusWriter{n: w.n} }

type networkStatusWriter struct {
	client.SubResourceWriter
	n *network
}

func (w networkStatusWriter) Patch(_ context.Context, object client.Object, patch client.Patch, _ ...client.SubResourcePatchOption) error {
	return w.n.patch("status", object, patch)
}

func (n *network) patch(what string, object client.Object, patch client.Patch) error {
	text, err := patch.Data(object)
	if err != nil || patch.Type() != types.MergePatchType {
		return errNotFaked
	}
	if n.refuses != nil {
		return n.refuses
	}
	n.patches = append(n.patches, fmt.Sprintf("%s %s", what, text))
	kind := requestKind(object.GetObjectKind().GroupVersionKind().Kind)
	stored, ok := n.live[requestFor(kind, object.GetName())]
	if !ok {
		return apierrors.NewNotFound(schema.GroupResource{Resource: string(kind)}, object.GetName())
	}
	var changes map[string]any
	if err := json.Unmarshal(text, &changes); err != nil {
		return fmt.Errorf("reading a patch: %w", err)
	}
	asked, _ := changes["metadata"].(map[string]any)["resourceVersion"].(string)
	if stored["metadata"].(map[string]any)["resourceVersion"] != asked {
		return apierrors.NewConflict(schema.GroupResource{Resource: string(kind)}, object.GetName(), errors.New("another version"))
	}
	merge(stored, changes)
	n.put(kind, stored)
	return nil
}

// merge does what a merge patch does (RFC 7386).
func merge(into, changes map[string]any) {
	for key, value := range changes {
		nested, isMap := value.(map[string]any)
		have, hasMap := into[key].(map[string]any)
		switch {
		case value == nil:
			delete(into, key)
		case isMap && hasMap:
			merge(have, nested)
		default:
			into[key] = value
		}
	}
}
