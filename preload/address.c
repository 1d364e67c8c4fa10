/*
 * address.c - between struct sockaddr and the stack's endpoints.
 *
 * Inside, every address has 128 bits and IPv4 is v4-mapped; at this edge the
 * socket's own family decides the shape.
 * Place in the flow: establish.c and socket.c call it for every name that the
 * application gives or asks for.
 */
#include <netinet/in.h>

#include "preload/address.h"

int address_parse(const struct sockaddr *sa, socklen_t len, struct endpoint *out)
{
	struct sockaddr_in in;
	struct sockaddr_in6 in6;

	if (!sa)
		return -EFAULT;
	if (len < sizeof sa->sa_family)
		return -EINVAL;
	switch (sa->sa_family) {
	case AF_INET:
		if (len < sizeof in)
			return -EINVAL;
		memcpy(&in, sa, sizeof in);
		out->addr = ipaddr_from_v4(&in.sin_addr);
		out->port = ntohs(in.sin_port);
		return 0;
	case AF_INET6:
		if (len < 24) /* SIN6_LEN_RFC2133: without the scope */
			return -EINVAL;
		memcpy(&in6, sa, MIN_OF(len, sizeof in6));
		memcpy(out->addr.b, &in6.sin6_addr, 16);
		out->port = ntohs(in6.sin6_port);
		return 0;
	default:
		return -EAFNOSUPPORT;
	}
}

socklen_t address_format(const struct endpoint *e, bool v6, struct sockaddr_storage *out)
{
	memset(out, 0, sizeof *out);
	if (v6) {
		struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(e->port)};
		if (!ipaddr_is_any(&e->addr))
			memcpy(&in6.sin6_addr, e->addr.b, 16);
		memcpy(out, &in6, sizeof in6);
		return sizeof in6;
	}
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(e->port)};
	memcpy(&in.sin_addr, e->addr.b + 12, 4);
	memcpy(out, &in, sizeof in);
	return sizeof in;
}

int address_copy_out(const struct endpoint *e, bool v6, struct sockaddr *sa, socklen_t *len)
{
	struct sockaddr_storage full;
	socklen_t n;

	if (!sa)
		return 0;
	if (!len)
		return -EFAULT;
	if (*len > INT32_MAX)
		return -EINVAL;
	n = address_format(e, v6, &full);
	memcpy(sa, &full, MIN_OF(n, *len));
	*len = n;
	return 0;
}
