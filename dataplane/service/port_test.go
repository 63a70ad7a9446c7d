package service

import (
	"net/netip"
	"reflect"
	"testing"
)

// TestPortEqual changes each field on its own.
func TestPortEqual(t *testing.T) {
	port := func() *Port {
		at := []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:80")}
		return &Port{
			Frontends: []Frontend{{ClusterIP, at[0]}}, Cluster: at, Local: at, Serving: at,
			SourceRanges: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Weights: []Weight{{at[0], 2}},
		}
	}
	if !port().Equal(port()) || port().Equal(nil) || (*Port)(nil).Equal(port()) || !(*Port)(nil).Equal(nil) {
		t.Error("equal ports differ, or a port equals nil")
	}
	for i := range reflect.TypeFor[Port]().NumField() {
		p := port()
		switch field := reflect.ValueOf(p).Elem().Field(i); field.Kind() {
		case reflect.Slice:
			field.SetZero()
		case reflect.Bool:
			field.SetBool(true)
		case reflect.String:
			field.SetString("x")
		case reflect.Int64:
			field.SetInt(1)
		case reflect.Uint8:
			field.SetUint(1)
		default:
			t.Fatalf("a field of kind %s", field.Kind())
		}
		if p.Equal(port()) {
			t.Errorf("ports with another %s are equal", reflect.TypeFor[Port]().Field(i).Name)
		}
	}
}

func TestNames(t *testing.T) {
	for _, test := range []struct{ got, want string }{
		{TCP.String() + UDP.String() + SCTP.String() + Protocol(1).String(), "TCPUDPSCTPProtocol(1)"},
		{Forward.String() + Drop.String() + Reject.String(), "forwarddropreject"},
		{ClusterIP.String() + LoadBalancer.String() + ExternalIP.String() + NodePort.String(), "ClusterIPLoadBalancerExternalIPNodePort"},
		{Cluster.String() + Local.String(), "ClusterLocal"},
		{IPv4.String() + IPv6.String(), "IPv4IPv6"},
		{flawNone.String(), "an address"},
	} {
		if test.got != test.want {
			t.Errorf("%s, want %s", test.got, test.want)
		}
	}
}
