/*
 * config.c - the configuration: built-in values, utcp.conf, UTCP_* variables.
 *
 * One table (settings[]) says what can be set; the variable of a key is
 * "UTCP_" and the key in capitals. The launcher checks its options with the
 * same functions and hands them on as variables, so the order is: option,
 * variable, file, built-in value. Only rules add up: those of the variable
 * stand before those of the file, and the first match wins.
 *
 * Everything is strict: a value that is not understood is an error that names
 * its place ("UTCP_ADDR", "/etc/utcp.conf:3"), never a guess.
 *
 * It runs inside a foreign program, perhaps in its first connect(): files are
 * read by system calls, memory comes from mmap(), nothing is printed here.
 * Place in the flow: init.c and utcp.c -> here.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "preload/parse.h"

#define FILE_MAX 65536 /* a longer utcp.conf is a mistake */

/* ------------------------------------------------------------------ one function per kind of value */

struct setting {
	const char *key, *variable;
	int (*set)(struct config *c, const struct setting *s, const char *v, const struct complaint *w);
	void (*show)(const struct config *c, const struct setting *s, char *out, size_t len);
	size_t offset; /* of the field, for the generic kinds */
	uint32_t min, max;
	const char *what; /* completes "not ..." */
};

static void *field(const struct config *c, const struct setting *s)
{
	return (char *)(uintptr_t)c + s->offset;
}

static int set_text(struct config *c, const struct setting *s, const char *v, const struct complaint *w)
{
	size_t n = strlen(v);

	if (n >= s->max)
		return bad(w, "too long; at most %u characters", s->max - 1);
	memcpy(field(c, s), v, n + 1);
	return 0;
}

static void show_text(const struct config *c, const struct setting *s, char *out, size_t len)
{
	log_format(out, len, "%s", (const char *)field(c, s));
}

static int set_number(struct config *c, const struct setting *s, const char *v, const struct complaint *w)
{
	int64_t n = number_parse(v, strlen(v), s->max);

	if (n < (int64_t)s->min)
		return bad(w, "'%.32s' is not %s; write a number from %u to %u", v, s->what, s->min, s->max);
	*(uint32_t *)field(c, s) = (uint32_t)n;
	return 0;
}

static void show_number(const struct config *c, const struct setting *s, char *out, size_t len)
{
	log_format(out, len, "%u", *(uint32_t *)field(c, s));
}

static int set_require(struct config *c, const struct setting *s, const char *v, const struct complaint *w)
{
	(void)s;
	if ((v[0] != '0' && v[0] != '1') || v[1])
		return bad(w, "'%.32s' is neither yes nor no; write 1 or 0", v);
	c->require = v[0] == '1';
	return 0;
}

static void show_require(const struct config *c, const struct setting *s, char *out, size_t len)
{
	(void)s;
	log_format(out, len, "%d", c->require);
}

/* What the launcher asks the library to say at exit: -q 0, without an option 1, -v 2. */
static int set_report(struct config *c, const struct setting *s, const char *v, const struct complaint *w)
{
	(void)s;
	if (v[0] < '0' || v[0] > '2' || v[1])
		return bad(w, "'%.32s' is no level of reporting; write 0, 1 or 2", v);
	c->quiet = v[0] == '0';
	c->verbose = v[0] == '2';
	return 0;
}

static void show_report(const struct config *c, const struct setting *s, char *out, size_t len)
{
	(void)s;
	log_format(out, len, "%d", c->quiet ? 0 : c->verbose ? 2 : 1);
}

static int set_device(struct config *c, const struct setting *s, const char *v, const struct complaint *w)
{
	static const char *const kinds[] = {"tap:", "packet:", "mem:"};
	size_t n = 0;

	(void)s;
	c->off = strcmp(v, "none") == 0;
	if (c->off) {
		memcpy(c->net.device, "none", sizeof "none");
		return 0;
	}
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		if (!strncmp(v, kinds[i], strlen(kinds[i])))
			n = strlen(kinds[i]);
	if (!n)
		return bad(w, "'%.64s' is no device; write tap:NAME, packet:INTERFACE or none", v);
	/* IFNAMSIZ counts the final zero; the kernel refuses '/', ':' and white space in names. */
	size_t name = strlen(v + n);
	if (name == 0 || name > 15 || strpbrk(v + n, "/: \t%") || !strcmp(v + n, ".") || !strcmp(v + n, ".."))
		return bad(w, "'%.64s' is no interface name; use 1 to 15 characters without / : %% or spaces",
			   v + n);
	log_format(c->net.device, sizeof c->net.device, "%s", v);
	return 0;
}

