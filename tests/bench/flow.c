/*
 * flow.c - one TCP flow for measuring: the same plain program on the kernel's
 * stack and, under utcp, on ours.
 *
 *     flow server ADDR PORT                      serves flows one after the other until killed
 *     flow rr|send|recv ADDR PORT SECONDS SIZE   a client: round trips of SIZE bytes, or bulk in calls of
 * SIZE
 *
 * Each side prints one JSON object per flow: what it moved, in which time, and
 * its own CPU (getrusage: user and system). A round trip's times are kept one by
 * one and sorted, so that percentiles are exact.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SIZE_MAX_BYTES (1u << 20)
#define SAMPLES_MAX    8000000u
#define NS_PER_SEC     1000000000ull

/* The client's first bytes. */
struct order {
	uint32_t mode; /* 'r' round trips, 's' the client sends, 'v' it receives */
	uint32_t size;
	uint64_t duration_ns;
};

static uint8_t buffer[SIZE_MAX_BYTES];

static void die(const char *what)
{
	fprintf(stderr, "flow: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_SEC + (uint64_t)t.tv_nsec;
}

static double cpu_seconds(void)
{
	struct rusage r;

	getrusage(RUSAGE_SELF, &r);
	return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
	       (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) * 1e-6;
}

static long switches(void)
{
	struct rusage r;

	getrusage(RUSAGE_SELF, &r);
	return r.ru_nvcsw + r.ru_nivcsw;
}

/* All n bytes; false at the end of the stream. */
static bool read_all(int fd, void *to, size_t n)
{
	for (size_t got = 0; got < n;) {
		ssize_t r = read(fd, (char *)to + got, n - got);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			die("read");
		if (r == 0)
			return false;
		got += (size_t)r;
	}
	return true;
}

static void write_all(int fd, const void *from, size_t n)
{
	for (size_t done = 0; done < n;) {
		ssize_t w = write(fd, (const char *)from + done, n - done);

		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0)
			die("write");
		done += (size_t)w;
	}
}

static void options_set(int fd)
{
	int one = 1;

	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) < 0)
		die("TCP_NODELAY");
	/* Both ends of both stacks: a comparison of stacks, not of algorithms. */
	if (setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5) < 0)
		die("TCP_CONGESTION cubic");
}

static struct sockaddr_in address_of(const char *addr, const char *port)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};

	if (inet_pton(AF_INET, addr, &sa.sin_addr) != 1) {
		fprintf(stderr, "flow: '%s' is no IPv4 address\n", addr);
		exit(2);
	}
	return sa;
}

/* ------------------------------------------------------------------ bulk */

static uint64_t bulk_send(int fd, const struct order *o)
{
	uint64_t total = 0, end = now_ns() + o->duration_ns, count;

	while (now_ns() < end) {
		write_all(fd, buffer, o->size);
		total += o->size;
	}
	/* The receiver answers with what it got: only then is all of it through. */
	shutdown(fd, SHUT_WR);
	if (!read_all(fd, &count, sizeof count) || count != total) {
		fprintf(stderr, "flow: bytes are missing\n");
		exit(1);
	}
	return total;
}

static uint64_t bulk_receive(int fd, const struct order *o)
{
	uint64_t total = 0;
	ssize_t n;

	while ((n = read(fd, buffer, o->size)) != 0) {
		if (n < 0 && errno != EINTR)
			die("read");
		total += n > 0 ? (uint64_t)n : 0;
	}
	write_all(fd, &total, sizeof total);
	return total;
}

/* ------------------------------------------------------------------ round trips */

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static uint64_t round_trips(int fd, const struct order *o, uint32_t *sample)
{
	uint64_t start = now_ns(), end = start + o->duration_ns, n = 0;

	while (start < end && n < SAMPLES_MAX) {
		uint64_t t;

		write_all(fd, buffer, o->size);
		if (!read_all(fd, buffer, o->size)) {
			fprintf(stderr, "flow: the server closed\n");
			exit(1);
		}
		t = now_ns();
		sample[n++] = (uint32_t)(t - start);
		start = t;
	}
	shutdown(fd, SHUT_WR);
	return n;
}

