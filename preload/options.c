/*
 * options.c - socket options by the rule "never lie".
 *
 * Theory of operation. One table (options_table.c) says of every option what we do with it:
 *   CORE     the stack has it; the value is an int in the same unit
 *   HINT     no meaning for a stack in user space, harmless: kept and read back
 *   CONST    get only, always this value
 *   KERNEL   changes semantics and is not built: a socket on which it was set
 *            stays in the kernel; on a stack socket it is ENOPROTOOPT
 *   FIGURE   get only, taken from the connection (options_figures.c)
 *   SPECIAL  has its own code below
 * An option that is not in the table and nobody has set has its default, where
 * that is true of the stack (options_default.c); else it is ENOPROTOOPT, too.
 * What is wrong with a value of either kind is the kernel's to say: a socket that
 * was made for that is given it.
 *
 * While a socket is undecided the kernel checks and keeps every option; we only
 * remember which rows the application touched, and read those values back when
 * the socket moves to the stack. A listener has both halves: a set goes to the
 * kernel first (it judges the arguments), then to the stack; a get is the
 * kernel's, but for TCP_INFO and the pending error.
 *
 * Place in the flow: calls_socket.c -> here (TCP_INFO: options_info.c; options_figures.c,
 * options_default.c) -> sock_set_option (core).
 */
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "preload/fdtable.h"
#include "preload/options.h"
#include "preload/socket.h"
#include "preload/undecided.h"

/* ------------------------------------------------------------ before the decision */

/* It adds something to the socket, and has no value to compare. */
static bool is_attachment(const struct option *o)
{
	return o->answer == SET_ONLY || (o->name == SO_ATTACH_FILTER && o->level == SOL_SOCKET) ||
	       (o->name == TCP_FASTOPEN_KEY && o->level == IPPROTO_TCP);
}

void option_touched(int fd, int level, int name)
{
	int row = option_row(level, name);

	if (level == SOL_SOCKET && (name == SO_SNDBUFFORCE || name == SO_RCVBUFFORCE))
		row = option_row(level, name == SO_SNDBUFFORCE ? SO_SNDBUF : SO_RCVBUF);
	if (level == IPPROTO_IP && name == IP_TOS)
		fd_mark_option(fd, (uint32_t)option_row(SOL_SOCKET, SO_PRIORITY)); /* it changes with that */
	if (row >= 0 && row < CARRIED_ROWS)
		fd_mark_option(fd, (uint32_t)row);
	else if (row >= 0 && option_table[row].how == KERNEL && !is_attachment(&option_table[row]))
		fd_mark_option(fd, OPTION_BIT_KERNEL);
	else if (row < 0 ? !untouched_still(fd, level, name)
			 : option_table[row].how == KERNEL || option_table[row].how == FIGURE)
		fd_mark_option(fd, OPTION_BIT_UNKNOWN);
}

static nsec timeval_nsec(const struct timeval *tv)
{
	if (tv->tv_sec < 0)
		return 1; /* Linux: a negative time is over at once */
	return (nsec)tv->tv_sec * NS_PER_S + (nsec)tv->tv_usec * NS_PER_US;
}

/* The kernel's value of one special option, as the int that the stack or the description keeps. */
static bool gather_special(int fd, const struct option *o, int *value)
{
	struct linger l;
	char name[16] = "";
	socklen_t len;

	switch (o->name) {
	case SO_LINGER: /* SOL_SOCKET; no TCP option of the special rows has this number */
		len = sizeof l;
		if (sys.getsockopt(fd, o->level, o->name, &l, &len))
			return false;
		*value = l.l_onoff ? l.l_linger : -1;
		return true;
	case SO_RCVTIMEO:
	case SO_SNDTIMEO:
		return true; /* 64 bits: options_apply() has them from timeout_read() */
	}
	if (o->level == IPPROTO_TCP && o->name == TCP_CONGESTION) {
		len = sizeof name;
		if (sys.getsockopt(fd, o->level, o->name, name, &len))
			return false;
		*value = stack_cc_by_name(name, strnlen(name, sizeof name));
		return *value >= 0;
	}
	len = sizeof *value;
	return !sys.getsockopt(fd, o->level, o->name, value, &len);
}

