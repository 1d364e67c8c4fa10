/*
 * utcp.c - the launcher: `utcp [options] command...` runs a command with
 * libutcp.so preloaded.
 *
 * It checks everything that can be checked before the command starts, because
 * afterwards the library can only fall back to the kernel: options and
 * configuration (config.c, the same code as in the library), the device and
 * the right to use it, the capture, and whether the command would drop the
 * preloading. One line and exit status 2 if something is wrong; 126 and 127 as
 * env(1) when the command itself cannot be run.
 *
 * Options travel to the library as UTCP_* variables. Then exec: no process of
 * ours stays between the command and its parent.
 */
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <linux/capability.h>
#include <net/if.h>
#include <pcap/pcap.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "preload/preload.h"

#define EXIT_USAGE	2
#define EXIT_CANNOT_RUN 126
#define EXIT_NOT_FOUND	127

static const char help[] =
    "Usage: utcp [options] command [argument...]\n"
    "Run a command; its TCP runs on a stack of its own instead of the kernel's.\n"
    "\n"
    "  -d, --device DEV        tap:NAME, packet:INTERFACE or none (tap:utcp0)\n"
    "  -a, --address ADDR/LEN  the stack's own address (10.77.0.2/24)\n"
    "  -g, --gateway ADDR      router to everything outside that network (none)\n"
    "  -c, --congestion-control NAME   cubic or reno (cubic)\n"
    "      --loopback WHO      stack or kernel: whose are 127.0.0.0/8 and ::1 (kernel)\n"
    "  -w, --write FILE        capture the stack's frames, for tcpdump or Wireshark\n"
    "      --stack NAME        share the stack of that name with other commands (the device's);\n"
    "                          none: a stack of its own\n"
    "      --rule RULE         use stack|kernel client|server ADDR/LEN[:PORTS]\n"
    "  -q                      no line at the end about connections that used the kernel\n"
    "  -v                      the stack's figures at the end\n"
    "      --version, --help\n"
    "\n"
    "Without options a TAP utcp0 is made, which needs root or CAP_NET_ADMIN:\n"
    "  sudo utcp -w /tmp/x.pcap curl http://10.77.0.1/\n"
    "More in utcp(1), utcp.conf(5) and libutcp(7).\n";

__attribute__((format(printf, 2, 3), noreturn)) static void die(int status, const char *fmt, ...)
{
	char line[8192];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	for (char *p = line; *p; p++)
		if ((unsigned char)*p < ' ')
			*p = '?';
	fprintf(stderr, "utcp: %s\n", line);
	exit(status);
}

static void put_env(const char *name, const char *value)
{
	if (setenv(name, value, 1) < 0)
		die(EXIT_USAGE, "no memory for the environment; raise the limit on memory");
}

/* ------------------------------------------------------------------ options */

struct options {
	const char *rules; /* every --rule, joined by ';' */
	char report;	   /* '0' -q, '1', '2' -v */
};

/* Check a value now, so that the error names the option, and hand it on (with a variable). */
static void option_take(const char *option, const char *key, const char *variable, const char *value)
{
	static struct config scratch;
	char why[4096];

	config_defaults(&scratch);
	if (!value[0])
		die(EXIT_USAGE, "%s: empty; write a value or leave the option out", option);
	if (config_set(&scratch, key, value, option, why, sizeof why))
		die(EXIT_USAGE, "%s", why);
	if (variable)
		put_env(variable, value);
}

static void rule_take(struct options *o, const char *value)
{
	char *joined;

	option_take("--rule", "rule", NULL, value);
	if (asprintf(&joined, "%s%s%s", o->rules ? o->rules : "", o->rules ? ";" : "", value) < 0)
		die(EXIT_USAGE, "no memory for the rules; raise the limit on memory");
	o->rules = joined;
}

/* Rules of the command line stand before those of the environment. */
static void rules_export(const struct options *o)
{
	const char *old = getenv("UTCP_RULES");
	char *all;

	if (!o->rules)
		return;
	if (asprintf(&all, "%s%s%s", o->rules, old && old[0] ? ";" : "", old ? old : "") < 0)
		die(EXIT_USAGE, "no memory for the rules; raise the limit on memory");
	put_env("UTCP_RULES", all);
	free(all);
}

