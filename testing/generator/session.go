package generator

import (
	"slices"
	"strconv"
)

// kind is the type of an event.
type kind uint8

const (
	impression kind = iota
	view
	click
	addToCart
	removeFromCart
	checkout
	purchase
	playStart
	playProgress
	playComplete
	skip
	dwell
	search
	homeView
	categoryView
	rate
	like
	dislike
	hide
	report
	save
	share
	follow
	comment
	refund
	retract
)

var kindNames = [...]string{
	impression: "impression", view: "view", click: "click", addToCart: "add_to_cart", removeFromCart: "remove_from_cart",
	checkout: "checkout", purchase: "purchase", playStart: "play_start", playProgress: "play_progress",
	playComplete: "play_complete", skip: "skip", dwell: "dwell", search: "search", homeView: "home_view",
	categoryView: "category_view", rate: "rate", like: "like", dislike: "dislike", hide: "hide", report: "report",
	save: "save", share: "share", follow: "follow", comment: "comment", refund: "refund", retract: "retract",
}

// unit is the unit of an event's value.
type unit uint8

const (
	noUnit unit = iota
	stars
	seconds
	ratio
)

var unitNames = [...]string{stars: "stars", seconds: "seconds", ratio: "ratio"}

// event is one event of a session, before it is encoded.
type event struct {
	time     int64
	kind     kind
	verdict  Verdict
	repeated bool
	broken   int16 // index in brokenKinds
	item     int32 // -1: none
	list     []listed
	request  uint64 // 0: none
	value    int64  // thousandths
	unit     unit
	query    int16 // index in queries; -1: none
	order    uint64
	revenue  int64 // hundredths
}

// listed is one of several items of an event.
type listed struct {
	item     int32
	quantity int32
}

// session is one visit. Its memory is used again for a later one.
type session struct {
	events []event
	done   int // events that have happened
	lists  []listed
	cart   []listed

	who         []byte // the JSON members that say who it is, each with a comma ahead
	context     []byte // the JSON object
	experiments []byte // the JSON member, with a comma ahead, or nothing
	country     *country
	offset      int  // minutes that event times are written ahead of UTC; noOffset: as UTC
	millis      bool // the clock gives milliseconds only
}

const noOffset = 1 << 15

// Times that users take, in microseconds.
const (
	moment = 400_000
	glance = 3_000_000
	look   = 20_000_000
)

// plan fills s with a visit that starts at a time. Its events are in the order of their times and there is at least one.
func (g *Generator) plan(s *session, at int64) {
	s.events, s.lists, s.cart, s.done = s.events[:0], s.lists[:0], s.cart[:0], 0
	bot := g.arrive(s, at)
	v := visit{Generator: g, s: s, at: at}
	if bot {
		v.crawl()
	} else {
		v.browse()
	}
	if s.millis {
		for i := range s.events {
			s.events[i].time -= s.events[i].time % 1000
		}
	}
}