static void show_device(const struct config *c, const struct setting *s, char *out, size_t len)
{
	(void)s;
	log_format(out, len, "%s", c->net.device);
}

static int set_loopback(struct config *c, const struct setting *s, const char *v, const struct complaint *w)
{
	(void)s;
	c->loopback = strcmp(v, "stack") == 0;
	if (!c->loopback && strcmp(v, "kernel") != 0)
		return bad(w, "'%.32s' is no place for loopback; write stack or kernel", v);
	return 0;
}

static void show_loopback(const struct config *c, const struct setting *s, char *out, size_t len)
{
	(void)s;
	log_format(out, len, "%s", c->loopback ? "stack" : "kernel");
}

/* Usable as one host's own IPv4 address? */
static bool addr_is_host(const struct ipaddr *a)
{
	const uint8_t *b = a->b + 12;

	return ipaddr_is_v4(a) && b[0] != 0 && b[0] != 127 && b[0] < 224;
}

static int set_addr(struct config *c, const struct setting *s, const char *v, const struct complaint *w)
{
	const char *slash = strchr(v, '/');
	struct ipaddr a;
	int64_t len;
	bool zeros = true, ones = true;

	(void)s;
	if (!addr_parse(v, slash ? (size_t)(slash - v) : strlen(v), &a))
		return bad(w, "'%.64s' is no address; write it as in 10.77.0.2/24", v);
	if (!ipaddr_is_v4(&a))
		return bad(w, "%.64s: the stack speaks IPv4 on the wire; give it an IPv4 address", v);
	if (!slash)
		return bad(w, "%.64s has no prefix length; write %.64s/24", v, v);
	len = number_parse(slash + 1, strlen(slash + 1), 32);
	if (len < 1)
		return bad(w, "'%.16s' is no prefix length; write 1 to 32", slash + 1);
	for (unsigned bit = 96 + (unsigned)len; bit < 128; bit++) {
		zeros &= !bit_is_set(&a, bit);
		ones &= bit_is_set(&a, bit);
	}
	/* RFC 3021: both addresses of a /31 are hosts. */
	if (!addr_is_host(&a) || (len < 31 && (zeros || ones)))
		return bad(w, "%.64s is no host's address; choose one inside the network", v);
	c->net.stack.addr = a;
	c->net.stack.prefix_len = (uint8_t)len;
	return 0;
}

static void show_addr(const struct config *c, const struct setting *s, char *out, size_t len)
{
	char text[64];

	(void)s;
	out[0] = '\0';
	if (ipaddr_is_any(&c->net.stack.addr))
		return;
	addr_show(&c->net.stack.addr, text, sizeof text);
	log_format(out, len, "%s/%u", text, c->net.stack.prefix_len);
}

static int set_gateway(struct config *c, const struct setting *s, const char *v, const struct complaint *w)
{
	struct ipaddr a;

	(void)s;
	if (!addr_parse(v, strlen(v), &a) || !addr_is_host(&a))
		return bad(w, "'%.64s' is no gateway; write an IPv4 address as in 10.77.0.1", v);
	c->net.stack.gateway = a;
	return 0;
}

static void show_gateway(const struct config *c, const struct setting *s, char *out, size_t len)
{
	(void)s;
	out[0] = '\0';
	if (!ipaddr_is_any(&c->net.stack.gateway))
		addr_show(&c->net.stack.gateway, out, len);
}

static int hex_digit(char ch)
{
	if (ch >= '0' && ch <= '9')
		return ch - '0';
	if (ch >= 'a' && ch <= 'f')
		return ch - 'a' + 10;
	if (ch >= 'A' && ch <= 'F')
		return ch - 'A' + 10;
	return -1;
}