/* Did the application ask for something that only the kernel does? Setting the default is no request. */
static bool kernel_only(int fd, const struct option *o)
{
	union {
		int i[64];
		char c[256];
	} v = {.i = {0}};
	socklen_t len = sizeof v;

	if (sys.getsockopt(fd, o->level, o->name, &v, &len))
		return false; /* of the other family, or newer than this kernel */
	if (!len)
		return false; /* no interface, no options */
	return len < sizeof(int) ? v.c[0] != 0 : v.i[0] != o->arg;
}

const char *options_gather(int fd, struct option_values *v)
{
	uint64_t touched = fd_options(fd);
	socklen_t len;

	v->set = 0;
	if (touched & 1ull << OPTION_BIT_UNKNOWN)
		return "that was set on the socket";
	for (int i = CARRIED_ROWS; touched & 1ull << OPTION_BIT_KERNEL && i < option_rows; i++)
		if (option_table[i].how == KERNEL && !is_attachment(&option_table[i]) &&
		    kernel_only(fd, &option_table[i]))
			return option_table[i].text;
	for (int i = 0; i < CARRIED_ROWS; i++) {
		const struct option *o = &option_table[i];
		if (!(touched & 1ull << i))
			continue;
		switch (o->how) {
		case KERNEL: /* an attachment */
			return o->text;
		case SPECIAL:
			if (!gather_special(fd, o, &v->value[i]))
				return o->text;
			break;
		default:
			len = sizeof v->value[i];
			v->value[i] = 0;
			if (sys.getsockopt(fd, o->level, o->name, &v->value[i], &len))
				continue;
			/* the kernel shows twice what was set, and core doubles again */
			if (o->arg == SOCK_OPT_SNDBUF || o->arg == SOCK_OPT_RCVBUF)
				v->value[i] /= 2;
		}
		v->set |= 1ull << i;
	}
	return NULL;
}

static void hint_keep(struct description *p, int row, int value)
{
	int slot = option_hint_slot(row);

	if (slot < (int)ARRAY_LEN(p->hints)) {
		p->hints[slot] = value;
		p->hints_set |= 1ull << slot;
	}
}

static void apply_special(struct stack_cx *cx, struct description *p, const struct option *o, int value)
{
	if (o->level == IPPROTO_TCP && o->name == TCP_INQ) {
		atomic_store(&p->inq, (uint8_t)value);
	} else if (o->level == IPPROTO_TCP) {
		sock_set_option(cx, p->sock, SOCK_OPT_CC, value);
	} else if (o->level == IPPROTO_IPV6) {
		p->v6only = value != 0;
	} else if (o->name == SO_LINGER) {
		sock_set_option(cx, p->sock, SOCK_OPT_LINGER, value);
	} else if (o->name == SO_RCVLOWAT) {
		p->rcvlowat = MAX_OF(value, 1);
		sock_set_option(cx, p->sock, SOCK_OPT_RCVLOWAT, p->rcvlowat);
	}
}

/* The kernel has looked whether there may be so much. */
static enum sock_option judged(int option)
{
	return option == SOCK_OPT_SNDBUF   ? SOCK_OPT_SNDBUFFORCE
	       : option == SOCK_OPT_RCVBUF ? SOCK_OPT_RCVBUFFORCE
					   : (enum sock_option)option;
}

void options_apply(struct stack_cx *cx, struct description *p, const struct option_values *v)
{
	for (int i = 0; i < CARRIED_ROWS; i++) {
		const struct option *o = &option_table[i];
		if (!(v->set & 1ull << i))
			continue;
		if (o->how == HINT)
			hint_keep(p, i, v->value[i]);
		else if (o->how == SPECIAL)
			apply_special(cx, p, o, v->value[i]);
		else if (o->how == CORE || o->how == CORE_BOOL)
			sock_set_option(cx, p->sock, judged(o->arg), v->value[i]);
	}
}

