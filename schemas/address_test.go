package schemas

import (
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestRemoveAddress(t *testing.T) {
	for _, address := range []string{"192.0.2.1", "0.0.0.0", "255.255.255.255", "::1", "::", "2001:db8::7334", "2001:0DB8:0000:0000:0000:ff00:0042:8329", "::ffff:192.0.2.1", "192.0.2.1 ",
		"fe80::1%eth0", "192.0.2.1:8080", "[2001:db8::1]:443", "192.0.2.0/24", "192.0.2.1, 198.51.100.7", "192.0.2.1,2001:db8::1"} {
		if got := RemoveAddress(address); got != AddressRemoved {
			t.Errorf("%q stays %q: it is an address", address, got)
		}
	}
	for _, other := range []string{"", "1", "1.2", "1.2.3", "256.1.1.1", "12:30", "cafe", "1.2.3.4.5", "v1.2.3.4", "2026-11-22", "dead:beef", "12:30:45", "1, 2", ",", "1/2", "a [b]", "50%", "[::1]", "192.0.2.1, unknown", AddressRemoved} {
		if got := RemoveAddress(other); got != other {
			t.Errorf("%q becomes %q: it is no address", other, got)
		}
	}
}

// Whatever the address and the way it is written, it is removed.
func TestIsAddress(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		four := [4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "four"))
		sixteen := [16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "sixteen"))
		a, b := netip.AddrFrom4(four), netip.AddrFrom16(sixteen)
		for _, s := range []string{
			a.String(), b.String(), b.StringExpanded(), strings.ToUpper(b.StringExpanded()), b.WithZone("wlan0").String(),
			netip.AddrPortFrom(a, 80).String(), netip.AddrPortFrom(b, 80).String(), netip.PrefixFrom(a, 24).String(), a.String() + ", " + b.String(),
		} {
			if !IsAddress(s) {
				t.Fatalf("%q is not seen to be an address", s)
			}
		}
	})
}
