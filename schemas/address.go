package schemas

import (
	"net/netip"
	"strings"
)

// AddressRemoved stands where an IP address was.
const AddressRemoved = "(address removed)"

// IsAddress reports whether s is an IP address, which must not be stored: alone, with a zone, a port or the length of a
// prefix, or a list of such with commas between them, as proxies write it.
func IsAddress(s string) bool {
	if len(s) < 2 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if c == '%' {
			break // a zone follows, which may be any text
		}
		if c-'0' > 9 && c|0x20-'a' > 5 && c != '.' && c != ':' && c != ',' && c != ' ' && c != '/' && c != '[' && c != ']' {
			return false
		}
	}
	for part := range strings.SplitSeq(s, ",") {
		if !isOneAddress(strings.TrimSpace(part)) {
			return false
		}
	}
	return true
}

func isOneAddress(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	if _, err := netip.ParseAddrPort(s); err == nil {
		return true
	}
	_, err := netip.ParsePrefix(s)
	return err == nil
}

// RemoveAddress returns s, or AddressRemoved where s is an IP address.
func RemoveAddress(s string) string {
	if IsAddress(s) {
		return AddressRemoved
	}
	return s
}
