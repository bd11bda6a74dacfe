package e2e

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"backbone/testing/ledger"
	"backbone/testing/pubsubserver"
)

var (
	soakFlag     = flag.Duration("e2e.soak", 0, "how long TestSoak lets events flow (default not at all)")
	soakRateFlag = flag.Int("e2e.soak_rate", 2_000, "events a second in TestSoak")
)

// usage is what a process takes of the machine at a moment.
type usage struct {
	at          time.Duration
	rss         int64 // bytes
	threads     int64
	descriptors int
	spilled     int64 // bytes in the spill folder
	files       int   // in the lake
	acked       int64
	backlog     int64
}

// A stream at a steady rate takes no more of the machine as time goes by. The table is for people; what fails the test is
// descriptors or threads that only ever grow, and a lake that is not the truth.
func TestSoak(t *testing.T) {
	if *soakFlag == 0 {
		t.Skip("takes as long as it is told: -e2e.soak=30m")
	}
	w := &world{T: t, lake: filepath.Join(t.TempDir(), "lake")}
	truth := t.TempDir()
	w.startBroker(pubsubserver.Options{})
	stream := w.start(source, "--flush_interval", "10s")
	began := time.Now()
	publisher := start(t, "the publisher", w.env(), "generate", "--topic", topic, "--realtime", "--rate", strconv.Itoa(*soakRateFlag),
		"--events", strconv.Itoa(int(soakFlag.Seconds()*float64(*soakRateFlag))), "--seed", "1", "--out", truth)

	var all []usage
	t.Logf("%8s %9s %8s %12s %10s %7s %12s %9s", "elapsed", "rss_mb", "threads", "descriptors", "spill_mb", "files", "acked", "backlog")
	sample := func() {
		u := w.usage(stream)
		u.at = time.Since(began)
		all = append(all, u)
		t.Logf("%8s %9.1f %8d %12d %10.1f %7d %12d %9d", u.at.Round(time.Second), float64(u.rss)/1e6, u.threads, u.descriptors,
			float64(u.spilled)/1e6, u.files, u.acked, u.backlog)
	}
	for ticker := time.NewTicker(max(time.Second, *soakFlag/30)); publisher.running(); {
		select {
		case <-ticker.C:
			sample()
		case <-publisher.ended:
			ticker.Stop()
		case <-stream.ended:
			t.Fatal("the stream has ended by itself")
		}
	}
	publisher.wantExit(0)
	w.untilAllAcked(stream)
	sample()
	t.Logf("%+v", stream.drain())

	report, err := ledger.Check(t.Context(), ledger.Options{Truth: truth, Lake: w.lake})
	if err != nil {
		t.Fatal(err)
	}
	if !report.OK() {
		t.Errorf("the lake is not the truth: %v", report)
	}
	if len(all) < 6 {
		return // too short to say more
	}
	// The first third has warmed up. Later ones have their own ups and downs, but no leak: that would add something with
	// each bundle, of which there is one a second.
	middle, last := highest(all[len(all)/3:len(all)*2/3]), highest(all[len(all)*2/3:])
	bundles := int64((soakFlag.Seconds()) / 3)
	if last.descriptors > middle.descriptors+int(bundles/2) {
		t.Errorf("descriptors grow: at most %d in the middle third, %d in the last", middle.descriptors, last.descriptors)
	}
	if last.threads > middle.threads+bundles/2 {
		t.Errorf("threads grow: at most %d in the middle third, %d in the last", middle.threads, last.threads)
	}
}

func highest(all []usage) (top usage) {
	for _, u := range all {
		top.threads, top.descriptors = max(top.threads, u.threads), max(top.descriptors, u.descriptors)
	}
	return top
}

var statusLine = regexp.MustCompile(`(?m)^(VmRSS|Threads):\s+(\d+)`)

// usage asks the operating system what a process takes.
func (w *world) usage(j *job) (u usage) {
	w.Helper()
	proc := filepath.Join("/proc", strconv.Itoa(j.cmd.Process.Pid))
	status, err := os.ReadFile(filepath.Join(proc, "status"))
	if err != nil {
		w.Skipf("needs /proc: %v", err)
	}
	for _, match := range statusLine.FindAllStringSubmatch(string(status), -1) {
		n, err := strconv.ParseInt(match[2], 10, 64)
		if err != nil {
			w.Fatal(err)
		}
		if match[1] == "VmRSS" {
			u.rss = n << 10
		} else {
			u.threads = n
		}
	}
	descriptors, err := os.ReadDir(filepath.Join(proc, "fd"))
	if err != nil {
		w.Fatal(err)
	}
	u.descriptors = len(descriptors)
	u.spilled = j.spilled()
	stats := w.broker.stats()
	u.files, u.acked, u.backlog = len(dataFiles(w.T, w.lake)), stats.Acked, stats.Backlog
	return u
}
