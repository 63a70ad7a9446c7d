package lab

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestStopLetsAProcessEndInGoodOrder(t *testing.T) {
	l := newLab(t, 1)
	ctx := testContext(t, patience)
	script := `trap 'echo bye; exit 0' TERM; printf x >&3; while :; do sleep 0.01; done`
	p, err := l.Node("n1").StartReady(ctx, "polite", []string{"/bin/sh", "-c", script}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if p.Running() || p.Err() != nil || p.Tail(1) != "bye" {
		t.Errorf("running %v, error %v, log %q", p.Running(), p.Err(), p.Tail(10))
	}
	if err := errors.Join(p.Stop(ctx), p.Kill()); err != nil {
		t.Errorf("stopping what has ended: %v", err)
	}
}

func TestStopKillsAProcessThatStays(t *testing.T) {
	l := newLab(t, 1)
	ctx := testContext(t, patience)
	script := `trap '' TERM; printf x >&3; while :; do sleep 0.01; done`
	p, err := l.Node("n1").StartReady(ctx, "stubborn", []string{"/bin/sh", "-c", script}, nil)
	if err != nil {
		t.Fatal(err)
	}
	now, cancel := context.WithCancel(ctx)
	cancel()
	if err := p.Stop(now); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that it did not end", err)
	}
	if p.Running() {
		t.Error("it runs on")
	}
}

func TestAProcessThatFailsSaysWhy(t *testing.T) {
	l := newLab(t, 1)
	ctx := testContext(t, patience)
	_, err := l.Node("n1").StartReady(ctx, "broken", []string{"/bin/sh", "-c", "echo no such luck; exit 3"}, nil)
	if err == nil || !strings.Contains(err.Error(), "no such luck") {
		t.Errorf("StartReady's error %v does not quote the log", err)
	}
	p, err := l.Node("n1").Start("broken", []string{"/bin/sh", "-c", "echo again $WHO; exit 3"}, []string{"WHO=you"})
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if err := p.Err(); err == nil || !strings.Contains(err.Error(), "again you") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("Err() is %v", err)
	}
}

func TestProcessesStayInTheLab(t *testing.T) {
	for _, name := range []string{"https_proxy", "HTTP_PROXY", "KUBECONFIG"} {
		t.Setenv(name, "elsewhere")
	}
	l := newLab(t, 1)
	p, err := l.Node("n1").Start("env", []string{"/usr/bin/env"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	out, err := l.Node("n1").Command(testContext(t, patience), "/usr/bin/env").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, environment := range []string{string(out), p.Tail(1000)} {
		if !strings.Contains(environment, "PATH=") || strings.Contains(environment, "elsewhere") {
			t.Errorf("environment is %s", environment)
		}
	}
}

func TestTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	for _, c := range []struct {
		text  string
		lines int
		want  string
	}{
		{"", 3, ""},
		{"a", 3, "a"},
		{"a\nb\n", 3, "a\nb"},
		{"a\nb\nc\nd\n", 2, "c\nd"},
		{"a\n\nb\n\n", 2, "\nb"},
		{strings.Repeat("x", 70<<10), 1, strings.Repeat("x", 64<<10)},
	} {
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := tail(path, c.lines)
		if err != nil || got != c.want {
			t.Errorf("tail of %.20q, %d lines: %.20q, %v, want %.20q", c.text, c.lines, got, err, c.want)
		}
	}
}
