/* options.h - the private side of options.c, options_table.c: a row of the table. */
#ifndef PRELOAD_OPTIONS_H
#define PRELOAD_OPTIONS_H

#include "preload/preload.h"

enum { LINUX_ESTABLISHED = 1, LINUX_TIME_WAIT = 6, LINUX_CLOSE = 7 }; /* struct sock_info's state */

enum how { CORE, CORE_BOOL, HINT, CONST, KERNEL, SPECIAL, FIGURE };

struct option {
	int level, name;
	enum how how;
	int arg; /* CORE: enum sock_option; HINT, CONST and KERNEL: the value of an untouched socket */
	const char *text;
	/* KERNEL: an untouched socket's answer is no int, but */
	enum { AN_INT, NOTHING, TWO_WORDS, SET_ONLY } answer;
};

/* The first CARRIED_ROWS are what can be set before the decision. */
#define CARRIED_ROWS 46
extern const struct option option_table[];
extern const int option_rows;
/* The row of an option, -1: it has none. */
int option_row(int level, int name);
/* A hint's slot in the description: its number among the table's hints. */
int option_hint_slot(int row);

#endif
