package contextjoin

import (
	"bufio"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"backbone/testing/datasets"
)

func TestParseDevice(t *testing.T) {
	for _, tc := range []struct {
		name, agent string
		want        device
	}{
		{"Chrome on a Mac", chromeOnMac, device{Desktop, "macos", "chrome", false}},
		{"Edge on Windows", "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36 Edg/120.0.0.0",
			device{Desktop, "windows", "edge", false}},
		{"Firefox on Linux", "Mozilla/5.0 (X11; Linux x86_64; rv:120.0) Gecko/20100101 Firefox/120.0", device{Desktop, "linux", "firefox", false}},
		{"a Chromebook", "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36",
			device{Desktop, "chromeos", "chrome", false}},
		{"Safari on an iPhone", "Mozilla/5.0 (iPhone; CPU iPhone OS 17_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.1 Mobile/15E148 Safari/604.1",
			device{Mobile, "ios", "safari", false}},
		{"Safari on an iPad", "Mozilla/5.0 (iPad; CPU OS 12_2 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/12.1 Mobile/15E148 Safari/604.1",
			device{Tablet, "ios", "safari", false}},
		{"Chrome on Android", "Mozilla/5.0 (Linux; Android 13; Pixel 7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Mobile Safari/537.36",
			device{Mobile, "android", "chrome", false}},
		{"a Cubot telephone", "Mozilla/5.0 (Linux; Android 9; CUBOT_X19) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/80.0.3987.99 Mobile Safari/537.36",
			device{Mobile, "android", "chrome", false}},
		{"a Samsung tablet", "Mozilla/5.0 (Linux; Android 12; SM-T870) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36",
			device{Tablet, "android", "chrome", false}},
		{"an app on an iPhone", "Shop/12 CFNetwork/1406.0.4 Darwin/22.4.0", device{Mobile, "ios", Other, false}},
		{"a television", "Mozilla/5.0 (SMART-TV; Linux; Tizen 5.0) AppleWebKit/537.36 (KHTML, like Gecko) Version/5.0 TV Safari/537.36", device{TV, "tizen", Other, false}},
		{"Googlebot", "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", device{Bot, Other, "googlebot", true}},
		{"Googlebot as a telephone", "Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X Build/MMB29P) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Mobile Safari/537.36 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
			device{Bot, "android", "googlebot", true}},
		{"curl", "curl/8.4.0", device{Bot, Other, "curl", true}},
		{"a program", "python-requests/2.31.0", device{Bot, Other, Other, true}},
		{"empty", "", device{Other, Other, Other, false}},
		{"a word", "hello", device{Other, Other, Other, false}},
		{"an address", londonIP, device{Other, Other, Other, false}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, parseDevice(tc.agent), cmp.AllowUnexported(device{})); diff != "" {
				t.Errorf("parseDevice(%q) (-want +got):\n%s", tc.agent, diff)
			}
		})
	}
}

// agentCase is a real user agent and what the ua-parser project takes it for.
type agentCase struct {
	Agent  string `yaml:"user_agent_string"`
	Family string `yaml:"family"`
}

func agentCases(t *testing.T, files ...string) []agentCase {
	t.Helper()
	dir := datasets.Dir(t, "ua-parser")
	var all []agentCase
	for _, file := range files {
		body, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		var parsed struct {
			Cases []agentCase `yaml:"test_cases"`
		}
		if err := yaml.Unmarshal(body, &parsed); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all = append(all, parsed.Cases...)
	}
	return all
}

// agreement is the share of cases that have an expected answer and got it; the least that was seen is held.
func agreement(t *testing.T, what string, cases []agentCase, want func(agentCase) []string, got func(device) string, least float64) {
	t.Helper()
	agreed, asked := 0, 0
	for _, c := range cases {
		if answers := want(c); answers != nil {
			asked++
			if slices.Contains(answers, got(parseDevice(c.Agent))) {
				agreed++
			}
		}
	}
	share := float64(agreed) / float64(max(1, asked))
	t.Logf("%s: %d of %d (%.1f %%)", what, agreed, asked, 100*share)
	if asked == 0 || share < least {
		t.Errorf("%s: %.3f of %d agree, want at least %.3f", what, share, asked, least)
	}
}

