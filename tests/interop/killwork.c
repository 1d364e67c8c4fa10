/*
 * killwork.c - the work of kills.sh: transfers of known contents, by processes that are killed.
 *
 *     killwork serve ADDR PORT WORKERS    the listener's process and its forked workers
 *     killwork call PARALLEL ADDR PORT [ADDR PORT]...    a client of these servers
 *
 * A transfer begins with a header: its identity and how many bytes go each way. Both
 * directions flow at once, in small pieces, each byte a function of identity, direction
 * and place. Then the server shuts its side, the client reads the end and closes.
 *
 * What became of it is told on stdout, one line each (a pipe to kills.py; a line is one write):
 *     P pid pid        a server's process has made the second, which says so
 *     S id pid         the server's process `pid` has it; id: the client's pid, a count, the server called
 *     O id pid         this end had everything, in order
 *     B id pid errno   it broke off (0: the end of the stream came early)
 *     X id pid at      a wrong byte: never excused
 *     F pid fds fds    a good end after SIGTERM; descriptors when first idle, and now
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define XFERS_MAX 64
#define PIECE_MAX 6000
#define BYTES_MAX 200000u
#define TARGETS	  4
#define WORKERS	  8

struct header {
	uint64_t id;
	uint32_t up, down;
};

struct xfer {
	int fd; /* -1: free */
	bool client, connecting, shut;
	struct header h;
	uint32_t header_done;
	uint32_t sent, received, to_send, to_receive;
};

static struct xfer xfers[XFERS_MAX];
static uint64_t rng, next_id;
static volatile sig_atomic_t ending;
static int fds_idle = -1;

static uint32_t pick(uint32_t below)
{
	rng = rng * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(rng >> 33) % below;
}

static void on_term(int sig)
{
	(void)sig;
	ending = 1;
}

