/*
 * turns.h - processes that work by turns: go() ends a turn, await() waits for one, leave() ends a child.
 */
#ifndef TEST_TURNS_H
#define TEST_TURNS_H

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* Ends a child; what it has printed is printed. */
__attribute__((unused)) static void leave(int status)
{
	fflush(stdout);
	_exit(status);
}

static int turn[2][2];

__attribute__((unused)) static void turns_begin(void)
{
	for (int i = 0; i < 2; i++)
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, turn[i]))
			exit(1);
}

__attribute__((unused)) static void turns_end(void)
{
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

#endif