static void options_read(int argc, char **argv, struct options *o)
{
	enum { OPT_RULE = 256, OPT_LOOPBACK, OPT_STACK, OPT_VERSION };
	static const struct option longs[] = {{"device", required_argument, NULL, 'd'},
					      {"address", required_argument, NULL, 'a'},
					      {"gateway", required_argument, NULL, 'g'},
					      {"write", required_argument, NULL, 'w'},
					      {"stack", required_argument, NULL, OPT_STACK},
					      {"congestion-control", required_argument, NULL, 'c'},
					      {"loopback", required_argument, NULL, OPT_LOOPBACK},
					      {"rule", required_argument, NULL, OPT_RULE},
					      {"quiet", no_argument, NULL, 'q'},
					      {"verbose", no_argument, NULL, 'v'},
					      {"version", no_argument, NULL, OPT_VERSION},
					      {"help", no_argument, NULL, 'h'},
					      {NULL, 0, NULL, 0}};
	int c, at = 1;

	opterr = 0;
	/* '+': stop at the command; ':': tell a missing value from an unknown option. */
	while ((c = getopt_long(argc, argv, "+:d:a:g:w:c:qvh", longs, NULL)) != -1) {
		switch (c) {
		case 'd':
			option_take("--device", "dev", "UTCP_DEV", optarg);
			break;
		case 'a':
			option_take("--address", "addr", "UTCP_ADDR", optarg);
			break;
		case 'g':
			option_take("--gateway", "gw", "UTCP_GW", optarg);
			break;
		case 'w':
			option_take("--write", "pcap", "UTCP_PCAP", optarg);
			break;
		case 'c':
			option_take("--congestion-control", "cc", "UTCP_CC", optarg);
			break;
		case OPT_LOOPBACK:
			option_take("--loopback", "loopback", "UTCP_LOOPBACK", optarg);
			break;
		case OPT_STACK:
			option_take("--stack", "stack", "UTCP_STACK", optarg);
			break;
		case OPT_RULE:
			rule_take(o, optarg);
			break;
		case 'q':
			o->report = '0';
			break;
		case 'v':
			o->report = '2';
			break;
		case OPT_VERSION:
			puts("utcp " UTCP_VERSION);
			exit(fflush(stdout) ? EXIT_USAGE : 0);
		case 'h':
			fputs(help, stdout);
			exit(fflush(stdout) ? EXIT_USAGE : 0);
		case ':':
			die(EXIT_USAGE, "option '%s' lacks its value; see utcp --help", argv[optind - 1]);
		default:
			if (optopt && optopt < 256 && argv[at][1] != '-')
				die(EXIT_USAGE, "unknown option '-%c'; see utcp --help", optopt);
			die(EXIT_USAGE, "unknown option '%s'; see utcp --help", argv[optind - 1]);
		}
		at = optind;
	}
	if (optind == argc)
		die(EXIT_USAGE, "no command; see utcp --help");
}

/* ------------------------------------------------------------------ files */

/* The command may change its directory before the library opens a file. */
static void make_absolute(const char *variable)
{
	const char *path = getenv(variable);
	char here[PATH_MAX], *full;

	if (!path || !path[0] || path[0] == '/')
		return;
	if (!getcwd(here, sizeof here) || asprintf(&full, "%s/%s", here, path) < 0)
		die(EXIT_USAGE, "%s: the current directory has no name; give an absolute path", variable);
	put_env(variable, full);
	free(full);
}

static void check_writable(const char *what, const char *path)
{
	int fd;

	if (!path[0])
		return;
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0644);
	/* A pipe that nobody reads yet, or a full disk, is not ours to judge. */
	if (fd < 0 && errno != ENXIO)
		die(EXIT_USAGE, "cannot write the %s %s (%s); choose another file", what, path,
		    strerror(errno));
	if (fd >= 0)
		close(fd);
}

