package contextjoin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"backbone/schemas"
	"backbone/testing/datasets"
)

const (
	chromeOnMac = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_3) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/80.0.3987.87 Safari/537.36"
	londonIP    = "81.2.69.142"
)

// newDeriver returns a Deriver on a MaxMind test database, or without one.
func newDeriver(t testing.TB, database string) *Deriver {
	t.Helper()
	o := Options{CacheBytes: 1 << 20}
	if database != "" {
		o.GeoDB = filepath.Join(datasets.Dir(t, "maxmind-db"), database)
	}
	d, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func at(rfc3339 string) schemas.Time {
	t, err := time.Parse(time.RFC3339, rfc3339)
	if err != nil {
		panic(err)
	}
	return schemas.Some(t.UnixMicro())
}

func TestLocalTime(t *testing.T) {
	d := newDeriver(t, "")
	for _, tc := range []struct {
		name          string
		time          string
		offset        int64
		hour, weekday int64
	}{
		{"UTC, a Sunday", "2026-11-22T14:30:00Z", 0, 14, 7},
		{"half an hour makes it the next day", "2026-11-22T23:45:00Z", 30, 0, 1},
		{"five hours back", "2026-11-22T03:00:00Z", -300, 22, 6},
		{"the first Thursday", "1970-01-01T00:00:00Z", 0, 0, 4},
		{"before 1970 where the user was", "1970-01-01T00:00:00Z", -1, 23, 3},
		{"Nepal", "2024-02-29T18:15:00Z", 345, 0, 5},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := schemas.Interaction{EventTime: at(tc.time)}
			r.Context.TZOffsetMin = schemas.Some(tc.offset)
			d.Interaction(&r)
			// Go's own clock, as a second opinion.
			local := time.UnixMicro(r.EventTime.V).In(time.FixedZone("", int(tc.offset)*60))
			if int64(local.Hour()) != tc.hour || int64(local.Weekday()+6)%7+1 != tc.weekday {
				t.Fatalf("the row of this table is wrong: package time says %v", local)
			}
			if got := r.Context; got.LocalHour != schemas.Some(tc.hour) || got.LocalDow != schemas.Some(tc.weekday) {
				t.Errorf("local hour %v, day %v; want %d, %d", got.LocalHour, got.LocalDow, tc.hour, tc.weekday)
			}
		})
	}
}

// A row that Check would refuse, or has not seen yet, still gets an hour and a day that there are.
func TestLocalTimeOfAnyNumber(t *testing.T) {
	d := newDeriver(t, "")
	rapid.Check(t, func(t *rapid.T) {
		r := schemas.Interaction{EventTime: schemas.Some(rapid.Int64().Draw(t, "time"))}
		r.Context.TZOffsetMin = schemas.Some(rapid.Int64().Draw(t, "offset"))
		d.Interaction(&r)
		if hour, day := r.Context.LocalHour.V, r.Context.LocalDow.V; hour < 0 || hour > 23 || day < 1 || day > 7 {
			t.Fatalf("%+v: hour %d, day %d", r.EventTime, hour, day)
		}
	})
}

