/*
 * dialogue_parts.h - what the files behind dialogue.h have in common; tests include that one.
 */
#ifndef TESTS_DIALOGUE_PARTS_H
#define TESTS_DIALOGUE_PARTS_H

#include "dialogue.h"

#define DIALOGUE_BEGIN (1000 * NS_PER_S)

extern const uint8_t stack_mac[6], peer_mac[6];

/* A line of the dialogue, with its time; a frame of its capture. */
void log_line(struct peer *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
void pcap_append(struct peer *p, const uint8_t *frame, uint32_t len);

/* As dialogue_fail(), where no line of a test is to blame more than another. */
void fail_here(struct peer *p, const char *format, ...) __attribute__((format(printf, 2, 3), noreturn));

/* The pair of ports, known or new. */
struct conversation *conversation(struct peer *p, uint16_t our_port, uint16_t peer_port);

/* After anything was done to the stack. */
void settle(struct peer *p);

/* The dialogue that goes on, or NULL. peer_closed() begins one, and ends the one before. */
struct peer *dialogue_current(void);
void dialogue_end(void);

#endif
