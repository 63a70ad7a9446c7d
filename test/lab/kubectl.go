package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Kubectl runs kubectl as the administrator on the control-plane host, in the
// repository's folder, and returns what it printed. The error quotes stderr.
func (l *Lab) Kubectl(ctx context.Context, stdin string, args ...string) (string, error) {
	if _, err := l.getCluster(); err != nil {
		return "", err
	}
	if l.opts.Uplink != "" {
		return l.askKubectl(ctx, stdin, args)
	}
	program, err := l.Program("kubectl")
	if err != nil {
		return "", err
	}
	cmd := l.cp.Command(ctx, program, append([]string{"--kubeconfig", l.Kubeconfig()}, args...)...)
	cmd.Dir = l.opts.Root
	cmd.Stdin = strings.NewReader(stdin)
	// Its cache of the API's kinds would outlive the lab, and the next lab has
	// the same address.
	cmd.Env = append(cmd.Env, "KUBECACHEDIR="+filepath.Join(l.state.dir, "kubecache"))
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.String(), nil
}

// tokenLifetime is longer than any lab that is not kept, so nothing renews.
const tokenLifetimeSeconds = 24 * 60 * 60

// KubeconfigFor writes a kubeconfig with a token of a ServiceAccount, so that a
// program runs with the rights that it has in a real cluster. Returns its path.
func (l *Lab) KubeconfigFor(ctx context.Context, namespace, serviceAccount string) (string, error) {
	c, err := l.getCluster()
	if err != nil {
		return "", err
	}
	seconds := int64(tokenLifetimeSeconds)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}
	token, err := c.client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, serviceAccount, request, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("get a token for ServiceAccount %s/%s: %w", namespace, serviceAccount, err)
	}
	path := filepath.Join(l.state.dir, fmt.Sprintf("%s.%s.kubeconfig", namespace, serviceAccount))
	config := clientcmdapi.NewConfig()
	config.Clusters["lab"] = &clientcmdapi.Cluster{Server: c.config.Host, CertificateAuthorityData: c.config.CAData}
	config.AuthInfos[serviceAccount] = &clientcmdapi.AuthInfo{Token: token.Status.Token}
	config.Contexts["lab"] = &clientcmdapi.Context{Cluster: "lab", AuthInfo: serviceAccount, Namespace: namespace}
	config.CurrentContext = "lab"
	if err := writeWhole(path, *config); err != nil {
		return "", fmt.Errorf("write the kubeconfig of ServiceAccount %s/%s: %w", namespace, serviceAccount, err)
	}
	return path, nil
}

// writeWhole replaces a kubeconfig that a program may be reading: the speakers of
// all nodes have the same, which is written for each.
func writeWhole(path string, config clientcmdapi.Config) (err error) {
	content, err := clientcmd.Write(config)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(content)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