func TestInteractionKeepsWhatTheEventSays(t *testing.T) {
	london := schemas.Context{Country: "GB", Region: "ENG", City: "London", Geohash: "gcpvj"}
	for _, tc := range []struct {
		name     string
		row      schemas.Interaction
		want     schemas.Context
		database string
	}{
		{
			name: "nothing to derive from",
			row:  schemas.Interaction{EventTime: at("2026-11-22T14:30:00Z")},
		},
		{
			name: "a user agent",
			row:  schemas.Interaction{Raw: schemas.Raw{UserAgent: chromeOnMac}},
			want: schemas.Context{DeviceClass: Desktop, OS: "macos", Browser: "chrome", IsBot: schemas.Some(false)},
		},
		{
			name: "a dash is none",
			row:  schemas.Interaction{Raw: schemas.Raw{UserAgent: "-", IP: "-"}},
		},
		{
			name: "device and bot flag are given",
			row:  schemas.Interaction{Raw: schemas.Raw{UserAgent: chromeOnMac}, Context: schemas.Context{DeviceClass: "kiosk", IsBot: schemas.Some(true)}},
			want: schemas.Context{DeviceClass: "kiosk", OS: "macos", Browser: "chrome", IsBot: schemas.Some(true)},
		},
		{
			name: "the hour is given",
			row: schemas.Interaction{EventTime: at("2026-11-22T14:30:00Z"), Context: schemas.Context{
				TZOffsetMin: schemas.Some[int64](0), LocalHour: schemas.Some[int64](3)}},
			want: schemas.Context{TZOffsetMin: schemas.Some[int64](0), LocalHour: schemas.Some[int64](3), LocalDow: schemas.Some[int64](7)},
		},
		{
			name: "no offset, no local time",
			row:  schemas.Interaction{EventTime: at("2026-11-22T14:30:00Z"), Context: schemas.Context{LocalDow: schemas.Some[int64](1)}},
			want: schemas.Context{LocalDow: schemas.Some[int64](1)},
		},
		{
			name: "a long geohash is cut",
			row:  schemas.Interaction{Context: schemas.Context{Geohash: "u2edk8275"}},
			want: schemas.Context{Geohash: "u2edk"},
		},
		{
			name: "but not within a character",
			row:  schemas.Interaction{Context: schemas.Context{Geohash: "u2edéé"}},
			want: schemas.Context{Geohash: "u2ed"},
		},
		{
			name: "a place", database: "GeoIP2-City-Test.mmdb",
			row:  schemas.Interaction{Raw: schemas.Raw{IP: "81.2.69.144"}},
			want: london,
		},
		{
			name: "the same country", database: "GeoIP2-City-Test.mmdb",
			row:  schemas.Interaction{Raw: schemas.Raw{IP: "81.2.69.144"}, Context: schemas.Context{Country: "GB"}},
			want: london,
		},
		{
			name: "a finer geohash, cut", database: "GeoIP2-City-Test.mmdb",
			row:  schemas.Interaction{Raw: schemas.Raw{IP: "81.2.69.144"}, Context: schemas.Context{Geohash: "gcpuv123"}},
			want: schemas.Context{Country: "GB", Region: "ENG", City: "London", Geohash: "gcpuv"},
		},
		{
			name: "another country", database: "GeoIP2-City-Test.mmdb",
			row:  schemas.Interaction{Raw: schemas.Raw{IP: "81.2.69.144"}, Context: schemas.Context{Country: "FR"}},
			want: schemas.Context{Country: "FR"},
		},
		{
			name: "another city", database: "GeoIP2-City-Test.mmdb",
			row:  schemas.Interaction{Raw: schemas.Raw{IP: "81.2.69.144"}, Context: schemas.Context{City: "Paris"}},
			want: schemas.Context{City: "Paris"},
		},
		{
			name: "a database of countries", database: "GeoLite2-Country-Test.mmdb",
			row:  schemas.Interaction{Raw: schemas.Raw{IP: "81.2.69.144"}},
			want: schemas.Context{Country: "GB"},
		},
		{
			name: "no database",
			row:  schemas.Interaction{Raw: schemas.Raw{IP: "81.2.69.144"}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := newDeriver(t, tc.database)
			for range 2 { // derived, then remembered
				r := tc.row
				d.Interaction(&r)
				if diff := cmp.Diff(tc.want, r.Context); diff != "" {
					t.Errorf("context (-want +got):\n%s", diff)
				}
				if r.Raw != (schemas.Raw{}) {
					t.Errorf("raw is still %+v", r.Raw)
				}
			}
		})
	}
}

