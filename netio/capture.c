/*
 * capture.c - UTCP_PCAP: every frame that crosses the device, in a file that
 * Wireshark and tcpdump read.
 *
 * libpcap is loaded with dlopen() when a capture is asked for: linked in, it
 * would double the start-up time of every program. It writes the format and
 * runs the filter; the file underneath is a FILE of ours (fopencookie) without a
 * buffer, on a buffer of 1 MiB (writing whole payloads costs more than the
 * transfer itself), which is guarded by the stack's lock, and written by us:
 *  - it never raises SIGXFSZ or SIGPIPE in the application, nor is it a
 *    cancellation point;
 *  - after an error (disk full) it says so once and the capture ends, the
 *    traffic goes on;
 *  - in a forked child it writes nothing: what the child inherits in the buffer
 *    is the parent's;
 *  - exit() does not write it: the C library flushes every FILE then, without its
 *    lock, while the driver thread may be recording the last frames.
 * At exit it is written out under the lock and ends. A signal that kills writes
 * nothing: therefore the driver thread writes out what there is whenever the
 * traffic pauses.
 *
 * Super-segments are recorded as they cross the device, one record each (as
 * tcpdump shows GSO frames), with the checksum completed.
 *
 * Place in the flow: drive.c calls it under the lock, for both directions.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <pcap/pcap.h>
#include <signal.h>
#include <stdio.h>

#include "netio/internal.h"

#define BUFFER_BYTES (1u << 20)
#define SNAPLEN_MAX  262144

/* X(return type, name, parameters) */
#define PCAP_CALLS(X)                                                                                        \
	X(pcap_t *, pcap_open_dead_with_tstamp_precision, (int, int, u_int))                                 \
	X(pcap_dumper_t *, pcap_dump_fopen, (pcap_t *, FILE *))                                              \
	X(void, pcap_dump, (u_char *, const struct pcap_pkthdr *, const u_char *))                           \
	X(int, pcap_compile, (pcap_t *, struct bpf_program *, const char *, int, bpf_u_int32))               \
	X(int, pcap_offline_filter,                                                                          \
	  (const struct bpf_program *, const struct pcap_pkthdr *, const u_char *))                          \
	X(char *, pcap_geterr, (pcap_t *))                                                                   \
	X(void, pcap_freecode, (struct bpf_program *))                                                       \
	X(void, pcap_close, (pcap_t *))

struct pcap_calls {
#define X(type, name, params) type(*name) params;
	PCAP_CALLS(X)
#undef X
};

struct capture {
	struct pcap_calls pcap;
	pcap_t *handle;
	pcap_dumper_t *dumper; /* the FILE, in libpcap's eyes */
	FILE *file;
	int fd;
	int error; /* positive errno of the write that ended the capture */
	bool reported, forgotten, ended, filtered;
	bool shared; /* a forked child writes to the same file */
	struct bpf_program filter;
	uint32_t snaplen;
	uint64_t drops;
	uint8_t flat[FRAME_LEN_MAX + 1];
	size_t used;
	char buffer[BUFFER_BYTES];
};

/* ------------------------------------------------------------ the file */

static long write_quietly(int fd, const char *p, size_t n)
{
	uint64_t set = 1ull << (SIGXFSZ - 1) | 1ull << (SIGPIPE - 1), old = 0, pending = 0, take;
	struct timespec zero = {0, 0};
	long r;

	RAW4(SYS_rt_sigprocmask, SIG_BLOCK, &set, &old, sizeof set);
	RAW2(SYS_rt_sigpending, &pending, sizeof pending);
	r = raw_write(fd, p, n);
	take = set & ~pending; /* not what the application has pending itself */
	if ((r == -EFBIG || r == -EPIPE) && take)
		RAW4(SYS_rt_sigtimedwait, &take, NULL, &zero, sizeof take);
	RAW4(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, sizeof old);
	return r;
}

static void buffer_write(struct capture *c)
{
	size_t done = 0;

	while (done < c->used && !c->error && !c->forgotten) {
		long r = write_quietly(c->fd, c->buffer + done, c->used - done);

		if (r == -EINTR)
			continue;
		if (r <= 0)
			c->error = r < 0 ? (int)-r : EIO;
		else
			done += (size_t)r;
	}
	c->used = 0;
}

