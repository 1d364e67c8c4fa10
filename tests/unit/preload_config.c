/*
 * preload_config.c - the configuration's parser and the policy: what is
 * accepted, what is refused and how it is said, and who wins.
 */
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "preload/preload.h"
#include "tests/check.h"

static struct config config;
static char why[4096];
static char dir[64];

/* A fresh directory as HOME, nothing else set. */
static void environment_clear(void)
{
	static const char *const names[] = {
	    "UTCP_DEV",	    "UTCP_ADDR",	"UTCP_GW",	     "UTCP_MAC",	"UTCP_MTU",
	    "UTCP_PCAP",    "UTCP_PCAP_FILTER", "UTCP_PCAP_SNAPLEN", "UTCP_CC",		"UTCP_RULES",
	    "UTCP_LOG",	    "UTCP_REQUIRE",	"UTCP_CONF",	     "UTCP_STATS",	"UTCP_EXIT_DRAIN",
	    "UTCP_SPIN_US", "UTCP_TEST_PAUSE",	"UTCP_REPORT",	     "XDG_CONFIG_HOME", "UTCP_LOOPBACK"};

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		unsetenv(names[i]);
	strcpy(dir, "/tmp/utcp-unit.XXXXXX");
	if (!mkdtemp(dir))
		abort();
	setenv("HOME", dir, 1);
}

static void environment_remove(void)
{
	char path[512];

	snprintf(path, sizeof path, "%s/.config/utcp.conf", dir);
	unlink(path);
	snprintf(path, sizeof path, "%s/.config", dir);
	rmdir(path);
	snprintf(path, sizeof path, "%s/utcp.conf", dir);
	unlink(path);
	rmdir(dir);
}

/* Write NAME below the directory and return its path. */
static const char *file_write(const char *name, const char *text)
{
	static char path[512];
	FILE *f;

	snprintf(path, sizeof path, "%s/.config", dir);
	mkdir(path, 0755);
	snprintf(path, sizeof path, "%s/%s", dir, name);
	f = fopen(path, "w");
	if (!f)
		abort();
	fputs(text, f);
	fclose(f);
	return path;
}

static int load(void)
{
	why[0] = '\0';
	return config_load(&config, why, sizeof why);
}

static int set(const char *key, const char *value)
{
	config_defaults(&config);
	why[0] = '\0';
	return config_set(&config, key, value, "-x", why, sizeof why);
}

/* Refused, with this text, which names the place and both cause and cure. */
static void refused(const char *key, const char *value, const char *text)
{
	CHECK_EQ(set(key, value), -EINVAL);
	CHECK_STR_EQ(why, text);
}

static struct endpoint at(const char *text, uint16_t port)
{
	struct config c;
	struct endpoint e = {.port = port};
	char rule[128];

	config_defaults(&c);
	snprintf(rule, sizeof rule, "use stack client %s", text);
	CHECK_EQ(config_parse_rules(&c, rule, why, sizeof why), 0);
	e.addr = c.rules[0].net;
	return e;
}

static bool stack(bool server, const char *addr, uint16_t port)
{
	struct endpoint e = at(addr, port);

	return policy_use_stack(&config, server, &e);
}

static const char *reason(bool server, const char *addr, int *error)
{
	struct endpoint e = at(addr, 80);

	return policy_fallback_reason(&config, server, &e, error);
}

/* ------------------------------------------------------------------ tests */

static void defaults(void)
{
	struct ipaddr own;
	uint8_t prefix_len;

	environment_clear();
	CHECK_EQ(load(), 0);
	CHECK_STR_EQ(config.net.device, "tap:utcp0");
	config_network(&config, &own, &prefix_len);
	CHECK_EQ(prefix_len, 24);
	CHECK(ipaddr_eq(&own, &(struct ipaddr){.b = {[10] = 0xff, 0xff, 10, 77, 0, 2}}));
	CHECK(ipaddr_is_any(&config.net.stack.gateway));
	CHECK_EQ(config.net.stack.cc, STACK_CC_CUBIC);
	CHECK(!config.require && !config.off && config.quiet && !config.verbose);
	CHECK_EQ(config.rule_count, 0);
	environment_remove();
}

