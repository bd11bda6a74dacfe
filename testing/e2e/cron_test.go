//go:build e2e && linux

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"backbone/testing/provision"
)

// debianCron returns the folder of Debian's cron, as its package has it.
func debianCron(t *testing.T) string {
	t.Helper()
	for _, needed := range []string{"apt-get", "dpkg-deb", "sh", "mount"} {
		if _, err := exec.LookPath(needed); err != nil {
			t.Skipf("needs %s, for the package cron of Debian: %v", needed, err)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: cron has its folders in its program, and gets others there by a mount namespace")
	}
	dir, err := provision.Once("cron", []byte("cron of Debian, unpacked"), func(dir string) error {
		if err := provision.Run(t.Context(), dir, "apt-get", "download", "cron"); err != nil {
			return err
		}
		packages, err := filepath.Glob(filepath.Join(dir, "cron_*.deb"))
		if err != nil || len(packages) != 1 {
			return fmt.Errorf("packages %v, error %w", packages, err)
		}
		return provision.Run(t.Context(), dir, "dpkg-deb", "-x", packages[0], dir)
	})
	if err != nil {
		t.Skipf("needs the package cron of Debian: %v", err)
	}
	return dir
}

// startCron starts a cron with the crontab of root. It sees folders of the test where it has those of the machine, which stays as it is.
func startCron(t *testing.T, crontab string) {
	t.Helper()
	program, dir := debianCron(t), t.TempDir()
	at := func(path string) string { return filepath.Join(dir, path) }
	for _, folder := range []string{"spool/cron/crontabs", "run", "cron.d"} {
		if err := os.MkdirAll(at(folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(at("pam.d"), os.DirFS("/etc/pam.d")); err != nil {
		t.Skipf("needs PAM: %v", err)
	}
	service, err := os.ReadFile(filepath.Join(program, "etc", "pam.d", "cron"))
	if err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{"pam.d/cron": string(service), "crontab": "", "spool/cron/crontabs/root": crontab} {
		if err := os.WriteFile(at(path), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	printed, err := os.Create(at("printed"))
	if err != nil {
		t.Fatal(err)
	}
	defer printed.Close()
	cron := exec.Command("sh", "-ec", `
mount --bind "$1/spool" /var/spool
mount --bind "$1/pam.d" /etc/pam.d
mount --bind "$1/run" /run
if [ -d /etc/cron.d ]; then mount --bind "$1/cron.d" /etc/cron.d; fi
if [ -e /etc/crontab ]; then mount --bind "$1/crontab" /etc/crontab; fi
echo mounted
exec "$2" -f`, "sh", dir, filepath.Join(program, "usr", "sbin", "cron"))
	cron.Stdout, cron.Stderr = printed, printed
	cron.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if err := cron.Start(); err != nil {
		t.Skipf("needs mount namespaces: %v", err)
	}
	ended := make(chan struct{})
	var end error // to be read after ended
	go func() {
		end = cron.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cron.Process.Kill() // it may have ended
		<-ended
	})
	until(t, "cron runs", func() bool {
		select {
		case <-ended:
			text, _ := os.ReadFile(printed.Name())
			if !strings.Contains(string(text), "mounted") {
				t.Skipf("needs a mount namespace: %v\n%s", end, text)
			}
			t.Fatalf("cron has ended: %v\n%s", end, text)
		default:
		}
		_, err := os.Stat(at("run/crond.pid"))
		return err == nil
	})
}

// Debian's cron takes the lines that are written for it: a tick runs within a minute, and once, though two lines call it. It does not know CRON_TZ, calls at a time of
// the machine, and the launch takes the latest tick all the same.
func TestCron(t *testing.T) {
	slow(t)
	debianCron(t)
	input := events(t, 1000)
	binary := filepath.Join(t.TempDir(), program)
	copyTo(t, binary, "")
	crontab := func(path string) string {
		p := start(t, "the lines for cron", nil, "schedule", "cron", path, "--binary", binary)
		p.wantExit(0)
		return p.read(p.stdout)
	}
	each, lake := launchFile(t, input, `schedule: {cron: "* * * * *"}`)
	// The next minute, of the clock of the machine: in Kiritimati it is another hour whatever the zone of the machine is, unless it is there.
	const far = "Pacific/Kiritimati"
	zone, err := time.LoadLocation(far)
	if err != nil {
		t.Skipf("needs the names of time zones: %v", err)
	}
	at := time.Now().Add(15 * time.Second).Truncate(time.Minute).Add(time.Minute) // until then, cron runs
	if _, here := at.Zone(); here == 14*3600 {
		t.Skip("this machine is where the other time zone is")
	}
	fixed, lakeOfFixed := launchFile(t, input, fmt.Sprintf("schedule: {cron: \"%d %d * * *\", time_zone: %s}", at.Minute(), at.Hour(), far))
	startCron(t, strings.Repeat(crontab(each), 2)+crontab(fixed))

	until(t, "a tick of each has run", func() bool { return launched(lake) > 0 && launched(lakeOfFixed) > 0 })
	run := history(t, each)[0]
	if run.State != "succeeded" || len(run.Attempts) != 1 {
		t.Errorf("the history begins with %+v, want a success at the first attempt", run)
	}
	if late := run.Attempts[0].Started.Sub(run.Tick); late < 0 || late > time.Minute {
		t.Errorf("the tick of %s was launched %v later, want it within a minute", run.Tick, late)
	}
	runCommand(t, "verify", "verify", "--lake", lake)

	run = history(t, fixed)[0]
	if late := run.Attempts[0].Started.Sub(at); run.State != "succeeded" || late < 0 || late > time.Minute {
		t.Errorf("the history of what was fixed is %+v, want a success just after %s", run, at)
	}
	if tick := run.Tick.In(zone); tick.Hour() != at.Hour() || tick.Minute() != at.Minute() || !run.Tick.Before(at) || at.Sub(run.Tick) > 24*time.Hour {
		t.Errorf("the tick is %s, want the last %02d:%02d in %s", tick, at.Hour(), at.Minute(), far)
	}
	runCommand(t, "verify", "verify", "--lake", lakeOfFixed)
}