/* Is libpcap there, and does it understand the filter? */
static void check_capture(const struct netio_config *n)
{
	void *lib;
	pcap_t *(*open_dead)(int, int);
	int (*compile)(pcap_t *, struct bpf_program *, const char *, int, bpf_u_int32);
	char *(*get_error)(pcap_t *);
	struct bpf_program program;
	pcap_t *p;

	if (!n->pcap_path[0])
		return;
	check_writable("capture", n->pcap_path);
	lib = dlopen("libpcap.so.0.8", RTLD_NOW | RTLD_LOCAL);
	if (!lib)
		lib = dlopen("libpcap.so.1", RTLD_NOW | RTLD_LOCAL);
	if (!lib)
		die(EXIT_USAGE, "libpcap is missing, so nothing can be captured; install libpcap0.8");
	if (!n->pcap_filter[0])
		return;
	*(void **)&open_dead = dlsym(lib, "pcap_open_dead");
	*(void **)&compile = dlsym(lib, "pcap_compile");
	*(void **)&get_error = dlsym(lib, "pcap_geterr");
	if (!open_dead || !compile || !get_error || !(p = open_dead(DLT_EN10MB, 65535)))
		die(EXIT_USAGE, "libpcap cannot be used; install libpcap0.8 afresh");
	if (compile(p, &program, n->pcap_filter, 1, PCAP_NETMASK_UNKNOWN) < 0)
		die(EXIT_USAGE, "UTCP_PCAP_FILTER: %s; see pcap-filter(7)", get_error(p));
}

/* ------------------------------------------------------------------ device */

static bool have_capability(unsigned cap)
{
	struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct d[2] = {{0, 0, 0}};

	return syscall(SYS_capget, &h, d) == 0 && d[cap / 32].effective & (1u << cap % 32);
}

/* A TAP that is not there yet is not made twice: only the right to make it is looked at. */
static void check_new_tap(const char *name)
{
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0 && (errno == ENOENT || errno == ENODEV || errno == ENXIO))
		die(EXIT_USAGE,
		    "/dev/net/tun is missing; load it with modprobe tun, or use packet:INTERFACE");
	if (fd < 0)
		die(EXIT_USAGE, "/dev/net/tun cannot be opened (%s); run as root", strerror(errno));
	close(fd);
	if (!have_capability(CAP_NET_ADMIN))
		die(EXIT_USAGE,
		    "no permission to make the TAP %s; run as root, or make it once: "
		    "ip tuntap add %s mode tap user $USER",
		    name, name);
}

/* What is tried without a device is only the memory. */
static void without_device(struct netio_config *trial)
{
	memcpy(trial->device, "none", sizeof "none");
	memcpy(trial->stack_name, "none", sizeof "none");
	trial->stack.addr = ipaddr_v4(127, 0, 0, 1);
	trial->stack.prefix_len = 32;
	trial->stack.gateway = ipaddr_v4(0, 0, 0, 0);
	trial->mtu_set = false;
}

/* Anything else is opened as the library will, and closed again. */
static void check_device(const struct config *c)
{
	static struct netio_config trial;
	char why[1024] = "it cannot be used; choose another device with -d";

	if (c->off)
		return;
	trial = c->net;
	trial.pcap_path[0] = '\0'; /* the file is not to be begun twice */
	if (config_no_device(c)) {
		without_device(&trial);
	} else if (!strncmp(c->net.device, "tap:", 4) && !if_nametoindex(c->net.device + 4)) {
		check_new_tap(c->net.device + 4);
		without_device(&trial);
	}
	if (netio_try(&trial, why, sizeof why))
		die(EXIT_USAGE, "%s", why);
}

/* ------------------------------------------------------------------ command */

/* What execvp() would run; false with errno as it would leave it. */
static bool command_find(const char *name, char *out)
{
	const char *path = getenv("PATH");
	int err = ENOENT;

	if (strchr(name, '/')) {
		size_t n = strlen(name);

		if (n >= PATH_MAX) {
			errno = ENAMETOOLONG;
			return false;
		}
		memcpy(out, name, n + 1);
		return access(name, X_OK) == 0;
	}
	for (const char *p = path ? path : "/bin:/usr/bin";; p++) {
		size_t n = strcspn(p, ":");
		struct stat st;

		/* An empty element is the current directory. */
		int len = snprintf(out, PATH_MAX, "%.*s%s%s", (int)n, p, n ? "/" : "", name);
		if (len < PATH_MAX && stat(out, &st) == 0 && S_ISREG(st.st_mode)) {
			if (access(out, X_OK) == 0)
				return true;
			err = EACCES;
		}
		p += n;
		if (!*p)
			break;
	}
	errno = err;
	return false;
}