static void devices(void)
{
	CHECK_EQ(set("dev", "tap:x"), 0);
	CHECK_EQ(set("dev", "packet:eth0.100"), 0);
	CHECK_STR_EQ(config.net.device, "packet:eth0.100");
	CHECK_EQ(set("dev", "none"), 0);
	CHECK(config.off);
	refused("dev", "eth0", "-x: 'eth0' is no device; write tap:NAME, packet:INTERFACE or none");
	CHECK_EQ(set("dev", "tap:"), -EINVAL);
	CHECK_EQ(set("dev", "tap:a/b"), -EINVAL);
	CHECK_EQ(set("dev", "tap:a b"), -EINVAL);
	CHECK_EQ(set("dev", "tap:utcp%d"), -EINVAL);
	CHECK_EQ(set("dev", "tap:.."), -EINVAL);
	CHECK_EQ(set("dev", "tap:123456789012345"), 0);
	CHECK_EQ(set("dev", "tap:1234567890123456"), -EINVAL);
}

static void addresses(void)
{
	static const char *const bad[] = {"",
					  "10.0.0.1",
					  "10.0.0.1/",
					  "10.0.0.1/0",
					  "10.0.0.1/33",
					  "10.0.0.1/24x",
					  "10.0.0/24",
					  "10.0.0.256/24",
					  "10.0.0.0/24",
					  "10.0.0.255/24",
					  "127.0.0.2/8",
					  "224.0.0.1/24",
					  "0.0.0.0/24",
					  "::1/64",
					  "10.0.0.1 /24",
					  "10.0.0.1/ 24",
					  "10.0.0.1/-1",
					  "a.b.c.d/8",
					  "10.0.0.1/4294967320"};

	CHECK_EQ(set("addr", "192.168.1.77/24"), 0);
	CHECK_EQ(config.net.stack.prefix_len, 24);
	CHECK_EQ(config.net.stack.addr.b[15], 77);
	CHECK_EQ(set("addr", "10.0.0.1/32"), 0);
	CHECK_EQ(set("addr", "10.0.0.0/31"), 0);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		CHECK_MSG(set("addr", bad[i]) == -EINVAL, "\"%s\" was accepted", bad[i]);
	refused("addr", "10.0.0.1", "-x: 10.0.0.1 has no prefix length; write 10.0.0.1/24");
	refused("gw", "::1", "-x: '::1' is no gateway; write an IPv4 address as in 10.77.0.1");
	CHECK_EQ(set("gw", "10.77.0.1"), 0);
	CHECK_EQ(set("mac", "02:aB:00:00:00:01"), 0);
	CHECK_EQ(config.net.stack.mac[1], 0xab);
	CHECK_EQ(set("mac", "01:00:00:00:00:01"), -EINVAL);
	CHECK_EQ(set("mac", "00:00:00:00:00:00"), -EINVAL);
	CHECK_EQ(set("mac", "02-00-00-00-00-01"), -EINVAL);
	CHECK_EQ(set("mac", "02:00:00:00:00:01:02"), -EINVAL);
}

