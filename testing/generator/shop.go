package generator

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"time"
)

// shop is what stays the same while events are made: who comes from where with what, and what there is to see. Traits
// of users and items are functions of their number and the seed, so that millions of them need no memory.
type shop struct {
	seed       uint64
	users      popularity
	items      popularity
	countries  []int32 // lottery over countries by their weight
	deviceDraw []int32
}

// country is where users live.
type country struct {
	code, currency, locale string
	weight                 int
	offset                 int // minutes that its time is ahead of UTC
	centsPerUnit           int // 1: prices have no cents
	networks               []network
}

// network is a range of addresses, as text: the prefix, and the range of its last number.
type network struct {
	prefix    string
	low, size uint64
	v6        bool
}

// The addresses are from the ranges for documentation (RFC 5737, RFC 3849) and from ranges that MaxMind's test
// databases know, so that a lookup finds something in some cases and nothing in others.
var countries = []country{
	{code: "DE", currency: "EUR", locale: "de-DE", weight: 24, offset: 60, networks: []network{{"2a02:d180:4:1::", 1, 60000, true}, {"192.0.2.", 1, 250, false}}},
	{code: "GB", currency: "GBP", locale: "en-GB", weight: 16, offset: 0, networks: []network{{"81.2.69.", 160, 32, false}, {"2.125.160.", 216, 8, false}, {"2a02:d3c0:1::", 1, 60000, true}}},
	{code: "US", currency: "USD", locale: "en-US", weight: 20, offset: -480, networks: []network{{"216.160.83.", 56, 8, false}, {"214.78.120.", 1, 250, false}, {"198.51.100.", 1, 250, false}}},
	{code: "SE", currency: "SEK", locale: "sv-SE", weight: 7, offset: 60, networks: []network{{"89.160.20.", 128, 120, false}, {"2a02:d080:2::", 1, 60000, true}}},
	{code: "FR", currency: "EUR", locale: "fr-FR", weight: 10, offset: 60, networks: []network{{"2a02:cfc0:8::", 1, 60000, true}, {"203.0.113.", 1, 250, false}}},
	{code: "FI", currency: "EUR", locale: "fi-FI", weight: 5, offset: 120, networks: []network{{"2a02:d200:9::", 1, 60000, true}, {"192.0.2.", 1, 250, false}}},
	{code: "IN", currency: "INR", locale: "en-IN", weight: 8, offset: 330, networks: []network{{"198.51.100.", 1, 250, false}, {"2001:db8:1f::", 1, 60000, true}}},
	{code: "CN", currency: "CNY", locale: "zh-CN", weight: 4, offset: 480, networks: []network{{"175.16.199.", 1, 250, false}, {"2001:250:3::", 1, 60000, true}}},
	{code: "JP", currency: "JPY", locale: "ja-JP", weight: 4, offset: 540, centsPerUnit: 1, networks: []network{{"2001:218:7::", 1, 60000, true}, {"203.0.113.", 1, 250, false}}},
	{code: "BR", currency: "BRL", locale: "pt-BR", weight: 2, offset: -180, networks: []network{{"203.0.113.", 1, 250, false}, {"2001:db8:2::", 1, 60000, true}}},
}

// device is what users hold in their hands. App devices say themselves what they are, browsers by their user agent.
type device struct {
	userAgent, class, os, app, network string
	weight                             int
}

var devices = []device{
	{weight: 18, userAgent: "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 Mobile/15E148 Safari/604.1"},
	{weight: 17, userAgent: "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/122.0.0.0 Mobile Safari/537.36"},
	{weight: 12, userAgent: "Mozilla/5.0 (Linux; Android 13; SM-S911B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/23.0 Chrome/115.0.0.0 Mobile Safari/537.36"},
	{weight: 16, userAgent: "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/122.0.0.0 Safari/537.36"},
	{weight: 6, userAgent: "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/122.0.0.0 Safari/537.36 Edg/122.0.2365.66"},
	{weight: 7, userAgent: "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.3.1 Safari/605.1.15"},
	{weight: 4, userAgent: "Mozilla/5.0 (X11; Linux x86_64; rv:123.0) Gecko/20100101 Firefox/123.0"},
	{weight: 4, userAgent: "Mozilla/5.0 (iPad; CPU OS 16_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/16.6 Mobile/15E148 Safari/604.1"},
	{weight: 1, userAgent: "Mozilla/5.0 (SMART-TV; Linux; Tizen 7.0) AppleWebKit/537.36 (KHTML, like Gecko) Version/7.0 TV Safari/537.36"},
	{weight: 9, userAgent: "Shop/7.2.1 (iPhone; iOS 17.4; Scale/3.00)", class: "mobile", os: "ios", app: "7.2.1", network: "wifi"},
	{weight: 6, userAgent: "Shop/7.1.0 (Linux; U; Android 14; Pixel 7a)", class: "mobile", os: "android", app: "7.1.0", network: "cellular"},
}

var bots = []string{
	"Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
	"Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
	"Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)",
	"python-requests/2.31.0",
}

func newShop(o Options) *shop {
	s := newTraits(o.Seed)
	s.users = newPopularity(o.Users, 0.75)
	s.items = newPopularity(o.Items, 0.95)
	return s
}

