/* instrument.c - the keeper in a build with a sanitizer or with coverage (instrument.h). */
#include "netio/instrument.h"

#ifdef UTCP_INSTRUMENT
#include <link.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern ElfW(Dyn) _DYNAMIC[] __attribute__((visibility("hidden")));
extern char **environ;

NOT_INSTRUMENTED static uintptr_t dynamic(long tag)
{
	for (const ElfW(Dyn) *d = _DYNAMIC; d->d_tag != DT_NULL; d++)
		if (d->d_tag == tag)
			return d->d_un.d_val;
	return 0;
}

NOT_INSTRUMENTED static void call_all(long where, long bytes)
{
	void (*const *f)(void) = (void (*const *)(void))((uintptr_t)__ehdr_start + dynamic(where));

	for (size_t n = dynamic(bytes) / sizeof *f; n; n--)
		(*f++)();
}

NOT_INSTRUMENTED void instrument_begin(void)
{
	call_all(DT_INIT_ARRAY, DT_INIT_ARRAYSZ);
}

void instrument_end(void)
{
	call_all(DT_FINI_ARRAY, DT_FINI_ARRAYSZ);
	exit(0);
}

int instrument_variables(char *env[INSTRUMENT_VARIABLES])
{
	static const char *const for_runtimes[] = {
	    "ASAN_OPTIONS=", "LSAN_OPTIONS=", "TSAN_OPTIONS=", "UBSAN_OPTIONS=", "GCOV_"};
	int n = 0;

	for (char **e = environ; e && *e; e++)
		for (size_t i = 0; i < sizeof for_runtimes / sizeof *for_runtimes; i++)
			if (n < INSTRUMENT_VARIABLES &&
			    !strncmp(*e, for_runtimes[i], strlen(for_runtimes[i])))
				env[n++] = *e;
	return n;
}

#ifdef __SANITIZE_ADDRESS__
/*
 * Also for a program whose environment was cleaned, but for LD_PRELOAD: the
 * runtime must not die of its place behind us. A program may have its own.
 */
__attribute__((visibility("default"), weak)) const char *__asan_default_options(void);
NOT_INSTRUMENTED const char *__asan_default_options(void)
{
	return "verify_asan_link_order=0";
}
#endif

const char *instrument_log(void)
{
	return getenv("UTCP_TEST_INSTRUMENT_LOG");
}
#endif
