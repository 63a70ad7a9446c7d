// Command kubernetes is every upstream program that the tests need in one
// file: the name that it is called by, or its first argument, picks one.
// "controlplane" is ours: a whole control plane in one process.
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
)

func main() {
	if run(filepath.Base(os.Args[0])) {
		return
	}
	if len(os.Args) > 1 {
		os.Args = os.Args[1:]
		if run(os.Args[0]) {
			return
		}
	}
	usage(os.Stderr)
	os.Exit(2)
}

// run runs the named program with os.Args and returns when it ends without an
// error, or false if there is no such program.
func run(name string) bool {
	var command *cobra.Command
	switch name {
	case "controlplane":
		os.Exit(runControlPlane())
	case "etcd":
		etcdmain.Main(os.Args)
		return true
	case "kube-apiserver":
		command = apiserver.NewAPIServerCommand()
	case "kube-controller-manager":
		command = controllermanager.NewControllerManagerCommand()
	case "kube-proxy":
		command = proxy.NewProxyCommand()
	case "kubectl":
		if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
			kubectlutil.CheckErr(err)
		}
		return true
	case "-h", "--help", "help":
		usage(os.Stdout)
		return true
	default:
		return false
	}
	os.Exit(cli.Run(command))
	return true
}

func usage(out io.Writer) {
	fmt.Fprint(out, `Usage: kubernetes PROGRAM [flags], or a link named PROGRAM that points to this file.

Programs:
  controlplane             etcd, API server and controllers in one process, for tests
  etcd
  kube-apiserver
  kube-controller-manager
  kube-proxy
  kubectl
`)
}
