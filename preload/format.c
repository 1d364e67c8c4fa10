/*
 * format.c - snprintf() for messages written where stdio must not be used.
 *
 * The library speaks from inside other people's programs: in the middle of a
 * signal handler, before constructors, after fork() in a threaded process.
 * This formatter takes no lock, allocates nothing and touches no locale.
 * Place in the flow: log.c, config.c and stats.c build their lines with it.
 */

#include "preload/preload.h"

struct text_out {
	char *buf;
	size_t len, used; /* used counts what did not fit as well */
};

static void put(struct text_out *o, char c)
{
	if (o->used + 1 < o->len)
		o->buf[o->used] = c;
	o->used++;
}

static void put_padded(struct text_out *o, const char *s, size_t n, int width, char pad)
{
	for (int i = (int)n; i < width; i++)
		put(o, pad);
	for (size_t i = 0; i < n; i++)
		put(o, s[i]);
}

static void put_number(struct text_out *o, uint64_t v, unsigned base, bool upper, bool negative, int width,
		       char pad)
{
	const char *digits = upper ? "0123456789ABCDEF" : "0123456789abcdef";
	char tmp[24];
	size_t at = sizeof tmp;

	do {
		tmp[--at] = digits[v % base];
		v /= base;
	} while (v);
	if (negative)
		tmp[--at] = '-';
	put_padded(o, tmp + at, sizeof tmp - at, width, pad);
}

static void put_string(struct text_out *o, const char *s, int width, int precision)
{
	size_t n = 0;

	if (!s)
		s = "(null)";
	while (s[n] && (precision < 0 || n < (size_t)precision))
		n++;
	put_padded(o, s, n, width, ' ');
}

static unsigned number_of(const char **fmt)
{
	unsigned v = 0;

	while (**fmt >= '0' && **fmt <= '9')
		v = v * 10 + (unsigned)(*(*fmt)++ - '0');
	return v;
}

/* One conversion; fmt stands behind the '%'. Returns where it ends. */
static const char *convert(struct text_out *o, const char *fmt, va_list *ap)
{
	char pad = ' ';
	int width, precision = -1, longs = 0;

	if (*fmt == '0')
		pad = *fmt++;
	width = (int)number_of(&fmt);
	if (*fmt == '.') {
		fmt++;
		if (*fmt == '*') {
			precision = va_arg(*ap, int);
			fmt++;
		} else {
			precision = (int)number_of(&fmt);
		}
	}
	for (; *fmt == 'l' || *fmt == 'z'; fmt++)
		longs++;
	switch (*fmt) {
	case 'd':
	case 'i': {
		int64_t v = longs ? va_arg(*ap, long) : va_arg(*ap, int);
		put_number(o, v < 0 ? 0 - (uint64_t)v : (uint64_t)v, 10, false, v < 0, width, pad);
		break;
	}
	case 'u':
	case 'x':
	case 'X': {
		uint64_t v = longs ? va_arg(*ap, unsigned long) : va_arg(*ap, unsigned);
		put_number(o, v, *fmt == 'u' ? 10 : 16, *fmt == 'X', false, width, pad);
		break;
	}
	case 'p':
		put_string(o, "0x", 0, -1);
		put_number(o, (uintptr_t)va_arg(*ap, void *), 16, false, false, width, pad);
		break;
	case 's':
		put_string(o, va_arg(*ap, const char *), width, precision);
		break;
	case 'c':
		put(o, (char)va_arg(*ap, int));
		break;
	case '\0':
		return fmt;
	default:
		put(o, *fmt);
	}
	return fmt + 1;
}

int log_vformat(char *buf, size_t len, const char *fmt, va_list *ap)
{
	struct text_out o = {buf, len, 0};

	while (*fmt) {
		if (*fmt == '%')
			fmt = convert(&o, fmt + 1, ap);
		else
			put(&o, *fmt++);
	}
	if (len)
		buf[MIN_OF(o.used, len - 1)] = '\0';
	return (int)o.used;
}

int log_format(char *buf, size_t len, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = log_vformat(buf, len, fmt, &ap);
	va_end(ap);
	return n;
}