/* The two options of 64 bits, straight from the kernel socket into the description. */
void options_timeouts(int fd, struct description *p)
{
	struct timeval tv;
	socklen_t len = sizeof tv;

	if (fd_options(fd) & 1ull << option_row(SOL_SOCKET, SO_RCVTIMEO) &&
	    !sys.getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, &len))
		atomic_store(&p->rcvtimeo, timeval_nsec(&tv));
	len = sizeof tv;
	if (fd_options(fd) & 1ull << option_row(SOL_SOCKET, SO_SNDTIMEO) &&
	    !sys.getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, &len))
		atomic_store(&p->sndtimeo, timeval_nsec(&tv));
}

void options_inherit(const struct description *from, struct description *to)
{
	atomic_store(&to->rcvtimeo, atomic_load(&from->rcvtimeo));
	atomic_store(&to->sndtimeo, atomic_load(&from->sndtimeo));
	to->rcvlowat = from->rcvlowat;
	atomic_store(&to->inq, atomic_load(&from->inq));
	to->hints_set = from->hints_set;
	memcpy(to->hints, from->hints, sizeof to->hints);
	to->hints_set &= ~(1ull << option_hint_slot(option_row(SOL_SOCKET, SO_PRIORITY))); /* as sk_clone() */
}

/* ------------------------------------------------------------ get */

int option_copy_out(const void *v, socklen_t size, void *value, socklen_t *len)
{
	socklen_t n = MIN_OF(*len, size);

	if (n && !value)
		return -EFAULT;
	memcpy(value, v, n);
	*len = n;
	return 0;
}

int option_copy_out_int(int level, int v, void *value, socklen_t *len)
{
	/* ip(7): a short buffer gets a byte */
	if (level == IPPROTO_IP && *len && *len < sizeof v && v >= 0 && v <= 255) {
		uint8_t byte = (uint8_t)v;
		return option_copy_out(&byte, 1, value, len);
	}
	return option_copy_out(&v, sizeof v, value, len);
}

static int get_core(struct description *p, enum sock_option o, int *v)
{
	struct stack_cx *cx;
	int r;

	lib_enter();
	cx = netio_enter(the_stack);
	r = p->sock ? sock_get_option(cx, p->sock, o, v) : -EBADF;
	netio_leave(the_stack);
	lib_leave();
	return r;
}

static int take_error(struct description *p)
{
	struct stack_cx *cx;
	int e = 0;

	lib_enter();
	cx = netio_enter(the_stack);
	netio_drive(the_stack, cx);
	if (p->sock)
		e = sock_take_error(cx, p->sock);
	netio_leave(the_stack);
	lib_leave();
	return e;
}

static int get_timeout(nsec t, void *value, socklen_t *len)
{
	struct timeval tv = {(time_t)(t / NS_PER_S), (suseconds_t)(t % NS_PER_S / NS_PER_US)};
	return option_copy_out(&tv, sizeof tv, value, len);
}

static int get_socket_special(int fd, struct description *p, int name, void *value, socklen_t *len)
{
	struct linger l = {0};
	struct ucred nobody = {0, (uid_t)-1, (gid_t)-1};
	int v = 0, r;

	switch (name) {
	case SO_LINGER:
		r = get_core(p, SOCK_OPT_LINGER, &v);
		l = (struct linger){v >= 0, v >= 0 ? v : 0};
		return r ? r : option_copy_out(&l, sizeof l, value, len);
	case SO_RCVLOWAT:
		return option_copy_out(&p->rcvlowat, sizeof p->rcvlowat, value, len);
	case SO_RCVTIMEO:
		return get_timeout(atomic_load(&p->rcvtimeo), value, len);
	case SO_SNDTIMEO:
		return get_timeout(atomic_load(&p->sndtimeo), value, len);
	case SO_DOMAIN:
		v = p->v6 ? AF_INET6 : AF_INET;
		return option_copy_out(&v, sizeof v, value, len);
	case SO_ERROR:
		v = take_error(p);
		return option_copy_out(&v, sizeof v, value, len);
	case SO_PEERCRED: /* as on every TCP socket: nobody */
		return option_copy_out(&nobody, sizeof nobody, value, len);
	case SO_COOKIE: /* the placeholder's: the connection's identity */
		return sys.getsockopt(fd, SOL_SOCKET, SO_COOKIE, value, len) ? -errno : 0;
	default:
		return -ENOPROTOOPT; /* SO_SNDBUFFORCE and kin are set only */
	}
}

