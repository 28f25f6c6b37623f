#!/bin/sh
# The guest's first process, or, under systemd, the service that does its work: mount what every machine has, mount what
# the host shares, do the job that the host gave, tell its exit status, and switch the machine off.
#
# The job is a shell script on the second name space of the disk (/dev/nvme0n2). It sets:
#   shares     the folders that the host shares, one a line: TAG PATH
#   terminal   `ROWS COLUMNS` where the job wants a terminal
#   job        a function: what is to be done
# The ports to the host are virtio-serial's: `out` and `err` for what the job says, `status` for what becomes of it.
set -u
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8

file_systems() {
    mount -t proc proc /proc
    mount -t sysfs sysfs /sys
    mountpoint -q /dev || mount -t devtmpfs devtmpfs /dev
    mkdir -p /dev/pts /dev/shm /dev/mqueue
    mount -t devpts -o ptmxmode=0666,mode=0620,gid=5 devpts /dev/pts
    mount -t tmpfs -o mode=1777 tmpfs /dev/shm
    mount -t mqueue mqueue /dev/mqueue
    mount -t tmpfs -o mode=0755 tmpfs /run
    mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
    mount -t securityfs securityfs /sys/kernel/security
    for link in fd:fd stdin:fd/0 stdout:fd/1 stderr:fd/2; do
        ln -sf "/proc/self/${link#*:}" "/dev/${link%%:*}"
    done
    echo sampan-vm >/proc/sys/kernel/hostname
    ip link set lo up
}

# What the kernel does not load by itself when it is asked for; overlay, bridge, veth and nf_tables it does.
modules() {
    modprobe -a virtio_pci virtio_console virtiofs tun loop
    chmod 0666 /dev/net/tun
}

# The device of one of the ports to the host.
port() {
    for name in /sys/class/virtio-ports/*/name; do
        if [ "$(cat "$name")" = "$1" ]; then
            name=${name%/name}
            echo "/dev/${name##*/}"
        fi
    done
}

# Each at its path on the host. What is written there goes to memory: the host's files stay as they are.
mount_shares() {
    echo "$shares" | while read -r tag path; do
        layers=/run/share/$tag
        mkdir -p "$layers" "$path"
        mount -t tmpfs -o mode=0755 tmpfs "$layers"
        mkdir "$layers/host" "$layers/upper" "$layers/work"
        mount -t virtiofs -o ro "$tag" "$layers/host"
        mount -t overlay -o "lowerdir=$layers/host,upperdir=$layers/upper,workdir=$layers/work" "$tag" "$path"
    done
}

do_job() {
    if [ -n "$terminal" ]; then
        # A terminal that controls the job, so that Ctrl-C reaches it.
        setsid -c sh -c ". /dev/nvme0n2; stty rows ${terminal% *} columns ${terminal#* }; job" \
            </dev/hvc0 >/dev/hvc0 2>&1
    else
        (job) </dev/null >"$(port out)" 2>"$(port err)"
    fi
}

if [ $$ = 1 ]; then
    file_systems
fi
modules
. /dev/nvme0n2
mount_shares
status=$(port status)
echo up >"$status"
do_job
echo "exit $?" >"$status"
# Nothing on the disk is kept, so nothing needs to be written to it first.
echo o >/proc/sysrq-trigger
while :; do sleep 1; done