static void numbers(void)
{
	CHECK_EQ(set("mtu", "1500"), 0);
	CHECK(config.net.mtu_set && config.net.stack.mtu == 1500);
	refused("mtu", "127", "-x: '127' is not an MTU; write a number from 128 to 65521");
	CHECK_EQ(set("mtu", "65522"), -EINVAL);
	CHECK_EQ(set("mtu", "0x500"), -EINVAL);
	CHECK_EQ(set("mtu", " 1500"), -EINVAL);
	CHECK_EQ(set("mtu", "+1500"), -EINVAL);
	CHECK_EQ(set("mtu", "99999999999999999999"), -EINVAL);
	CHECK_EQ(set("exit_drain", "0"), 0);
	CHECK_EQ(config.exit_drain_ms, 0);
	CHECK_EQ(set("exit_drain", "5s"), -EINVAL);
	CHECK_EQ(set("pcap_snaplen", "0"), 0);
	CHECK_EQ(set("pcap_snaplen", "53"), -EINVAL);
	CHECK_EQ(set("pcap_snaplen", "96"), 0);
	CHECK_EQ(config.net.pcap_snaplen, 96);
	CHECK_EQ(set("require", "1"), 0);
	CHECK(config.require);
	CHECK_EQ(set("require", "yes"), -EINVAL);
	CHECK_EQ(set("require", "11"), -EINVAL);
	CHECK_EQ(set("cc", "reno"), 0);
	CHECK_EQ(config.net.stack.cc, STACK_CC_RENO);
	CHECK_EQ(set("cc", "cubi"), -EINVAL);
	CHECK_EQ(set("nonsense", "1"), -EINVAL);
}

static void rules_accepted(void)
{
	config_defaults(&config);
	CHECK_EQ(config_parse_rules(
		     &config,
		     " use kernel client 10.0.0.0/8:53 ;\n\nuse stack server 0.0.0.0/0:8000-8080;"
		     "use stack client 2001:db8::/32:443; use kernel client [fe80::]/10 ;"
		     "use kernel client 192.0.2.1:80; use kernel client [::1]:22;use stack client ::/0",
		     why, sizeof why),
		 0);
	CHECK_EQ(config.rule_count, 7);
	CHECK(!config.rules[0].to_stack && !config.rules[0].server);
	CHECK_EQ(config.rules[0].prefix_len, 96 + 8);
	CHECK_EQ(config.rules[0].port_first, 53);
	CHECK_EQ(config.rules[0].port_last, 53);
	CHECK(config.rules[1].to_stack && config.rules[1].server);
	CHECK_EQ(config.rules[1].prefix_len, 96);
	CHECK_EQ(config.rules[1].port_last, 8080);
	CHECK_EQ(config.rules[2].prefix_len, 32);
	CHECK_EQ(config.rules[2].port_first, 443);
	CHECK_EQ(config.rules[3].prefix_len, 10);
	CHECK_EQ(config.rules[3].port_last, 65535);
	CHECK_EQ(config.rules[4].prefix_len, 128);
	CHECK_EQ(config.rules[4].port_first, 80);
	CHECK_EQ(config.rules[5].net.b[15], 1);
	CHECK_EQ(config.rules[5].port_first, 22);
	CHECK_EQ(config.rules[6].prefix_len, 0);
}

static void rules_refused(void)
{
	static const char *const bad[] = {
	    "use",
	    "use stack",
	    "use stack client",
	    "use stack client ;",
	    "use heap client 10.0.0.0/8",
	    "use stack peer 10.0.0.0/8",
	    "uses stack client 10.0.0.0/8",
	    "use stack client 10.0.0.0/8 tcp",
	    "use stack client 10.0.0.1/8",
	    "use stack client 10.0.0.0/33",
	    "use stack client 10.0.0.0/",
	    "use stack client 10.0.0.0/8:",
	    "use stack client 10.0.0.0/8:x",
	    "use stack client 10.0.0.0/8:1-",
	    "use stack client 10.0.0.0/8:2-1",
	    "use stack client 10.0.0.0/8:65536",
	    "use stack client 10.0/8",
	    "use stack client [::1",
	    "use stack client []/0",
	    "use stack client [::1]x",
	    "use stack client ::/129",
	    "use stack client 1::1/16",
	    "use stack client /8",
	    "use stack client :80",
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		config_defaults(&config);
		CHECK_MSG(config_parse_rules(&config, bad[i], why, sizeof why) == -EINVAL,
			  "\"%s\" was accepted", bad[i]);
	}
	config_defaults(&config);
	CHECK_EQ(config_parse_rules(&config, "use stack client 10.0.0.0/8; use it", why, sizeof why),
		 -EINVAL);
	CHECK_STR_EQ(why, "'use it' is no rule; write use stack or use kernel");
}

