/*
 * netio_pcap.h - reads a capture with libpcap (loaded as the library loads it)
 * and checks what must hold for every frame in it.
 */
#ifndef TESTS_NETIO_PCAP_H
#define TESTS_NETIO_PCAP_H

#include <dlfcn.h>
#include <pcap/pcap.h>

#include "tests/check.h"

struct pcap_summary {
	unsigned frames, tcp_out, tcp_in; /* out: from an address that ends in .2 */
	unsigned bad_checksums, truncated;
	bool nanoseconds; /* some time stamp is no multiple of a microsecond */
	bool ordered;	  /* time never goes back */
};

/* The TCP checksum over pseudo-header and segment is right (RFC 9293 3.1). */
static inline bool pcap_checksum_ok(const uint8_t *p, uint32_t caplen)
{
	uint32_t len = ((uint32_t)p[16] << 8 | p[17]) - 20;
	uint64_t sum = 6 + len;

	if (len + 34 > caplen)
		return false;
	for (uint32_t i = 0; i < 8; i += 2)
		sum += (uint32_t)p[26 + i] << 8 | p[27 + i];
	for (uint32_t i = 0; i < len; i++)
		sum += i % 2 ? p[34 + i] : (uint32_t)p[34 + i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum == 0xffff;
}

static inline void pcap_count(struct pcap_summary *s, const struct pcap_pkthdr *h, const uint8_t *p)
{
	s->frames++;
	s->nanoseconds = s->nanoseconds || h->ts.tv_usec % 1000;
	if (h->caplen < h->len) {
		s->truncated++;
		return;
	}
	if (h->caplen < 54 || p[12] != 8 || p[13] != 0 || p[23] != 6)
		return;
	if (p[29] == 2)
		s->tcp_out++;
	else
		s->tcp_in++;
	s->bad_checksums += !pcap_checksum_ok(p, h->caplen);
}

static inline bool pcap_summarise(const char *path, struct pcap_summary *s)
{
	void *lib = dlopen("libpcap.so.0.8", RTLD_NOW);
	pcap_t *(*open_offline)(const char *, u_int, char *);
	int (*next)(pcap_t *, struct pcap_pkthdr **, const u_char **);
	void (*close_it)(pcap_t *);
	char err[PCAP_ERRBUF_SIZE] = "no libpcap";
	struct pcap_pkthdr *h;
	const u_char *p;
	int64_t last = 0, now;
	pcap_t *f;
	int r;

	memset(s, 0, sizeof *s);
	s->ordered = true;
	if (!CHECK(lib != NULL))
		return false;
	*(void **)&open_offline = dlsym(lib, "pcap_open_offline_with_tstamp_precision");
	*(void **)&next = dlsym(lib, "pcap_next_ex");
	*(void **)&close_it = dlsym(lib, "pcap_close");
	f = open_offline(path, PCAP_TSTAMP_PRECISION_NANO, err);
	if (!CHECK_MSG(f != NULL, "%s: %s", path, err))
		return false;
	while ((r = next(f, &h, &p)) == 1) {
		now = (int64_t)h->ts.tv_sec * 1000000000 + h->ts.tv_usec;
		s->ordered = s->ordered && now >= last;
		last = now;
		pcap_count(s, h, p);
	}
	CHECK_EQ(r, -2); /* the end of the file, not a broken record */
	close_it(f);
	return true;
}

#endif
