/* pump_parts.h - the private side of pump.c, pump_move.c and pump_turn.c. */
#ifndef NETIO_PUMP_PARTS_H
#define NETIO_PUMP_PARTS_H

#include "netio/pump.h"

#define PIECE_BYTES 65536u
#define TURNS_MAX   1024u

/* Tags: the entry, which descriptor, and the entry's serial number: events outlive a pump by one round. */
#define TAG_PAIR	     PUMP_TAGS
#define TAG_GATE	     (PUMP_TAGS << 1)
#define TAG_TURN	     (PUMP_TAGS << 2)
#define TAG(kind, i, serial) ((kind) | (i) | (uint64_t)(serial) << 40)
#define TAG_SERIAL(tag)	     ((tag) >> 40)

struct pump {
	ref object, hold; /* the description, our part in it */
	ref from;	  /* the process whose part ends with the start */
	ref sock;	  /* that the watch is on */
	int fd;		  /* our end of the pair; -1: free */
	int gate;	  /* -1: at work */
	int other;	  /* a duplicate of the heir's end; -1 */
	uint64_t cookie;
	uint64_t moved; /* bytes from the heir */
	uint32_t seen;	/* RDHUP, HUP, ERR of the pair */
	uint32_t serial;
	uint32_t lent; /* bytes in the pair that the connection still has */
	uint32_t next; /* of the list of those with something to do */
	bool listed;
	bool tcp;	/* `fd` is a TCP socket: no byte stays in its queue */
	bool to_done;	/* nothing more goes to the heir */
	bool from_done; /* nor comes from it */
	bool failed;	/* the connection: ECONNRESET and kin */
	bool unread;	/* the heir closed with bytes unread */
	bool fin;	/* somebody else said SHUT_WR, after what the heir wrote */
};

/* Somebody reads: nothing is lent. */
struct turn {
	ref object;
	int fd; /* of free ones 0: never ours */
	uint32_t serial;
};

/* The keeper has one thread: the lock guards what is in the region, not this. */
extern struct pumps {
	struct netio *n;
	struct waitset *ws; /* while there are pumps */
	struct pump *p;
	uint8_t *piece;
	uint32_t count, live; /* count: entries ever used */
	uint32_t first, last; /* with something to do; 0: none, else index + 1 */
	uint32_t newest;
	uint32_t others; /* pumps with a duplicate */
	int epfd;	 /* the keeper's epoll set */
	struct turn turn[TURNS_MAX];
	uint32_t turns; /* entries in use */
} pumps;

/* pump.c */
/* It has something to do. */
void pump_list_add(uint32_t i);
/* Of an end of a pump, or of who asked for a turn, into the keeper's epoll set. 0 or a negative errno. */
int pump_watch_fd(int fd, uint32_t events, uint64_t tag);
/* Its description and, watched, the socket of that; lock held. */
struct shared_object *pump_object(struct stack_cx *cx, const struct pump *p);
ref pump_socket(struct stack_cx *cx, struct pump *p);
void pump_other_close(struct pump *p);
void pump_siblings_run(ref object);
/* The gate was hung up, or a word came through it: the pump starts, or ends. */
void pump_gate_event(struct pump *p);
void pump_end(struct pump *p);
/* pump_move.c */
void pump_run(struct pump *p);
bool pump_from_heir(struct pump *p);
void pump_loan_back(struct pump *p);
void pump_other_look(struct pump *p);
/* pump_turn.c */
void pump_turn_end(uint64_t tag);
void pump_others_look(void);

#endif
