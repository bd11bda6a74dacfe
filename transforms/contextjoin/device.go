package contextjoin

import (
	"strings"

	"github.com/mileusna/useragent"

	"backbone/schemas"
)

// maxUserAgent is how many bytes of a user agent are read.
const maxUserAgent = 1024

// The classes of devices.
const (
	Desktop = "desktop"
	Mobile  = "mobile"
	Tablet  = "tablet"
	TV      = "tv"
	Bot     = "bot"
	Other   = "other" // also an operating system or a browser that is not known
)

// device is what a user agent tells.
type device struct {
	class, os, browser string
	bot                bool
}

func (d *device) fill(c *schemas.Context) {
	setIfEmpty(&c.DeviceClass, d.class)
	setIfEmpty(&c.OS, d.os)
	setIfEmpty(&c.Browser, d.browser)
	if !c.IsBot.Set {
		c.IsBot = schemas.Some(d.bot)
	}
}

// parseDevice asks the parser, and looks for signs where it has no answer.
func parseDevice(agent string) device {
	ua := useragent.Parse(agent)
	lower := strings.ToLower(agent)
	d := device{os: osOf(ua.OS, lower), browser: browserOf(ua.Name), bot: ua.Bot || isBot(lower)}
	switch {
	case d.bot:
		d.class = Bot
	case containsAny(lower, tvs):
		d.class = TV
	case ua.Tablet || containsAny(lower, tablets):
		d.class = Tablet
	case ua.Mobile || d.os == "ios" || d.os == "android" || containsAny(lower, phones):
		d.class = Mobile
	case ua.Desktop || containsAny(lower, desktops):
		d.class = Desktop
	default:
		d.class = Other
	}
	return d
}

// Signs of a class, as user agents have them, in lower case.
var (
	tvs = []string{
		"smart-tv", "smarttv", "smart tv", "hbbtv", "googletv", "google tv", "android tv", "appletv", "apple tv", "tvos", "netcast", "web0s", "webos.tv",
		"inettv", "dtv", "bravia", "roku", "crkey", "aftb", "aftt", "afts", "aftm", "viera", "philipstv", "opera tv", "tv safari", "ce-html", "nettv",
	}
	tablets  = []string{"ipad", "tablet", "kindle", "silk/", "playbook", "xoom", "nexus 7", "nexus 9", "nexus 10", "sm-t", "gt-p"}
	phones   = []string{"iphone", "ipod", "mobile", "phone", "midp", "symbian", "series60", "blackberry", "windows ce", "palm", "nokia", "wap", "j2me"}
	desktops = []string{"windows", "macintosh", "mac os", "mac_powerpc", "darwin", "(x11", "linux", "sunos", "openbsd", "netbsd", "os/2"}
	bots     = []string{
		"crawl", "spider", "slurp", "curl/", "wget", "python-", "libwww", "go-http-client", "scrapy", "monitoring", "pingdom", "statuscake", "gomezagent",
		"ptst/", "feedfetcher", "archiver", "nutch", "headless", "bingpreview", "web preview", "google-inspectiontool", "thumbnail",
	}
)

func isBot(lower string) bool {
	if containsAny(lower, bots) || strings.HasPrefix(lower, "java/") {
		return true
	}
	// Cubot makes telephones.
	return strings.Count(lower, "bot") > strings.Count(lower, "cubot")
}

func containsAny(s string, words []string) bool {
	for _, w := range words {
		if strings.Contains(s, w) {
			return true
		}
	}
	return false
}

// systems are signs of an operating system: the first that is there decides. The parser knows a system by a whole word of its name only,
// and takes Android for Linux where that is badly written; so it is asked last.
var systems = [][2]string{
	{"windows phone", "windows phone"}, {"iphone", "ios"}, {"ipad", "ios"}, {"ipod", "ios"}, {"(ios;", "ios"}, {"; ios ", "ios"},
	{"tvos", "tvos"}, {"watchos", "watchos"}, {"cpu os ", "ios"}, {"android", "android"}, {"; adr ", "android"}, {"silk/", "android"},
	{"windows", "windows"}, {"win98", "windows"}, {"winnt", "windows"}, {"blackberry", "blackberry"}, {"mac os x", "macos"}, {"macintosh", "macos"},
	{"cros ", "chromeos"}, {"tizen", "tizen"}, {"web0s", "webos"}, {"kaios", "kaios"}, {"symbian", "symbian"}, {"freebsd", "freebsd"}, {"linux", "linux"},
}

func osOf(name, lower string) string {
	for _, sign := range systems {
		if strings.Contains(lower, sign[0]) {
			return sign[1]
		}
	}
	if strings.Contains(lower, "cfnetwork/") {
		// What apps of Apple's systems say by themselves: the processor is named on a Mac only, and not always.
		if strings.Contains(lower, "x86_64") || strings.Contains(lower, "i386") {
			return "macos"
		}
		return "ios"
	}
	if system, ok := parserSystems[name]; ok {
		return system
	}
	return Other
}

// parserSystems are the systems that the parser knows besides those above.
var parserSystems = map[string]string{useragent.ChromeOS: "chromeos", useragent.Harmony: "harmony"}

// browserOf keeps the names of well-known browsers and robots. For all others the parser falls back to some word of the user agent, or to all of it:
// that is no browser, would swell the dictionary of the column, and may hold what must not be stored, such as an address.
func browserOf(name string) string {
	lower := strings.ToLower(name)
	if own, ok := browsers[lower]; ok {
		return own
	}
	return Other
}

var browsers = func() map[string]string {
	m := map[string]string{}
	for _, name := range []string{
		"chrome", "headless chrome", "firefox", "safari", "mobile safari", "edge", "internet explorer", "opera", "opera mini", "opera touch", "vivaldi",
		"samsung browser", "miui browser", "huawei browser", "android browser", "ucbrowser", "yabrowser", "whale", "duckduckgo", "brave", "silk",
		"mqqbrowser", "qqbrowser", "puffin", "netfront", "konqueror", "epiphany", "seamonkey", "netscape", "lynx", "blackberry", "phantomjs",
		"facebook app", "instagram app", "tiktok app", "whatsapp", "pinterest", "snapchat", "dalvik", "okhttp", "cfnetwork", "curl", "wget",
		"googlebot", "google ads bot", "bingbot", "applebot", "yandexbot", "yandexadnet", "twitterbot", "facebookexternalhit", "facebookcatalog", "bytespider",
		"baiduspider", "ahrefsbot", "semrushbot", "duckduckbot", "petalbot", "gptbot", "claudebot", "ccbot", "amazonbot", "mj12bot", "dotbot",
	} {
		m[name] = name
	}
	return m
}()
