//go:build e2e

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"backbone/runners/jobs"
	"backbone/testing/flinkcluster"
	"backbone/testing/pubsubserver"
)

// jobs runs a command about jobs of the cluster, which has to end well, and returns what it prints.
func (w *flinkWorld) jobs(args ...string) string {
	w.Helper()
	p := start(w.T, "jobs "+args[0], nil, append(append([]string{"jobs"}, args...), "--flink_master", w.cluster.Master)...)
	p.wantExit(0)
	return p.read(p.stdout)
}

// metrics returns what a job says of itself.
func (w *flinkWorld) metrics(name string) (m jobs.Metrics) {
	w.Helper()
	if err := json.Unmarshal([]byte(w.jobs("metrics", name, "--json")), &m); err != nil {
		w.Fatal(err)
	}
	return m
}

// series is a value that Prometheus reads: a name and labels.
var series = regexp.MustCompile(`^(\w+)\{(.*)\} (\S+)$`)

// scrape returns what Prometheus would read of a job, by name, each of which is the sum of what all processes and tasks say.
func (w *flinkWorld) scrape(job string) map[string]float64 {
	w.Helper()
	sums := map[string]float64{}
	for _, address := range w.cluster.Metrics {
		response, err := http.Get("http://" + address + "/metrics") //nolint:noctx // of this machine
		if err != nil {
			w.Fatal(err)
		}
		defer response.Body.Close()
		lines := bufio.NewScanner(response.Body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			s := series.FindStringSubmatch(lines.Text())
			if s == nil || !strings.Contains(s[2], fmt.Sprintf("job_name=%q", job)) {
				continue
			}
			value, err := strconv.ParseFloat(s[3], 64)
			if err != nil {
				w.Fatalf("%s: %v", lines.Text(), err)
			}
			sums[s[1]] += value
		}
		if err := lines.Err(); err != nil {
			w.Fatal(err)
		}
	}
	return sums
}

// A stream that nobody follows is watched and ended from elsewhere: what it counts is told by backbone jobs and to Prometheus, a savepoint is
// made of it, and it is drained. A job of files tells its counts when it has ended, too.
func TestFlinkJobs(t *testing.T) {
	slow(t)
	w := startFlink(t, flinkcluster.Options{Prometheus: true})
	w.lake = filepath.Join(t.TempDir(), "lake")
	w.startBroker(pubsubserver.Options{MaxLease: shortLease})
	common := []string{
		"--lake", w.lake, "--runner=flink", "--flink_master", w.cluster.Master, "--endpoint", w.cluster.Endpoint,
		"--environment_config", fmt.Sprintf(`{"command":%q}`, w.binary),
	}
	start(t, "the stream", w.env(), append([]string{
		"interactions", "--input", source, "--job_name=shop-stream", "--flush_interval=500ms", "--flink_checkpoints=2s", "--detach",
	}, common...)...).wantExit(0)
	for quarter := range quarters {
		w.publishFile(w.quarter(quarter))
	}
	w.untilAllAcked()

	const prefix = "flink_taskmanager_job_task_operator_"
	counted := []string{
		prefix + "events_read", prefix + "lake_duplicate", prefix + "lake_commit_milliseconds_count", prefix + "lake_commit_milliseconds_sum",
		"flink_jobmanager_job_numberOfCompletedCheckpoints", "flink_jobmanager_job_uptime",
	}
	var scraped map[string]float64
	until(t, "Prometheus reads all counts", func() bool { // each process says its own when it comes to it
		scraped = w.scrape("shop_stream")
		return scraped[prefix+"lake_committed"] == float64(w.total.Rows) && scraped[prefix+"lake_dead_lettered"] == float64(w.total.Broken) &&
			!slices.ContainsFunc(counted, func(name string) bool { return scraped[name] <= 0 })
	})
	for _, name := range []string{"flink_jobmanager_job_numRestarts", "flink_taskmanager_job_task_backPressuredTimeMsPerSecond", prefix + "currentOutputWatermark"} {
		if _, ok := scraped[name]; !ok {
			t.Errorf("Prometheus does not read %s", name)
		}
	}

	var m jobs.Metrics
	until(t, "the job manager has all counts, and a watermark", func() bool {
		m = w.metrics("shop-stream")
		return m.Counts["lake/committed"] == int64(w.total.Rows) && m.Counts["lake/dead_lettered"] == int64(w.total.Broken) &&
			m.Counts["events/read"] >= int64(w.total.Events) && m.Checkpoints.Last != nil && m.Watermark != nil && m.Backpressure != nil
	})
	if m.Checkpoints.Completed == 0 || m.Restarts != 0 || m.UptimeSeconds <= 0 || m.Drained {
		t.Errorf("the job says of itself %+v", m)
	}
	if d := m.Distributions["lake/commit_milliseconds"]; d.Count == 0 || d.Max <= 0 || d.Count != m.Counts["lake/commit_milliseconds_count"] {
		t.Errorf("commits take %+v, and their number is %d", d, m.Counts["lake/commit_milliseconds_count"])
	}
	if url := strings.TrimSpace(w.jobs("savepoint", "shop-stream")); !strings.HasPrefix(url, "file:") {
		t.Errorf("the savepoint is at %q", url)
	}

	w.jobs("drain", "shop-stream")
	if list := w.jobs("list"); !regexp.MustCompile(`(?m)^[0-9a-f]{32} +shop-stream +cancelled `).MatchString(list) {
		t.Errorf("the jobs are\n%s", list)
	}
	if m := w.metrics("shop-stream"); !m.Drained {
		t.Errorf("when it has drained, the job says of itself %+v", m)
	}
	w.isTheTruth(0)

	start(t, "the files", nil, append([]string{"interactions", "--input", w.files(), "--job_name=shop-files"}, common...)...).wantExit(0)
	m = w.metrics("shop-files")
	// A broken event has another dead letter, for it came from another source.
	events, broken := int64(w.total.Events), int64(w.total.Broken)
	if m.Counts["events/read"] != events || m.Counts["lake/duplicate"] != events-broken || m.Counts["lake/dead_lettered"] != broken || m.Counts["lake/committed"] != 0 {
		t.Errorf("the job of files has counted %v", m.Counts)
	}
	w.nothingIsLeft()
}