/* The dynamic linker ignores LD_PRELOAD when the kernel raises privileges at exec (AT_SECURE). */
static void check_privileges(const char *path, int fd)
{
	struct stat st;
	struct statvfs fs;

	if (fstat(fd, &st) < 0 || (fstatvfs(fd, &fs) == 0 && fs.f_flag & ST_NOSUID))
		return;
	if ((st.st_mode & S_ISUID && st.st_uid != getuid()) ||
	    ((st.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && st.st_gid != getgid()))
		die(EXIT_USAGE,
		    "%s is setuid or setgid, so it ignores preloading; run utcp itself with those "
		    "rights (sudo utcp ...)",
		    path);
	if (getuid() != 0 && fgetxattr(fd, "security.capability", NULL, 0) > 0)
		die(EXIT_USAGE,
		    "%s has file capabilities, so it ignores preloading; run utcp as root, or "
		    "a copy of the file without them",
		    path);
}

#ifdef __x86_64__
#define OUR_MACHINE EM_X86_64
#elif defined(__aarch64__)
#define OUR_MACHINE EM_AARCH64
#else
#error "utcp knows x86-64 and aarch64"
#endif

/* The kernel does not execute it; execvp() would have a shell read it. */
static void damaged(const char *path)
{
	die(EXIT_CANNOT_RUN, "%s: %s; the file is damaged", path, strerror(ENOEXEC));
}

/* Has it a dynamic linker, and one that can load our library? */
static void check_elf(const char *path, int fd, const Elf64_Ehdr *h)
{
	const char *base = strrchr(path, '/');
	char interp[PATH_MAX] = "";

	if (h->e_type != ET_EXEC && h->e_type != ET_DYN)
		damaged(path);
	if (h->e_ident[EI_CLASS] != ELFCLASS64 || h->e_machine != OUR_MACHINE)
		die(EXIT_USAGE,
		    "%s is built for another machine than libutcp.so; use a 64-bit native program", path);
	for (unsigned i = 0; i < h->e_phnum; i++) {
		Elf64_Phdr ph;

		if (pread(fd, &ph, sizeof ph, (off_t)(h->e_phoff + (uint64_t)i * h->e_phentsize)) !=
		    (ssize_t)sizeof ph)
			damaged(path);
		if (ph.p_type != PT_INTERP)
			continue;
		if (ph.p_filesz < 2 || ph.p_filesz >= sizeof interp ||
		    pread(fd, interp, ph.p_filesz, (off_t)ph.p_offset) != (ssize_t)ph.p_filesz)
			damaged(path);
		break;
	}
	/* The dynamic linker run as a command has no interpreter, and preloads. */
	if (!interp[0] && strncmp(base ? base + 1 : path, "ld-linux", 8) != 0)
		die(EXIT_USAGE, "%s is statically linked, so it ignores preloading; use a dynamic build",
		    path);
	if (strstr(interp, "ld-musl"))
		die(EXIT_USAGE, "%s is built for musl and cannot load libutcp.so; use a glibc build", path);
}

static void check_target(const char *path, int depth);

/* "#!/usr/bin/env -S name" and "#!/bin/sh": the interpreter is what runs. */
static void check_script(const char *head, size_t n, int depth)
{
	char line[256], found[PATH_MAX], *word, *next, *save = NULL;

	snprintf(line, sizeof line, "%.*s",
		 (int)MIN_OF(strcspn(head + 2, "\n"), MIN_OF(n - 2, sizeof line - 1)), head + 2);
	word = strtok_r(line, " \t", &save);
	if (!word || depth > 4)
		return;
	check_target(word, depth + 1);
	next = strrchr(word, '/');
	if (strcmp(next ? next + 1 : word, "env") != 0)
		return;
	do
		next = strtok_r(NULL, " \t", &save);
	while (next && (next[0] == '-' || strchr(next, '=')));
	if (next && command_find(next, found))
		check_target(found, depth + 1);
}

static void check_target(const char *path, int depth)
{
	union {
		Elf64_Ehdr elf;
		char text[256];
	} head = {.text = ""};
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	ssize_t n;

	if (fd < 0)
		return; /* executable but not readable: exec decides */
	n = read(fd, &head, sizeof head - 1);
	if (n >= SELFMAG && !memcmp(head.elf.e_ident, ELFMAG, SELFMAG)) {
		if (n < (ssize_t)sizeof head.elf)
			damaged(path);
		check_privileges(path, fd);
		check_elf(path, fd, &head.elf);
	} else if (n > 2 && head.text[0] == '#' && head.text[1] == '!') {
		check_script(head.text, (size_t)n, depth);
	}
	close(fd);
}

/* ------------------------------------------------------------------ preloading */

/* Beside the launcher (build tree), else where `make install` puts it. */
static void library_find(char *out)
{
	static const char *const places[] = {"libutcp.so", "../lib/libutcp.so",
#ifdef __x86_64__
					     "../lib/x86_64-linux-gnu/libutcp.so"
#else
					     "../lib/aarch64-linux-gnu/libutcp.so"
#endif
	};
	char self[PATH_MAX], path[PATH_MAX + 64];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	char *slash;

	if (n <= 0)
		die(EXIT_USAGE, "/proc is not mounted; mount it, or preload libutcp.so by LD_PRELOAD");
	self[n] = '\0';
	slash = strrchr(self, '/');
	if (slash)
		*slash = '\0';
	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		snprintf(path, sizeof path, "%s/%s", self, places[i]);
		if (access(path, R_OK) == 0 && realpath(path, out))
			return;
	}
	die(EXIT_USAGE, "libutcp.so is neither in %s nor in %s/../lib; run make or make install", self, self);
}