static void tell(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void tell(const char *format, ...)
{
	char line[160];
	va_list ap;

	va_start(ap, format);
	int n = vsnprintf(line, sizeof line, format, ap);
	va_end(ap);
	if (write(1, line, (size_t)n) != n)
		_exit(3);
}

static int descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = -1; /* its own */

	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

static uint8_t pattern(uint64_t id, bool down, uint32_t at)
{
	uint64_t x = (id ^ (down ? 0x9e3779b97f4a7c15ull : 0)) + (at / 8) * 0xd6e8feb86659fd93ull;

	x ^= x >> 29;
	x *= 0xbf58476d1ce4e5b9ull;
	return (uint8_t)(x >> (at % 8 * 8));
}

/* ---------------------------------------------------------------- one transfer */

static struct xfer *xfer_free(void)
{
	for (int i = 0; i < XFERS_MAX; i++)
		if (xfers[i].fd < 0)
			return &xfers[i];
	return NULL;
}

static void xfer_end(struct xfer *x, int err, bool whole)
{
	if (whole)
		tell("O %llx %d\n", (unsigned long long)x->h.id, getpid());
	else if (x->header_done == sizeof x->h)
		tell("B %llx %d %d\n", (unsigned long long)x->h.id, getpid(), err);
	close(x->fd);
	x->fd = -1;
}

static void xfer_sizes(struct xfer *x)
{
	x->to_send = x->client ? x->h.up : x->h.down;
	x->to_receive = x->client ? x->h.down : x->h.up;
}

static bool give_up(struct xfer *x)
{
	if (errno == EAGAIN || errno == EINTR)
		return false;
	xfer_end(x, errno, false);
	return true;
}

/* The server's side of the header; false: not whole yet, or over. */
static bool header_read(struct xfer *x)
{
	if (x->header_done == sizeof x->h)
		return true;
	ssize_t r = recv(x->fd, (char *)&x->h + x->header_done, sizeof x->h - x->header_done, 0);
	if (r < 0) {
		give_up(x);
		return false;
	}
	if (r == 0) {
		xfer_end(x, 0, false);
		return false;
	}
	x->header_done += (uint32_t)r;
	if (x->header_done < sizeof x->h)
		return false;
	xfer_sizes(x);
	tell("S %llx %d\n", (unsigned long long)x->h.id, getpid());
	return true;
}

static void xfer_read(struct xfer *x)
{
	uint8_t bytes[PIECE_MAX];

	if (!x->client && !header_read(x))
		return;
	ssize_t r = recv(x->fd, bytes, 1 + pick(PIECE_MAX), 0);
	if (r < 0) {
		give_up(x);
		return;
	}
	if (r == 0) {
		xfer_end(x, 0, x->received == x->to_receive && x->sent == x->to_send);
		return;
	}
	for (ssize_t i = 0; i < r; i++) {
		if (bytes[i] == pattern(x->h.id, x->client, x->received + (uint32_t)i) &&
		    x->received + (uint32_t)i < x->to_receive)
			continue;
		tell("X %llx %d %u\n", (unsigned long long)x->h.id, getpid(), x->received + (uint32_t)i);
		_exit(4);
	}
	x->received += (uint32_t)r;
}

static void xfer_write(struct xfer *x)
{
	uint8_t bytes[PIECE_MAX];
	uint32_t n = x->to_send - x->sent;
	uint32_t most = 1 + pick(PIECE_MAX);

	n = n < most ? n : most;
	for (uint32_t i = 0; i < n; i++)
		bytes[i] = pattern(x->h.id, !x->client, x->sent + i);
	ssize_t r = send(x->fd, bytes, n, MSG_NOSIGNAL);
	if (r < 0) {
		give_up(x);
		return;
	}
	x->sent += (uint32_t)r;
}

static bool wants_to_write(const struct xfer *x)
{
	return x->connecting || (x->header_done == sizeof x->h && x->sent < x->to_send);
}

static void xfer_step(struct xfer *x, short events)
{
	if (x->connecting) {
		int err = 0;
		socklen_t len = sizeof err;

		getsockopt(x->fd, SOL_SOCKET, SO_ERROR, &err, &len);
		x->connecting = false;
		/* A fresh connection takes 16 bytes at once. */
		if (!err && send(x->fd, &x->h, sizeof x->h, MSG_NOSIGNAL) != (ssize_t)sizeof x->h)
			err = errno;
		if (err) {
			xfer_end(x, err, false);
			return;
		}
	} else if (events & (POLLIN | POLLHUP | POLLERR)) {
		xfer_read(x);
	}
	if (x->fd >= 0 && (events & POLLOUT) && wants_to_write(x))
		xfer_write(x);
	/* The server's end comes first, so that the client can tell a whole stream from a broken one. */
	if (x->fd >= 0 && !x->client && !x->shut && x->header_done == sizeof x->h && x->sent == x->to_send &&
	    x->received == x->to_receive) {
		shutdown(x->fd, SHUT_WR);
		x->shut = true;
	}
}

static void xfer_call(const struct sockaddr_in *to, uint32_t target)
{
	struct xfer *x = xfer_free();
	int one = 1;

	*x = (struct xfer){.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0),
			   .client = true};
	if (x->fd < 0) {
		fprintf(stderr, "killwork: socket: %s\n", strerror(errno));
		_exit(5);
	}
	x->h = (struct header){(uint64_t)getpid() << 32 | next_id++ * TARGETS | target, pick(BYTES_MAX),
			       pick(BYTES_MAX)};
	if (!pick(4))
		x->h.up /= 100;
	if (!pick(4))
		x->h.down /= 100;
	if (pick(2))
		setsockopt(x->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	x->header_done = sizeof x->h;
	xfer_sizes(x);
	x->connecting = true;
	if (connect(x->fd, (const struct sockaddr *)to, sizeof *to) < 0 && errno != EINPROGRESS)
		xfer_end(x, errno, false);
}

/* ---------------------------------------------------------------- the loop */

static int busy(void)
{
	int n = 0;

	for (int i = 0; i < XFERS_MAX; i++)
		n += xfers[i].fd >= 0;
	return n;
}

/* listener: -1 for a client. */
static void turn(int listener)
{
	struct pollfd p[XFERS_MAX + 1];
	int who[XFERS_MAX + 1], n = 0;

	for (int i = 0; i < XFERS_MAX; i++) {
		if (xfers[i].fd < 0)
			continue;
		who[n] = i;
		p[n++] = (struct pollfd){xfers[i].fd,
					 (short)(POLLIN | (wants_to_write(&xfers[i]) ? POLLOUT : 0)), 0};
	}
	if (listener >= 0 && n < XFERS_MAX && !ending) {
		who[n] = -1;
		p[n++] = (struct pollfd){listener, POLLIN, 0};
	}
	if (poll(p, (nfds_t)n, 200) <= 0)
		return;
	for (int i = 0; i < n; i++) {
		if (!p[i].revents)
			continue;
		if (who[i] >= 0) {
			xfer_step(&xfers[who[i]], p[i].revents);
			continue;
		}
		int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0)
			*xfer_free() = (struct xfer){.fd = fd};
	}
	if (fds_idle < 0 && !busy())
		fds_idle = descriptors();
}

