package schemas

import "testing"

func TestRemoveAddress(t *testing.T) {
	for _, address := range []string{"192.0.2.1", "0.0.0.0", "255.255.255.255", "::1", "::", "2001:db8::7334", "2001:0DB8:0000:0000:0000:ff00:0042:8329", "::ffff:192.0.2.1"} {
		if got := RemoveAddress(address); got != AddressRemoved {
			t.Errorf("%q stays %q: it is an address", address, got)
		}
	}
	for _, other := range []string{"", "1", "1.2", "1.2.3", "256.1.1.1", "12:30", "cafe", "1.2.3.4.5", "v1.2.3.4", "2026-11-22", "192.0.2.1 ", "dead:beef", AddressRemoved} {
		if got := RemoveAddress(other); got != other {
			t.Errorf("%q becomes %q: it is no address", other, got)
		}
	}
}