// How far the answers agree with another parser's, on its own test cases. These hold many agents that are rare or long gone,
// so the shares are lower than on today's traffic.
func TestAgreement(t *testing.T) {
	all := agentCases(t, "additional_os_tests.yaml", "firefox_user_agent_strings.yaml", "opera_mini_user_agent_strings.yaml", "pgts_browser_list.yaml",
		"podcasting_user_agent_strings.yaml", "test_device.yaml", "test_os.yaml", "test_ua.yaml")
	names := map[string]bool{}
	for _, c := range all {
		names[parseDevice(c.Agent).browser] = true
	}
	if len(all) != 31_327 || len(names) > len(browsers)+1 {
		t.Errorf("%d agents gave %d browsers, want 31,327 agents and at most the %d that are known", len(all), len(names), len(browsers)+1)
	}

	systems := map[string][]string{
		"Windows": {"windows"}, "Windows Phone": {"windows phone"}, "Android": {"android"}, "iOS": {"ios"}, "Mac OS X": {"macos"}, "Chrome OS": {"chromeos"},
		"FreeBSD": {"freebsd"}, "BlackBerry OS": {"blackberry"}, "Symbian OS": {"symbian"}, "tvOS": {"tvos"}, "WatchOS": {"watchos"}, "KaiOS": {"kaios"},
		"webOS": {"webos"}, "Tizen": {"tizen"}, "Other": {Other},
		"Linux": {"linux"}, "Ubuntu": {"linux"}, "Debian": {"linux"}, "Fedora": {"linux"}, "Red Hat": {"linux"}, "CentOS": {"linux"}, "Gentoo": {"linux"},
		"Mandriva": {"linux"}, "Slackware": {"linux"}, "Linux Mint": {"linux"}, "Puppy": {"linux"}, "PCLinuxOS": {"linux"},
	}
	agreement(t, "operating system", agentCases(t, "test_os.yaml", "additional_os_tests.yaml"),
		func(c agentCase) []string { return systems[c.Family] }, func(d device) string { return d.os }, 0.90)

	browsers := map[string][]string{
		"IE": {"internet explorer"}, "Firefox": {"firefox"}, "Chrome": {"chrome"}, "Safari": {"safari"}, "Opera": {"opera"}, "Opera Mini": {"opera mini"},
		"Edge": {"edge"}, "Mobile Safari": {"safari"}, "Chrome Mobile": {"chrome"}, "Konqueror": {"konqueror"}, "Vivaldi": {"vivaldi"},
		"Samsung Internet": {"samsung browser"},
	}
	agreement(t, "browser", agentCases(t, "pgts_browser_list.yaml", "test_ua.yaml", "firefox_user_agent_strings.yaml", "opera_mini_user_agent_strings.yaml"),
		func(c agentCase) []string { return browsers[c.Family] }, func(d device) string { return d.browser }, 0.90)

	devices := agentCases(t, "test_device.yaml")
	classes := map[string][]string{
		"Spider": {Bot}, "iPhone": {Mobile}, "iPod": {Mobile}, "iPad": {Tablet}, "Mac": {Desktop}, "HbbTV": {TV}, "NetCast.TV": {TV}, "Inettv": {TV},
		"AppleTV": {TV}, "Generic Smartphone": {Mobile}, "Generic Feature Phone": {Mobile}, "Kindle": {Tablet}, "Kindle Fire": {Tablet}, "Kindle Fire HD": {Tablet},
	}
	agreement(t, "class, where the family tells it", devices,
		func(c agentCase) []string { return classes[c.Family] }, func(d device) string { return d.class }, 0.90)
	agreement(t, "telephones, tablets and televisions of 16,129 devices that are not computers", devices,
		func(c agentCase) []string {
			if c.Family == "Spider" || c.Family == "Mac" || c.Family == "Other" {
				return nil
			}
			return []string{Mobile, Tablet, TV}
		}, func(d device) string { return d.class }, 0.70)
	agreement(t, "robots are told from browsers", agentCases(t, "firefox_user_agent_strings.yaml", "opera_mini_user_agent_strings.yaml"),
		func(agentCase) []string { return []string{Desktop, Mobile, Tablet, TV, Other} }, func(d device) string { return d.class }, 0.99)
}

// A real log of a web site: 10,000 requests.
func TestBotsOfARealLog(t *testing.T) {
	f, err := os.Open(filepath.Join(datasets.Dir(t, "apache-logs"), "apache_logs"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // It was only read.
	classes, lines, obvious := map[string]int{}, 0, 0
	for scanner := bufio.NewScanner(f); scanner.Scan(); {
		lines++
		parts := strings.Split(scanner.Text(), `"`)
		if len(parts) < 6 {
			t.Fatalf("line %d has no user agent", lines)
		}
		agent := parts[5]
		d := parseDevice(agent)
		classes[d.class]++
		if lower := strings.ToLower(agent); strings.Contains(lower, "bot") || strings.Contains(lower, "spider") || strings.Contains(lower, "crawl") {
			obvious++
			if !d.bot {
				t.Errorf("line %d: %q is not taken for a robot", lines, agent)
			}
		}
	}
	t.Logf("%d lines: %v, %d name themselves robots", lines, classes, obvious)
	if lines != 10_000 || classes[Bot] < obvious || classes[Bot] > lines/2 {
		t.Errorf("%d lines with %d robots, of which %d say so", lines, classes[Bot], obvious)
	}
}
