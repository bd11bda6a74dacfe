package contextjoin

import (
	"net/netip"
	"strings"
	"unique"

	"github.com/oschwald/geoip2-golang/v2"

	"backbone/schemas"
)

const (
	maxAddresses = 1024 // bytes of a list of addresses that are read
	maxGeohash   = 5    // characters
)

// lookup says what became of an address.
type lookup uint8

const (
	located lookup = iota
	unknown
	private
	garbage
	failed
	lookups // their number
)

// place is what an address tells.
type place struct {
	country, region, city, geohash string
	lookup                         lookup
}

// fill adds nothing where the event names another place: half of the one and half of the other is nowhere.
func (p *place) fill(c *schemas.Context) {
	if differ(c.Country, p.country) || differ(c.Region, p.region) || differ(c.City, p.city) {
		return
	}
	setIfEmpty(&c.Country, p.country)
	setIfEmpty(&c.Region, p.region)
	setIfEmpty(&c.City, p.city)
	setIfEmpty(&c.Geohash, p.geohash)
}

// differ tells if two names are there and not the same.
func differ(a, b string) bool { return a != "" && b != "" && a != b }

// locate looks the first public address of a list up.
func (d *Deriver) locate(addresses string) place {
	addr, how := firstPublic(addresses)
	if how != located {
		return place{lookup: how}
	}
	// The error is not passed on: it may hold the address.
	city, err := d.geo.City(addr)
	switch {
	case err != nil:
		return place{lookup: failed}
	case len(city.Country.ISOCode) != 2:
		return place{lookup: unknown}
	}
	p := place{
		country: unique.Make(city.Country.ISOCode).Value(),
		city:    unique.Make(city.City.Names.English).Value(),
		geohash: unique.Make(geohashOf(city.Location)).Value(),
	}
	if len(city.Subdivisions) > 0 {
		p.region = unique.Make(city.Subdivisions[0].ISOCode).Value()
	}
	return p
}

// cutAddresses bounds a list of addresses, without making another address of one by cutting it.
func cutAddresses(s string) string {
	if len(s) <= maxAddresses {
		return s
	}
	return s[:strings.LastIndexByte(s[:maxAddresses], ',')+1]
}

// firstPublic returns the first public address of a list as X-Forwarded-For has it, also with ports. Without one it says why:
// private, or garbage.
func firstPublic(list string) (netip.Addr, lookup) {
	how := garbage
	for s := range strings.SplitSeq(list, ",") {
		addr, ok := parseAddr(strings.TrimSpace(s))
		if !ok {
			continue
		}
		if isPublic(addr) {
			return addr, located
		}
		how = private
	}
	return netip.Addr{}, how
}

// parseAddr reads 192.0.2.1, 192.0.2.1:443, 2001:db8::1, [2001:db8::1] and [2001:db8::1]:443.
func parseAddr(s string) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	if err != nil {
		withPort, err := netip.ParseAddrPort(s)
		if err != nil {
			return netip.Addr{}, false
		}
		addr = withPort.Addr()
	}
	return addr.Unmap().WithZone(""), true
}

// carrierNAT is shared by the customers of a provider (RFC 6598); it is no more public than a private network.
var carrierNAT = netip.MustParsePrefix("100.64.0.0/10")

func isPublic(a netip.Addr) bool {
	return a.IsGlobalUnicast() && !a.IsPrivate() && !carrierNAT.Contains(a)
}

// cellKm is the larger side of the cells of geohashes of 1, 2, ... characters, in km.
var cellKm = [maxGeohash]uint16{5000, 1250, 156, 39, 5}

// geohashOf returns the longest geohash whose cell is not smaller than the accuracy of the location.
func geohashOf(l geoip2.Location) string {
	if !l.HasCoordinates() {
		return ""
	}
	n := maxGeohash
	for n > 1 && cellKm[n-1] < l.AccuracyRadius {
		n--
	}
	return geohash(*l.Latitude, *l.Longitude, n)
}

// geohash returns the geohash of n characters, or "" where there is no such place.
func geohash(lat, lon float64, n int) string {
	const alphabet = "0123456789bcdefghjkmnpqrstuvwxyz"
	if !(lat >= -90 && lat <= 90 && lon >= -180 && lon <= 180) { // NaN is no place either
		return ""
	}
	var out [maxGeohash]byte
	lats, lons := [2]float64{-90, 90}, [2]float64{-180, 180}
	for i := range n {
		index := 0
		for bit := range 5 {
			value, span := lon, &lons
			if (i*5+bit)%2 == 1 {
				value, span = lat, &lats
			}
			middle := (span[0] + span[1]) / 2
			index <<= 1
			if value >= middle {
				index |= 1
				span[0] = middle
			} else {
				span[1] = middle
			}
		}
		out[i] = alphabet[index]
	}
	return string(out[:n])
}
