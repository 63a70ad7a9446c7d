package bgp

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// maxPassword is the longest TCP MD5 password in bytes that Linux takes
// (TCP_MD5SIG_MAXKEYLEN).
const maxPassword = 80

// password reads the TCP MD5 password (RFC 2385). A session that had one keeps
// it while its Secret cannot be read.
func (d *draft) password() *problem {
	conf := d.obj.Spec.Conf
	ref := conf.PasswordSecretRef
	if ref == nil {
		if err := checkPassword(conf.AuthPassword); err != nil && conf.AuthPassword != "" {
			return problemf(ReasonPasswordInvalid, "spec.conf.authPassword %v: set a shorter one on both sides", err)
		}
		d.peer.Password = conf.AuthPassword
		return nil
	}
	if conf.AuthPassword != "" {
		d.about.remarkf("spec.conf.authPassword has no effect beside passwordSecretRef")
	}
	key := cmp.Or(ref.Key, v1alpha2.DefaultPasswordKey)
	reason := ReasonPasswordMissing
	password, err := d.in.Password(ref.Name, key)
	if err == nil {
		if err = checkPassword(password); err != nil {
			reason, err = ReasonPasswordInvalid, fmt.Errorf("its key %s %w", key, err)
		}
	}
	if err == nil {
		d.peer.Password = password
		return nil
	}
	missing := problemf(reason, "spec.conf.passwordSecretRef: Secret %s: %v", ref.Name, err)
	last := d.lastPassword()
	if last == "" {
		missing.text += "; there is no session until it has the password"
		return missing
	}
	missing.text += "; the session goes on with the last good password"
	d.about.add(missing)
	d.peer.Password = last
	return nil
}

// lastPassword is the one that the same session had before.
func (d *draft) lastPassword() string {
	if d.in.Previous == nil {
		return ""
	}
	for _, p := range d.in.Previous.Peers {
		if p.Name == d.peer.Name && p.Address == d.peer.Address && p.Interface == d.peer.Interface {
			return p.Password
		}
	}
	return ""
}

func checkPassword(password string) error {
	switch n := len(password); {
	case n == 0:
		return errors.New("is empty")
	case n > maxPassword:
		return fmt.Errorf("has %d bytes, and TCP MD5 takes %d at most", n, maxPassword)
	}
	return nil
}
