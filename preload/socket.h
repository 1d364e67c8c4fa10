/*
 * socket.h - what socket.c, establish.c, accept.c and options.c share among themselves.
 */
#ifndef PRELOAD_SOCKET_H
#define PRELOAD_SOCKET_H

#include "preload/preload.h"

/*
 * Wait for a held description's socket, inside lib_enter(); a cancellation
 * releases the caller's hold. `limited`: the call has a time-out, or has moved bytes already. 0: look
 * again; -EAGAIN: the time is over; -EINTR. signal(7): such a call
 * is never restarted.
 */
int socket_block(ref d, uint32_t events, int kernel_fd, nsec deadline, bool limited);
/* Absolute deadline of a relative time-out (0: none), computed when first needed. */
nsec socket_deadline(nsec *deadline, nsec timeout);

/* sendto(MSG_FASTOPEN) and a bind() that may name the stack's own address (establish.c). */
int socket_bind(int fd, const struct sockaddr *sa, socklen_t len);
/* Does this listening kernel socket take connections that the stack's half does not? *local: its address. */
bool establish_both_halves(int fd, struct endpoint *local);
/* The stack's own address: known from the configuration before there is a stack. */
struct ipaddr stack_address(void);

/* A vector of nothing, unlike write() of nothing, never reaches the socket. */
bool vector_is_nothing(const struct iovec *iov, int iovcnt);

/* ------------------------------------------------------------ control.c */

/* What the kernel says of a message's control part that is to be sent: 0 or a negative errno. */
int control_check(const struct msghdr *m);
/* As the kernel's put_cmsg() for its only control message of TCP. Returns the length used. */
size_t control_put_inq(struct msghdr *m, int left);

/* ------------------------------------------------------------ options.c */

#define OPTION_ROWS_MAX 64
/* Bits of fd_options() beside the rows of the table. */
#define OPTION_BIT_BOUND   63u /* bind() succeeded */
#define OPTION_BIT_UNKNOWN 62u /* an option that the table does not know was set */
#define OPTION_BIT_KERNEL  61u /* one that only the kernel has was set, perhaps to its default */

/* What the application set on a kernel socket, read back from it. */
struct option_values {
	uint64_t set; /* rows */
	int value[OPTION_ROWS_MAX];
};
/* setsockopt() on an undecided socket succeeded: remember that. */
void option_touched(int fd, int level, int name);
/* Read back; NULL, or the option that only the kernel can do (a static text). */
const char *options_gather(int fd, struct option_values *v);
/* SO_RCVTIMEO and SO_SNDTIMEO of an undecided socket; without the lock. */
void options_timeouts(int fd, struct description *p);
/* Give the others to a new stack socket; under the lock. */
void options_apply(struct stack_cx *cx, struct description *p, const struct option_values *v);
/* SIGPIPE to this thread, as the kernel sends it with EPIPE. */
void sigpipe_raise(void);
/* connect() on a listener (unlisten.c). */
int listener_connect(int fd, const struct sockaddr *sa, socklen_t len);
/* A listener's: what an accepted socket inherits in the description. */
void options_inherit(const struct description *from, struct description *to);
/* Copy out as Linux: as many bytes as there is room for; *len is the number copied. 0 or -EFAULT. */
int option_copy_out(const void *v, socklen_t size, void *value, socklen_t *len);
/* getsockopt(TCP_INFO) (options_info.c). */
int options_tcp_info(struct description *p, void *value, socklen_t *len);
int option_copy_out_int(int level, int v, void *value, socklen_t *len);

/* Newer than the headers of Debian 12. */
#define OPT_TCP_AO_REPAIR     42
#define OPT_TCP_RTO_MAX_MS    44
#define OPT_TCP_RTO_MIN_US    45
#define OPT_TCP_DELACK_MAX_US 46

/* ------------------------------------------------------------ options_figures.c */

/* What is left to read, and the end behind it (TCP_INQ). */
int socket_left(ref d);
int figure_get(int fd, ref d, int level, int name, void *value, socklen_t *len);

/* ------------------------------------------------------------ options_ipv6.c */

int option_set_v6only(struct description *p, const void *value, socklen_t len);
/* IPV6_ADDRFORM */
int option_set_form(struct description *p, const void *value, socklen_t len);

/* ------------------------------------------------------------ options_default.c */

/* The default of an option that describes the stack, too; -ENOPROTOOPT if it does not. */
int untouched_get(bool v6, int level, int name, void *value, socklen_t *len);
/* The default of any option: what a new socket of the kernel's answers. */
int untouched_ask(bool v6, int level, int name, void *value, socklen_t *len);
/* What ioctl() says on a new socket. */
int untouched_ioctl(bool v6, unsigned long request, void *arg);
/* Is it such an option? */
bool untouched_lists(int level, int name);
/* What the kernel says of a value, on a new socket: its error, 0: nothing has changed, 1: something has. */
int untouched_judge(bool v6, int level, int name, const void *value, socklen_t len);
/*
 * What the kernel makes of a value: its error, or 0 and what getsockopt() then says. Asked of a new socket;
 * 1: none is to be had.
 */
int untouched_try(bool v6, int level, int name, const void *value, socklen_t len, int *now);
/* Has kernel socket fd the default still? */
bool untouched_still(int fd, int level, int name);

#endif
