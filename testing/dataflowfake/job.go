package dataflowfake

import (
	"slices"
	"sync"
	"time"

	df "google.golang.org/api/dataflow/v1b3"
)

// States of jobs.
const (
	statePending    = "JOB_STATE_PENDING"
	stateRunning    = "JOB_STATE_RUNNING"
	stateDone       = "JOB_STATE_DONE"
	stateFailed     = "JOB_STATE_FAILED"
	stateCancelling = "JOB_STATE_CANCELLING"
	stateCancelled  = "JOB_STATE_CANCELLED"
	stateDraining   = "JOB_STATE_DRAINING"
	stateDrained    = "JOB_STATE_DRAINED"
	stateUpdated    = "JOB_STATE_UPDATED"
)

// The importance of messages.
const (
	detailed = "JOB_MESSAGE_DETAILED"
	basic    = "JOB_MESSAGE_BASIC"
	warning  = "JOB_MESSAGE_WARNING"
	failure  = "JOB_MESSAGE_ERROR"
)

var importances = []string{"JOB_MESSAGE_DEBUG", detailed, basic, warning, failure}

// job is a job.
type job struct {
	id, project, region string
	request             *df.Job
	dir                 string
	replaces            *job
	created             time.Time
	over                chan struct{} // closed when it has ended

	mu       sync.Mutex
	state    string
	changed  time.Time
	asked    string // stateDrained, stateCancelled or stateUpdated, once that was asked for
	told     chan struct{}
	words    []*df.JobMessage
	attempt  string // id of the one at work, as prism has it
	counted  *tally // by the last attempt
	replaced string // id of the job that took its place
	inlets   map[string]*inlet
}

func newJob(id string, c call, dir string) *job {
	request := c.body
	now := time.Now().UTC()
	return &job{
		id: id, project: c.project, region: c.region, request: &request, dir: dir, created: now, over: make(chan struct{}),
		state: statePending, changed: now, told: make(chan struct{}), inlets: map[string]*inlet{},
	}
}

// wanted is what was asked for. Of a Flex Template, its launcher says more of it later; nothing is changed in what is returned.
func (j *job) wanted() *df.Job {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.request
}

func isEnd(state string) bool {
	return slices.Contains([]string{stateDone, stateFailed, stateCancelled, stateDrained, stateUpdated}, state)
}

func (j *job) ended() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return isEnd(j.state)
}

// ask asks the job to end. Who asks more than before, such as to cancel what drains, is listened to.
func (j *job) ask(state string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if isEnd(j.state) || j.asked == state || j.asked == stateCancelled {
		return
	}
	j.asked = state
	switch state {
	case stateDrained:
		j.set(stateDraining)
	case stateCancelled:
		j.set(stateCancelling)
	}
	close(j.told)
	j.told = make(chan struct{})
}

// order returns what was asked for, and what is closed when it is more.
func (j *job) order() (asked string, more <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.asked, j.told
}

// set changes the state. j.mu is held.
func (j *job) set(state string) {
	j.state, j.changed = state, time.Now().UTC()
	j.add(detailed, "The job is now "+state)
}

func (j *job) become(state string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.set(state)
}

// say adds a message.
func (j *job) say(importance, text string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.add(importance, text)
}

func (j *job) add(importance, text string) {
	j.words = append(j.words, &df.JobMessage{
		Id: time.Now().UTC().Format("msg-150405.000000000"), MessageImportance: importance, MessageText: text, Time: time.Now().UTC().Format(time.RFC3339Nano),
	})
}

// said returns the messages that are not earlier, nor less important.
func (j *job) said(since, least string) (all []*df.JobMessage) {
	from, _ := time.Parse(time.RFC3339Nano, since) // the zero time is before all
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, m := range j.words {
		at, _ := time.Parse(time.RFC3339Nano, m.Time)
		if !at.Before(from) && slices.Index(importances, m.MessageImportance) >= slices.Index(importances, least) {
			all = append(all, m)
		}
	}
	return all
}

// view is the job as replies have it.
func (j *job) view(whole bool) *df.Job {
	j.mu.Lock()
	defer j.mu.Unlock()
	v := &df.Job{
		Id: j.id, Name: j.request.Name, ProjectId: j.project, Location: j.region, Type: j.request.Type, Labels: j.request.Labels,
		ClientRequestId: j.request.ClientRequestId, ReplaceJobId: j.request.ReplaceJobId, ReplacedByJobId: j.replaced,
		CurrentState: j.state, CurrentStateTime: j.changed.Format(time.RFC3339Nano), CreateTime: j.created.Format(time.RFC3339Nano),
		StartTime: j.created.Format(time.RFC3339Nano),
	}
	if j.asked != "" {
		v.RequestedState = j.asked
	}
	if whole {
		v.Environment = j.request.Environment
	}
	return v
}
