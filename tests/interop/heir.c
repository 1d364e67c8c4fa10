/*
 * heir.c - a program without libutcp in it: linked statically, it finds its connection on descriptors 0
 * and 1.
 *
 *   cat             what comes goes back; the end of stream too, by shutdown()
 *   sink            read to the end; then the count of bytes, in decimal
 *   source BYTES    write so many zero bytes, then exit
 *   rude            write "hello", read one byte, exit: what came beside it is unread
 *   lazy FILE       read one byte; when FILE exists, note in it how many more are here, and do as sink
 *   outcome FILE N  read to the end or an error; which one goes to FILE, as "end COUNT" or "errno COUNT".
 *                   FILE.got comes to be when N bytes are there. After an end: shutdown(), read once more,
 *                   and what that gives goes to FILE, too
 *   writer FILE     write until that fails; the errno goes to FILE
 *   accept N FILE   descriptor 0 is a listener: serve so many, each as cat; close it; the last client's
 *                   address goes to FILE; end when FILE.end exists
 *   kind FILE       the socket's domain, O_NONBLOCK and SO_RCVTIMEO in seconds go to FILE
 */
#define _GNU_SOURCE 1 /* strerrorname_np() */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static char bytes[65536];

static void put(const char *p, ssize_t n)
{
	while (n > 0) {
		ssize_t r = write(1, p, (size_t)n);

		if (r < 0)
			exit(3);
		p += r;
		n -= r;
	}
}

static void say(const char *path, const char *text)
{
	char temporary[4096];
	FILE *f;

	snprintf(temporary, sizeof temporary, "%s.new", path);
	f = fopen(temporary, "w");
	if (!f || fprintf(f, "%s\n", text) < 0 || fclose(f) || rename(temporary, path))
		exit(4);
}

static long long read_all(int *err)
{
	long long total = 0;
	ssize_t r;

	while ((r = read(0, bytes, sizeof bytes)) > 0)
		total += r;
	*err = r < 0 ? errno : 0;
	return total;
}

static int serve(int count, const char *path)
{
	char end[4096], text[INET_ADDRSTRLEN] = "";
	struct sockaddr_in sin = {0};
	socklen_t len = sizeof sin;

	for (; count > 0; count--) {
		ssize_t r, w = 0;
		int c = accept(0, (struct sockaddr *)&sin, &len);

		if (c < 0)
			return 1;
		while ((r = read(c, bytes, sizeof bytes)) > 0)
			for (ssize_t at = 0; at < r && w >= 0; at += w)
				w = write(c, bytes + at, (size_t)(r - at));
		close(c);
	}
	close(0);
	inet_ntop(AF_INET, &sin.sin_addr, text, sizeof text);
	say(path, text);
	snprintf(end, sizeof end, "%s.end", path);
	while (access(end, F_OK))
		usleep(20000);
	return 0;
}

static int cat(void)
{
	ssize_t r;

	while ((r = read(0, bytes, sizeof bytes)) > 0)
		put(bytes, r);
	shutdown(1, SHUT_WR);
	return r < 0;
}

static int sink(void)
{
	char text[32];
	int err;
	long long total = read_all(&err);

	put(text, snprintf(text, sizeof text, "%lld\n", total));
	return err != 0;
}

static int lazy(const char *path)
{
	char text[64];
	int here = 0;

	if (read(0, bytes, 1) != 1)
		return 1;
	while (access(path, F_OK))
		usleep(20000);
	ioctl(0, FIONREAD, &here);
	snprintf(text, sizeof text, "%d", here);
	say(path, text);
	return sink();
}

/* Says "PATH.got" as soon as `expected` bytes are there. */
static int outcome(const char *path, long long expected)
{
	char text[64], got[4000];
	int err = 0;
	long long total = 0;
	ssize_t r = 1;

	for (; total < expected && r > 0; total += r > 0 ? r : 0)
		r = read(0, bytes, sizeof bytes);
	snprintf(got, sizeof got, "%s.got", path);
	if (total >= expected && expected > 0)
		say(got, "all");
	if (r < 0)
		err = errno;
	else
		total += read_all(&err);
	snprintf(text, sizeof text, "%s %lld", err ? strerrorname_np(err) : "end", total);
	if (!err) {
		shutdown(1, SHUT_WR);
		usleep(300000);
		if (read_all(&err) || err)
			strcat(text, ", then more");
	}
	say(path, text);
	return 0;
}

static int writer(const char *path)
{
	signal(SIGPIPE, SIG_IGN);
	while (write(1, bytes, sizeof bytes) > 0)
		;
	say(path, strerrorname_np(errno));
	return 0;
}

static int kind(const char *path)
{
	char text[64];
	int domain = 0;
	struct timeval tv = {0, 0};
	socklen_t len = sizeof domain, tv_len = sizeof tv;

	getsockopt(0, SOL_SOCKET, SO_DOMAIN, &domain, &len);
	getsockopt(0, SOL_SOCKET, SO_RCVTIMEO, &tv, &tv_len);
	snprintf(text, sizeof text, "%s %s %ld", domain == AF_UNIX ? "unix" : "inet",
		 fcntl(0, F_GETFL) & O_NONBLOCK ? "nonblock" : "block", (long)tv.tv_sec);
	say(path, text);
	return 0;
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "", *arg = argc > 2 ? argv[2] : "";

	if (!strcmp(mode, "cat"))
		return cat();
	if (!strcmp(mode, "accept"))
		return serve(atoi(arg), argc > 3 ? argv[3] : "");
	if (!strcmp(mode, "sink"))
		return sink();
	if (!strcmp(mode, "source")) {
		for (long long left = atoll(arg); left > 0; left -= (long long)sizeof bytes)
			put(bytes, left < (long long)sizeof bytes ? (ssize_t)left : (ssize_t)sizeof bytes);
		return 0;
	}
	if (!strcmp(mode, "rude")) {
		put("hello", 5);
		return read(0, bytes, 1) != 1;
	}
	if (!strcmp(mode, "lazy"))
		return lazy(arg);
	if (!strcmp(mode, "outcome"))
		return outcome(arg, argc > 3 ? atoll(argv[3]) : 0);
	if (!strcmp(mode, "writer"))
		return writer(arg);
	if (!strcmp(mode, "kind"))
		return kind(arg);
	return 64;
}
