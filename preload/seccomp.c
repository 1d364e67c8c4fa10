/*
 * seccomp.c - would a seccomp filter let the stack work in this process?
 *
 * A filter is a classic BPF program over the number of a system call, the machine
 * and the arguments (seccomp(2)). We run it for each call that the stack makes in
 * its user's threads. What depends on an argument, or on where the call is made, is
 * not known beforehand and counts as forbidden: pump mode is right in any case.
 *
 * Place in the flow: calls_privilege.c -> here.
 */
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>

#include "preload/preload.h"
#include "preload/seal.h"

#ifdef __x86_64__
#define OUR_ARCH AUDIT_ARCH_X86_64
#else
#define OUR_ARCH AUDIT_ARCH_AARCH64
#endif

/* What netio and preload ask of the kernel once a stack runs. */
static const uint16_t our_calls[] = {SYS_bind,
				     SYS_clock_gettime,
				     SYS_close,
				     SYS_clone,
				     SYS_clone3,
				     SYS_dup3,
				     SYS_epoll_create1,
				     SYS_epoll_ctl,
				     SYS_epoll_pwait,
				     SYS_epoll_pwait2,
				     SYS_eventfd2,
				     SYS_fallocate,
				     SYS_fcntl,
				     SYS_ftruncate,
				     SYS_futex,
				     SYS_getpid,
				     SYS_getsockname,
				     SYS_getsockopt,
				     SYS_gettid,
				     SYS_ioctl,
				     SYS_listen,
				     SYS_madvise,
				     SYS_mmap,
				     SYS_munmap,
				     SYS_nanosleep,
				     SYS_ppoll,
				     SYS_prlimit64,
				     SYS_read,
				     SYS_readv,
				     SYS_recvfrom,
				     SYS_recvmsg,
				     SYS_rt_sigpending,
				     SYS_rt_sigprocmask,
				     SYS_rt_sigreturn,
				     SYS_rt_sigtimedwait,
				     SYS_sched_yield,
				     SYS_sendmsg,
				     SYS_sendto,
				     SYS_setsockopt,
				     SYS_socket,
				     SYS_socketpair,
				     SYS_tgkill,
				     SYS_rt_sigqueueinfo,
				     SYS_timerfd_settime,
				     SYS_wait4,
				     SYS_rt_tgsigqueueinfo,
				     SYS_write,
				     SYS_writev,
				     SYS_exit};

/* A register or memory word, and whether its value is known. */
struct word {
	uint32_t v;
	bool known;
};

struct machine {
	struct word a, x, m[BPF_MEMWORDS];
};

/* A word of struct seccomp_data. */
static struct word data_word(uint32_t at, uint32_t nr)
{
	if (at == offsetof(struct seccomp_data, nr))
		return (struct word){nr, true};
	if (at == offsetof(struct seccomp_data, arch))
		return (struct word){OUR_ARCH, true};
	return (struct word){0, false};
}

static bool load(struct machine *s, const struct sock_filter *f, uint32_t nr, struct word *to)
{
	switch (f->code & ~(BPF_CLASS(f->code))) {
	case BPF_W | BPF_ABS:
		*to = data_word(f->k, nr);
		return true;
	case BPF_W | BPF_LEN:
		*to = (struct word){sizeof(struct seccomp_data), true};
		return true;
	case BPF_IMM:
		*to = (struct word){f->k, true};
		return true;
	case BPF_MEM:
		if (f->k >= BPF_MEMWORDS)
			return false;
		*to = s->m[f->k];
		return true;
	default:
		return false;
	}
}

static bool alu(struct machine *s, const struct sock_filter *f)
{
	struct word operand = BPF_SRC(f->code) == BPF_X ? s->x : (struct word){f->k, true};
	uint32_t v = operand.v, op = BPF_OP(f->code);

	s->a.known = s->a.known && (operand.known || op == BPF_NEG);
	if ((op == BPF_DIV || op == BPF_MOD) && (!operand.known || !v))
		return false;
	switch (op) {
	case BPF_ADD:
		s->a.v += v;
		return true;
	case BPF_SUB:
		s->a.v -= v;
		return true;
	case BPF_MUL:
		s->a.v *= v;
		return true;
	case BPF_DIV:
		s->a.v /= v;
		return true;
	case BPF_MOD:
		s->a.v %= v;
		return true;
	case BPF_AND:
		s->a.v &= v;
		return true;
	case BPF_OR:
		s->a.v |= v;
		return true;
	case BPF_XOR:
		s->a.v ^= v;
		return true;
	case BPF_LSH:
		s->a.v = v < 32 ? s->a.v << v : 0;
		return true;
	case BPF_RSH:
		s->a.v = v < 32 ? s->a.v >> v : 0;
		return true;
	case BPF_NEG:
		s->a.v = -s->a.v;
		return true;
	default:
		return false;
	}
}

/* How far to jump, or -1: nobody can tell. */
static int64_t jump(const struct machine *s, const struct sock_filter *f)
{
	struct word operand = BPF_SRC(f->code) == BPF_X ? s->x : (struct word){f->k, true};
	bool yes;

	if (BPF_OP(f->code) == BPF_JA)
		return f->k;
	if (!s->a.known || !operand.known)
		return -1;
	switch (BPF_OP(f->code)) {
	case BPF_JEQ:
		yes = s->a.v == operand.v;
		break;
	case BPF_JGT:
		yes = s->a.v > operand.v;
		break;
	case BPF_JGE:
		yes = s->a.v >= operand.v;
		break;
	case BPF_JSET:
		yes = s->a.v & operand.v;
		break;
	default:
		return -1;
	}
	return yes ? f->jt : f->jf;
}

static bool allows(const struct sock_fprog *p, uint32_t nr)
{
	struct machine s = {.a = {0, true}, .x = {0, true}};
	int64_t by;

	for (uint32_t i = 0; i < p->len; i++) {
		const struct sock_filter *f = &p->filter[i];

		switch (BPF_CLASS(f->code)) {
		case BPF_LD:
		case BPF_LDX:
			if (!load(&s, f, nr, BPF_CLASS(f->code) == BPF_LD ? &s.a : &s.x))
				return false;
			break;
		case BPF_ST:
		case BPF_STX:
			if (f->k >= BPF_MEMWORDS)
				return false;
			s.m[f->k] = BPF_CLASS(f->code) == BPF_ST ? s.a : s.x;
			break;
		case BPF_ALU:
			if (!alu(&s, f))
				return false;
			break;
		case BPF_JMP:
			by = jump(&s, f);
			if (by < 0 || by > p->len)
				return false;
			i += (uint32_t)by;
			break;
		case BPF_RET:
			if (BPF_RVAL(f->code) == BPF_A && !s.a.known)
				return false;
			by = BPF_RVAL(f->code) == BPF_A ? s.a.v : f->k;
			return (by & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_ALLOW ||
			       (by & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_LOG;
		case BPF_MISC:
			if (BPF_MISCOP(f->code) == BPF_TAX)
				s.x = s.a;
			else
				s.a = s.x;
			break;
		default:
			return false;
		}
	}
	return false;
}

bool seccomp_harmless(const struct sock_fprog *p)
{
	for (unsigned i = 0; i < ARRAY_LEN(our_calls); i++)
		if (!allows(p, our_calls[i]))
			return false;
	return true;
}
