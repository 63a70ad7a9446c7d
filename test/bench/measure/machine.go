package measure

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
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

// clockTick is the unit of times in /proc/<pid>/stat, on every architecture
// that Linux supports today (proc(5), sysconf(_SC_CLK_TCK)).
const clockTick = 10 * time.Millisecond

// CPUTime is how much of the processors a process has used.
func CPUTime(pid int) (time.Duration, error) {
	return statTimes(pid, utime, stime)
}

// CPUTimeWithChildren is that of a process and of the programs that it ran, or
// runs.
func CPUTimeWithChildren(pid int) (time.Duration, error) {
	for {
		ended, err := statTimes(pid, cutime, cstime)
		if err != nil {
			return 0, err
		}
		running, err := runningChildren(pid)
		if err != nil {
			return 0, err
		}
		own, err := processClock(pid)
		if err != nil {
			return 0, err
		}
		if now, err := statTimes(pid, cutime, cstime); err != nil || now == ended { // else one has ended meanwhile
			return own + ended + running, err
		}
	}
}

// processClock reads clock_getcpuclockid(3), which goes by nanoseconds.
func processClock(pid int) (time.Duration, error) {
	const sched = 2 // CPUCLOCK_SCHED
	var now unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|sched), &now); err != nil {
		return 0, fmt.Errorf("reading the processor clock of process %d: %w", pid, err)
	}
	return time.Duration(now.Nano()), nil
}

// runningChildren is what the children that a process has now have used.
func runningChildren(pid int) (used time.Duration, err error) {
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return 0, err
	}
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ESRCH) {
			return 0, fmt.Errorf("listing the children of process %d: %w", pid, err)
		}
		for _, word := range strings.Fields(string(text)) { // none of a thread that has ended
			child, err := strconv.Atoi(word)
			if err != nil {
				return 0, fmt.Errorf("listing the children of process %d: %w", pid, err)
			}
			if clock, err := processClock(child); err == nil { // or it has ended
				used += clock
			}
		}
	}
	return used, nil
}

// CPU is processor time: in the code of programs, and in the kernel on their
// behalf.
type CPU struct{ Programs, Kernel time.Duration }

// ReadCPU returns the time of a process and of the programs that it ran to their
// end in its two parts, which the kernel knows by ticks only.
func ReadCPU(pid int) (c CPU, err error) {
	if c.Programs, err = statTimes(pid, utime, cutime); err != nil {
		return CPU{}, err
	}
	c.Kernel, err = statTimes(pid, stime, cstime)
	return c, err
}

// Fields of /proc/<pid>/stat; the first has the number 1, as in proc(5).
const (
	utime  = 14
	stime  = 15
	cutime = 16
	cstime = 17
)

// statTimes is the sum of fields of /proc/<pid>/stat.
func statTimes(pid int, numbers ...int) (time.Duration, error) {
	path := fmt.Sprintf("/proc/%d/stat", pid)
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("reading the processor time of a process: %w", err)
	}
	// The second field, the name in parentheses, may have spaces. The first
	// one after it is number 3.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	var ticks int64
	for _, number := range numbers {
		if len(fields) < number-2 {
			return 0, fmt.Errorf("%s has %d fields after the name", path, len(fields))
		}
		n, err := strconv.ParseInt(fields[number-3], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", path, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * clockTick, nil
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