static int get_special(int fd, ref d, const struct option *o, void *value, socklen_t *len)
{
	struct description *p = description_of(d);
	struct endpoint peer;
	struct sock_info i;
	struct stack_cx *cx;
	const char *name;
	char padded[16] = "";
	int v = 0, r;

	if (o->level == SOL_SOCKET)
		return get_socket_special(fd, p, o->name, value, len);
	if (o->level == IPPROTO_IPV6 && o->name == IPV6_V6ONLY) {
		v = p->v6only;
		return option_copy_out(&v, sizeof v, value, len);
	}
	if (o->level == IPPROTO_TCP && o->name == TCP_INFO)
		return options_tcp_info(p, value, len);
	if (o->level == IPPROTO_TCP && o->name == TCP_INQ)
		return option_copy_out_int(o->level, atomic_load(&p->inq), value, len);
	if (o->level == IPPROTO_TCP) {
		r = get_core(p, SOCK_OPT_CC, &v);
		name = stack_cc_name(v);
		if (!r && name)
			memcpy(padded, name, MIN_OF(strlen(name), sizeof padded - 1));
		return r ? r : option_copy_out(padded, sizeof padded, value, len);
	}
	/* IP_MTU, IPV6_MTU: only with a peer */
	if (!socket_peer(d, &peer))
		return -ENOTCONN;
	lib_enter();
	cx = netio_enter(the_stack);
	r = p->sock ? sock_info(cx, p->sock, &i) : -ENOTCONN;
	netio_leave(the_stack);
	lib_leave();
	v = r ? 0 : (int)i.pmtu;
	return r ? r : option_copy_out_int(o->level, v, value, len);
}

/* A listener: both halves have it; the kernel's answer, but what only the stack knows. */
static int get_listener(int fd, struct description *p, int level, int name, void *value, socklen_t *len)
{
	int *v = value, e;

	if (level == IPPROTO_TCP && name == TCP_INFO)
		return options_tcp_info(p, value, len);
	if (sys.getsockopt(fd, level, name, value, len))
		return -errno;
	if (level == SOL_SOCKET && name == SO_ERROR && *len == sizeof *v && !*v) {
		e = take_error(p);
		memcpy(v, &e, sizeof e);
	}
	return 0;
}

/* Never set on a stack socket: the default is the truth. */
static int get_kernel(const struct option *o, void *value, socklen_t *len)
{
	int words[2] = {o->arg, o->arg};

	switch (o->answer) {
	case NOTHING:
		*len = 0;
		return 0;
	case SET_ONLY:
		return -ENOPROTOOPT;
	case TWO_WORDS:
		/* a pacing rate is a long, or an int where no long fits */
		if (o->name == SO_MAX_PACING_RATE && *len < sizeof words)
			break;
		return option_copy_out(words, sizeof words, value, len);
	case AN_INT:
		break;
	}
	return option_copy_out_int(o->level, o->arg, value, len);
}