// arrive settles who comes, from where and with what, and tells whether it is a robot.
func (g *Generator) arrive(s *session, at int64) (bot bool) {
	var user int32
	// Who comes at four in the morning lives where it is another hour, or is one of few.
	for {
		user = g.shop.users.draw(g.rand)
		s.country = g.shop.country(user)
		if g.rand.Float64() < pace(at, s.country.offset) {
			break
		}
	}
	dice := g.rand.Uint64()
	bot = dice%100 == 0
	anonymous := bot || dice>>8%4 == 0
	// The trait of the device is the user's in nine visits of ten; one has a second device.
	key := uint64(user)
	if dice>>16%10 == 0 {
		key |= 1 << 40
	}
	d := g.shop.device(key)
	app := d.app != ""

	s.who = s.who[:0]
	if !anonymous {
		s.who = append(s.who, `,"user_id":"u`...)
		s.who = append(strconv.AppendInt(s.who, int64(user), 10), '"')
	}
	if anonymous || dice>>24%8 != 0 {
		s.who = append(s.who, `,"visitor_id":"v`...)
		s.who = append(appendHex(s.who, g.shop.trait(key, 5)), '"')
	}
	s.who = append(s.who, `,"session_id":"s`...)
	s.who = append(appendHex(s.who, g.rand.Uint64()), '"')

	s.millis = !app
	s.offset = noOffset
	if app || g.shop.trait(key, 6)%8 == 0 {
		s.offset = s.country.offset
	}

	s.experiments = s.experiments[:0]
	switch g.shop.trait(uint64(user), 7) % 4 {
	case 0:
		s.experiments = append(s.experiments, `,"experiment_ids":["ranker-12:treatment"]`...)
	case 1:
		s.experiments = append(s.experiments, `,"experiment_ids":["ranker-12:control","checkout-3:b"]`...)
	}

	userAgent := d.userAgent
	if bot {
		userAgent = bots[dice>>32%uint64(len(bots))]
	}
	c := append(s.context[:0], `{"country":"`...)
	c = append(c, s.country.code...)
	c = append(c, `","locale":"`...)
	c = append(c, s.country.locale...)
	c = append(c, `","surface":"`...)
	c = append(c, surfaces[dice>>36%uint64(len(surfaces))]...)
	c = append(c, `","referrer_medium":"`...)
	medium := media[dice>>40%uint64(len(media))]
	c = append(c, medium...)
	if medium == "email" || medium == "paid" {
		c = append(c, `","campaign":"`...)
		c = append(c, campaigns[dice>>44%uint64(len(campaigns))]...)
	}
	if app {
		c = append(c, `","device_class":"`...)
		c = append(c, d.class...)
		c = append(c, `","os":"`...)
		c = append(c, d.os...)
		c = append(c, `","app_version":"`...)
		c = append(c, d.app...)
		c = append(c, `","network":"`...)
		c = append(c, d.network...)
	}
	c = append(c, `","user_agent":"`...)
	c = append(c, userAgent...)
	c = append(c, `","ip":"`...)
	n := s.country.networks[dice>>48%uint64(len(s.country.networks))]
	c = append(c, n.prefix...)
	host := n.low + g.shop.trait(key, 8)%n.size
	if n.v6 {
		c = strconv.AppendUint(c, host, 16)
	} else {
		c = strconv.AppendUint(c, host, 10)
	}
	s.context = append(c, `"}`...)
	return bot
}

var (
	surfaces  = []string{"home", "search", "detail", "web", "app"}
	media     = []string{"direct", "direct", "direct", "search", "search", "social", "email", "paid", "internal"}
	campaigns = []string{"spring-2026", "welcome", "win-back", "sale_50"}
)

// queries are what people search for, as the text between the quotes of a JSON string.
var queries = []string{
	"red shoes", "running shoes 42", "rain jacket", "desk lamp", "usb-c cable", "coffee grinder", "tent 4 person",
	"yoga mat", "noise cancelling headphones", "kids bike", "caf\u00e9 cr\u00e8me", "gr\u00f6\u00dfe 42", `14\" laptop sleeve`,
	`caf\u00e9`, "\u30b9\u30cb\u30fc\u30ab\u30fc", "\u65e0\u7ebf\u8033\u673a", "\U0001f45f", `a\/b testing book`, "p\u00e4\u00e4si\u00e4ismuna",
	"  spaces  ", "100% cotton", "c++ primer", "l'or\u00e9al", `back\\slash`,
}

// visit is the making of a session.
type visit struct {
	*Generator
	s       *session
	at      int64 // now
	request uint64
}

// chance is true in p of all cases.
func (v *visit) chance(p float64) bool { return v.rand.Float64() < p }

// wait lets time pass: mean microseconds on average, and at least a millisecond.
func (v *visit) wait(mean float64) { v.at += 1000 + int64(v.rand.ExpFloat64()*mean) }

// add appends an event that happens now.
func (v *visit) add(k kind, item int32) *event {
	v.s.events = append(v.s.events, event{time: v.at, kind: k, item: item, query: -1, request: v.request})
	return &v.s.events[len(v.s.events)-1]
}

// crawl is what robots do: they look at one item after the other and want nothing.
func (v *visit) crawl() {
	for range 3 + v.rand.IntN(20) {
		v.add(view, int32(v.rand.IntN(v.options.Items)))
		v.wait(glance)
	}
}

// browse is what people do.
func (v *visit) browse() {
	v.s.lists = slices.Grow(v.s.lists, 256)
	for first := true; first || v.chance(0.62); first = false {
		if v.chance(0.22) { // straight to an item, from a mail or another site
			v.look(v.shopItem())
			v.wait(look)
			continue
		}
		v.page()
		v.wait(look)
	}
	v.buy()
	if v.chance(0.004) {
		v.add(follow, -1)
	}
}

func (v *visit) shopItem() int32 { return v.shop.items.draw(v.rand) }

