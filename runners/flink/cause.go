package flink

import (
	"fmt"
	"regexp"
	"strings"
)

var (
	// stack is the first line of where something happened in Java.
	stack = regexp.MustCompile(`\n\s+(at [\w.$/<>]+\(|\.\.\. \d+ (more|common))`)
	// thrown are the names of classes before a message.
	thrown = regexp.MustCompile(`^([\w.$]+(Exception|Error): )+`)
	// harness is what Beam puts before the message of a worker.
	harness = regexp.MustCompile(`^Error received from SDK harness for instruction \S+: `)
)

// failure is the error of a job that failed, by what a job server says of it.
func failure(said string) error {
	cause := causeOf(said)
	if cause == "" {
		cause = "the job server does not say why; see its log, and those of the job manager and the task managers"
	}
	return fmt.Errorf("%w: %s", errFailed, cause)
}

// causeOf is what was wrong, by a stack trace of Java: the last of its causes, or one before it that says the same and more.
func causeOf(said string) string {
	var class, cause string
	for _, c := range strings.Split(said, "\nCaused by: ") {
		if at := stack.FindStringIndex(c); at != nil {
			c = c[:at[0]]
		}
		c = strings.TrimSpace(c)
		classes := thrown.FindString(c)
		message := harness.ReplaceAllString(c[len(classes):], "")
		if len(message) < len(cause) && strings.HasSuffix(cause, message) {
			continue
		}
		cause = message
		class = classes[strings.LastIndex(strings.TrimSuffix(classes, ": "), ": ")+1:]
	}
	if class = strings.TrimSpace(class); class == "" || class == "java.lang.RuntimeException:" {
		return cause
	}
	return class + " " + cause
}
