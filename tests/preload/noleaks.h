/*
 * noleaks.h - the address sanitizer does not look for leaks in the program that includes this, below its
 * reason.
 */
#ifndef TEST_NOLEAKS_H
#define TEST_NOLEAKS_H

const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0";
}

#endif