// page is a page with a list of recommended or found items, of which some are clicked.
func (v *visit) page() {
	switch draw := v.rand.Float64(); {
	case draw < 0.40:
		v.add(homeView, -1)
	case draw < 0.72:
		v.add(search, -1).query = int16(v.rand.IntN(len(queries)))
	default:
		v.add(categoryView, -1)
	}
	v.wait(moment)
	v.request = v.rand.Uint64() | 1
	list := v.list()
	v.add(impression, -1).list = list
	for position, shown := range list {
		// 5 % on average over the lists, and the first more than the last.
		if !v.chance(0.076 / (1 + 0.18*float64(position))) {
			continue
		}
		v.wait(glance)
		v.add(click, shown.item)
		if v.chance(0.92) {
			v.wait(moment)
			v.look(shown.item)
		}
	}
	if v.chance(0.006) {
		v.wait(glance)
		v.add(hide, list[v.rand.IntN(len(list))].item)
	}
	v.request = 0
}

// list draws 4 to 10 different items.
func (v *visit) list() []listed {
	n := min(4+v.rand.IntN(7), v.options.Items)
	list := v.room(n)
	for i := range list {
		item := v.shopItem()
		for slices.ContainsFunc(list[:i], func(l listed) bool { return l.item == item }) {
			item = (item + 1) % int32(v.options.Items)
		}
		list[i] = listed{item: item, quantity: 1}
	}
	return list
}

// room returns space for n listed items. What was given before stays where it is.
func (v *visit) room(n int) []listed {
	if cap(v.s.lists)-len(v.s.lists) < n {
		v.s.lists = make([]listed, 0, 2*cap(v.s.lists)+n)
	}
	from := len(v.s.lists)
	v.s.lists = v.s.lists[:from+n]
	return v.s.lists[from : from+n : from+n]
}

// look is a user at an item's page.
func (v *visit) look(item int32) {
	v.add(view, item)
	if v.shop.video(item) {
		v.watch(item)
	}
	if v.chance(0.30) {
		arrived := v.at
		v.wait(look)
		e := v.add(dwell, item)
		e.value, e.unit = (v.at-arrived)/1000, seconds
	}
	if v.chance(0.11) {
		v.wait(look)
		v.add(addToCart, item)
		quantity := int32(1)
		if v.chance(0.15) {
			quantity += 1 + v.rand.Int32N(4)
		}
		v.s.cart = append(v.s.cart, listed{item: item, quantity: quantity})
		if v.chance(0.12) {
			v.wait(look)
			v.add(removeFromCart, item)
			v.s.cart = v.s.cart[:len(v.s.cart)-1]
		}
	}
	if v.chance(0.035) {
		v.wait(look)
		switch draw := v.rand.IntN(20); {
		case draw < 9:
			v.add(like, item)
		case draw < 14:
			v.add(save, item)
		case draw < 17:
			v.add(share, item)
		case draw < 18:
			v.add(dislike, item)
		case draw < 19:
			v.add(comment, item)
		default:
			v.add(report, item)
		}
	}
}

// watch is a user at a video.
func (v *visit) watch(item int32) {
	v.wait(glance)
	v.add(playStart, item)
	if v.chance(0.3) {
		v.wait(glance)
		v.add(skip, item)
		return
	}
	for share := int64(250); share < 1000; share += 250 {
		v.wait(look)
		if v.chance(0.25) {
			return
		}
		e := v.add(playProgress, item)
		e.value, e.unit = share, ratio
	}
	v.wait(look)
	e := v.add(playComplete, item)
	e.value, e.unit = 1000, ratio
}

// buy is what becomes of the cart: three in ten are bought.
func (v *visit) buy() {
	if len(v.s.cart) == 0 || !v.chance(0.48) {
		return
	}
	v.wait(look)
	cart := v.room(len(v.s.cart))
	copy(cart, v.s.cart)
	v.add(checkout, -1).list = cart
	if !v.chance(0.68) {
		return
	}
	v.wait(2 * look)
	e := v.add(purchase, -1)
	e.list, e.order = cart, v.rand.Uint64()
	for _, bought := range cart {
		e.revenue += int64(bought.quantity) * v.shop.price(bought.item)
	}
	order := e.order
	first := cart[0].item
	if v.chance(0.15) {
		v.wait(3 * look)
		e := v.add(rate, first)
		e.value, e.unit = ratings[v.rand.IntN(len(ratings))], stars
	}
	if v.chance(0.02) {
		v.wait(10 * look)
		v.add(refund, first).order = order
	}
	if v.chance(0.01) {
		v.wait(look)
		v.add(retract, first)
	}
}

// ratings are the stars that people give, in thousandths.
var ratings = []int64{5000, 5000, 5000, 4500, 4000, 4000, 3500, 3000, 2000, 1000, 500}
