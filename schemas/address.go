package schemas

import "net/netip"

// AddressRemoved stands where an IP address was.
const AddressRemoved = "(address removed)"

// IsAddress reports whether s is an IP address, and nothing else, which must not be stored.
func IsAddress(s string) bool {
	if len(s) < 2 || len(s) > 45 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if c-'0' > 9 && c|0x20-'a' > 5 && c != '.' && c != ':' {
			return false
		}
	}
	_, err := netip.ParseAddr(s)
	return err == nil
}

// RemoveAddress returns s, or AddressRemoved where s is an IP address.
func RemoveAddress(s string) string {
	if IsAddress(s) {
		return AddressRemoved
	}
	return s
}