static int finish(void)
{
	int now = descriptors();

	tell("F %d %d %d\n", getpid(), fds_idle < 0 ? now : fds_idle, now);
	return 0;
}

static void address(struct sockaddr_in *a, const char *addr, const char *port)
{
	*a = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
	inet_pton(AF_INET, addr, &a->sin_addr);
}

static int call(int parallel, char **arg, int count)
{
	struct sockaddr_in to[TARGETS];
	int targets = 0, calls = 0;

	for (int i = 0; i + 1 < count && targets < TARGETS; i += 2)
		address(&to[targets++], arg[i], arg[i + 1]);
	while (!ending || busy()) {
		/* Now and then all end, so that descriptors can be counted. */
		while (!ending && busy() < parallel && (calls % 64 || !busy())) {
			uint32_t target = pick((uint32_t)targets);
			xfer_call(&to[target], target);
			calls++;
		}
		turn(-1);
	}
	return finish();
}

/* It goes on when its parent is killed. */
static int worker(int listener)
{
	rng = (uint64_t)getpid() * 0x9e3779b97f4a7c15ull;
	while (!ending || busy())
		turn(listener);
	close(listener);
	return finish();
}

static int serve(const char *addr, const char *port, int workers)
{
	struct sockaddr_in a;
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	pid_t child[WORKERS] = {0};

	address(&a, addr, port);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 64)) {
		fprintf(stderr, "killwork: port %s: %s\n", port, strerror(errno));
		return errno == EADDRINUSE ? 6 : 7;
	}
	while (!ending) {
		for (int i = 0; i < workers; i++) {
			if (child[i])
				continue;
			child[i] = fork();
			if (child[i] == 0) {
				tell("P %d %d\n", getppid(), getpid());
				_exit(worker(fd));
			}
		}
		pid_t gone = waitpid(-1, NULL, 0);
		for (int i = 0; i < workers; i++)
			if (gone > 0 && child[i] == gone)
				child[i] = 0;
	}
	close(fd);
	for (int i = 0; i < workers; i++)
		if (child[i] > 0)
			kill(child[i], SIGTERM);
	while (wait(NULL) > 0 || errno == EINTR)
		;
	return finish();
}

int main(int argc, char **argv)
{
	struct sigaction sa = {.sa_handler = on_term};

	sigaction(SIGTERM, &sa, NULL);
	for (int i = 0; i < XFERS_MAX; i++)
		xfers[i].fd = -1;
	rng = (uint64_t)getpid() * 0x9e3779b97f4a7c15ull;
	if (argc == 5 && !strcmp(argv[1], "serve") && atoi(argv[4]) <= WORKERS)
		return serve(argv[2], argv[3], atoi(argv[4]));
	if (argc >= 5 && !strcmp(argv[1], "call"))
		return call(atoi(argv[2]), argv + 3, argc - 3);
	fprintf(stderr, "usage: killwork serve ADDR PORT WORKERS | call PARALLEL ADDR PORT...\n");
	return 2;
}
