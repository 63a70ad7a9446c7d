#!/bin/bash
# Process 1 of the guest. /run/job is the folder of this run on the host: it has
# the program, and takes its exit code.
export PATH=/run/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=dumb
mount -t proc proc /proc
mount -t sysfs sysfs /sys
for argument in $(</proc/cmdline); do
	case $argument in fairway_job=*) job=${argument#fairway_job=} ;; esac
done
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/job /run/bin /run/lock /run/netns /run/mods/lib/modules
mount -t hostfs none /run/job -o "$job"
for folder in /tmp /var/tmp /var/log /root; do mount -t tmpfs -o mode=1777 tmpfs $folder; done
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm

# Modules are not where modprobe looks for them, and come when they are needed.
ln -s "/usr/lib/uml/modules/$(uname -r)" /run/mods/lib/modules/
printf '#!/bin/sh\nexec /sbin/modprobe -d /run/mods "$@"\n' >/run/bin/modprobe
chmod 755 /run/bin/modprobe
echo /run/bin/modprobe >/proc/sys/kernel/modprobe

# A socket of IPv6 brings the module, but tests look for its sysctls first.
modprobe ipv6
# The default goes by memory, and is less than the flows of two minutes.
modprobe nf_conntrack
echo 1000000 >/proc/sys/net/netfilter/nf_conntrack_max
ip link set lo up
hostname uml
exec </dev/null >/dev/tty1 2>&1
stty -opost -F /dev/tty1
bash /run/job/command
code=$?
stty opost -F /dev/tty1 # waits until all is written
sync
echo $code >/run/job/code
echo o >/proc/sysrq-trigger
# The last process of a kernel must not end before that.
while :; do read -r -t 1 <>/dev/tty1; done