int socket_get_option(int fd, ref d, int level, int name, void *value, socklen_t *len)
{
	struct description *p = description_of(d);
	int row = option_row(level, name), v = 0, r = 0;
	const struct option *o = row < 0 ? NULL : &option_table[row];

	if (level != SOL_SOCKET && level != IPPROTO_TCP && level != IPPROTO_IP &&
	    (level != IPPROTO_IPV6 || !p->v6))
		return -EOPNOTSUPP;
	if (!len)
		return -EFAULT;
	if (*len > INT32_MAX && level != IPPROTO_IPV6) /* there, four bytes */
		return -EINVAL;
	if (p->kind == FD_LISTENER)
		return get_listener(fd, p, level, name, value, len);
	if (!o)
		return untouched_get(p->v6, level, name, value, len);
	switch (o->how) {
	case CORE:
	case CORE_BOOL:
		r = get_core(p, (enum sock_option)o->arg, &v);
		break;
	case HINT:
		v = p->hints_set & 1ull << option_hint_slot(row) ? p->hints[option_hint_slot(row)] : o->arg;
		break;
	case CONST:
		v = o->arg;
		break;
	case KERNEL:
		return get_kernel(o, value, len);
	case FIGURE:
		return figure_get(fd, d, level, name, value, len);
	case SPECIAL:
		return get_special(fd, d, o, value, len);
	}
	return r ? r : option_copy_out_int(level, v, value, len);
}

/* ------------------------------------------------------------ set */

static int set_core(struct description *p, enum sock_option o, int v)
{
	struct stack_cx *cx;
	int r;

	lib_enter();
	cx = netio_enter(the_stack);
	r = p->sock ? sock_set_option(cx, p->sock, o, v) : -EBADF;
	netio_leave(the_stack);
	lib_leave();
	return r;
}

static int set_timeout(_Atomic uint64_t *to, const void *value, socklen_t len)
{
	struct timeval tv;

	if (len < sizeof tv)
		return -EINVAL;
	memcpy(&tv, value, sizeof tv);
	if (tv.tv_usec < 0 || tv.tv_usec >= 1000000)
		return -EDOM;
	atomic_store(to, timeval_nsec(&tv));
	return 0;
}

static int set_congestion(struct description *p, const char *value, socklen_t len)
{
	char name[16] = "";
	int cc;

	if (len < 1)
		return -EINVAL;
	memcpy(name, value, MIN_OF(len, sizeof name - 1));
	cc = stack_cc_by_name(name, strnlen(name, sizeof name));
	return cc < 0 ? -ENOENT : set_core(p, SOCK_OPT_CC, cc);
}

static int set_special(struct description *p, const struct option *o, const void *value, socklen_t len, int v)
{
	struct linger l;
	int r;

	if (o->level == IPPROTO_TCP && o->name == TCP_INQ) {
		if (v < 0 || v > 1)
			return -EINVAL;
		atomic_store(&p->inq, (uint8_t)v);
		return 0;
	}
	if (o->level == IPPROTO_TCP)
		return o->name == TCP_INFO ? -ENOPROTOOPT : set_congestion(p, value, len);
	switch (o->name) {
	case SO_LINGER:
		if (len < sizeof l)
			return -EINVAL;
		memcpy(&l, value, sizeof l);
		return set_core(p, SOCK_OPT_LINGER, l.l_onoff ? MAX_OF(l.l_linger, 0) : -1);
	case SO_RCVLOWAT:
		v = v < 0 ? INT32_MAX : MAX_OF(v, 1);
		r = set_core(p, SOCK_OPT_RCVLOWAT, v);
		return r ? r
			 : get_core(p, SOCK_OPT_RCVLOWAT, &p->rcvlowat); /* no more than there is room for */
	case SO_RCVTIMEO:
		return set_timeout(&p->rcvtimeo, value, len);
	case SO_SNDTIMEO:
		return set_timeout(&p->sndtimeo, value, len);
	default:
		/* get only, or (SO_SNDBUFFORCE) a privilege over the kernel's limits, which are not ours */
		return -ENOPROTOOPT;
	}
}

