package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
)

// errElsewhere refuses what only the machine of a control plane can do.
var errElsewhere = errors.New("the control plane is elsewhere")

// connect makes a link of this machine a port of the switch.
func (n *network) connect(uplink string) error {
	link, err := netlink.LinkByName(uplink)
	if err == nil {
		err = netlink.LinkSetNsFd(link, int(n.handle))
	}
	if err == nil {
		err = n.Do(func() error {
			link, err := netlink.LinkByName(uplink) // its index may be another here
			if err != nil {
				return err
			}
			return errors.Join(netlink.LinkSetMaster(link, n.bridge), netlink.LinkSetUp(link))
		})
	}
	if err != nil {
		return fmt.Errorf("connect the switch by %s: %w", uplink, err)
	}
	return nil
}

// findControlPlane gets access to the control plane behind the uplink. Its
// process is none of this machine.
func (l *Lab) findControlPlane(ctx context.Context) (*Process, error) {
	kubeconfig, err := l.cp.Get(ctx, administratorURL(kubeconfigPath))
	if err != nil {
		return nil, fmt.Errorf("find the control plane: %w", err)
	}
	if err := os.MkdirAll(l.controlPlaneDir(), 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the control plane: %w", err)
	}
	if err := os.WriteFile(l.Kubeconfig(), []byte(kubeconfig), 0o600); err != nil {
		return nil, fmt.Errorf("write the admin's kubeconfig: %w", err)
	}
	return nil, nil
}

// askKubectl has kubectl run on the control plane's host.
func (l *Lab) askKubectl(ctx context.Context, stdin string, args []string) (string, error) {
	fail := func(err error) (string, error) {
		return "", fmt.Errorf("kubectl %s, elsewhere: %w", strings.Join(args, " "), err)
	}
	body, err := json.Marshal(kubectlRequest{Args: args, Stdin: stdin})
	if err != nil {
		return fail(err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, administratorURL(kubectlPath), bytes.NewReader(body))
	if err != nil {
		return fail(err)
	}
	response, err := (&http.Transport{DialContext: l.cp.DialContext, DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		return fail(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fail(errors.New(response.Status))
	}
	var answer kubectlAnswer
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return fail(err)
	}
	if answer.Error != "" {
		return answer.Output, errors.New(answer.Error)
	}
	return answer.Output, nil
}

func administratorURL(path string) string {
	return fmt.Sprintf("http://%s:%d%s", lanAddr4(controlPlaneNumber).Addr(), administratorPort, path)
}
