/* The floor: the system calls that a container costs, and nothing else.
 *
 *   floor [--cgroup DIR]... [--no-network] [--seccomp] ROOTFS COMMAND [ARGUMENT]...
 *   floor --peak COMMAND [ARGUMENT]...
 *
 * What runc's default config.json asks for, written down as plain calls: nothing is read, parsed, checked, logged or kept. No
 * runtime can be faster than this; `cargo kit bench start` says by how much each is slower. It runs what it is told by whoever
 * measures, as root, and trusts it: it is a yardstick and no runtime.
 *
 * The parent: mkdir for each cgroup, clone3 with all namespaces into the cgroup of version 2, wait, rmdir.
 * The child: version 1 cgroups -> private mounts -> root, /proc, /dev, /sys, the cgroups -> pivot_root -> masked and read-only
 * paths -> lo up -> limits, bounding set, user, capabilities, no_new_privs, filter -> exec.
 *
 * See clone3(2), mount(2), pivot_root(2), capabilities(7), seccomp(2). Built by the bench: cc -O2 -static.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST_CGROUPS 16

static const char *cgroups[MOST_CGROUPS];
static int cgroup_count, network = 1, seccomp;

static void die(const char *call, const char *operand) {
	fprintf(stderr, "floor: %s %s: %s\n", call, operand, strerror(errno));
	exit(125);
}

/* A call that must succeed. */
#define DO(call, operand)              \
	do {                               \
		if ((call) == -1)              \
			die(#call, operand);       \
	} while (0)

static void put(const char *directory, const char *name, const char *text) {
	char path[4096];
	snprintf(path, sizeof path, "%s/%s", directory, name);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd == -1 || write(fd, text, strlen(text)) == -1)
		die("write", path);
	close(fd);
}

static int has(const char *directory, const char *name) {
	char path[4096];
	snprintf(path, sizeof path, "%s/%s", directory, name);
	return access(path, F_OK) == 0;
}

/* What runc's default lets a container have: the first rule of config.json denies all, these are always added. */
static void device_rules(const char *directory) {
	static const char *const allowed[] = {"c *:* m",   "b *:* m",   "c 1:3 rwm", "c 1:5 rwm",  "c 1:7 rwm",   "c 1:8 rwm",
										  "c 1:9 rwm", "c 5:0 rwm", "c 5:2 rwm", "c 136:* rwm"};
	put(directory, "devices.deny", "a");
	for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++)
		put(directory, "devices.allow", allowed[i]);
}

/* A new cpuset allows nothing, and nobody may enter it: it gets what the one above it has. */
static void inherit(const char *directory, const char *name) {
	char path[4096], text[4096];
	snprintf(path, sizeof path, "%s/../%s", directory, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = fd == -1 ? -1 : read(fd, text, sizeof text - 1);
	if (length == -1)
		die("read", path);
	close(fd);
	text[length] = 0;
	put(directory, name, text);
}

static int make_cgroups(void) {
	int into = -1;
	for (int i = 0; i < cgroup_count; i++) {
		DO(mkdir(cgroups[i], 0755), cgroups[i]);
		if (!has(cgroups[i], "tasks"))
			DO(into = open(cgroups[i], O_PATH | O_DIRECTORY | O_CLOEXEC), cgroups[i]);
		else if (has(cgroups[i], "devices.deny"))
			device_rules(cgroups[i]);
		else if (has(cgroups[i], "cpuset.cpus")) {
			inherit(cgroups[i], "cpuset.cpus");
			inherit(cgroups[i], "cpuset.mems");
		}
	}
	return into;
}

/* Version 2 was entered by being born there. */
static void enter_cgroups(void) {
	for (int i = 0; i < cgroup_count; i++)
		if (has(cgroups[i], "tasks"))
			put(cgroups[i], "tasks", "0");
}

static void mount_at(const char *type, const char *target, unsigned long flags, const char *data) {
	DO(mount(type, target, type, flags, data), target);
}

/* Binds a path onto itself, read-only from there on. */
static void protect(const char *path) {
	if (mount(path, path, NULL, MS_BIND | MS_REC, NULL) == 0)
		DO(mount(NULL, path, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_REC, NULL), path);
	else if (errno != ENOENT)
		die("mount", path);
}

static void cover(const char *path) {
	if (mount("/dev/null", path, NULL, MS_BIND, NULL) == 0 || errno == ENOENT)
		return;
	if (errno != ENOTDIR)
		die("mount", path);
	mount_at("tmpfs", path, MS_RDONLY, "");
}

static void show_cgroups(void) {
	char target[4096];
	mount_at("tmpfs", "sys/fs/cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755");
	for (int i = 0; i < cgroup_count; i++) {
		snprintf(target, sizeof target, "sys/fs/cgroup/%d", i);
		DO(mkdir(target, 0755), target);
		DO(mount(cgroups[i], target, NULL, MS_BIND, NULL), target);
		unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY;
		DO(mount(NULL, target, NULL, MS_BIND | MS_REMOUNT | flags, NULL), target);
	}
	unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY;
	DO(mount(NULL, "sys/fs/cgroup", NULL, MS_BIND | MS_REMOUNT | flags, NULL), "sys/fs/cgroup");
}

static void make_devices(void) {
	static const struct {
		const char *path;
		int major, minor;
	} nodes[] = {{"dev/null", 1, 3},   {"dev/zero", 1, 5},    {"dev/full", 1, 7},
				 {"dev/random", 1, 8}, {"dev/urandom", 1, 9}, {"dev/tty", 5, 0}};
	static const char *const links[][2] = {{"/proc/self/fd", "dev/fd"},
										   {"/proc/self/fd/0", "dev/stdin"},
										   {"/proc/self/fd/1", "dev/stdout"},
										   {"/proc/self/fd/2", "dev/stderr"},
										   {"pts/ptmx", "dev/ptmx"}};
	for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++)
		DO(mknod(nodes[i].path, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)), nodes[i].path);
	for (size_t i = 0; i < sizeof links / sizeof *links; i++)
		DO(symlink(links[i][0], links[i][1]), links[i][1]);
}

