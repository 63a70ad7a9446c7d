package sysctl

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Result is what Apply has done.
type Result struct {
	Changed []Change
	// Warnings are about settings that the proxy works without, each an *Error.
	Warnings []error
}

// Change is a setting that was another.
type Change struct {
	Name     string
	From, To int
}

// Error is a setting that is not as it should be.
type Error struct {
	Setting
	File  string // with its root
	Found string // the value that it has, or "" if that is not known
	Err   error
}

// Error says which setting, what it is and should be, why, what was done about
// it, and what can be.
func (e *Error) Error() string {
	found := ""
	if e.Found != "" {
		found = " is " + e.Found + " and"
	}
	than := ""
	if e.AtLeast {
		than = "at least "
	}
	return fmt.Sprintf("%s%s should be %s%d, because %s: %v; %s", e.Name(), found, than, e.Value, e.Why, e.Err, e.remedy())
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func (e *Error) remedy() string {
	switch {
	case errors.Is(e.Err, errNeeded):
		return "set that one first"
	case errors.Is(e.Err, fs.ErrNotExist) && e.Module != "":
		return "load the kernel module " + e.Module + " on the node"
	case errors.Is(e.Err, fs.ErrNotExist):
		return "mount the file system it is in"
	case strings.HasPrefix(e.Path, sysctls):
		return fmt.Sprintf("run the speaker privileged, or on the node: sysctl -w %s=%d", e.Name(), e.Value)
	}
	return fmt.Sprintf("run the speaker privileged, or on the node: echo %d > /%s", e.Value, e.Path)
}

var (
	// errNeeded is that of a setting that would do harm without another.
	errNeeded = errors.New("is not as it should be, and without it this one does harm")
	// errNotKept is that of a kernel that takes a value and has another.
	errNotKept = errors.New("written without an error, and read again it is still so")
)

// Apply makes the settings below root, which is "/" but in tests, in their
// order. What is right already is only read, so files that cannot be written
// are no error then. The error is of all settings that are required and are not
// as they should be, each an *Error; the others are made all the same.
func Apply(root string, settings []Setting) (Result, error) { return apply(directory(root), settings) }

func apply(files files, settings []Setting) (Result, error) {
	var result Result
	var required []error
	failed := map[string]bool{}
	for _, s := range settings {
		found, err := "", error(nil)
		if s.Needs != "" && failed[s.Needs] {
			err = fmt.Errorf("%s %w", Setting{Path: s.Needs}.Name(), errNeeded)
		} else {
			found, err = s.apply(files, &result)
		}
		if err == nil || s.IfThere && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		failed[s.Path] = true
		err = &Error{s, files.name(s.Path), found, err}
		if s.Required {
			required = append(required, err)
		} else {
			result.Warnings = append(result.Warnings, err)
		}
	}
	return result, errors.Join(required...)
}

// apply makes one setting: read, compare, write, read again. It returns the
// value that was found last.
func (s Setting) apply(files files, result *Result) (found string, err error) {
	before, err := read(files, s.Path)
	if err != nil {
		return "", err
	}
	if s.good(before) {
		return "", nil
	}
	found = strconv.Itoa(before)
	if err := files.write(s.Path, strconv.Itoa(s.Value)); err != nil {
		return found, err
	}
	after, err := read(files, s.Path)
	if err != nil {
		return found, err
	}
	if !s.good(after) {
		return strconv.Itoa(after), errNotKept
	}
	result.Changed = append(result.Changed, Change{s.Name(), before, after})
	return "", nil
}

func read(files files, path string) (int, error) {
	text, err := files.read(path)
	if err != nil {
		return 0, err
	}
	value, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", files.name(path), err)
	}
	return value, nil
}

// files are what settings are read from and written to. Errors name the file.
type files interface {
	name(path string) string
	read(path string) (string, error)
	write(path, value string) error
}

// directory is the files below it.
type directory string

func (d directory) name(path string) string { return filepath.Join(string(d), path) }

func (d directory) read(path string) (string, error) {
	text, err := os.ReadFile(d.name(path))
	return string(text), err
}

// write makes no file: what the kernel does not have is not made by that.
func (d directory) write(path, value string) error {
	file, err := os.OpenFile(d.name(path), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(value)
	return errors.Join(err, file.Close())
}
