package jobs

// Result is what became of a job, for who has submitted it.
type Result struct {
	// Outcome says what it is.
	Outcome Outcome
	// Counts are what its functions have counted, by "namespace/name", as far as the service tells.
	Counts map[string]int64
	// Partial says that they are not those of the whole job: it goes on where another one, or an attempt before, has stopped.
	Partial bool
}

// Outcome is how a submission ended.
type Outcome int

const (
	// Ended is a job that has ended well.
	Ended Outcome = iota
	// Detached is a job that runs, and is left alone.
	Detached
	// Stopped is a stream that was stopped for another one that goes on with its state.
	Stopped
	// There is a job that was not submitted, since another of its name runs.
	There
	// Planned is a job that was not submitted, since only its request was asked for.
	Planned
)
