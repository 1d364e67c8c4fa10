/*
 * address.h - between struct sockaddr and the stack's endpoints.
 */
#ifndef PRELOAD_ADDRESS_H
#define PRELOAD_ADDRESS_H

#include "preload/preload.h"

/*
 * An AF_INET or AF_INET6 address (IPv4-mapped ones become IPv4). 0; -EINVAL: too
 * short; -EAFNOSUPPORT: another family.
 */
int address_parse(const struct sockaddr *sa, socklen_t len, struct endpoint *out);
/* As the kernel shows it: v6 sockets see mapped addresses. Returns the length. */
socklen_t address_format(const struct endpoint *e, bool v6, struct sockaddr_storage *out);
/* Copy out with Linux's truncation: *len is the room, then the true length. NULL sa: nothing. 0, -EFAULT,
 * -EINVAL. */
int address_copy_out(const struct endpoint *e, bool v6, struct sockaddr *sa, socklen_t *len);

#endif