/* The FILE's write function: a record's header or its bytes, far less than the buffer holds. */
static ssize_t cookie_write(void *cookie, const char *p, size_t n)
{
	struct capture *c = cookie;

	if (n > sizeof c->buffer - c->used)
		buffer_write(c);
	if (n <= sizeof c->buffer) {
		memcpy(c->buffer + c->used, p, n);
		c->used += n;
	}
	return (ssize_t)n;
}

static void report_error(struct capture *c)
{
	if (!c->error || c->reported)
		return;
	c->reported = true;
	report("the capture ends here (%s); the traffic goes on", strerror(c->error));
}

static void file_flush(struct capture *c)
{
	buffer_write(c);
	report_error(c);
}

static int file_open(struct capture *c, const char *path, char *why, size_t why_len)
{
	static const cookie_io_functions_t io = {.write = cookie_write};
	int err, fd = (int)netio_fd_call(SYS_openat, AT_FDCWD, (long)path,
					 O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	err = fd < 0 ? fd : fds_keep(fd, &c->fd);
	if (err) {
		why_set(why, why_len, "capture file %.200s cannot be written (%s); choose another", path,
			strerror(-err));
		return err;
	}
	c->file = fopencookie(c, "w", io);
	if (!c->file) {
		why_set(why, why_len, "no memory for the capture");
		return -ENOMEM;
	}
	setvbuf(c->file, NULL, _IONBF, 0);
	return 0;
}

/* ------------------------------------------------------------ opening */

static int load_libpcap(struct capture *c, char *why, size_t why_len)
{
	void *lib = dlopen("libpcap.so.0.8", RTLD_NOW | RTLD_LOCAL);
	bool complete = lib != NULL;

	if (!lib)
		lib = dlopen("libpcap.so.1", RTLD_NOW | RTLD_LOCAL); /* its name outside Debian */
	complete = lib != NULL;
#define X(type, name, params)                                                                                \
	if (lib)                                                                                             \
		*(void **)&c->pcap.name = dlsym(lib, #name);                                                 \
	complete = complete && c->pcap.name;
	PCAP_CALLS(X)
#undef X
	if (complete)
		return 0;
	why_set(why, why_len, "a capture needs libpcap; install it (apt-get install libpcap0.8)");
	return -ENOENT;
}

static int filter_compile(struct capture *c, const char *text, char *why, size_t why_len)
{
	if (c->pcap.pcap_compile(c->handle, &c->filter, text, 1, PCAP_NETMASK_UNKNOWN) != 0) {
		why_set(why, why_len, "capture filter '%.100s': %s; see pcap-filter(7)", text,
			c->pcap.pcap_geterr(c->handle));
		return -EINVAL;
	}
	c->filtered = true;
	return 0;
}

int capture_open(const struct netio_config *config, struct capture **out, char *why, size_t why_len)
{
	struct capture *c = pages_alloc(sizeof *c);
	int err;

	if (!c) {
		why_set(why, why_len, "no memory for the capture");
		return -ENOMEM;
	}
	c->fd = -1;
	c->snaplen = config->pcap_snaplen ? config->pcap_snaplen : SNAPLEN_MAX;
	err = load_libpcap(c, why, why_len);
	if (!err) {
		c->handle = c->pcap.pcap_open_dead_with_tstamp_precision(
		    DLT_EN10MB, (int)MIN_OF(c->snaplen, SNAPLEN_MAX), PCAP_TSTAMP_PRECISION_NANO);
		if (!c->handle) {
			why_set(why, why_len, "no memory for the capture");
			err = -ENOMEM;
		}
	}
	if (!err && config->pcap_filter[0])
		err = filter_compile(c, config->pcap_filter, why, why_len);
	if (!err)
		err = file_open(c, config->pcap_path, why, why_len);
	if (!err) {
		c->dumper = c->pcap.pcap_dump_fopen(c->handle, c->file);
		if (!c->dumper) {
			why_set(why, why_len, "capture: %s", c->pcap.pcap_geterr(c->handle));
			err = -EIO;
		}
	}
	if (!err)
		file_flush(c); /* the header: an empty capture is a capture, too */
	if (err) {
		capture_close(c);
		return err;
	}
	*out = c;
	return 0;
}

bool capture_running(const struct capture *c)
{
	return !c->error && !c->forgotten && !c->ended && c->dumper;
}

/* ------------------------------------------------------------ records */

/* RFC 1071 over an even offset, folded; a plain loop: a capture is not the fast path. */
static uint16_t checksum(const uint8_t *p, uint32_t len)
{
	uint64_t sum = 0;
	uint32_t i;

	for (i = 0; i + 1 < len; i += 2)
		sum += (uint32_t)p[i] << 8 | p[i + 1];
	if (i < len)
		sum += (uint32_t)p[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/* The field holds the pseudo-header's sum; the checksum over it and the rest is the real one. */
static void complete_checksum(uint8_t *frame, uint32_t len, uint32_t start, uint32_t offset)
{
	uint16_t sum;

	if (start + offset + 2 > len)
		return;
	sum = checksum(frame + start, len - start);
	frame[start + offset] = (uint8_t)(sum >> 8);
	frame[start + offset + 1] = (uint8_t)sum;
}

static void record(struct capture *c, const uint8_t *frame, uint32_t captured, uint32_t len)
{
	struct pcap_pkthdr h;
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	h.ts.tv_sec = ts.tv_sec;
	h.ts.tv_usec = ts.tv_nsec; /* nanoseconds, by the file's magic */
	h.caplen = captured;
	h.len = len;
	if (c->filtered && !c->pcap.pcap_offline_filter(&c->filter, &h, frame))
		return;
	h.caplen = MIN_OF(captured, c->snaplen);
	c->pcap.pcap_dump((u_char *)c->dumper, &h, frame);
	if (c->shared)
		buffer_write(c);
	report_error(c);
}

void capture_rx(struct capture *c, struct device_rx *rx)
{
	uint32_t len = rx->frame.len;

	if (!capture_running(c)) {
		c->drops++;
		return;
	}
	/* The buffer is ours and nobody verifies a partial checksum again: complete it in place. */
	if (rx->partial && len <= c->snaplen)
		complete_checksum(rx->bytes, len, rx->csum_start, rx->csum_offset);
	record(c, rx->bytes, len, len);
}

void capture_tx(struct capture *c, const struct frame_tx *f)
{
	uint32_t len = f->header_len + f->payload_len, at = f->header_len;
	uint32_t want = c->filtered ? len : MIN_OF(len, c->snaplen);

	if (!capture_running(c) || len > sizeof c->flat) {
		c->drops++;
		return;
	}
	memcpy(c->flat, f->header, f->header_len);
	for (uint32_t i = 0; i < f->piece_count && at < want; i++) {
		uint32_t n = MIN_OF(f->piece[i].len, want - at);

		memcpy(c->flat + at, f->piece[i].data, n);
		at += n;
	}
	if (f->csum_offset && at == len)
		complete_checksum(c->flat, len, f->csum_start, f->csum_offset);
	record(c, c->flat, MIN_OF(at, len), len);
}

uint64_t capture_drops(const struct capture *c)
{
	return c->drops;
}

void capture_flush(struct capture *c)
{
	if (c->file && !c->forgotten)
		file_flush(c);
}

void capture_end(struct capture *c)
{
	capture_flush(c);
	c->ended = true;
}

static void libpcap_close(struct capture *c)
{
	if (c->filtered)
		c->pcap.pcap_freecode(&c->filter);
	if (c->handle)
		c->pcap.pcap_close(c->handle);
	c->filtered = false;
	c->handle = NULL;
	c->dumper = NULL;
}

static void file_close(struct capture *c)
{
	buffer_write(c);
	if (c->file)
		fclose(c->file);
	c->file = NULL;
	if (c->fd >= 0)
		fds_drop(&c->fd);
}

void capture_share(struct capture *c)
{
	capture_flush(c);
	c->shared = true;
}

void capture_forget(struct capture *c)
{
	c->forgotten = true; /* and so nothing is written */
	file_close(c);
	libpcap_close(c);
}

void capture_close(struct capture *c)
{
	file_close(c);
	libpcap_close(c);
	pages_free(c, sizeof *c);
}
