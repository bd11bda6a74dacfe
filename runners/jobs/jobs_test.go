package jobs_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"backbone/runners/jobs"
)

func at(hour int) time.Time { return time.Date(2026, 11, 22, hour, 0, 0, 0, time.UTC) }

func TestFind(t *testing.T) {
	all := []jobs.Job{
		{ID: "ab12", Name: "stream", State: jobs.Running, Started: at(5)},
		{ID: "ab34", Name: "nightly", State: jobs.Failed, Started: at(4)},
		{ID: "cd56", Name: "nightly", State: jobs.Done, Started: at(3)},
		{ID: "ef78", Name: "stream", State: jobs.Cancelled, Started: at(6)},
		{ID: "0001", Name: "twice", State: jobs.Running, Started: at(1)},
		{ID: "0002", Name: "twice", State: jobs.Restarting, Started: at(2)},
		{ID: "99ff", Name: "cd", State: jobs.Done, Started: at(1)}, // whose name begins another's id
	}
	var many []jobs.Job
	for n := range 12 {
		many = append(many, jobs.Job{ID: fmt.Sprint("id", n), Name: "n", State: jobs.Done})
	}
	for _, test := range []struct {
		name, which string
		all         []jobs.Job
		want        string // id
		err         string // part of it
	}{
		{"id", "cd56", all, "cd56", ""},
		{"beginning", "ab1", all, "ab12", ""},
		{"beginning of two", "ab", all, "", `the ids of several jobs begin with "ab": there are "stream" (ab12, running), "nightly" (ab34, failed)`},
		{"name of one that runs", "stream", all, "ab12", ""},
		{"name of those that have ended", "nightly", all, "ab34", ""},
		{"name of two that run", "twice", all, "", `several jobs named "twice" run, say which by its id: there are "twice" (0001, running), "twice" (0002, restarting)`},
		{"name before beginning", "cd", all, "99ff", ""},
		{"none of that name", "weekly", all[:1], "", `there is no job "weekly"; there is "stream" (ab12, running)`},
		{"empty", "", all[:1], "", `there is no job ""`},
		{"none at all", "weekly", nil, "", `there is no job "weekly"; there is none`},
		{"many", "weekly", many, "", `"n" (id9, done), and 2 more`},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := jobs.Find(test.all, test.which)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("Find() has error %v, want %q in it", err, test.err)
				}
				return
			}
			if err != nil || got.ID != test.want {
				t.Errorf("Find() = %q, %v, want %q", got.ID, err, test.want)
			}
		})
	}
}

func TestDistribution(t *testing.T) {
	var sum jobs.Distribution
	if sum.Mean() != 0 {
		t.Errorf("the mean of nothing is %v", sum.Mean())
	}
	for _, d := range []jobs.Distribution{{}, {Count: 2, Sum: 10, Min: 3, Max: 7}, {}, {Count: 2, Sum: 14, Min: 1, Max: 13}} {
		sum = sum.Add(d)
	}
	if diff := cmp.Diff(jobs.Distribution{Count: 4, Sum: 24, Min: 1, Max: 13}, sum); diff != "" || sum.Mean() != 6 {
		t.Errorf("the mean is %v, and (-want +got):\n%s", sum.Mean(), diff)
	}
}