/* ------------------------------------------------------------------ the two sides */

static void client(const char *mode, const struct sockaddr_in *to, double seconds, uint32_t size)
{
	struct order o = {mode[0] == 'r' && mode[1] == 'e' ? 'v' : (uint32_t)mode[0], size,
			  (uint64_t)(seconds * 1e9)};
	uint32_t *sample = calloc(SAMPLES_MAX, sizeof *sample);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	uint64_t n, start;
	double cpu, elapsed;
	long sw;

	if (fd < 0 || !sample)
		die("socket");
	options_set(fd);
	if (connect(fd, (const struct sockaddr *)to, sizeof *to) < 0)
		die("connect");
	write_all(fd, &o, sizeof o);
	cpu = cpu_seconds();
	sw = switches();
	start = now_ns();
	n = o.mode == 'r'   ? round_trips(fd, &o, sample)
	    : o.mode == 's' ? bulk_send(fd, &o)
			    : bulk_receive(fd, &o);
	elapsed = (double)(now_ns() - start) * 1e-9;
	cpu = cpu_seconds() - cpu;
	sw = switches() - sw;
	printf("{\"mode\": \"%s\", \"count\": %lu, \"seconds\": %.6f, \"cpu\": %.6f, \"switches\": %ld", mode,
	       n, elapsed, cpu, sw);
	if (o.mode == 'r' && n) {
		qsort(sample, n, sizeof *sample, compare);
		printf(", \"p50_us\": %.3f, \"p99_us\": %.3f", sample[n / 2] * 1e-3,
		       sample[n * 99 / 100] * 1e-3);
	}
	printf("}\n");
	fflush(stdout);
	close(fd);
	free(sample);
}

static void serve(int fd)
{
	double cpu = cpu_seconds();
	uint64_t n = 0;
	struct order o;

	options_set(fd);
	if (!read_all(fd, &o, sizeof o) || o.size == 0 || o.size > sizeof buffer)
		return;
	if (o.mode == 'r')
		for (; read_all(fd, buffer, o.size); n++)
			write_all(fd, buffer, o.size);
	else
		n = o.mode == 's' ? bulk_receive(fd, &o) : bulk_send(fd, &o);
	printf("{\"mode\": \"server\", \"count\": %lu, \"cpu\": %.6f}\n", n, cpu_seconds() - cpu);
	fflush(stdout);
}

static void server(const struct sockaddr_in *at)
{
	int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0), fd;

	if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
	    bind(listener, (const struct sockaddr *)at, sizeof *at) < 0 || listen(listener, 16) < 0)
		die("listen");
	while ((fd = accept(listener, NULL, NULL)) >= 0) {
		serve(fd);
		close(fd);
	}
	die("accept");
}

int main(int argc, char **argv)
{
	struct sockaddr_in sa;
	long size;

	signal(SIGPIPE, SIG_IGN);
	if (argc == 4 && !strcmp(argv[1], "server")) {
		sa = address_of(argv[2], argv[3]);
		server(&sa);
		return 1;
	}
	if (argc != 6 ||
	    (strcmp(argv[1], "rr") != 0 && strcmp(argv[1], "send") != 0 && strcmp(argv[1], "recv") != 0)) {
		fprintf(stderr, "flow: see the head of flow.c\n");
		return 2;
	}
	size = atol(argv[5]);
	if (size < 1 || size > (long)sizeof buffer) {
		fprintf(stderr, "flow: the size must be 1 to %zu\n", sizeof buffer);
		return 2;
	}
	sa = address_of(argv[2], argv[3]);
	client(argv[1], &sa, atof(argv[4]), (uint32_t)size);
	return 0;
}
