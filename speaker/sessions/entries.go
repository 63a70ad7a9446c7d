package sessions

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// entriesOf says which entries an entries is for: those of a node in the map
// that is a field of the status of a kind.
type entriesOf[E any] struct {
	client        client.Client
	node, manager string
	kind, field   string
	// same tells whether one entry is as good as the other; nil is none.
	same func(a, b *E) bool
}

// entries are a node's entries in the status of the objects of a kind.
type entries[E any] struct {
	entriesOf[E]
	written map[string]version[E] // by object; until the cache shows it
	paces   map[string]*pace      // by object
}

// version is an entry in a version of an object that this process wrote.
type version[E any] struct {
	resourceVersion string
	entry           *E
}

func newEntries[E any](of entriesOf[E]) *entries[E] {
	return &entries[E]{entriesOf: of, written: map[string]version[E]{}, paces: map[string]*pace{}}
}

// keep forgets the objects that are not there any more.
func (e *entries[E]) keep(there map[string]bool) {
	maps.DeleteFunc(e.written, func(name string, _ version[E]) bool { return !there[name] })
	maps.DeleteFunc(e.paces, func(name string, _ *pace) bool { return !there[name] })
}

// unread is what it means that an object could not be read: nothing if there
// is none.
func (e *entries[E]) unread(name string, err error) error {
	if !apierrors.IsNotFound(err) {
		return fmt.Errorf("reading %s %s: %w", e.kind, name, err)
	}
	delete(e.written, name)
	delete(e.paces, name)
	return nil
}

// have returns the node's entry in an object, or nil: what the cache shows,
// unless this process wrote a later version.
func (e *entries[E]) have(object client.Object, shown map[string]E) *E {
	if written, ok := e.written[object.GetName()]; ok {
		if order, err := resourceversion.CompareResourceVersion(object.GetResourceVersion(), written.resourceVersion); err == nil && order < 0 {
			return written.entry
		}
		delete(e.written, object.GetName())
	}
	if entry, ok := shown[e.node]; ok {
		return &entry
	}
	return nil
}

// write makes the node's entry in an object what it is to be, nil for none. It
// returns how long it is too early for another write, 0 if it is not.
func (e *entries[E]) write(ctx context.Context, name string, have, want *E, now time.Time) (time.Duration, error) {
	if e.same(have, want) {
		return 0, nil
	}
	p, ok := e.paces[name]
	if !ok {
		p = new(pace)
		e.paces[name] = p
	}
	if wait := p.wait(now); wait > 0 {
		return wait, nil
	}
	p.spend(now)
	err := e.replace(ctx, name, want)
	if apierrors.IsNotFound(err) {
		return 0, nil // nobody is left to tell
	}
	if err != nil {
		return 0, fmt.Errorf("writing the entry of node %s in the status of %s %s: %w", e.node, e.kind, name, err)
	}
	return 0, nil
}

// replace has the API server's object say want and no more. An apply leaves
// fields that others have set, such as OpenELB's speaker; then the entry is
// taken away first.
func (e *entries[E]) replace(ctx context.Context, name string, want *E) error {
	if want == nil {
		return e.remove(ctx, name)
	}
	got, err := e.apply(ctx, name, want)
	if err != nil || equality.Semantic.DeepEqual(got, want) {
		return err
	}
	if err := e.remove(ctx, name); err != nil {
		return err
	}
	_, err = e.apply(ctx, name, want)
	return err
}

// apply applies an entry, and returns what the object has then.
func (e *entries[E]) apply(ctx context.Context, name string, want *E) (*E, error) {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(want)
	if err != nil {
		return nil, fmt.Errorf("encoding the entry: %w", err)
	}
	object := e.object(name)
	object.Object["status"] = map[string]any{e.field: map[string]any{e.node: fields}}
	if err := e.client.Status().Apply(ctx, client.ApplyConfigurationFromUnstructured(object), client.FieldOwner(e.manager), client.ForceOwnership); err != nil {
		return nil, err
	}
	got := new(E)
	fields, _, err = unstructured.NestedMap(object.Object, "status", e.field, e.node)
	if err == nil {
		err = runtime.DefaultUnstructuredConverter.FromUnstructured(fields, got)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the API server's answer: %w", err)
	}
	e.written[name] = version[E]{object.GetResourceVersion(), got}
	return got, nil
}

// remove takes the entry away, whoever has set it.
func (e *entries[E]) remove(ctx context.Context, name string) error {
	patch, err := json.Marshal(map[string]any{"status": map[string]any{e.field: map[string]any{e.node: nil}}})
	if err != nil {
		return fmt.Errorf("encoding the patch: %w", err)
	}
	object := e.object(name)
	if err := e.client.Status().Patch(ctx, object, client.RawPatch(types.MergePatchType, patch), client.FieldOwner(e.manager)); err != nil {
		return err
	}
	e.written[name] = version[E]{object.GetResourceVersion(), nil}
	return nil
}

func (e *entries[E]) object(name string) *unstructured.Unstructured {
	object := &unstructured.Unstructured{Object: map[string]any{}}
	object.SetGroupVersionKind(v1alpha2.GroupVersion.WithKind(e.kind))
	object.SetName(name)
	return object
}

const (
	// managerPrefix begins the field managers of all nodes.
	managerPrefix = "fairway-speaker-"
	// maxManager is the API server's limit on the name of a field manager.
	maxManager = 128
	// managerDigest is how many bytes of a hash tell long names apart.
	managerDigest = 8
)

// fieldManager is who owns a node's entries, by server-side apply. The name of
// a Node may be longer than the name of a field manager.
func fieldManager(node string) string {
	manager := managerPrefix + node
	if len(manager) <= maxManager {
		return manager
	}
	sum := sha256.Sum256([]byte(node))
	digest := "-" + hex.EncodeToString(sum[:managerDigest])
	return manager[:maxManager-len(digest)] + digest
}
