/*
 * libpcap_app.c INTERFACE - an application with its own libpcap, which watches
 * the very connection that it has; the library captures the same at the same
 * time. Prints what its filter caught. Trap 22.
 */
#include "../peer.h"
#include <pcap/pcap.h>

int main(int argc, char **argv)
{
	char why[PCAP_ERRBUF_SIZE] = "", b[4];
	struct bpf_program filter;
	struct pcap_pkthdr *h;
	const u_char *data;
	int syn = 0, fd, before = peer_connect("e");
	pcap_t *p = pcap_open_live(argc > 1 ? argv[1] : "utcp0", 128, 0, 10, why);

	if (!p || pcap_compile(p, &filter, "tcp dst port 7000 and tcp[tcpflags] & tcp-syn != 0", 1, 0) ||
	    pcap_setfilter(p, &filter)) {
		printf("no capture: %s\n", why);
		return 1;
	}
	for (int i = 0; i < 3; i++) {
		fd = peer_connect("e");
		send(fd, "ping", 4, 0);
		recv(fd, b, 4, MSG_WAITALL);
		close(fd);
	}
	for (int i = 0; i < 100 && syn < 3; i++)
		syn += pcap_next_ex(p, &h, &data) == 1;
	printf("SYNs %d, socket %s\n", syn, send(before, "x", 1, 0) == 1 ? "good" : "bad");
	pcap_freecode(&filter);
	pcap_close(p);
	return 0;
}