func TestAddresses(t *testing.T) {
	d := newDeriver(t, "GeoIP2-City-Test.mmdb")
	for _, tc := range []struct {
		name, ip, country string
		want              Stats
	}{
		{"IPv4", londonIP, "GB", Stats{Located: 1}},
		{"with a port", londonIP + ":443", "GB", Stats{Located: 1}},
		{"IPv4 within IPv6", "::ffff:" + londonIP, "GB", Stats{Located: 1}},
		{"IPv6", "2001:218::1", "JP", Stats{Located: 1}},
		{"in brackets", "[2001:218::1]", "JP", Stats{Located: 1}},
		{"in brackets, with a port", "[2001:218::1]:8080", "JP", Stats{Located: 1}},
		{"with a zone", "2001:218::1%eth0", "JP", Stats{Located: 1}},
		{"blanks", " \t" + londonIP + " ", "GB", Stats{Located: 1}},
		{"forwarded: the first public one", "unknown, 10.0.0.1, 100.64.1.1, 2001:218::1, " + londonIP, "JP", Stats{Located: 1}},
		{"public, not in the database", "203.0.114.1", "", Stats{Unknown: 1}},
		{"private", "192.168.1.1", "", Stats{Private: 1}},
		{"private IPv6", "fd00::1", "", Stats{Private: 1}},
		{"carrier's", "100.127.255.255", "", Stats{Private: 1}},
		{"loopback", "127.0.0.1, ::1", "", Stats{Private: 1}},
		{"unspecified", "0.0.0.0", "", Stats{Private: 1}},
		{"link local", "fe80::1%eth0", "", Stats{Private: 1}},
		{"multicast", "ff02::1", "", Stats{Private: 1}},
		{"a word", "localhost", "", Stats{Garbage: 1}},
		{"a number too large", "256.1.1.1", "", Stats{Garbage: 1}},
		{"octal", "081.002.069.142", "", Stats{Garbage: 1}},
		{"commas", ",,, ,", "", Stats{Garbage: 1}},
		{"an open bracket", "[2001:218::1", "JP", Stats{Located: 1}},
		{"a long list is cut at a comma", londonIP + strings.Repeat(",x", 2000), "GB", Stats{Located: 1}},
		// The cut falls into the address: 81.2.69.14 is a place as well, but another one.
		{"a long list without a comma", strings.Repeat(" ", maxAddresses-10) + londonIP, "", Stats{Garbage: 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := d.Stats()
			r := schemas.Interaction{Raw: schemas.Raw{IP: tc.ip}}
			d.Interaction(&r)
			after := d.Stats()
			got := Stats{
				Located: after.Located - before.Located, Unknown: after.Unknown - before.Unknown, Private: after.Private - before.Private,
				Garbage: after.Garbage - before.Garbage, Failed: after.Failed - before.Failed,
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("stats (-want +got):\n%s", diff)
			}
			if r.Context.Country != tc.country {
				t.Errorf("country is %q, want %q", r.Context.Country, tc.country)
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	dir := datasets.Dir(t, "maxmind-db")
	text := filepath.Join(t.TempDir(), "text.mmdb")
	if err := os.WriteFile(text, []byte("this is no database"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, path, says string
	}{
		{"missing", filepath.Join(dir, "none.mmdb"), "none.mmdb"},
		{"no database", text, "text.mmdb"},
		{"a damaged one", filepath.Join(dir, "GeoIP2-City-Test-Invalid-Node-Count.mmdb"), "Invalid-Node-Count.mmdb"},
		{"a kind without places", filepath.Join(dir, "GeoLite2-ASN-Test.mmdb"), `"GeoLite2-ASN"`},
		{"an unknown kind", filepath.Join(dir, "MaxMind-DB-test-broken-search-tree-24.mmdb"), "broken-search-tree-24.mmdb"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d, err := New(Options{GeoDB: tc.path})
			if err == nil {
				t.Fatal(d.Close(), "New() = nil, want an error")
			}
			if !strings.Contains(err.Error(), tc.says) || !strings.HasPrefix(err.Error(), "geo database ") {
				t.Errorf("New() = %q, want it to name %q", err, tc.says)
			}
		})
	}
	if _, err := New(Options{CacheBytes: -1}); err == nil {
		t.Error("New(CacheBytes: -1) = nil, want an error")
	}
}

// A database that is damaged within is noticed row by row: rows go on, without a place.
func TestDamagedDatabase(t *testing.T) {
	d := newDeriver(t, "GeoIP2-City-Test-Broken-Double-Format.mmdb")
	failed := int64(0)
	for network := range cityTruth(t) {
		r := schemas.Interaction{Raw: schemas.Raw{IP: network.Addr().String()}}
		d.Interaction(&r)
		if now := d.Stats().Failed; now > failed {
			failed = now
			if r.Context != (schemas.Context{}) {
				t.Errorf("%v: the look-up failed, but the context is %+v", network, r.Context)
			}
		}
	}
	if failed == 0 {
		t.Error("no look-up failed: this database is not damaged")
	}
}

// truth is what MaxMind's own source of the test database says of a network.
type truth struct {
	Country struct {
		ISOCode string `json:"iso_code"`
	} `json:"country"`
	Subdivisions []struct {
		ISOCode string `json:"iso_code"`
	} `json:"subdivisions"`
	City struct {
		Names map[string]string `json:"names"`
	} `json:"city"`
	Location struct {
		Latitude  *float64 `json:"latitude"`
		Longitude *float64 `json:"longitude"`
	} `json:"location"`
}

func cityTruth(t testing.TB) map[netip.Prefix]truth {
	t.Helper()
	body, err := os.ReadFile(filepath.Join(datasets.Dir(t, "maxmind-db"), "GeoIP2-City-Test.json"))
	if err != nil {
		t.Fatal(err)
	}
	var list []map[string]truth
	if err := json.Unmarshal(body, &list); err != nil {
		t.Fatal(err)
	}
	networks := map[netip.Prefix]truth{}
	for _, object := range list {
		for text, want := range object {
			p, err := netip.ParsePrefix(text)
			if err != nil {
				t.Fatal(err)
			}
			// MaxMind writes 1.2.3.0/24 as ::1.2.3.0/120.
			if b := p.Addr().As16(); p.Bits() >= 96 && bytes.Equal(b[:12], make([]byte, 12)) {
				p = netip.PrefixFrom(netip.AddrFrom4([4]byte(b[12:])), p.Bits()-96)
			}
			networks[p] = want
		}
	}
	return networks
}

// The source of the test database, network by network.
func TestPlacesAgainstTheSourceOfTheDatabase(t *testing.T) {
	d := newDeriver(t, "GeoIP2-City-Test.mmdb")
	checked := 0
	networks := cityTruth(t)
	for network, source := range networks {
		if !isPublic(network.Addr()) || inAnother(networks, network) {
			continue
		}
		checked++
		r := schemas.Interaction{Raw: schemas.Raw{IP: network.Addr().String()}}
		d.Interaction(&r)
		got := r.Context
		want := schemas.Context{Country: source.Country.ISOCode}
		if want.Country != "" {
			want.City = source.City.Names["en"]
			if len(source.Subdivisions) > 0 {
				want.Region = source.Subdivisions[0].ISOCode
			}
			if l := source.Location; l.Latitude != nil {
				whole := geohash(*l.Latitude, *l.Longitude, maxGeohash)
				if !strings.HasPrefix(whole, got.Geohash) || got.Geohash == "" {
					t.Errorf("%v: geohash %q, want the beginning of %q", network, got.Geohash, whole)
				}
			}
		}
		got.Geohash = ""
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%v (-want +got):\n%s", network, diff)
		}
	}
	if checked < 200 {
		t.Errorf("only %d networks were looked at", checked)
	}
}

// inAnother tells if the first address of a network belongs to a smaller one, too.
func inAnother(networks map[netip.Prefix]truth, p netip.Prefix) bool {
	for other := range networks {
		if other.Bits() > p.Bits() && other.Contains(p.Addr()) {
			return true
		}
	}
	return false
}

func TestGeohash(t *testing.T) {
	for _, tc := range []struct {
		lat, lon float64
		want     string
	}{
		{57.64911, 10.40744, "u4pru"}, // the example of the Wikipedia article
		{0, 0, "s0000"},
		{-90, -180, "00000"},
		{90, 180, "zzzzz"},
		{48.2082, 16.3738, "u2edk"},
		{90.1, 0, ""},
		{0, -180.1, ""},
	} {
		if got := geohash(tc.lat, tc.lon, maxGeohash); got != tc.want {
			t.Errorf("geohash(%v, %v) = %q, want %q", tc.lat, tc.lon, got, tc.want)
		}
	}
}

// Wherever an address may hide in what a producer sends for a context to be derived from, it is not in the row.
func TestNoAddressSurvives(t *testing.T) {
	d := newDeriver(t, "GeoIP2-City-Test.mmdb")
	for _, ip := range []string{londonIP, "10.20.30.40", "2001:218:1234::42", "203.0.114.77"} {
		for _, raw := range []schemas.Raw{
			{IP: ip},
			{IP: ip + ":80", UserAgent: chromeOnMac},
			{IP: "unknown, " + ip, UserAgent: ip},
			{IP: "garbage " + ip, UserAgent: "Shop/" + ip + " (" + ip + "; " + ip + ")"},
			{IP: ip, UserAgent: "Mozilla/5.0 (compatible; bot; +http://" + ip + "/) " + ip + "/1.0"},
		} {
			r := schemas.Interaction{EventID: "1", EventTime: at("2026-11-22T14:30:00Z"), Raw: raw}
			d.Interaction(&r)
			for path, s := range stringsIn(reflect.ValueOf(r), "row") {
				if strings.Contains(s, ip) {
					t.Errorf("%+v: %s holds %q", raw, path, s)
				}
			}
		}
	}
}

// stringsIn returns every text within v, by where it is.
func stringsIn(v reflect.Value, path string) map[string]string {
	found := map[string]string{}
	switch v.Kind() {
	case reflect.String:
		found[path] = v.String()
	case reflect.Struct:
		for i := range v.NumField() {
			for p, s := range stringsIn(v.Field(i), path+"."+v.Type().Field(i).Name) {
				found[p] = s
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			for p, s := range stringsIn(v.Index(i), fmt.Sprintf("%s[%d]", path, i)) {
				found[p] = s
			}
		}
	}
	return found
}

// The bytes of a row may be those of a buffer that is used again: what was derived stays what it was.
func TestStringsAreOwned(t *testing.T) {
	d := newDeriver(t, "GeoIP2-City-Test.mmdb")
	buffer := make([]byte, 256)
	derive := func(agent, ip string) schemas.Context {
		n := copy(buffer, agent)
		m := copy(buffer[n:], ip)
		r := schemas.Interaction{Raw: schemas.Raw{UserAgent: unsafe.String(&buffer[0], n), IP: unsafe.String(&buffer[n], m)}}
		d.Interaction(&r)
		return r.Context
	}
	var got, want []schemas.Context
	for range 3 {
		got = append(got, derive(chromeOnMac, "81.2.69.144"), derive("Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X)", "2001:218::1"))
	}
	for i := range buffer {
		buffer[i] = '#'
	}
	mac := schemas.Context{DeviceClass: Desktop, OS: "macos", Browser: "chrome", IsBot: schemas.Some(false), Country: "GB", Region: "ENG", City: "London", Geohash: "gcpvj"}
	// 100 km around Tokyo: 3 characters.
	phone := schemas.Context{DeviceClass: Mobile, OS: "ios", Browser: Other, IsBot: schemas.Some(false), Country: "JP", Geohash: "xn7"}
	for range 3 {
		want = append(want, mac, phone)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("contexts (-want +got):\n%s", diff)
	}
}

func TestManyGoroutines(t *testing.T) {
	d := newDeriver(t, "")
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 2000 {
				agent := fmt.Sprintf("%s Build/%d", chromeOnMac, (i*7+g)%3000) // more than the cache takes
				r := schemas.Interaction{Raw: schemas.Raw{UserAgent: agent}}
				d.Interaction(&r)
				if r.Context.OS != "macos" {
					t.Errorf("%q: os is %q", agent, r.Context.OS)
				}
			}
		})
	}
	wg.Wait()
}

func TestHitsAllocateNothing(t *testing.T) {
	d := newDeriver(t, "GeoIP2-City-Test.mmdb")
	raw := schemas.Raw{UserAgent: chromeOnMac, IP: londonIP}
	allocs := testing.AllocsPerRun(100, func() {
		r := schemas.Interaction{EventTime: schemas.Some[int64](0), Raw: raw}
		r.Context.TZOffsetMin = schemas.Some[int64](60)
		d.Interaction(&r)
	})
	if allocs != 0 {
		t.Errorf("%v allocations for a row whose user agent and address are known, want 0", allocs)
	}
}

func TestNaughtyStrings(t *testing.T) {
	body, err := os.ReadFile(filepath.Join(datasets.Dir(t, "naughty-strings"), "blns.json"))
	if err != nil {
		t.Fatal(err)
	}
	var naughty []string
	if err := json.Unmarshal(body, &naughty); err != nil {
		t.Fatal(err)
	}
	d := newDeriver(t, "GeoIP2-City-Test.mmdb")
	for _, s := range naughty {
		checkDerived(t, d, s, s, 0, 0)
	}
	if len(naughty) < 500 {
		t.Errorf("only %d strings", len(naughty))
	}
}

func FuzzInteraction(f *testing.F) {
	f.Add(chromeOnMac, londonIP, int64(1_790_000_000_000_000), int64(60))
	f.Add("Mozilla/5.0 (X11; CrOS x86_64 14541.0.0)", "10.0.0.1, [2001:218::1]:443", int64(0), int64(-840))
	f.Add("Linux; Android 4; Build", "::ffff:81.2.69.142%x", int64(-1), int64(840))
	f.Add("http://http:// (;;[[))", ",,", int64(1), int64(0))
	d := newDeriver(f, "GeoIP2-City-Test.mmdb")
	f.Fuzz(func(t *testing.T, agent, ip string, micros, offset int64) {
		checkDerived(t, d, agent, ip, micros, offset)
	})
}

// checkDerived derives a context and holds what must be true of every one.
func checkDerived(t *testing.T, d *Deriver, agent, ip string, micros, offset int64) {
	t.Helper()
	const year2100 = 4_102_444_800_000_000
	r := schemas.Interaction{
		EventID: "1", EventTime: schemas.Some(max(0, micros) % year2100), UserID: "ann", EventType: "home_view",
		Raw: schemas.Raw{UserAgent: agent, IP: ip},
	}
	r.Context.TZOffsetMin = schemas.Some(offset % 841)
	d.Interaction(&r)
	if err := r.Check(schemas.Rules{Now: year2100}); err != nil {
		t.Errorf("user agent %q, address %q: the row breaks a rule: %v", agent, ip, err)
	}
	if r.Raw != (schemas.Raw{}) {
		t.Errorf("raw is still %+v", r.Raw)
	}
	if !r.Context.LocalHour.Set || !r.Context.LocalDow.Set {
		t.Errorf("no local time for %+v", r.EventTime)
	}
	switch r.Context.DeviceClass {
	case Desktop, Mobile, Tablet, TV, Bot, Other:
	case "":
		if agent != "" && agent != "-" {
			t.Errorf("user agent %q has no class", agent)
		}
	default:
		t.Errorf("user agent %q has the class %q", agent, r.Context.DeviceClass)
	}
}

func BenchmarkInteraction(b *testing.B) {
	const mix = 512 // user agents and addresses that come again and again
	for _, bc := range []struct {
		name, database string
	}{{"agent", ""}, {"agent and address", "GeoIP2-City-Test.mmdb"}} {
		b.Run(bc.name, func(b *testing.B) {
			d := newDeriver(b, bc.database)
			var raws [mix]schemas.Raw
			for i := range raws {
				raws[i] = schemas.Raw{UserAgent: fmt.Sprintf("%s Build/%d", chromeOnMac, i), IP: fmt.Sprintf("81.2.%d.%d", i/256, i%256)}
			}
			var r schemas.Interaction
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				r.Raw, r.Context = raws[i%mix], schemas.Context{}
				d.Interaction(&r)
			}
		})
	}
	b.Run("agent, never seen", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			parseDevice(chromeOnMac)
		}
	})
}

func TestTakeStatsCountsOnce(t *testing.T) {
	d := newDeriver(t, "GeoIP2-City-Test.mmdb")
	const workers, rows = 4, 250
	var taken Stats
	var mu sync.Mutex
	var working sync.WaitGroup
	for range workers {
		working.Go(func() {
			for n := range rows {
				row := schemas.Interaction{Raw: schemas.Raw{IP: londonIP}}
				if n%5 == 0 {
					row.Raw.IP = "10.0.0.1"
				}
				d.Interaction(&row)
				s := d.TakeStats()
				mu.Lock()
				taken.Located += s.Located
				taken.Private += s.Private
				mu.Unlock()
			}
		})
	}
	working.Wait()
	if want := (Stats{Located: workers * rows * 4 / 5, Private: workers * rows / 5}); taken != want || d.Stats() != want {
		t.Errorf("taken piece by piece %+v, in all %+v, want %+v", taken, d.Stats(), want)
	}
	if s := d.TakeStats(); s != (Stats{}) {
		t.Errorf("%+v is taken twice", s)
	}
}
