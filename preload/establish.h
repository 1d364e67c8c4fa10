/*
 * establish.h - the steps of establish.c that undecided.c and unlisten.c take in another order.
 */
#ifndef PRELOAD_ESTABLISH_H
#define PRELOAD_ESTABLISH_H

#include "preload/socket.h"

#define GO_STACK  1
#define GO_KERNEL 0
#define GO_SHARED 2 /* to the stack, but another process may have the kernel socket */

/* GO_STACK (and the stack is attached), GO_SHARED, GO_KERNEL, or a negative errno. */
int decide_connect(int fd, const struct sockaddr *sa, socklen_t len, struct endpoint *local,
		   struct endpoint *remote, struct option_values *v);
/* Where listen() would listen: an unbound socket takes the wildcard. */
int decide_listen(int fd, struct endpoint *local, struct option_values *v);
/* Also where the machine's default says so (net.ipv6.bindv6only). */
bool listens_v6only(int fd);
/* The kernel socket's own name. 0 or a negative errno. */
int kernel_name(int fd, struct endpoint *out);
/* Does the stack answer for it? */
bool address_is_local(const struct ipaddr *a);

/* A core socket and its description (one reference, the caller's), with the application's options. */
int stream_make(int fd, enum fd_kind kind, const struct option_values *v, ref *out);
/* One number of a description that keeps its kernel socket: from the kernel's epoll sets into our lists. */
int alias_listen(int fd, ref d);
/* Of a connection's description: begin, and wait unless it is not to block. */
int stream_connect(ref d, const struct endpoint *local, const struct endpoint *remote);

/* The numbers are collected first: replacing changes the entries that the walk reads. */
struct number_list {
	int count;
	int fd[64];
};
void number_collect(int fd, void *number_list);
/*
 * The same kernel socket may be an object of the stack already, of another process
 * that has it, too: then it is that here as well. 0; 1: it is none; negative.
 */
int listener_take(int fd);

#endif