static void too_many_rules(void)
{
	config_defaults(&config);
	for (int i = 0; i < RULES_MAX; i++)
		CHECK_EQ(config_parse_rules(&config, "use stack client 10.0.0.0/8", why, sizeof why), 0);
	CHECK_EQ(config_parse_rules(&config, "use stack client 10.0.0.0/8", why, sizeof why), -EINVAL);
}

static void files(void)
{
	const char *path;
	char want[1024];

	environment_clear();
	file_write(".config/utcp.conf",
		   "# mine\n\n  addr = 10.1.2.3/16   # the stack\r\nmtu=9000\n"
		   "pcap_filter = tcp port 80 and host 10.1.0.1\n"
		   "use kernel client 10.9.0.0/16\nrule = use stack client 10.0.0.0/8:80");
	CHECK_EQ(load(), 0);
	CHECK_EQ(config.net.stack.prefix_len, 16);
	CHECK_EQ(config.net.stack.mtu, 9000);
	CHECK_STR_EQ(config.net.pcap_filter, "tcp port 80 and host 10.1.0.1");
	CHECK_EQ(config.rule_count, 2);
	path = file_write("utcp.conf", "cc = reno\n\nwrong line\n");
	/* UTCP_CONF is read instead of the user's own. */
	setenv("UTCP_CONF", path, 1);
	CHECK_EQ(load(), -EINVAL);
	snprintf(want, sizeof want, "%s:3: 'wrong line' is no setting; write KEY = VALUE", path);
	CHECK_STR_EQ(why, want);
	file_write("utcp.conf", "cc = reno\ncc = cubic\n");
	CHECK_EQ(load(), -EINVAL);
	snprintf(want, sizeof want, "%s:2: 'cc' is set a second time; keep one of the two", path);
	CHECK_STR_EQ(why, want);
	file_write("utcp.conf", "mtu =\n");
	CHECK_EQ(load(), -EINVAL);
	file_write("utcp.conf", "gateway = 10.0.0.1\n");
	CHECK_EQ(load(), -EINVAL);
	setenv("UTCP_CONF", "/nonexistent/utcp.conf", 1);
	CHECK_EQ(load(), -EINVAL);
	CHECK_STR_EQ(why, "/nonexistent/utcp.conf: no such file; correct UTCP_CONF or unset it");
	setenv("UTCP_CONF", dir, 1);
	CHECK_EQ(load(), -EINVAL);
	environment_remove();
}

static void never_the_current_directory(void)
{
	char here[1024];

	environment_clear();
	CHECK_FATAL(getcwd(here, sizeof here) != NULL);
	file_write("utcp.conf", "mtu = 1234\n");
	CHECK_EQ(chdir(dir), 0);
	setenv("HOME", ".", 1);
	setenv("XDG_CONFIG_HOME", ".", 1);
	CHECK_EQ(load(), 0);
	CHECK(!config.net.mtu_set);
	/* The same directory by its absolute name is the user's choice. */
	setenv("XDG_CONFIG_HOME", dir, 1);
	CHECK_EQ(load(), 0);
	CHECK_EQ(config.net.stack.mtu, 1234);
	CHECK_EQ(chdir(here), 0);
	environment_remove();
}

static void precedence(void)
{
	environment_clear();
	file_write(".config/utcp.conf", "mtu = 1400\ncc = reno\nuse stack client 10.0.0.0/8\n");
	setenv("UTCP_MTU", "1300", 1);
	setenv("UTCP_CC", "", 1); /* empty is unset */
	setenv("UTCP_RULES", "use kernel client 10.77.0.0/16", 1);
	CHECK_EQ(load(), 0);
	CHECK_EQ(config.net.stack.mtu, 1300);
	CHECK_EQ(config.net.stack.cc, STACK_CC_RENO);
	CHECK_EQ(config.rule_count, 2);
	CHECK(!stack(false, "10.77.0.1", 80)); /* the variable's rule stands first */
	CHECK(stack(false, "10.78.0.1", 80));
	setenv("UTCP_MTU", "many", 1);
	CHECK_EQ(load(), -EINVAL);
	CHECK_STR_EQ(why, "UTCP_MTU: 'many' is not an MTU; write a number from 128 to 65521");
	environment_remove();
}

