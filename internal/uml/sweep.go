package uml

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// jobPrefix is how the folders of guests are called, with the process that
// started them.
const jobPrefix = "fairway-uml-"

func newJob() (string, error) {
	return os.MkdirTemp("", fmt.Sprintf("%s%d-", jobPrefix, os.Getpid()))
}

// sweep ends what is left of guests whose tests were killed, and removes their
// folders: processes of a guest do not end with that which is its kernel.
func sweep() error {
	var errs []error
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	errs = append(errs, err)
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		for argument := range bytes.SplitSeq(line, []byte{0}) {
			job, found := strings.CutPrefix(string(argument), jobArgument)
			if !found || !abandoned(job) {
				continue
			}
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			if err == nil {
				err = syscall.Kill(pid, syscall.SIGKILL)
			}
			if err != nil && !errors.Is(err, syscall.ESRCH) && !errors.Is(err, os.ErrPermission) {
				errs = append(errs, fmt.Errorf("end what is left of the guest %s: %w", job, err))
			}
		}
	}
	jobs, err := filepath.Glob(filepath.Join(os.TempDir(), jobPrefix+"*"))
	errs = append(errs, err)
	for _, job := range jobs {
		if !abandoned(job) {
			continue
		}
		if err := os.RemoveAll(job); !errors.Is(err, os.ErrPermission) { // another user's
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// abandoned tells whether a folder is of a process that is no more.
func abandoned(job string) bool {
	name, found := strings.CutPrefix(filepath.Base(job), jobPrefix)
	owner, _, _ := strings.Cut(name, "-")
	pid, err := strconv.Atoi(owner)
	return found && err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}
