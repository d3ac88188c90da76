// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_AUDIT_FORMAT_H
#define DIODECAST_COMMON_AUDIT_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/audit.h"
#include "common/digest.h"
#include "common/signature.h"

/*
 * A record of the audit trail as one line of JSON, and back; diodecast-audit(5) is the specification. Pure.
 *
 *     {"v":1,"n":NUMBER,BODY,"prev":"SHA-256 of the line before, its newline included"[,"signature":"…"]}\n
 */
enum {
    AUDIT_VERSION = 1,
    AUDIT_LINE_SIZE = 8192,   /* bytes of the longest line, its newline included */
    AUDIT_BODY_SIZE = 7168,   /* bytes of the longest body */
    AUDIT_TIME_SIZE = 31,     /* 2026-11-22T05:12:05.123456789Z and a NUL */
    AUDIT_KEY_TEXT_SIZE = 57, /* a minisign public key: 42 bytes in base64, and a NUL */
};

/* What stands between number and prev: the members that the entry has. Returns its size; it has no NUL. */
size_t audit_format_body(const struct audit_entry *entry, const char *side, int64_t realtime_ns,
                         char body[static AUDIT_BODY_SIZE]);
/*
 * The body of a file's first record. `supersedes`: what the file before holds from this record's number on was never
 * confirmed by the disk and does not count.
 */
size_t audit_format_segment(const char *side, int64_t realtime_ns, uint32_t segment, bool supersedes,
                            const struct signature_public *key, char body[static AUDIT_BODY_SIZE]);
/* Both return the size of the line. */
size_t audit_format_line(uint64_t number, const char *body, size_t body_size, const uint8_t prev[static DIGEST_SIZE],
                         char line[static AUDIT_LINE_SIZE]);
size_t audit_format_checkpoint(uint64_t number, const char *side, int64_t realtime_ns,
                               const uint8_t prev[static DIGEST_SIZE], const struct signature_key *key,
                               char line[static AUDIT_LINE_SIZE]);

/* Stable name of an event, and what it says in words. */
const char *audit_event_name(enum audit_event event);

/* A parsed line. Texts are UTF-8; "" and has_… = false where the line has no such member. */
struct audit_record {
    uint64_t number;
    char time[AUDIT_TIME_SIZE];
    char side[8];
    enum audit_event event; /* AUDIT_EVENT_COUNT: one of a later version */
    char event_name[24];
    bool has_sender, has_chain, has_transfer, has_digest;
    uint32_t sender_id;
    uint8_t chain_id[CHAIN_ID_SIZE];
    uint64_t sequence, last_sequence, bytes;
    uint8_t transfer_id[TRANSFER_ID_SIZE];
    uint8_t manifest_hash[SHA256_SIZE];
    char channel[3 * LIMIT_CHANNEL_LENGTH + 1];
    char name[3 * LIMIT_COMPONENT_LENGTH + 1]; /* bytes that are not UTF-8 are U+FFFD, of three bytes, here */
    char actor[3 * LIMIT_USER_LENGTH + 1];
    char detail[3 * AUDIT_DETAIL_SIZE + 1];
    uint8_t prev[DIGEST_SIZE];
    uint32_t segment; /* of AUDIT_SEGMENT: */
    bool supersedes;
    struct signature_public key;
    size_t signed_size; /* so many bytes of the line are what is signed; 0 but in AUDIT_CHECKPOINT */
    struct signature signature;
};

/* Parses line[0..size), which ends in the newline. False when it is no record. */
bool audit_parse(const char *line, size_t size, struct audit_record *record);

/* RFC 3339, UTC, nanoseconds. */
void audit_time_text(int64_t realtime_ns, char text[static AUDIT_TIME_SIZE]);

#endif
