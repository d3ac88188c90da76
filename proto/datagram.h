// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_PROTO_DATAGRAM_H
#define DIODECAST_PROTO_DATAGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "proto/limits.h"

/* The fixed header in front of every symbol. datagram.c alone knows the byte offsets (proto/README.md, "Datagram"). */

struct linkkey; /* common/linkkey.h */

enum {
    DATAGRAM_VERSION = 1,
    DATAGRAM_HEADER_SIZE = 80,
    DATAGRAM_AUTHENTICATED_SIZE = 64, /* header bytes in front of the tag, covered by it */
    DATAGRAM_TAG_SIZE = 16,
};

enum datagram_flag {
    DATAGRAM_FLAG_SEALED = 0x01,    /* the tag is AES-256-GCM's and the symbol is encrypted */
    DATAGRAM_FLAGS_CRITICAL = 0x0f, /* an unknown one of these drops the datagram */
};

struct datagram {
    uint8_t flags;
    uint8_t lane;
    uint8_t source_symbols; /* k */
    uint8_t repair_symbols; /* r */
    uint8_t esi;
    uint16_t symbol_size; /* bytes */
    uint32_t sender_id;
    uint16_t depth;       /* blocks in the interleave group */
    uint16_t group_index; /* of this block in its group */
    uint64_t epoch;       /* durable counter << 32 | random */
    uint64_t salt;        /* for the derivation of the link's keys */
    uint64_t sequence;    /* per epoch and lane; the nonce */
    uint64_t sbn;         /* per epoch and lane */
    uint64_t repeat_of;   /* 0 = fresh, else sequence number of the one transfer that the block repeats */
    uint64_t block_hash;  /* of the decoded payload: the sum of datagram_hash_share() over its symbols */
    uint64_t symbol_hash; /* datagram_symbol_hash() of the symbol; not on the wire: datagram_parse() leaves it 0 */
};

/* Why a datagram, or what it led to, was dropped. The names are the keys of `link.drops` in the status file. */
enum datagram_drop {
    DATAGRAM_OK = 0,
    DATAGRAM_DROP_SHORT,     /* shorter than header and smallest symbol, or not of the size the header tells */
    DATAGRAM_DROP_VERSION,   /* another wire version, or an unknown critical flag */
    DATAGRAM_DROP_SENDER,    /* no trusted key has this sender id */
    DATAGRAM_DROP_GEOMETRY,  /* k, r, ESI, symbol size, depth or index out of bounds */
    DATAGRAM_DROP_TAG,       /* damaged, forged, or sealed with another link key */
    DATAGRAM_DROP_EPOCH,     /* an epoch older than the confirmed one */
    DATAGRAM_DROP_LATE,      /* its block has left the window */
    DATAGRAM_DROP_DUPLICATE, /* the symbol is held already */
    DATAGRAM_DROP_SURPLUS,   /* its block is complete without it: no loss, counted as link.surplus_total */
    DATAGRAM_DROP_CONFLICT,  /* contradicts the geometry of its block or group */
    DATAGRAM_DROP_MEMORY,    /* no room for one more block */
    DATAGRAM_DROP_LANE,      /* a lane beyond LIMIT_LANES, or one that this receiver does not serve */
    DATAGRAM_DROP_TRUNCATED, /* the kernel cut the buffer */
    DATAGRAM_DROP_DELIVERED, /* repeats a transfer that was delivered */
    DATAGRAM_DROP_COUNT
};

/* The status file's word for `drop`; static storage. */
const char *datagram_drop_name(enum datagram_drop drop);

/*
 * Checks everything about `bytes[0..size)` that can be told without any state or key: length, version, flags, bounds of
 * geometry and lane, a group whose block numbers all exist, size == header + symbol_size. Fills *datagram on
 * DATAGRAM_OK. Pure.
 */
enum datagram_drop datagram_parse(const uint8_t *bytes, size_t size, struct datagram *datagram);

/*
 * Checks the tag of a datagram that datagram_parse() accepted and, where it is sealed, decrypts the symbol in place.
 * `key` is NULL when no link key is configured: then a sealed datagram is refused, and with a key an unsealed one.
 * Returns DATAGRAM_OK, and datagram->symbol_hash is set, or DATAGRAM_DROP_TAG.
 */
enum datagram_drop datagram_open(uint8_t *bytes, struct datagram *datagram, struct linkkey *key);

/* Writes the header's first 64 bytes. The symbol at bytes + DATAGRAM_HEADER_SIZE need not be there yet. */
void datagram_write(uint8_t bytes[static DATAGRAM_HEADER_SIZE], const struct datagram *datagram);

/* Without a link key: writes the tag at header + 64, from what datagram_symbol_hash() tells of the symbol. */
void datagram_tag(uint8_t header[static DATAGRAM_HEADER_SIZE], uint64_t symbol_hash);

/*
 * With a link key (DATAGRAM_FLAG_SEALED must be set): writes the tag at header + 64, and the ciphertext of the
 * symbol_size bytes at `symbol` to `sealed_symbol`, which may be equal to `symbol`.
 */
void datagram_seal(uint8_t header[static DATAGRAM_HEADER_SIZE], const uint8_t *symbol, uint8_t *sealed_symbol,
                   size_t symbol_size, struct linkkey *key);

/* XXH3-64 of a symbol, before any sealing. */
uint64_t datagram_symbol_hash(const uint8_t *symbol, size_t symbol_size);

/* What the source symbol `esi` adds to its block's hash, modulo 2^64: an odd multiple, another one for each ESI. */
uint64_t datagram_hash_share(uint8_t esi, uint64_t symbol_hash);

/*
 * Largest legal symbol size for an interface MTU in bytes: MTU less the IP (20 or 40) and UDP (8) headers and ours,
 * rounded down. 0 when the MTU is too small for the format.
 */
uint16_t datagram_symbol_size_for_mtu(uint32_t mtu, bool ipv6);

/* Bits that one datagram occupies on Ethernet: symbol, our header, UDP, IP, Ethernet header, FCS, preamble and gap (38
 * bytes). */
uint64_t datagram_wire_bits(uint16_t symbol_size, bool ipv6);

/* Repair symbols of a block of k source symbols under a full geometry of K, R: max(4, ceil(k * R / K)). */
uint8_t datagram_repair_for(uint8_t k, uint8_t full_k, uint8_t full_r);

#endif
