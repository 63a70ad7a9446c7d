package lab

import (
	"slices"
	"strings"
)

// frrChanges are the commands that lead from one configuration to another: "no"
// and the line for what is not there any more, in reverse order because later
// lines depend on earlier ones, then the new lines.
func frrChanges(before, after string) []string {
	old, wanted := frrLines(before), frrLines(after)
	var commands []string
	for i, line := range slices.Backward(old) {
		block, text := line[:len(line)-1], line[len(line)-1]
		switch {
		case len(block) > 0 && !containsLine(wanted, block):
			// It goes with its block.
		case frrKnows(old[:i], text) && !frrKnows(wanted, text):
			// It goes with its neighbor, which the first line about it made.
		case !containsLine(wanted, line) && !frrReplaces(wanted, text):
			commands = append(append(commands, block...), frrNo(text))
		}
	}
	for _, line := range wanted {
		if !containsLine(old, line) {
			commands = append(commands, line...)
		}
	}
	return commands
}

// frrKnows tells whether a line is about the neighbor that the text is about.
func frrKnows(lines [][]string, text string) bool {
	fields := strings.Fields(text)
	if fields[0] != "neighbor" {
		return false
	}
	return slices.ContainsFunc(lines, func(line []string) bool {
		others := strings.Fields(line[len(line)-1])
		return others[0] == "neighbor" && others[1] == fields[1]
	})
}

// frrReplaces tells whether a line has another value in the place of the text's.
// "no" and the old AS would take the whole neighbor away, the old profile BFD's
// session.
func frrReplaces(lines [][]string, text string) bool {
	return slices.ContainsFunc([]string{" remote-as ", " bfd profile "}, func(key string) bool {
		what, _, isKey := strings.Cut(text, key)
		return isKey && slices.ContainsFunc(lines, func(line []string) bool {
			return strings.HasPrefix(line[len(line)-1], what+key)
		})
	})
}

// frrNo is the command that takes a line back.
func frrNo(text string) string {
	if positive, negated := strings.CutPrefix(text, "no "); negated {
		return positive
	}
	// "no" and the whole line would leave BFD with its default profile.
	who, _, _ := strings.Cut(text, " profile ")
	return "no " + who
}

func containsLine(lines [][]string, line []string) bool {
	return slices.ContainsFunc(lines, func(other []string) bool { return slices.Equal(other, line) })
}

// frrLines are the lines of a configuration, each after the heads of the blocks
// that it is in. Indentation makes the blocks.
func frrLines(text string) [][]string {
	var lines [][]string
	var heads []string
	for line := range strings.Lines(text) {
		depth := len(line) - len(strings.TrimLeft(line, " "))
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "exit") {
			continue
		}
		heads = append(slices.Clone(heads[:min(depth, len(heads))]), line)
		lines = append(lines, heads)
	}
	return lines
}
