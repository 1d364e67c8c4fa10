/*
 * calls_vfork.c - the wrapper of vfork(). The child runs on its parent's stack until
 * it becomes another program, so that no function of C can lie between: its frame
 * would be gone when the parent returns through it. This one does its work before
 * and leaves no frame: it jumps to libc's.
 *
 * Place in the flow: -> undecided.c; what the child does on its way: exec.c.
 */
#include "preload/calls.h"
#include "preload/undecided.h"

typedef pid_t (*vfork_call)(void);

/* What the child's program may come to have; libc's vfork(). */
__attribute__((used)) UTCP_OURS vfork_call utcp_before_vfork(void);
vfork_call utcp_before_vfork(void)
{
	undecided_share_all(true, true);
	return REAL(vfork);
}

#if defined(__x86_64__)
__asm__(".text\n"
	".globl vfork\n"
	".type vfork, @function\n"
	"vfork:\n"
	"	endbr64\n"
	"	subq $8, %rsp\n"
	"	call utcp_before_vfork\n"
	"	addq $8, %rsp\n"
	"	jmp *%rax\n"
	".size vfork, . - vfork\n");
#elif defined(__aarch64__)
__asm__(".text\n"
	".globl vfork\n"
	".type vfork, @function\n"
	"vfork:\n"
	"	hint #34\n"
	"	stp x29, x30, [sp, #-16]!\n"
	"	bl utcp_before_vfork\n"
	"	ldp x29, x30, [sp], #16\n"
	"	mov x16, x0\n"
	"	br x16\n"
	".size vfork, . - vfork\n");
#endif
