// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_PROTO_TICKET_H
#define DIODECAST_PROTO_TICKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/limits.h"

/*
 * A ticket: the short text that a human carries from the high side to the low side, and that names what must be
 * replayed. The only information that ever flows that way, so that its encoding is canonical: each meaning has exactly
 * one text, and a text that is not the one for its meaning is refused. Format: proto/README.md. Pure.
 */
enum ticket_kind {
    TICKET_WHOLE,    /* the transfers of sequences [first_sequence, last_sequence] */
    TICKET_MANIFEST, /* the manifest of one transfer */
    TICKET_CHUNKS,   /* some chunks of one transfer, and its manifest */
};

enum {
    TICKET_CHAIN_BITS = 30, /* of the chain id's first bytes, big-endian: tell chains apart, and are not secret */
    TICKET_RANGES = 6,      /* of chunks in one ticket */
    TICKET_TEXT_SIZE = 160, /* the longest text with its NUL */
};

/* Chunks [first, last] of the transfer, numbered through it in manifest order. */
struct ticket_range {
    uint64_t first, last;
};

struct ticket {
    enum ticket_kind kind;
    uint32_t chain_tag;
    uint64_t first_sequence, last_sequence; /* equal unless TICKET_WHOLE */
    struct ticket_range ranges[TICKET_RANGES];
    unsigned range_count; /* 0 unless TICKET_CHUNKS */
};

/* A ticket for one transfer or more, without ranges. */
void ticket_init(struct ticket *ticket, enum ticket_kind kind, const uint8_t chain_id[static CHAIN_ID_SIZE],
                 uint64_t first_sequence, uint64_t last_sequence);
/* Adds chunks behind all that were added before; what touches is merged. When there is no place for another range the
 * two that lie nearest to each other become one, so that the ticket may name more than is missing, never less. */
void ticket_add_chunks(struct ticket *ticket, uint64_t first, uint64_t last);
bool ticket_is_of_chain(const struct ticket *ticket, const uint8_t chain_id[static CHAIN_ID_SIZE]);

/* The text, in groups with dashes between. Returns `text`. */
char *ticket_format(const struct ticket *ticket, char text[static TICKET_TEXT_SIZE]);

enum ticket_problem {
    TICKET_GOOD,
    TICKET_CHARACTER, /* one that does not belong in a ticket */
    TICKET_LENGTH,    /* too short or too long */
    TICKET_CHECKSUM,  /* mistyped */
    TICKET_VERSION,   /* of a later version of diodecast */
    TICKET_MALFORMED, /* no ticket that diodecast makes: not canonical, or impossible */
};

/* Groups may be written with or without dashes, in upper or in lower case. *ticket is usable on TICKET_GOOD only. */
enum ticket_problem ticket_parse(const char *text, struct ticket *ticket);
/* What is wrong, for an operator; static storage. */
const char *ticket_problem_text(enum ticket_problem problem);
/* Bits of information that the ticket carries, without version, kind and checksum. */
unsigned ticket_payload_bits(const struct ticket *ticket);

#endif
