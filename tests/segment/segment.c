/*
 * segment.c - the program that runs the dialogues: which, one after the other, and what is told of one that
 * fails.
 *
 * A failure prints the dialogue in arrow notation, writes it as a capture beside the program and leaves the
 * test by longjmp.
 *
 * segment [-v] [--list] [name...]: run all, or those tests whose names contain one of the words.
 */
#include <CUnit/CUnit.h>
#include <setjmp.h>
#include <stdarg.h>

#include "dialogue_parts.h"

static const struct test *running;
static jmp_buf leave;
static const char *out_dir = ".";
static struct test *tests;
static bool verbose;
static unsigned failed_count;

void dialogue_fail(struct peer *p, const char *file, int line, const char *format, ...)
{
	va_list ap;
	char path[512], text[512];

	va_start(ap, format);
	vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	fflush(p->log_file);
	printf("\n%s\n  %s\n%s  FAILED %s:%d: %s\n", running->name, running->sentence, p->log, file, line,
	       text);
	snprintf(path, sizeof path, "%s/%s.pcap", out_dir, running->name);
	fflush(p->pcap_file);
	FILE *f = fopen(path, "wb");
	if (f) {
		fwrite(p->pcap, p->pcap_len, 1, f);
		fclose(f);
		printf("  capture: %s\n", path);
	}
	failed_count++;
	CU_FAIL("dialogue");
	longjmp(leave, 1);
}

void fail_here(struct peer *p, const char *format, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	dialogue_fail(p, running->file, 0, "%s", text);
}

void expect_equal_at(struct peer *p, int64_t got, int64_t want, const char *what, const char *file, int line)
{
	if (got != want)
		dialogue_fail(p, file, line, "%s is %lld, expected %lld", what, (long long)got,
			      (long long)want);
}

void test_register(struct test *t)
{
	struct test **at = &tests;

	while (*at && strcmp((*at)->file, t->file) <= 0)
		at = &(*at)->next;
	t->next = *at;
	*at = t;
}

static void run(const struct test *t)
{
	struct peer *p;

	running = t;
	if (setjmp(leave) == 0) {
		t->body();
		p = dialogue_current();
		if (p && p->queue_first != p->queue_last)
			fail_here(p, "a frame was emitted that the dialogue does not mention");
		CU_PASS("dialogue");
	}
	p = dialogue_current();
	if (verbose && p) {
		fflush(p->log_file);
		printf("\n%s: %s\n%s", t->name, t->sentence, p->log);
	}
	dialogue_end();
}

static const struct test *to_run;
static void run_next(void)
{
	run(to_run);
}

static bool wanted(const struct test *t, int argc, char **argv)
{
	bool any = false;

	for (int i = 1; i < argc; i++) {
		if (argv[i][0] == '-')
			continue;
		any = true;
		if (strstr(t->name, argv[i]) || strstr(t->file, argv[i]))
			return true;
	}
	return !any;
}

/* Each dialogue is one CUnit test; CUnit has no argument for tests, so they run one by one. */
static unsigned run_suites(int argc, char **argv)
{
	CU_pSuite suite = NULL;
	const char *file = "";
	unsigned run_count = 0;

	for (struct test *t = tests; t; t = t->next) {
		if (!wanted(t, argc, argv))
			continue;
		if (strcmp(file, t->file) != 0)
			suite = CU_add_suite(file = t->file, NULL, NULL);
		CU_pTest unit = CU_add_test(suite, t->name, run_next);
		to_run = t;
		CU_run_test(suite, unit);
		run_count++;
	}
	return run_count;
}

int main(int argc, char **argv)
{
	static char dir[512];
	unsigned run_count;
	char *slash = strrchr(argv[0], '/');

	if (slash) {
		snprintf(dir, sizeof dir, "%.*s", (int)(slash - argv[0]), argv[0]);
		out_dir = dir;
	}
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "-v") == 0)
			verbose = true;
		if (strcmp(argv[i], "--list") == 0) {
			for (struct test *t = tests; t; t = t->next)
				printf("%s: %s\n", t->name, t->sentence);
			return 0;
		}
	}
	CU_initialize_registry();
	CU_set_error_action(CUEA_IGNORE);
	run_count = run_suites(argc, argv);
	printf("segment dialogues: %u of %u passed\n", run_count - failed_count, run_count);
	CU_cleanup_registry();
	return failed_count != 0 || run_count == 0;
}
