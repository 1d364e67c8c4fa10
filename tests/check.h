/*
 * check.h - checks over CUnit that print both values when they fail.
 *
 * A test program is a list of functions and one CHECK_MAIN():
 *
 *     static void hash_is_keyed(void)
 *     {
 *             CHECK_EQ(siphash(key, "", 0), 0x726fdb47dd0e0e31);
 *     }
 *     CHECK_MAIN("siphash", {"RFC or paper: one sentence", hash_is_keyed})
 *
 * main() runs them all, or only those whose name contains argv[1], prints
 * CUnit's summary and returns 1 if a check failed. A failed check does not end
 * its test; CHECK_FATAL() does.
 */
#ifndef TESTS_CHECK_H
#define TESTS_CHECK_H

#include <CUnit/Basic.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct check_case {
	const char *name;
	void (*run)(void);
};

/* The one place that talks to CUnit: `text` explains a failure; CUnit copies it. */
__attribute__((format(printf, 5, 6), unused)) static bool check_report(bool ok, bool fatal, const char *file,
								       int line, const char *format, ...)
{
	char text[1024];

	if (ok) {
		CU_assertImplementation(CU_TRUE, (unsigned)line, "", file, "", CU_FALSE);
		return true;
	}
	va_list ap;
	va_start(ap, format);
	vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	CU_assertImplementation(CU_FALSE, (unsigned)line, text, file, "", fatal ? CU_TRUE : CU_FALSE);
	return false;
}

/* The first differing byte of two runs, with its neighbourhood in hex. */
__attribute__((unused)) static bool check_memory(const char *file, int line, const char *what, const void *a,
						 const void *b, size_t n)
{
	const uint8_t *x = a, *y = b;
	char left[3 * 16 + 1] = "", right[3 * 16 + 1] = "";
	size_t at = 0;

	while (at < n && x[at] == y[at])
		at++;
	if (at == n)
		return check_report(true, false, file, line, "%s", "");
	for (size_t i = at, k = 0; i < n && k < 16; i++, k++) {
		snprintf(left + 3 * k, 4, "%02x ", x[i]);
		snprintf(right + 3 * k, 4, "%02x ", y[i]);
	}
	return check_report(false, false, file, line, "%s: differ at byte %zu of %zu: got %swant %s", what,
			    at, n, left, right);
}

/* Integers of any type (compared as long long); the value got first, the value wanted second. */
#define CHECK_OP_(a, op, b, fatal)                                                                           \
	({                                                                                                   \
		long long check_a_ = (long long)(a), check_b_ = (long long)(b);                              \
		check_report(check_a_ op check_b_, fatal, __FILE__, __LINE__,                                \
			     "%s " #op " %s: got %lld (0x%llx), want %s%lld (0x%llx)", #a, #b, check_a_,     \
			     (unsigned long long)check_a_, #op[0] == '=' ? "" : #op " ", check_b_,           \
			     (unsigned long long)check_b_);                                                  \
	})
#define CHECK_EQ(a, b) CHECK_OP_(a, ==, b, false)
#define CHECK_NE(a, b) CHECK_OP_(a, !=, b, false)
#define CHECK_LT(a, b) CHECK_OP_(a, <, b, false)
#define CHECK_LE(a, b) CHECK_OP_(a, <=, b, false)
#define CHECK_GT(a, b) CHECK_OP_(a, >, b, false)
#define CHECK_GE(a, b) CHECK_OP_(a, >=, b, false)

/* A condition; true when it holds. */
#define CHECK(cond) check_report(!!(cond), false, __FILE__, __LINE__, "%s is false", #cond)
/* As CHECK, with an explanation in printf form. */
#define CHECK_MSG(cond, ...) check_report(!!(cond), false, __FILE__, __LINE__, __VA_ARGS__)
/* As CHECK; a failure ends the test: what follows would crash. */
#define CHECK_FATAL(cond) check_report(!!(cond), true, __FILE__, __LINE__, "%s is false", #cond)

#define CHECK_MEM_EQ(a, b, n) check_memory(__FILE__, __LINE__, #a " == " #b, a, b, n)

#define CHECK_STR_EQ(a, b)                                                                                   \
	({                                                                                                   \
		const char *check_a_ = (a), *check_b_ = (b);                                                 \
		check_report(check_a_ &&check_b_ ? strcmp(check_a_, check_b_) == 0 : check_a_ == check_b_,   \
			     false, __FILE__, __LINE__, "%s == %s: got \"%s\", want \"%s\"", #a, #b,         \
			     check_a_ ? check_a_ : "(null)", check_b_ ? check_b_ : "(null)");                \
	})

__attribute__((unused)) static int check_run(const char *suite, const struct check_case *cases, size_t count,
					     const char *only)
{
	if (CU_initialize_registry() != CUE_SUCCESS)
		return 2;
	CU_pSuite s = CU_add_suite(suite, NULL, NULL);
	size_t added = 0;
	for (size_t i = 0; s && i < count; i++) {
		if (only && !strstr(cases[i].name, only))
			continue;
		if (!CU_add_test(s, cases[i].name, cases[i].run)) {
			fprintf(stderr, "%s: cannot add \"%s\": %s\n", suite, cases[i].name,
				CU_get_error_msg());
			CU_cleanup_registry();
			return 2;
		}
		added++;
	}
	if (!added) {
		fprintf(stderr, "%s: no test is named \"%s\"\n", suite, only ? only : "");
		CU_cleanup_registry();
		return 2;
	}
	CU_basic_set_mode(CU_BRM_NORMAL);
	CU_basic_run_tests();
	int failed = CU_get_number_of_failures() != 0 || CU_get_number_of_tests_run() != added;
	CU_cleanup_registry();
	return failed;
}

/* CHECK_MAIN("suite", {"name", function}, ...) */
#define CHECK_MAIN(suite, ...)                                                                               \
	int main(int argc, char **argv)                                                                      \
	{                                                                                                    \
		static const struct check_case cases_[] = {__VA_ARGS__};                                     \
		return check_run(suite, cases_, sizeof cases_ / sizeof cases_[0],                            \
				 argc > 1 ? argv[1] : NULL);                                                 \
	}

#endif