/* What has no effect on the stack: the kernel judges the value, on a new socket. */
static int set_hint(struct description *p, int row, const void *value, socklen_t len)
{
	const struct option *o = &option_table[row];
	int v, r = untouched_try(p->v6, o->level, o->name, value, len, &v);

	if (r)
		return r > 0 ? -ENOBUFS : r;
	lib_enter();
	netio_enter(the_stack);
	hint_keep(p, row, v);
	netio_leave(the_stack);
	lib_leave();
	return 0;
}

/* Options of TCP that may be set in some states only, and the error in others; the new socket is closed. */
enum { CLOSED = 1, LISTENS = 2, OTHERS = 4 };

static int wrong_state(struct description *p, int name)
{
	struct sock_info i = {.state = 0};
	struct stack_cx *cx;
	int state, allowed, error = -EINVAL;

	switch (name) {
	case TCP_REPAIR:
	case OPT_TCP_AO_REPAIR:
		allowed = CLOSED | OTHERS, error = -EPERM;
		break;
	case TCP_QUEUE_SEQ:
		allowed = CLOSED, error = -EPERM;
		break;
	case TCP_FASTOPEN_CONNECT:
		allowed = CLOSED;
		break;
	case TCP_FASTOPEN:
	case TCP_FASTOPEN_NO_COOKIE:
		allowed = CLOSED | LISTENS;
		break;
	default:
		return 0;
	}
	lib_enter();
	cx = netio_enter(the_stack);
	if (p->sock && sock_info(cx, p->sock, &i))
		i.state = LINUX_CLOSE;
	netio_leave(the_stack);
	lib_leave();
	state = p->kind == FD_LISTENER				       ? LISTENS
		: i.state == LINUX_CLOSE || i.state == LINUX_TIME_WAIT ? CLOSED
								       : OTHERS;
	return allowed & state ? 0 : error;
}

/* What the stack does not have: the kernel finds what is wrong with the value; the default is no request. */
static int set_missing(struct description *p, int level, int name, const void *value, socklen_t len)
{
	int row = option_row(level, name), r = untouched_judge(p->v6, level, name, value, len), wrong;
	bool has_default = row < 0 ? untouched_lists(level, name) : !is_attachment(&option_table[row]);

	wrong = level == IPPROTO_TCP && len >= sizeof(int) && r != -EFAULT ? wrong_state(p, name) : 0;
	if (wrong || r < 0)
		return wrong ? wrong : r;
	if (!value && !len)
		return 0; /* nothing, and the kernel took it */
	return r || !has_default ? -ENOPROTOOPT : 0;
}

/* A buffer's size: how much there may be is the machine's to say (net.core.wmem_max, rmem_max). */
static int set_size(struct description *p, const struct option *o, int v)
{
	int now;

	if (untouched_try(false, o->level, o->name, &v, sizeof v, &now))
		return set_core(p, (enum sock_option)o->arg, v);
	return set_core(p, judged(o->arg), now / 2);
}

/* ip(7): another type of service has another priority in the queues, too. */
static int set_tos(struct description *p, int v)
{
	static const int priority[] = {0, 2, 6, 4};
	int before = 0, now = 0, r = get_core(p, SOCK_OPT_TOS, &before);

	r = r ? r : set_core(p, SOCK_OPT_TOS, v);
	if (r || get_core(p, SOCK_OPT_TOS, &now) || now == before)
		return r;
	lib_enter();
	netio_enter(the_stack);
	hint_keep(p, option_row(SOL_SOCKET, SO_PRIORITY), priority[now >> 3 & 3]);
	netio_leave(the_stack);
	lib_leave();
	return 0;
}