static void cross_checks(void)
{
	environment_clear();
	setenv("UTCP_DEV", "packet:eth0", 1);
	CHECK_EQ(load(), -EINVAL);
	setenv("UTCP_ADDR", "192.168.1.5/24", 1);
	CHECK_EQ(load(), 0);
	setenv("UTCP_GW", "192.168.2.1", 1);
	CHECK_EQ(load(), -EINVAL);
	setenv("UTCP_GW", "192.168.1.5", 1);
	CHECK_EQ(load(), -EINVAL);
	setenv("UTCP_GW", "192.168.1.1", 1);
	CHECK_EQ(load(), 0);
	environment_remove();
}

static void policy_of_clients(void)
{
	int error = 1;

	environment_clear();
	CHECK_EQ(load(), 0);
	CHECK(stack(false, "10.77.0.1", 80));
	CHECK(stack(false, "::ffff:10.77.0.1", 80));
	CHECK(!stack(false, "10.77.1.1", 80));
	CHECK_STR_EQ(reason(false, "10.77.1.1", &error), "no route in the stack");
	CHECK_EQ(error, -ENETUNREACH);
	CHECK_STR_EQ(reason(false, "127.0.0.1", &error), "loopback");
	CHECK_EQ(error, 0);
	CHECK_STR_EQ(reason(false, "::1", &error), "loopback");
	CHECK_STR_EQ(reason(false, "0.0.0.0", &error), "loopback");
	CHECK_STR_EQ(reason(false, "224.0.0.1", &error), "multicast");
	CHECK_STR_EQ(reason(false, "2001:db8::1", &error), "no IPv6 in the stack");
	CHECK_EQ(error, -ENETUNREACH);
	setenv("UTCP_GW", "10.77.0.1", 1);
	CHECK_EQ(load(), 0);
	CHECK(stack(false, "192.0.2.1", 80));
	CHECK(!stack(false, "127.0.0.1", 80));
	CHECK(!stack(false, "255.255.255.255", 80));
	setenv("UTCP_RULES",
	       "use kernel client 192.0.2.0/24:443;use stack client 127.0.0.0/8;"
	       "use kernel client ::/0:8000-8080",
	       1);
	CHECK_EQ(load(), 0);
	CHECK(!stack(false, "192.0.2.1", 443));
	CHECK(reason(false, "192.0.2.1", &error) == NULL);
	CHECK(stack(false, "192.0.2.1", 80));
	CHECK(stack(false, "127.0.0.1", 80));
	CHECK(!stack(false, "10.77.0.1", 8079));
	CHECK(stack(false, "10.77.0.1", 8081));
	environment_remove();
}

static void policy_of_servers(void)
{
	environment_clear();
	CHECK_EQ(load(), 0);
	CHECK(stack(true, "0.0.0.0", 80));
	CHECK(stack(true, "::", 80));
	CHECK(stack(true, "10.77.0.2", 80));
	CHECK(!stack(true, "127.0.0.1", 80));
	CHECK(!stack(true, "10.77.0.1", 80));
	CHECK(!stack(true, "::1", 80));
	setenv("UTCP_RULES", "use kernel server 0.0.0.0/0:22; use kernel client 0.0.0.0/0", 1);
	CHECK_EQ(load(), 0);
	CHECK(!stack(true, "0.0.0.0", 22));
	CHECK(stack(true, "0.0.0.0", 80)); /* a client's rule is not a server's */
	setenv("UTCP_DEV", "none", 1);
	CHECK_EQ(load(), 0);
	CHECK(!stack(true, "0.0.0.0", 80));
	environment_remove();
}

