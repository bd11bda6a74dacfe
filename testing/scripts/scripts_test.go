// Package scripts tells stories of the backbone command: each *.txtar file beside this one is what a person types and
// what they should see, with the files it needs at its end.
package scripts

import (
	"errors"
	"flag"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"backbone/runners/command"
)

var update = flag.Bool("update_scripts", false, "rewrite what the scripts compare with to what was seen; read it before you commit it")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		// As in main.go.
		"backbone": func() {
			command.InitBeam(os.Args[1:])
			os.Exit(command.Main())
		},
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 ".",
		Cmds:                map[string]func(ts *testscript.TestScript, neg bool, args []string){"exits": exits},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       *update,
	})
}

// exits is the script command "exits CODE PROGRAM ARGS...": it runs the program and fails unless it ends with that
// exit code. What was printed can be looked at with stdout and stderr, as after exec.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%s: %v", args[1], err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}
