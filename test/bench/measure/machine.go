package measure

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
)

// Memory is what a process has of the machine's memory, in bytes.
type Memory struct {
	Resident int64 // now
	Peak     int64 // at most, since it started
}

// ReadMemory looks at a process.
func ReadMemory(pid int) (Memory, error) {
	path := fmt.Sprintf("/proc/%d/status", pid)
	text, err := os.ReadFile(path)
	if err != nil {
		return Memory{}, fmt.Errorf("reading the memory of a process: %w", err)
	}
	var m Memory
	if m.Resident, err = kibibytes(string(text), "VmRSS"); err != nil {
		return Memory{}, fmt.Errorf("%s: %w", path, err)
	}
	if m.Peak, err = kibibytes(string(text), "VmHWM"); err != nil {
		return Memory{}, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// Hardware names the machine: processor, number of cores, memory.
func Hardware() (string, error) {
	cpu, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "", fmt.Errorf("reading the processor's name: %w", err)
	}
	memory, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return "", fmt.Errorf("reading the size of the memory: %w", err)
	}
	model, ok := field(string(cpu), "model name")
	if !ok {
		model = runtime.GOARCH // not every architecture names its model
	}
	total, err := kibibytes(string(memory), "MemTotal")
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s, %d cores, %.1f GiB of memory", model, runtime.NumCPU(), float64(total)/(1<<30)), nil
}

// LoadAverage is how many processes wanted a processor in the last minute.
func LoadAverage() (string, error) {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "", fmt.Errorf("reading the load average: %w", err)
	}
	load, _, _ := strings.Cut(string(text), " ")
	return load, nil
}

// kibibytes reads a field as "1234 kB", and returns bytes.
func kibibytes(text, name string) (int64, error) {
	value, ok := field(text, name)
	if !ok {
		return 0, fmt.Errorf("there is no field %s", name)
	}
	n, err := strconv.ParseInt(strings.TrimSuffix(value, " kB"), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("field %s: %w", name, err)
	}
	return n << 10, nil
}

// field returns the value of the first line "name: value".
func field(text, name string) (string, bool) {
	for line := range strings.SplitSeq(text, "\n") {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value), true
		}
	}
	return "", false
}