static void policy_of_loopback(void)
{
	int error = 1;

	environment_clear();
	CHECK_EQ(load(), 0);
	CHECK(stack(false, "10.77.0.2", 80)); /* no kernel can answer there */
	setenv("UTCP_LOOPBACK", "stack", 1);
	CHECK_EQ(load(), 0);
	CHECK(stack(false, "127.0.0.1", 80));
	CHECK(stack(false, "127.1.2.3", 80));
	CHECK(stack(false, "::1", 80));
	CHECK(stack(false, "0.0.0.0", 80));
	CHECK(stack(false, "10.77.0.1", 80));
	CHECK(stack(true, "127.0.0.1", 80));
	CHECK(stack(true, "::1", 80));
	CHECK(stack(true, "::", 80));
	CHECK(!stack(true, "10.77.0.1", 80));
	setenv("UTCP_RULES", "use kernel client 127.0.0.0/8:22; use kernel server ::1", 1);
	CHECK_EQ(load(), 0);
	CHECK(!stack(false, "127.0.0.1", 22));
	CHECK(stack(false, "127.0.0.1", 23));
	CHECK(!stack(true, "::1", 23));
	setenv("UTCP_RULES", "", 1);
	setenv("UTCP_DEV", "none", 1); /* nothing but loopback */
	CHECK_EQ(load(), 0);
	CHECK(!config.off);
	CHECK_STR_EQ(config.net.device, "none");
	CHECK(stack(false, "127.0.0.1", 80));
	CHECK(stack(true, "0.0.0.0", 80));
	CHECK(!stack(false, "10.77.0.1", 80));
	CHECK_STR_EQ(reason(false, "10.77.0.2", &error), "no route in the stack");
	CHECK_EQ(error, -ENETUNREACH);
	setenv("UTCP_ADDR", "192.0.2.9/24", 1);
	CHECK_EQ(load(), 0);
	CHECK(stack(false, "192.0.2.9", 80));
	CHECK(!stack(false, "192.0.2.8", 80));
	setenv("UTCP_LOOPBACK", "kernel", 1);
	CHECK_EQ(load(), 0);
	CHECK(config.off);
	setenv("UTCP_RULES", "use stack client ::1; use stack server 127.0.0.1:80", 1);
	setenv("UTCP_DEV", "tap:utcp0", 1);
	CHECK_EQ(load(), 0);
	CHECK(stack(false, "::1", 80)); /* port by port, without the setting */
	CHECK(!stack(false, "127.0.0.1", 80));
	CHECK(stack(true, "127.0.0.1", 80));
	CHECK(!stack(true, "127.0.0.1", 81));
	setenv("UTCP_LOOPBACK", "both", 1);
	CHECK_EQ(load(), -EINVAL);
	CHECK_STR_EQ(why, "UTCP_LOOPBACK: 'both' is no place for loopback; write stack or kernel");
	environment_remove();
}

static void formatting(void)
{
	char s[64];

	CHECK_EQ(log_format(s, sizeof s, "%s|%5d|%05u|%x|%c|%%", "a", -42, 7u, 0xbeefu, 'z'), 22);
	CHECK_STR_EQ(s, "a|  -42|00007|beef|z|%");
	log_format(s, sizeof s, "%.3s %lu %ld %zu", "abcdef", 18446744073709551615ul,
		   -9223372036854775807l - 1, (size_t)3);
	CHECK_STR_EQ(s, "abc 18446744073709551615 -9223372036854775808 3");
	CHECK_EQ(log_format(s, 4, "%s", "abcdef"), 6);
	CHECK_STR_EQ(s, "abc");
}

CHECK_MAIN("config", {"built-in values", defaults}, {"devices", devices}, {"addresses", addresses},
	   {"numbers and words", numbers}, {"rules that are right", rules_accepted},
	   {"rules that are wrong", rules_refused}, {"a limit on rules", too_many_rules},
	   {"utcp.conf and its errors by line", files},
	   {"never from the current directory", never_the_current_directory},
	   {"variable before file before built-in value", precedence},
	   {"values that must fit together", cross_checks}, {"policy of clients", policy_of_clients},
	   {"policy of servers", policy_of_servers}, {"policy of loopback", policy_of_loopback},
	   {"messages without stdio", formatting})
