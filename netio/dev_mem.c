/*
 * dev_mem.c - a cable in memory, for tests: "mem:NAME" opened twice in one
 * process gives its two ends.
 *
 * Each end has a bounded queue and an eventfd that is readable exactly while
 * the queue holds a frame. Frames keep their offload marks, as between two
 * virtual machines on one host. The ends have addresses 10.77.0.1 and
 * 10.77.0.2 unless told otherwise.
 *
 * Place in the flow: device.h.
 */
#include <stdlib.h>
#include <sys/eventfd.h>

#include "netio/internal.h"

#define CABLES	  8
#define QUEUE_MAX 1000 /* as a TAP's */
#define MEM_MTU	  1500

struct mem_frame {
	struct mem_frame *next;
	struct frame_rx frame;
	bool partial;
	uint16_t csum_start, csum_offset;
	uint8_t bytes[];
};

struct mem_port {
	bool open;
	struct mem_cable *cable;
	struct mem_frame *first, **last;
	uint32_t count;
	int *event_fd; /* the open device's fd */
};

struct mem_cable {
	char name[32];
	struct mem_port port[2];
};

static struct mem_cable cables[CABLES];
static pthread_mutex_t cables_lock = PTHREAD_MUTEX_INITIALIZER;

static struct mem_port *port_take(const char *name)
{
	struct mem_cable *c = NULL;

	for (int i = 0; i < CABLES && !c; i++) {
		if (strcmp(cables[i].name, name) == 0)
			c = &cables[i];
	}
	for (int i = 0; i < CABLES && !c; i++) {
		if (!cables[i].port[0].open && !cables[i].port[1].open) {
			c = &cables[i];
			memset(c, 0, sizeof *c);
			memcpy(c->name, name, strlen(name) + 1);
		}
	}
	for (int i = 0; c && i < 2; i++) {
		struct mem_port *p = &c->port[i];

		if (p->open)
			continue;
		memset(p, 0, sizeof *p);
		p->open = true;
		p->cable = c;
		p->last = &p->first;
		return p;
	}
	return NULL;
}

static int mem_open(struct device *d, const char *name, struct netio_config *c, char *why, size_t why_len)
{
	struct mem_port *p = NULL;
	int end, err, fd;

	pthread_mutex_lock(&cables_lock);
	if (strlen(name) < sizeof p->cable->name)
		p = port_take(name);
	pthread_mutex_unlock(&cables_lock);
	if (!p) {
		why_set(why, why_len, "mem:%s has both its ends in use; choose another name", name);
		return -EBUSY;
	}
	fd = (int)RAW2(SYS_eventfd2, 0, EFD_NONBLOCK | EFD_CLOEXEC);
	err = fd < 0 ? fd : fds_keep(fd, &d->fd);
	if (err) {
		p->open = false;
		why_set(why, why_len, "no file descriptor is free; raise `ulimit -n`");
		return err;
	}
	end = (int)(p - p->cable->port);
	p->event_fd = &d->fd;
	d->mem = p;
	d->vnet = true;
	d->caps = DEVICE_TX_CSUM | DEVICE_TX_TSO4;
	d->mtu = MEM_MTU;
	memcpy(d->ifname, "mem", sizeof "mem");
	d->peer_mac[0] = 0x06;
	d->peer_mac[5] = (uint8_t)end;
	if (ipaddr_is_any(&c->stack.addr)) {
		c->stack.addr = ipaddr_v4(10, 77, 0, (uint8_t)(end + 1));
		c->stack.prefix_len = 24;
	}
	if (!c->mtu_set)
		c->stack.mtu = MEM_MTU;
	device_choose_mac(d, c);
	return 0;
}

static void mem_close(struct device *d)
{
	struct mem_port *p = d->mem;

	pthread_mutex_lock(&cables_lock);
	while (p->first) {
		struct mem_frame *f = p->first;

		p->first = f->next;
		free(f);
	}
	p->open = false;
	pthread_mutex_unlock(&cables_lock);
	fds_drop(&d->fd);
}

static int mem_recv(struct device *d, uint8_t *buf, struct device_rx *out)
{
	struct mem_port *p = d->mem;
	struct mem_frame *f;
	uint64_t count;

	pthread_mutex_lock(&cables_lock);
	f = p->first;
	if (f) {
		p->first = f->next;
		if (!p->first) {
			p->last = &p->first;
			raw_read(d->fd, &count, sizeof count);
		}
		p->count--;
	}
	pthread_mutex_unlock(&cables_lock);
	if (!f)
		return 0;
	memset(out, 0, sizeof *out);
	out->frame = f->frame;
	out->partial = f->partial;
	out->csum_start = f->csum_start;
	out->csum_offset = f->csum_offset;
	out->bytes = buf + RX_OFFSET;
	memcpy(out->bytes, f->bytes, f->frame.len);
	out->frame.data = out->bytes;
	free(f);
	return 1;
}

static struct mem_frame *frame_copy(const struct frame_tx *f)
{
	uint32_t len = f->header_len + f->payload_len;
	struct mem_frame *m = malloc(sizeof *m + len);
	uint8_t *p;

	if (!m)
		return NULL;
	memset(m, 0, sizeof *m);
	m->frame.len = len;
	m->frame.gso_size = f->gso_size;
	m->frame.csum = f->csum_offset ? FRAME_CSUM_TRUSTED : FRAME_CSUM_VERIFY;
	m->partial = f->csum_offset != 0;
	m->csum_start = f->csum_start;
	m->csum_offset = f->csum_offset;
	memcpy(m->bytes, f->header, f->header_len);
	p = m->bytes + f->header_len;
	for (uint32_t i = 0; i < f->piece_count; i++) {
		memcpy(p, f->piece[i].data, f->piece[i].len);
		p += f->piece[i].len;
	}
	return m;
}

static int mem_send(struct device *d, const struct frame_tx *f)
{
	struct mem_cable *c = d->mem->cable;
	struct mem_port *to = d->mem == &c->port[0] ? &c->port[1] : &c->port[0];
	struct mem_frame *m = frame_copy(f);
	uint64_t one = 1;
	int err = 0;

	if (!m)
		return -ENOBUFS;
	pthread_mutex_lock(&cables_lock);
	if (!to->open || to->count >= QUEUE_MAX) {
		err = -ENOBUFS;
		free(m);
	} else {
		*to->last = m;
		to->last = &m->next;
		if (to->count++ == 0)
			raw_write(*to->event_fd, &one, sizeof one);
	}
	pthread_mutex_unlock(&cables_lock);
	return err;
}

const struct device_ops dev_mem = {
    .kind = "mem",
    .open = mem_open,
    .recv = mem_recv,
    .send = mem_send,
    .close = mem_close,
};
