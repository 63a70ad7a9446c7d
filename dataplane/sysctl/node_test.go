package sysctl

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

const routes = `20010db8000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00450003     eth1
00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000002 00000400 00000001 00000000 00450003     eth1
00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00450003     bond0.5
00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00010003     static0
fe800000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00040001     prefix0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo
`

func TestReadNode(t *testing.T) {
	for _, test := range []struct {
		name                  string
		cpus, version, routes string
		want                  Node
		wrong                 bool
	}{
		{"one CPU", "0\n", "6.1.0-18-amd64\n", "", Node{CPUs: 1, Kernel: Version{6, 1}}, false},
		{"some are off", "0-3,6,8-9\n", "5.10\n", "", Node{CPUs: 7, Kernel: Version{5, 10}}, false},
		{"a router", "0-1\n", "6.18.44-x\n", routes, Node{2, Version{6, 18}, []string{"bond0.5", "eth1"}}, false},
		{"CPUs are garbage", "a-b\n", "6.1\n", "", Node{}, true},
		{"CPUs backwards", "3-1\n", "6.1\n", "", Node{}, true},
		{"version is garbage", "0\n", "six\n", "", Node{}, true},
		{"a route is garbage", "0\n", "6.1\n", "00 00\n", Node{}, true},
		{"flags are garbage", "0\n", "6.1\n", "0 0 0 0 0 0 0 0 x eth0\n", Node{}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := t.TempDir()
			put(t, root, "sys/devices/system/cpu/online", test.cpus)
			put(t, root, "proc/sys/kernel/osrelease", test.version)
			put(t, root, "proc/thread-self/net/ipv6_route", test.routes)
			got, err := ReadNode(root)
			if (err != nil) != test.wrong || !test.wrong && !reflect.DeepEqual(got, test.want) {
				t.Errorf("read %+v, %v; want %+v", got, err, test.want)
			}
		})
	}
	// Without /sys and without IPv6.
	root := t.TempDir()
	put(t, root, "proc/sys/kernel/osrelease", "6.1\n")
	if got, err := ReadNode(root); err != nil || got.CPUs < 1 || got.Learned != nil {
		t.Errorf("read %+v, %v", got, err)
	}
	if _, err := ReadNode(t.TempDir()); err == nil {
		t.Error("no error without /proc")
	}
}

func put(t *testing.T, root, path, text string) {
	t.Helper()
	file := filepath.Join(root, path)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
