/*
 * sealed.h - libc's tables of stream functions cannot be changed: as on a system
 * that forbids it. With STDIO_SEALED=1 a filter refuses to make them writable.
 */
#ifndef TESTS_PRELOAD_SEALED_H
#define TESTS_PRELOAD_SEALED_H

#include <link.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

static int libc_relro(struct dl_phdr_info *info, size_t size, void *arg)
{
	uintptr_t *range = arg;

	(void)size;
	if (!strstr(info->dlpi_name, "libc.so"))
		return 0;
	for (int i = 0; i < info->dlpi_phnum; i++)
		if (info->dlpi_phdr[i].p_type == PT_GNU_RELRO) {
			range[0] = (info->dlpi_addr + info->dlpi_phdr[i].p_vaddr) & ~4095ul;
			range[1] = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr + info->dlpi_phdr[i].p_memsz;
		}
	return 1;
}

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(field))

static inline void stdio_seal(void)
{
	uintptr_t range[2] = {0, 0};

	if (!getenv("STDIO_SEALED"))
		return;
	dl_iterate_phdr(libc_relro, range);
	struct sock_filter code[] = {
	    LOAD(offsetof(struct seccomp_data, nr)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mprotect, 0, 6),
	    LOAD(offsetof(struct seccomp_data, args[0]) + 4),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(range[0] >> 32), 0, 4),
	    LOAD(offsetof(struct seccomp_data, args[0])),
	    BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (uint32_t)range[0], 0, 2),
	    BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (uint32_t)range[1], 1, 0),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof code / sizeof *code, code};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		exit(94);
}

#endif
