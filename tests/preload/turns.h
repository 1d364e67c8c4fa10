/*
 * turns.h - processes that work by turns: go() ends a turn, await() waits for one, leave() ends a child.
 * until_parent_sleeps() is for a turn that ends with a call that blocks.
 */
#ifndef TEST_TURNS_H
#define TEST_TURNS_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Ends a child; what it has printed is printed. */
__attribute__((unused)) static void leave(int status)
{
	fflush(stdout);
	_exit(status);
}

static int turn[2][2], parent_stat;

__attribute__((unused)) static void turns_begin(void)
{
	for (int i = 0; i < 2; i++)
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, turn[i]))
			exit(1);
	/* A child's own /proc/PID need not be of our namespace; this file is the parent's in every process.
	 */
	parent_stat = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
}

__attribute__((unused)) static void turns_end(void)
{
	close(parent_stat);
	for (int i = 0; i < 2; i++) {
		close(turn[i][0]);
		close(turn[i][1]);
	}
}

__attribute__((unused)) static void go(int i)
{
	fflush(stdout);
	if (write(turn[i][1], "x", 1) != 1)
		exit(1);
}

__attribute__((unused)) static void await(int i)
{
	char b;

	if (read(turn[i][0], &b, 1) != 1)
		exit(1);
}

/* The same state some looks in a row: a busy machine makes that later, never wrong. */
__attribute__((unused)) static void until_parent_sleeps(void)
{
	struct timespec ms = {0, 1000000};
	char line[512];

	for (int calm = 0; calm < 20; nanosleep(&ms, NULL)) {
		ssize_t n = pread(parent_stat, line, sizeof line - 1, 0);
		const char *state;

		if (n <= 0)
			leave(9);
		line[n] = 0;
		state = strrchr(line, ')');
		calm = state && !strncmp(state, ") S", 3) ? calm + 1 : 0;
	}
}

#endif
