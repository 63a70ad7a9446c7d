// Package program is what Fairway's long-running commands have in common:
// flags, version, log and signals.
package program

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
)

// Main parses the command line, for which the caller has defined its own
// flags, and calls run with a context that SIGTERM and SIGINT end. It exits
// with 1 if run returns an error and with 2 if the command line is wrong.
func Main(run func(ctx context.Context, log logr.Logger) error) {
	version := flag.Bool("version", false, "Print the version and exit")
	logOptions := zap.Options{}
	logOptions.BindFlags(flag.CommandLine)
	flag.Parse()
	switch {
	case flag.NArg() > 0:
		fmt.Fprintf(os.Stderr, "unexpected argument %q: there are only flags, see --help\n", flag.Arg(0))
		os.Exit(2)
	case *version:
		fmt.Println(Version())
		return
	}
	log := zap.New(zap.UseFlagOptions(&logOptions))
	ctrl.SetLogger(log)
	log.Info("Starting", "version", Version())
	if err := run(ctrl.SetupSignalHandler(), log); err != nil {
		log.Error(err, "Stopping")
		os.Exit(1)
	}
}

// Version is what the Go toolchain recorded of the source.
func Version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

// CollectAt has the garbage collector run when the heap has grown by percent,
// unless the environment variable GOGC says otherwise.
func CollectAt(percent int) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}

// EnvOr returns an environment variable, or the other value if it is empty.
func EnvOr(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}
