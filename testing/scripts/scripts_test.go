// Package scripts tells stories of the backbone command: each *.txtar file beside this one is what a person types and
// what they should see, with the files it needs at its end.
package scripts

import (
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
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
		Cmds:                map[string]func(ts *testscript.TestScript, neg bool, args []string){"exits": exits, "hashes": hashes, "serves": serves},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       *update,
	})
}

// hashes is the script command "hashes FILE FOLDER...": it writes to FILE the name of each file in the folders, with a hash of its
// bytes. Two such files can be compared with cmp.
func hashes(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: hashes FILE FOLDER...")
	}
	var list strings.Builder
	for _, folder := range args[1:] {
		root := ts.MkAbs(folder)
		ts.Check(fs.WalkDir(os.DirFS(root), ".", func(name string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			body, err := os.ReadFile(filepath.Join(root, name))
			fmt.Fprintf(&list, "%s/%s %x\n", filepath.Base(folder), name, sha256.Sum256(body))
			return err
		}))
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(list.String()), 0o600))
}

// serves is the script command "serves NAME FOLDER": until the end of the script, a server answers GET /a/b with the file a/b.json of the
// folder, whatever the query, and any other method with an empty object. $NAME is its HOST:PORT.
func serves(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: serves NAME FOLDER")
	}
	root, err := os.OpenRoot(ts.MkAbs(args[1]))
	ts.Check(err)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := []byte("{}")
		if r.Method == http.MethodGet {
			var err error
			if body, err = root.ReadFile(strings.TrimPrefix(r.URL.Path, "/") + ".json"); err != nil {
				http.NotFound(w, r)
				return
			}
		}
		_, _ = w.Write(body) // who asked may be gone
	}))
	ts.Defer(func() {
		server.Close()
		ts.Check(root.Close())
	})
	ts.Setenv(args[0], strings.TrimPrefix(server.URL, "http://"))
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
