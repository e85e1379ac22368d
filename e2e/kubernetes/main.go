// One binary holding every Kubernetes process of the local cluster: etcd, the control plane, the
// kubelet, kube-proxy and kubectl. It dispatches on its own name (a symlink called kubectl is
// kubectl) or on its first argument, so one build and one file serve all of them.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

func command(component string) *cobra.Command {
	switch component {
	case "kube-apiserver":
		return apiserver.NewAPIServerCommand()
	case "kube-controller-manager":
		return controllers.NewControllerManagerCommand()
	case "kube-scheduler":
		return scheduler.NewSchedulerCommand()
	case "kubelet":
		return kubelet.NewKubeletCommand(context.Background())
	case "kube-proxy":
		return proxy.NewProxyCommand()
	case "kubectl":
		return kubectl.NewDefaultKubectlCommand()
	}
	return nil
}

func main() {
	component := filepath.Base(os.Args[0])
	if command(component) == nil && component != "etcd" && len(os.Args) > 1 {
		os.Args = os.Args[1:]
		component = os.Args[0]
	}
	if component == "etcd" {
		etcdmain.Main(os.Args)
		return
	}
	c := command(component)
	if c == nil {
		fmt.Fprintf(os.Stderr, "unknown component %q: etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubelet, kube-proxy or kubectl\n", component)
		os.Exit(2)
	}
	os.Exit(cli.Run(c))
}
