// Package e2e runs the backbone command as a person would, in processes of its own that can be killed, and compares
// what is in the lake afterwards with the truth about the events that went in.
//
// A story is what happens to a generated day on its way: it comes in files, through Pub/Sub or both, its processes are
// killed, started twice, drained, or meet a store that fails. A set-up is the store that the lake is in. However the
// story goes, it ends with the same lake: each event in it once, or in the dead letters once.
//
// go test runs a few stories with a small day; make e2e, or the build tag e2e, all of them:
//
//	go test -tags=e2e ./testing/e2e
//	go test -tags=e2e ./testing/e2e -run TestStories/store=local/KilledAtRandom -e2e.seed=7
//	go test -tags=e2e ./testing/e2e -run TestStories/store=local/Files -e2e.events=1000000 -timeout=1h
//	go test -tags=e2e ./testing/e2e -run TestSoak -v -e2e.soak=30m -timeout=1h
//
// # Limits
//
// Times are deadlines only, and generous ones: nothing is asserted about how long something takes.
package e2e