static void enter_root(const char *rootfs) {
	static const char *const masked[] = {"/proc/acpi",        "/proc/asound",      "/proc/kcore",       "/proc/keys",
										 "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
										 "/sys/firmware",     "/proc/scsi"};
	static const char *const readonly[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
	const unsigned long strict = MS_NOSUID | MS_NODEV | MS_NOEXEC;
	DO(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "/");
	DO(mount(rootfs, rootfs, NULL, MS_BIND, NULL), rootfs);
	DO(chdir(rootfs), rootfs);
	mount_at("proc", "proc", 0, NULL);
	mount_at("tmpfs", "dev", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k");
	DO(mkdir("dev/pts", 0755), "dev/pts");
	DO(mkdir("dev/shm", 01777), "dev/shm");
	DO(mkdir("dev/mqueue", 0755), "dev/mqueue");
	mount_at("devpts", "dev/pts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5");
	mount_at("tmpfs", "dev/shm", strict, "mode=1777,size=65536k");
	mount_at("mqueue", "dev/mqueue", strict, NULL);
	if (network)
		mount_at("sysfs", "sys", strict | MS_RDONLY, NULL);
	else
		DO(mount("/sys", "sys", NULL, MS_BIND | MS_REC, NULL), "sys");
	if (cgroup_count > 0 && network)
		show_cgroups();
	make_devices();
	DO(syscall(SYS_pivot_root, ".", "."), rootfs);
	DO(umount2(".", MNT_DETACH), "the old root");
	DO(chdir("/"), "/");
	for (size_t i = 0; i < sizeof readonly / sizeof *readonly; i++)
		protect(readonly[i]);
	for (size_t i = 0; i < sizeof masked / sizeof *masked; i++)
		cover(masked[i]);
	DO(mount(NULL, "/", NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL), "/");
}

static void loopback_up(void) {
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	DO(fd, "AF_INET");
	DO(ioctl(fd, SIOCSIFFLAGS, &request), "lo");
	close(fd);
}

/* What Docker's default forbids to a container without capabilities, as a list of comparisons; the rest is allowed. */
static void install_filter(void) {
	static const unsigned short forbidden[] = {
		SYS_acct,          SYS_add_key,      SYS_bpf,           SYS_clock_adjtime,     SYS_clock_settime, SYS_create_module,
		SYS_delete_module, SYS_finit_module, SYS_fsconfig,      SYS_fsmount,           SYS_fsopen,        SYS_fspick,
		SYS_init_module,   SYS_ioperm,       SYS_iopl,          SYS_kexec_file_load,   SYS_kexec_load,    SYS_keyctl,
		SYS_lookup_dcookie, SYS_mbind,       SYS_mount,         SYS_mount_setattr,     SYS_move_mount,    SYS_move_pages,
		SYS_nfsservctl,    SYS_open_by_handle_at, SYS_open_tree, SYS_perf_event_open,  SYS_personality,   SYS_pivot_root,
		SYS_process_vm_readv, SYS_process_vm_writev, SYS_ptrace, SYS_query_module,     SYS_quotactl,      SYS_reboot,
		SYS_request_key,   SYS_set_mempolicy, SYS_setns,        SYS_settimeofday,      SYS_swapon,        SYS_swapoff,
		SYS_sysfs,         SYS__sysctl,      SYS_umount2,       SYS_unshare,           SYS_uselib,        SYS_userfaultfd,
		SYS_ustat,         SYS_vhangup};
	enum { COUNT = sizeof forbidden / sizeof *forbidden };
	struct sock_filter program[COUNT + 3];
	program[0] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	for (int i = 0; i < COUNT; i++)
		program[i + 1] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, forbidden[i], COUNT - i, 0);
	program[COUNT + 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	program[COUNT + 2] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
	struct sock_fprog filter = {.len = COUNT + 3, .filter = program};
	DO(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter), "filter");
}

static void restrict_process(void) {
	const unsigned kept = 1u << CAP_AUDIT_WRITE | 1u << CAP_KILL | 1u << CAP_NET_BIND_SERVICE;
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct sets[2] = {{.effective = kept, .permitted = kept, .inheritable = 0}};
	struct rlimit files = {1024, 1024};
	DO(setrlimit(RLIMIT_NOFILE, &files), "nofile");
	for (int capability = 0; prctl(PR_CAPBSET_READ, capability) >= 0; capability++)
		if (capability > 31 || !(kept & 1u << capability))
			DO(prctl(PR_CAPBSET_DROP, capability), "bounding set");
	DO(prctl(PR_SET_KEEPCAPS, 1), "");
	DO(setgroups(0, NULL), "");
	DO(setresgid(0, 0, 0), "0");
	DO(setresuid(0, 0, 0), "0");
	DO(syscall(SYS_capset, &header, sets), "");
	DO(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "");
	if (seccomp)
		install_filter();
}

static int child(const char *rootfs, char **command) {
	enter_cgroups();
	umask(0);
	DO(setsid(), "");
	enter_root(rootfs);
	umask(022);
	DO(sethostname("bench", 5), "bench");
	if (network)
		loopback_up();
	restrict_process();
	execvp(command[0], command);
	die("execve", command[0]);
	return 127;
}

/* Runs a command and prints the most memory, in KiB, that it or one of its children held. A process begins with the count of
 * the one that made it: that is why it is made here, by a small one. */
static int print_peak(char **command) {
	struct rusage usage;
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
		DO(dup2(null, 1), "1");
		execvp(command[0], command);
		die("execve", command[0]);
	}
	DO(pid, "");
	DO(wait4(pid, &status, 0, &usage), "");
	long long microseconds = (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000LL + usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
	printf("%ld %lld\n", usage.ru_maxrss, microseconds);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(int argc, char **argv) {
	int at = 1, status;
	if (argc > 2 && strcmp(argv[1], "--peak") == 0)
		return print_peak(argv + 2);
	for (; at < argc && strncmp(argv[at], "--", 2) == 0; at++) {
		if (strcmp(argv[at], "--no-network") == 0)
			network = 0;
		else if (strcmp(argv[at], "--seccomp") == 0)
			seccomp = 1;
		else if (strcmp(argv[at], "--cgroup") == 0 && at + 1 < argc && cgroup_count < MOST_CGROUPS)
			cgroups[cgroup_count++] = argv[++at];
		else
			die("no such option", argv[at]);
	}
	if (argc - at < 2) {
		fprintf(stderr, "usage: floor [--cgroup DIR]... [--no-network] [--seccomp] ROOTFS COMMAND [ARGUMENT]...\n");
		return 125;
	}
	int into = make_cgroups();
	struct clone_args args = {
		.flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | (network ? CLONE_NEWNET : 0) |
				 (into == -1 ? 0 : CLONE_INTO_CGROUP),
		.exit_signal = SIGCHLD,
		.cgroup = into == -1 ? 0 : (unsigned long long)into,
	};
	pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof args);
	if (pid == 0)
		return child(argv[at], argv + at + 1);
	DO(pid, "");
	DO(waitpid(pid, &status, 0), "");
	for (int i = cgroup_count; i-- > 0;)
		DO(rmdir(cgroups[i]), cgroups[i]);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
