package command

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Exit codes of the command.
const (
	exitDone   = 0 // everything was done
	exitFailed = 1 // the data or the job failed
	exitUsage  = 2 // the command line, a setting or a configuration file is wrong; nothing was started
)

// UsageError says that a command was called wrongly: nothing was started, and the same call will fail again.
// The command exits with code 2 instead of 1 and points to its help.
type UsageError struct {
	Err error
}

func (e *UsageError) Error() string { return e.Err.Error() }

// Unwrap gives the mistake itself.
func (e *UsageError) Unwrap() error { return e.Err }

// usageErrorf makes a UsageError of a message; %w works as in fmt.Errorf.
func usageErrorf(format string, args ...any) error {
	return &UsageError{Err: fmt.Errorf(format, args...)}
}

// exitCode says how the process ends with err.
func exitCode(err error) int {
	var usage *UsageError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &usage):
		return exitUsage
	default:
		return exitFailed
	}
}

// printError writes err as one line, with the command it happened in and, where the call was wrong, where help is.
func (e *environment) printError(cmd *cobra.Command, err error) {
	if e.logFormat == "json" {
		// The logger may not be configured yet: err may be why.
		slog.New(slog.NewJSONHandler(e.stderr, nil)).Error(oneLine(err), "command", cmd.CommandPath(), "exit_code", exitCode(err))
		return
	}
	line := cmd.CommandPath() + ": " + oneLine(err)
	if exitCode(err) == exitUsage {
		line += fmt.Sprintf("; see %q", cmd.CommandPath()+" --help")
	}
	// There is nowhere left to say that stderr is gone.
	_, _ = fmt.Fprintln(e.stderr, line)
}

// oneLine gives err's message without line breaks, such as errors.Join puts between errors, and of a failed job's just
// the cause.
func oneLine(err error) string {
	lines := strings.FieldsFunc(cause(err.Error()), func(r rune) bool { return r == '\n' || r == '\r' })
	return strings.Join(lines, "; ")
}

// failedDoFn is how Beam says which function failed.
var failedDoFn = regexp.MustCompile(`(?s)^DoFn\[UID:\S+ PID:\S+ Name: ([^\]]+)\] failed:\n(.*)$`)

// cause is the end of a failed job's message: the function that failed, and why. Before it, Beam lists the stages that
// the function was fused into, which is of use in debugging only. Other messages are left as they are.
func cause(message string) string {
	const causedBy = "caused by:\n"
	i := strings.LastIndex(message, causedBy)
	if i < 0 {
		return message
	}
	message = message[i+len(causedBy):]
	if match := failedDoFn.FindStringSubmatch(message); match != nil {
		return match[1] + ": " + match[2]
	}
	return message
}

// flagError turns pflag's errors into usage errors, with a suggestion for a flag that does not exist.
func flagError(cmd *cobra.Command, err error) error {
	var missing *pflag.NotExistError
	if !errors.As(err, &missing) || missing.GetSpecifiedShortnames() != "" {
		return &UsageError{Err: err}
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	name := missing.GetSpecifiedName()
	return usageErrorf("unknown flag --%s%s", name, didYouMean("--", name, names))
}

// didYouMean is a parenthesis with the candidate nearest to word, or nothing where none is near. The prefix is put
// before the candidate.
func didYouMean(prefix, word string, candidates []string) string {
	best, bestDistance := "", len(word)/3+2
	slices.Sort(candidates)
	for _, candidate := range candidates {
		if d := distance(word, candidate); d < bestDistance {
			best, bestDistance = candidate, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %s%s?)", prefix, best)
}

// distance is Levenshtein's: how many bytes have to be added, removed or replaced to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