// newTraits returns the shop of a seed, of which nobody draws users and items.
func newTraits(seed uint64) *shop {
	s := &shop{seed: mix(seed + 1)}
	for i, c := range countries {
		for range c.weight {
			s.countries = append(s.countries, int32(i))
		}
	}
	for i, d := range devices {
		for range d.weight {
			s.deviceDraw = append(s.deviceDraw, int32(i))
		}
	}
	return s
}

// trait returns 64 bits that are always the same for one trait of one user or item.
func (s *shop) trait(of uint64, which uint64) uint64 {
	return mix(s.seed ^ mix(of*16+which))
}

func (s *shop) country(user int32) *country {
	return &countries[s.countries[s.trait(uint64(user), 1)%uint64(len(s.countries))]]
}

func (s *shop) device(of uint64) *device {
	return &devices[s.deviceDraw[s.trait(of, 2)%uint64(len(s.deviceDraw))]]
}

// price returns what an item costs, in hundredths: about 3 to 300, cheap ones being more frequent.
func (s *shop) price(item int32) int64 {
	u := s.trait(uint64(item), 3)
	base := int64(300) << (u % 6) // 3, 6, 12, ... 96
	return (base+int64(u>>8)%(2*base))/10*10 + 9
}

// video says whether an item is something to watch, as one in ten is.
func (s *shop) video(item int32) bool { return s.trait(uint64(item), 4)%10 == 0 }

// activity is how busy people are at an hour of their own day, at most 1.
var activity = [24]float64{
	0.20, 0.12, 0.08, 0.06, 0.06, 0.09, 0.18, 0.32, 0.45, 0.52, 0.56, 0.58,
	0.64, 0.60, 0.56, 0.56, 0.60, 0.66, 0.76, 0.90, 1.00, 0.95, 0.70, 0.40,
}

// busyDays is how busy the days are, from Sunday.
var busyDays = [7]float64{1.0, 0.80, 0.74, 0.76, 0.80, 0.86, 0.95}

// pace is how busy users who are offset minutes ahead of UTC are at a time, at most 1.
func pace(micros int64, offset int) float64 {
	local := micros/1_000_000 + int64(offset)*60
	return activity[local/3600%24] * busyDays[(local/86400+4)%7] // 1970-01-01 was a Thursday
}

// rhythm is a plan of when sessions start: of which share of all events belongs to sessions that start up to a time.
type rhythm struct {
	from, span int64     // microseconds
	sums       []float64 // sums[i]: share of the events of sessions that start in the first i slices of the span
}

// newRhythm plans from one time to another. Yield says how many events a session is expected to have that starts at
// a time.
func newRhythm(from, to int64, yield func(at int64) float64) rhythm {
	r := rhythm{from: from, span: to - from}
	slices := min(max(r.span/time.Minute.Microseconds(), 400), 500_000)
	r.sums = make([]float64, slices+1)
	for i := range slices {
		at := from + int64(float64(r.span)*(float64(i)+0.5)/float64(slices))
		r.sums[i+1] = r.sums[i] + busy(at)*yield(at)
	}
	for i := range r.sums {
		r.sums[i] /= r.sums[slices]
	}
	return r
}

// busy is how busy the shop is at a time, compared with other times.
func busy(at int64) float64 {
	var sum float64
	for _, c := range countries {
		sum += float64(c.weight) * pace(at, c.offset)
	}
	return sum
}

// at returns the time up to which sessions have started that have a share of the events.
func (r rhythm) at(share float64) int64 {
	low, high := 0, len(r.sums)-1
	for high-low > 1 {
		if mid := (low + high) / 2; r.sums[mid] <= share {
			low = mid
		} else {
			high = mid
		}
	}
	within := (share - r.sums[low]) / (r.sums[high] - r.sums[low])
	return r.from + int64(float64(r.span)*(float64(low)+within)/float64(len(r.sums)-1))
}

// popularity draws numbers from 0 to n-1, number i with a probability in proportion to 1/(i+1)^exponent, by Walker's
// alias method: one table lookup a draw.
type popularity struct {
	cut   []uint32 // of 2^32: below it, the column's own number
	alias []int32
}

func newPopularity(n int, exponent float64) popularity {
	weights := make([]float64, n)
	var sum float64
	for i := range weights {
		weights[i] = math.Pow(float64(i+1), -exponent)
		sum += weights[i]
	}
	p := popularity{cut: make([]uint32, n), alias: make([]int32, n)}
	var small, large []int32
	for i := range weights {
		weights[i] *= float64(n) / sum
		if weights[i] < 1 {
			small = append(small, int32(i))
		} else {
			large = append(large, int32(i))
		}
	}
	for len(small) > 0 && len(large) > 0 {
		s, l := small[len(small)-1], large[len(large)-1]
		small = small[:len(small)-1]
		p.cut[s] = uint32(weights[s] * (1 << 32))
		p.alias[s] = l
		weights[l] -= 1 - weights[s]
		if weights[l] < 1 {
			large = large[:len(large)-1]
			small = append(small, l)
		}
	}
	for _, rest := range [][]int32{small, large} { // what is left is 1, but for rounding
		for _, i := range rest {
			p.cut[i], p.alias[i] = math.MaxUint32, i
		}
	}
	return p
}

func (p popularity) draw(r *rand.Rand) int32 {
	column, toss := bits.Mul64(r.Uint64(), uint64(len(p.cut)))
	if uint32(toss>>32) < p.cut[column] {
		return int32(column)
	}
	return p.alias[column]
}

// mix is a one-to-one function that makes 64 random-looking bits of 64 (the finalizer of SplitMix64).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