/* The int that an option's caller gave, by the rules of its level. */
static int read_int(const struct option *o, const void *value, socklen_t len, int *v)
{
	*v = 0;
	if (o->level == IPPROTO_TCP && o->name == TCP_CONGESTION)
		return value || !len ? 0 : -EFAULT;
	if (o->level == IPPROTO_IP && o->name == IP_TOS && !len)
		return 0;
	if (len >= sizeof *v || (o->level == IPPROTO_IP && len >= 1)) {
		if ((uintptr_t)value < 4096)
			return -EFAULT;
		if (len >= sizeof *v)
			memcpy(v, value, sizeof *v);
		else
			*v = *(const uint8_t *)value; /* ip(7): a byte will do */
		return 0;
	}
	return -EINVAL;
}

/* IPV6_MTU cuts datagrams: nothing that TCP has. */
static int set_ipv6(struct description *p, int name, const void *value, socklen_t len)
{
	int r;

	if (name == IPV6_V6ONLY)
		return option_set_v6only(p, value, len);
	r = untouched_judge(p->v6, IPPROTO_IPV6, name, value, len);
	return r > 0 ? 0 : r;
}

/* On the stack only. */
static int set_stack(struct description *p, int row, const void *value, socklen_t len)
{
	const struct option *o = &option_table[row];
	int v, r;

	if (o->how == HINT)
		return set_hint(p, row, value, len);
	if (o->level == IPPROTO_IPV6 && o->name == IPV6_ADDRFORM)
		return option_set_form(p, value, len);
	if (o->how == KERNEL || o->how == FIGURE || o->how == CONST ||
	    (o->level == IPPROTO_IP && o->name == IP_MTU))
		return set_missing(p, o->level, o->name, value, len);
	if (o->level == IPPROTO_IPV6 && o->how == SPECIAL)
		return set_ipv6(p, o->name, value, len);
	r = read_int(o, value, len, &v);
	if (r)
		return r;
	if (o->how == SPECIAL)
		return set_special(p, o, value, len, v);
	if (o->how == CORE_BOOL)
		return set_core(p, (enum sock_option)o->arg,
				o->name == TCP_QUICKACK && o->level == IPPROTO_TCP ? v : v != 0);
	if (o->arg == SOCK_OPT_SNDBUF || o->arg == SOCK_OPT_RCVBUF)
		return set_size(p, o, v);
	if (o->arg == SOCK_OPT_TOS)
		return set_tos(p, v);
	return set_core(p, (enum sock_option)o->arg, v);
}

static int set_option(int fd, ref d, int level, int name, const void *value, socklen_t len)
{
	struct description *p = description_of(d);
	int row = option_row(level, name), r, v;

	if (len > INT32_MAX)
		return -EINVAL;
	if (level == IPPROTO_IPV6 && !p->v6)
		return -ENOPROTOOPT;
	if (level == SOL_SOCKET && (name == SO_SNDBUFFORCE || name == SO_RCVBUFFORCE)) {
		/* the kernel knows who may, and checks the value */
		if (sys.setsockopt(fd, level, name, value, len))
			return -errno;
		memcpy(&v, value, sizeof v);
		return set_core(p, name == SO_SNDBUFFORCE ? SOCK_OPT_SNDBUFFORCE : SOCK_OPT_RCVBUFFORCE, v);
	}
	if (row < 0)
		return set_missing(p, level, name, value, len);
	if (p->kind == FD_STREAM)
		return set_stack(p, row, value, len);
	/* A listener: nothing that the stack's half would not do; else the kernel first, it checks the value.
	 */
	if (option_table[row].how == KERNEL || option_table[row].how == FIGURE) {
		r = set_stack(p, row, value, len);
		if (r == -ENOPROTOOPT || (r && option_table[row].answer != AN_INT))
			return r;
		return sys.setsockopt(fd, level, name, value, len) ? -errno : 0;
	}
	if (sys.setsockopt(fd, level, name, value, len))
		return -errno;
	return option_table[row].how == CONST ? 0 : set_stack(p, row, value, len);
}

int socket_set_option(int fd, ref d, int level, int name, const void *value, socklen_t len)
{
	int r = set_option(fd, d, level, name, value, len);

	return r == -ENOPROTOOPT ? undecided_set_option(fd, d, level, name, value, len) : r;
}