static int set_mac(struct config *c, const struct setting *s, const char *v, const struct complaint *w)
{
	uint8_t mac[6], any = 0;

	(void)s;
	if (strlen(v) != 17)
		return bad(w, "'%.32s' is no MAC address; write it as in 02:00:00:00:00:02", v);
	for (int i = 0; i < 6; i++) {
		int hi = hex_digit(v[3 * i]), lo = hex_digit(v[3 * i + 1]);

		if (hi < 0 || lo < 0 || (i < 5 && v[3 * i + 2] != ':'))
			return bad(w, "'%.32s' is no MAC address; write it as in 02:00:00:00:00:02", v);
		mac[i] = (uint8_t)(hi << 4 | lo);
		any |= mac[i];
	}
	if (!any || mac[0] & 1)
		return bad(w, "%.32s is no single station's address; write it as in 02:00:00:00:00:02", v);
	memcpy(c->net.stack.mac, mac, 6);
	c->net.mac_set = true;
	return 0;
}

static void show_mac(const struct config *c, const struct setting *s, char *out, size_t len)
{
	const uint8_t *m = c->net.stack.mac;

	(void)s;
	out[0] = '\0';
	if (c->net.mac_set)
		log_format(out, len, "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
}

static int set_mtu(struct config *c, const struct setting *s, const char *v, const struct complaint *w)
{
	int64_t n = number_parse(v, strlen(v), s->max);

	if (n < (int64_t)s->min)
		return bad(w, "'%.32s' is not %s; write a number from %u to %u", v, s->what, s->min, s->max);
	c->net.stack.mtu = (uint16_t)n;
	c->net.mtu_set = true;
	return 0;
}

static void show_mtu(const struct config *c, const struct setting *s, char *out, size_t len)
{
	(void)s;
	out[0] = '\0';
	if (c->net.mtu_set)
		log_format(out, len, "%u", c->net.stack.mtu);
}

static int set_cc(struct config *c, const struct setting *s, const char *v, const struct complaint *w)
{
	int cc = stack_cc_by_name(v, strlen(v));

	(void)s;
	if (cc < 0)
		return bad(w, "'%.32s' is no congestion control of the stack; write cubic or reno", v);
	c->net.stack.cc = (uint8_t)cc;
	return 0;
}

static void show_cc(const struct config *c, const struct setting *s, char *out, size_t len)
{
	(void)s;
	log_format(out, len, "%s", stack_cc_name(c->net.stack.cc));
}

static int set_snaplen(struct config *c, const struct setting *s, const char *v, const struct complaint *w)
{
	int64_t n = number_parse(v, strlen(v), s->max);

	/* Less than Ethernet, IPv4 and TCP headers shows nothing of TCP. */
	if (n < 0 || (n > 0 && n < (int64_t)s->min))
		return bad(w, "'%.32s' is not %s; write 0 (whole frames) or %u to %u", v, s->what, s->min,
			   s->max);
	c->net.pcap_snaplen = (uint32_t)n;
	return 0;
}

static int set_rules(struct config *c, const struct setting *s, const char *v, const struct complaint *w)
{
	(void)s;
	return rules_parse(c, v, w);
}

static void show_rules(const struct config *c, const struct setting *s, char *out, size_t len)
{
	(void)s;
	rules_show(c, out, len);
}

/* ------------------------------------------------------------------ the table */

#define TEXT(f)                                                                                              \
	.set = set_text, .show = show_text, .offset = offsetof(struct config, f),                            \
	.max = sizeof((struct config *)0)->f
#define NUMBER(f) .set = set_number, .show = show_number, .offset = offsetof(struct config, f)

static const struct setting settings[] = {
    {"dev", "UTCP_DEV", .set = set_device, .show = show_device},
    {"loopback", "UTCP_LOOPBACK", .set = set_loopback, .show = show_loopback},
    {"stack", "UTCP_STACK", TEXT(net.stack_name)},
    {"addr", "UTCP_ADDR", .set = set_addr, .show = show_addr},
    {"gw", "UTCP_GW", .set = set_gateway, .show = show_gateway},
    {"mac", "UTCP_MAC", .set = set_mac, .show = show_mac},
    /* RFC 791: every link carries 68 bytes; a TAP takes at most 65521. */
    {"mtu", "UTCP_MTU", .set = set_mtu, .show = show_mtu, .min = 128, .max = 65521, .what = "an MTU"},
    {"pcap", "UTCP_PCAP", TEXT(net.pcap_path)},
    {"pcap_filter", "UTCP_PCAP_FILTER", TEXT(net.pcap_filter)},
    {"pcap_snaplen", "UTCP_PCAP_SNAPLEN", .set = set_snaplen, .show = show_number,
     .offset = offsetof(struct config, net.pcap_snaplen), .min = 54, .max = 262144,
     .what = "a snapshot length"},
    {"cc", "UTCP_CC", .set = set_cc, .show = show_cc},
    {"rules", "UTCP_RULES", .set = set_rules, .show = show_rules},
    {"require", "UTCP_REQUIRE", .set = set_require, .show = show_require},
    {"log", "UTCP_LOG", TEXT(log_path)},
    {"exit_drain", "UTCP_EXIT_DRAIN", NUMBER(exit_drain_ms), .max = 3600000,
     .what = "a time in milliseconds"},
    {"spin_us", "UTCP_SPIN_US", NUMBER(net.spin_us), .max = 1000000, .what = "a time in microseconds"},
    {"stats", "UTCP_STATS", TEXT(stats_path)},
    {"report", "UTCP_REPORT", .set = set_report, .show = show_report},
    {"test_pause", "UTCP_TEST_PAUSE", NUMBER(net.test_pause_us), .max = 10000000,
     .what = "a time in microseconds"},
};

static int setting_find(const char *key, size_t n)
{
	for (size_t i = 0; i < ARRAY_LEN(settings); i++)
		if (strlen(settings[i].key) == n && !memcmp(settings[i].key, key, n))
			return (int)i;
	return n == 4 && !memcmp(key, "rule", 4) ? setting_find("rules", 5) : -1;
}

int config_set(struct config *c, const char *key, const char *value, const char *where, char *why,
	       size_t why_len)
{
	struct complaint w = {why, why_len, where};
	int i = setting_find(key, strlen(key));

	if (i < 0)
		return bad(&w, "no setting is named '%.32s'; see utcp.conf(5)", key);
	return settings[i].set(c, &settings[i], value, &w);
}

bool config_show(const struct config *c, int i, const char **key, const char **variable, char *value,
		 size_t value_len)
{
	if (i < 0 || (size_t)i >= ARRAY_LEN(settings))
		return false;
	*key = settings[i].key;
	*variable = settings[i].variable;
	settings[i].show(c, &settings[i], value, value_len);
	return true;
}

/* ------------------------------------------------------------------ utcp.conf */

/* [s, end) without white space at both ends and without a comment. */
static struct word line_trim(const char *s, const char *end)
{
	for (const char *p = s; p < end; p++)
		if (*p == '#' && (p == s || is_space(p[-1]))) {
			end = p;
			break;
		}
	while (s < end && is_space(*s))
		s++;
	while (end > s && is_space(end[-1]))
		end--;
	return (struct word){s, (size_t)(end - s)};
}

static int line_parse(struct config *c, struct word line, uint32_t *seen, const struct complaint *w)
{
	const char *end = line.s + line.n, *p = line.s, *equals = memchr(line.s, '=', line.n);
	char value[4096];
	struct word key, text;
	int i;

	if (word_is(next_word(&p, end), "use"))
		return rule_parse(c, line.s, end, w);
	if (!equals)
		return bad(w, "'%.*s' is no setting; write KEY = VALUE", (int)MIN_OF(line.n, (size_t)32),
			   line.s);
	key = line_trim(line.s, equals);
	text = line_trim(equals + 1, end);
	i = setting_find(key.s, key.n);
	if (i < 0)
		return bad(w, "no setting is named '%.*s'; see utcp.conf(5)", (int)MIN_OF(key.n, (size_t)32),
			   key.s);
	if (settings[i].set != set_rules && *seen & 1u << i)
		return bad(w, "'%s' is set a second time; keep one of the two", settings[i].key);
	*seen |= 1u << i;
	if (!text.n)
		return bad(w, "'%s' has no value; write one or delete the line", settings[i].key);
	if (text.n >= sizeof value)
		return bad(w, "too long; at most %u characters", (unsigned)sizeof value - 1);
	memcpy(value, text.s, text.n);
	value[text.n] = '\0';
	return settings[i].set(c, &settings[i], value, w);
}

static int text_parse(struct config *c, const char *path, const char *text, size_t len, char *why,
		      size_t why_len)
{
	char where[4096 + 16];
	struct complaint w = {why, why_len, where};
	const char *p = text, *end = text + len;
	uint32_t seen = 0;
	int err = 0;

	_Static_assert(ARRAY_LEN(settings) <= 32, "`seen` has 32 bits");
	for (unsigned line = 1; p < end && !err; line++) {
		const char *stop = memchr(p, '\n', (size_t)(end - p));
		struct word t;

		stop = stop ? stop : end;
		t = line_trim(p, stop);
		log_format(where, sizeof where, "%s:%u", path, line);
		if (memchr(t.s, '\0', t.n))
			err = bad(&w, "a zero byte; is this a text file?");
		else if (t.n)
			err = line_parse(c, t, &seen, &w);
		p = stop + (stop < end);
	}
	return err;
}

/* Bytes read into buf, or a negative errno; FILE_MAX means too long. */
static int64_t file_read(long fd, char *buf)
{
	int64_t got = 0;
	long n;

	do {
		n = sys.syscall(SYS_read, fd, buf + got, FILE_MAX - got);
		if (n > 0)
			got += n;
	} while ((n > 0 && got < FILE_MAX) || (n < 0 && errno == EINTR));
	return n < 0 ? -errno : got;
}

/* strerror() without a locale and its files. */
static const char *error_text(int err)
{
	const char *text = strerrordesc_np(err);

	return text ? text : "unknown error";
}

static int file_parse(struct config *c, const char *path, long fd, const struct complaint *w)
{
	struct stat st;
	char *buf;
	int64_t n;
	int err;

	/* The launcher reads it, and then each process of the command. */
	if (sys.syscall(SYS_newfstatat, fd, "", &st, AT_EMPTY_PATH) == 0 && S_ISFIFO(st.st_mode))
		return bad(w, "is a pipe, which can be read only once; make it a file");
	buf = mmap(NULL, FILE_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (buf == MAP_FAILED)
		return bad(w, "no memory to read it; raise the limit on memory");
	n = file_read(fd, buf);
	if (n < 0)
		err = bad(w, "cannot be read (%s); make it a readable file", error_text((int)-n));
	else if (n == FILE_MAX)
		err = bad(w, "longer than %d bytes; is this a utcp.conf?", FILE_MAX - 1);
	else
		err = text_parse(c, path, buf, (size_t)n, w->why, w->len);
	munmap(buf, FILE_MAX);
	return err;
}

/*
 * optional: a path that we looked for ourselves. It may be absent, and it may
 * lie in a directory that is closed to us (a server that gave up root still has
 * root's HOME); a file that is there and cannot be read is an error all the same.
 */
static int file_load(struct config *c, const char *path, bool optional, bool *found, char *why,
		     size_t why_len)
{
	struct complaint w = {why, why_len, path};
	long fd = sys.syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	int err = fd < 0 ? errno : 0;
	struct stat st;

	*found = fd >= 0;
	if (fd >= 0) {
		err = file_parse(c, path, fd, &w);
		sys.syscall(SYS_close, fd);
		return err;
	}
	if (optional && (err == ENOENT || err == ENOTDIR ||
			 (err == EACCES && sys.syscall(SYS_newfstatat, AT_FDCWD, path, &st, 0) < 0)))
		return 0;
	if (err == ENOENT || err == ENOTDIR)
		return bad(&w, "no such file; correct UTCP_CONF or unset it");
	return bad(&w, "cannot be read (%s); make it readable or set UTCP_CONF", error_text(err));
}

/* $dir/file, when $dir is set and absolute (XDG: a relative one is to be ignored). */
static bool path_below(char *out, size_t len, const char *variable, const char *file)
{
	const char *dir = secure_getenv(variable);

	if (!dir || dir[0] != '/')
		return false;
	return (size_t)log_format(out, len, "%s/%s", dir, file) < len;
}

/* UTCP_CONF, else the user's own, else the machine's. Never the current directory. */
static int files_load(struct config *c, char *why, size_t why_len)
{
	const char *named = secure_getenv("UTCP_CONF");
	char path[4096];
	bool found = false;
	int err = 0;

	if (named && named[0])
		return file_load(c, named, false, &found, why, why_len);
	if (path_below(path, sizeof path, "XDG_CONFIG_HOME", "utcp.conf") ||
	    path_below(path, sizeof path, "HOME", ".config/utcp.conf"))
		err = file_load(c, path, true, &found, why, why_len);
	if (!err && !found)
		err = file_load(c, "/etc/utcp.conf", true, &found, why, why_len);
	return err;
}

/* ------------------------------------------------------------------ all together */

/* An empty variable is an unset one. */
static int variable_load(struct config *c, const struct setting *s, char *why, size_t why_len)
{
	struct complaint w = {why, why_len, s->variable};
	const char *v = secure_getenv(s->variable);

	return v && v[0] ? s->set(c, s, v, &w) : 0;
}

bool config_no_device(const struct config *c)
{
	return strcmp(c->net.device, "none") == 0;
}

/* netio fills the same default in, and compares it with the addresses of a TAP that exists already. */
void config_network(const struct config *c, struct ipaddr *addr, uint8_t *prefix_len)
{
	bool unset = ipaddr_is_any(&c->net.stack.addr), none = config_no_device(c);

	*addr = !unset ? c->net.stack.addr : none ? ipaddr_v4(127, 0, 0, 1) : ipaddr_v4(10, 77, 0, 2);
	*prefix_len = none ? 32 : unset ? 24 : c->net.stack.prefix_len; /* nothing is on no link */
}

/* What only shows once all values are known. */
static int config_check(struct config *c, char *why, size_t why_len)
{
	struct complaint w = {why, why_len, NULL};
	struct stack_config *s = &c->net.stack;

	struct ipaddr addr;
	uint8_t prefix_len;

	c->off = config_no_device(c) && !c->loopback;
	if (config_no_device(c))
		return 0;
	if (ipaddr_is_any(&s->addr) && !strncmp(c->net.device, "packet:", 7))
		return bad(
		    &w,
		    "the stack has no address on %s; give it a free one of that network with -a ADDR/LEN "
		    "or UTCP_ADDR",
		    c->net.device);
	if (ipaddr_is_any(&s->gateway))
		return 0;
	config_network(c, &addr, &prefix_len);
	for (unsigned bit = 96; bit < 96u + prefix_len; bit++)
		if (bit_is_set(&addr, bit) != bit_is_set(&s->gateway, bit))
			return bad(
			    &w, "the gateway is outside the stack's network; correct UTCP_GW or UTCP_ADDR");
	if (ipaddr_eq(&addr, &s->gateway))
		return bad(&w, "the gateway is the stack itself; correct UTCP_GW or UTCP_ADDR");
	return 0;
}

void config_defaults(struct config *c)
{
	memset(c, 0, sizeof *c);
	netio_config_defaults(&c->net);
	log_format(c->net.device, sizeof c->net.device, "tap:utcp0");
	c->net.stack.addr = ipaddr_v4(0, 0, 0, 0);
	c->quiet = true; /* the launcher asks for the line at exit */
	c->exit_drain_ms = 10000;
}

bool config_unknown(char *why, size_t len)
{
	static const char *const others[] = {"UTCP_CONF", "UTCP_INHERIT", NETIO_KEEPER_VARIABLE};

	for (char **e = environ; e && *e; e++) {
		size_t n = strcspn(*e, "=");
		bool known = strncmp(*e, "UTCP_", 5) != 0 || !strncmp(*e, "UTCP_TEST_", 10) || (*e)[n] != '=';

		for (size_t i = 0; i < ARRAY_LEN(settings) && !known; i++)
			known = strlen(settings[i].variable) == n && !memcmp(*e, settings[i].variable, n);
		for (size_t i = 0; i < ARRAY_LEN(others) && !known; i++)
			known = strlen(others[i]) == n && !memcmp(*e, others[i], n);
		if (!known) {
			log_format(why, len,
				   "%.*s is no setting and is ignored; see utcp.conf(5) for their names",
				   (int)MIN_OF(n, (size_t)64), *e);
			return true;
		}
	}
	return false;
}

int config_load(struct config *c, char *why, size_t why_len)
{
	int err = sys_init(), rules = setting_find("rules", 5);

	config_defaults(c);
	if (err)
		return err;
	err = variable_load(c, &settings[rules], why, why_len);
	if (!err)
		err = files_load(c, why, why_len);
	for (int i = 0; i < (int)ARRAY_LEN(settings) && !err; i++)
		if (i != rules)
			err = variable_load(c, &settings[i], why, why_len);
	return err ? err : config_check(c, why, why_len);
}
