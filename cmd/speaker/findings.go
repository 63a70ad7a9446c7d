package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-lb/fairway/dataplane/healthcheck"
	"github.com/fairway-lb/fairway/dataplane/service"
	"github.com/fairway-lb/fairway/internal/note"
	"github.com/fairway-lb/fairway/speaker/membership"
)

// findings tells the owners of Services what is not done as they say: one
// speaker for all.
type findings struct {
	cluster  *membership.Cluster
	node     string
	reader   client.Reader
	recorder events.EventRecorder
	log      logr.Logger
}

func (f *findings) found(change service.FindingsChange) {
	for _, finding := range change.Findings {
		f.log.Info("Not all is done as an object says", "service", change.Service, "finding", finding.String())
		if f.speaksForAll() {
			f.write(change.Service, "Unserved", finding.String())
		}
	}
}

func (f *findings) healthCheckPort(failure healthcheck.Failure) {
	f.log.Error(failure.Err, "Serving a health-check node port", "service", failure.Service, "port", failure.Port)
	f.write(failure.Service, "FailedToStartServiceHealthcheck", fmt.Sprintf("Node %s: %s", f.node, failure))
}

func (f *findings) speaksForAll() bool {
	members := f.cluster.Members()
	return len(members) == 0 || slices.MinFunc(members, func(a, b membership.Member) int { return strings.Compare(a.Name, b.Name) }).Name == f.node
}

func (f *findings) write(name types.NamespacedName, reason, text string) {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name}}
	if err := f.reader.Get(context.Background(), name, svc); err != nil {
		return // it is gone, and nobody looks for its events
	}
	note.Write(f.recorder, svc, corev1.EventTypeWarning, reason, "Forward", text)
}
