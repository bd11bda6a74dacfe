package schedulers

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"backbone/runners/launch"
)

// maxCronLine is how long a command may be for all crons, in bytes.
const maxCronLine = 900

// Cron returns the lines of a crontab that launch f.
func Cron(f *launch.File, o Options) (string, error) {
	if err := errors.Join(scheduled(f), o.Validate()); err != nil {
		return "", err
	}
	var command []string
	for _, arg := range append([]string{o.Binary}, args(f, o.Path)...) {
		if strings.ContainsAny(arg, `%\`) { // to some, % is a line break unless a backslash is before it, and to others it is not
			return "", fmt.Errorf("%q has a %% or a backslash, which crons read in different ways: rename it", arg)
		}
		command = append(command, Quote(arg))
	}
	line := strings.Join(command, " ")
	if len(line) > maxCronLine {
		return "", fmt.Errorf("the command has %d bytes; crons take up to %d: use shorter paths", len(line), maxCronLine)
	}
	return fmt.Sprintf(`# %s, at %s in %s. A cron that does not know CRON_TZ calls at another time; the launch takes the latest tick all the same.
CRON_TZ=%s
%s %s
`, f.Name, f.Schedule.Expression(), f.Schedule.Zone(), f.Schedule.Zone(), f.Schedule.Expression(), line), nil
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_@+:,./=-]+$`)

// Quote returns a word that a POSIX shell takes for exactly this text.
func Quote(word string) string {
	if plainWord.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