/*
 * The dynamic linker passes over a library that it cannot load, and the command would start without the
 * stack; or it dies of it, and the command with it. As a program the library prints its configuration, by the
 * same linker.
 */
static void library_check(const char *library)
{
	char *argv[] = {(char *)(uintptr_t)library, NULL};
	posix_spawn_file_actions_t quiet;
	int err, status = 0;
	pid_t pid;

	if (access(library, X_OK))
		return;
	unsetenv(NETIO_KEEPER_VARIABLE);
	posix_spawn_file_actions_init(&quiet);
	posix_spawn_file_actions_addopen(&quiet, 1, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_adddup2(&quiet, 1, 2);
	err = posix_spawn(&pid, library, &quiet, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&quiet);
	while (!err && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	/* No process to be had: that says nothing of the file. */
	if (err == EPERM || err == EAGAIN || err == ENOMEM || err == EMFILE || err == ENFILE)
		return;
	if (err || status)
		die(EXIT_USAGE, "%s is damaged; run make or make install again", library);
}

static void preload(void)
{
	const char *old = getenv("LD_PRELOAD");
	char library[PATH_MAX], *value;

	library_find(library);
	library_check(library);
	if (strpbrk(library, " :"))
		die(EXIT_USAGE, "the path %s has a space or colon, which LD_PRELOAD cannot carry; move it",
		    library);
	if (asprintf(&value, "%s%s%s", library, old && old[0] ? ":" : "", old ? old : "") < 0)
		die(EXIT_USAGE, "no memory for the environment; raise the limit on memory");
	put_env("LD_PRELOAD", value);
	free(value);
}

static void configuration_check(void)
{
	static const char *const files[] = {"UTCP_CONF", "UTCP_PCAP", "UTCP_LOG", "UTCP_STATS"};
	static struct config c;
	char why[8192];

	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		make_absolute(files[i]);
	if (config_load(&c, why, sizeof why))
		die(EXIT_USAGE, "%s", why);
	if (config_unknown(why, sizeof why))
		fprintf(stderr, "utcp: %s\n", why);
	check_capture(&c.net);
	check_writable("log", c.log_path);
	check_writable("file of counters", c.stats_path);
	check_device(&c);
}

int main(int argc, char **argv)
{
	struct options o = {.report = '1'};
	char path[PATH_MAX];
	char report[2] = "";

	options_read(argc, argv, &o);
	argv += optind;
	rules_export(&o);
	report[0] = o.report;
	put_env("UTCP_REPORT", report);
	configuration_check();
	if (!command_find(argv[0], path))
		die(errno == ENOENT || errno == ENOTDIR ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN,
		    "%s: %s; check the name and PATH", argv[0], strerror(errno));
	check_target(path, 0);
	preload();
	execvp(argv[0], argv);
	die(errno == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN, "%s: %s; check the file", argv[0],
	    strerror(errno));
}
