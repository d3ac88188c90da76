// SPDX-License-Identifier: Apache-2.0
#include "proto/datagram.h"

#include <assert.h>
#include <string.h>

#include "common/checksum.h"
#include "common/linkkey.h"
#include "proto/wire.h"

/* Byte offsets of the header's fields; nothing outside this file knows them. */
enum {
    AT_VERSION = 0,
    AT_FLAGS = 1,
    AT_LANE = 2,
    AT_SOURCE_SYMBOLS = 3,
    AT_REPAIR_SYMBOLS = 4,
    AT_ESI = 5,
    AT_SYMBOL_SIZE = 6,
    AT_SENDER_ID = 8,
    AT_DEPTH = 12,
    AT_GROUP_INDEX = 14,
    AT_EPOCH = 16,
    AT_SALT = 24,
    AT_SEQUENCE = 32,
    AT_SBN = 40,
    AT_REPEAT_OF = 48,
    AT_BLOCK_HASH = 56,
    AT_TAG = 64,
};

enum { IPV4_HEADER = 20, IPV6_HEADER = 40, UDP_HEADER = 8, ETHERNET_OVERHEAD = 38 };

_Static_assert((int)AT_TAG == (int)DATAGRAM_AUTHENTICATED_SIZE, "the tag follows what it covers");
_Static_assert((int)AT_TAG + DATAGRAM_TAG_SIZE == DATAGRAM_HEADER_SIZE, "the tag ends the header");
_Static_assert((int)DATAGRAM_TAG_SIZE == (int)CHECKSUM128_SIZE, "a plain tag is an XXH3-128");
_Static_assert((int)DATAGRAM_TAG_SIZE == (int)LINKKEY_TAG_SIZE, "a sealed tag is AES-GCM's");
_Static_assert(DATAGRAM_HEADER_SIZE % LIMIT_SYMBOL_ALIGNMENT == 0, "symbols stay aligned behind an aligned header");
_Static_assert(LIMIT_SYMBOL_SIZE <= UINT16_MAX, "a symbol size has 16 bits on the wire");
_Static_assert(LIMIT_DEPTH <= UINT16_MAX, "a depth has 16 bits on the wire");

const char *datagram_drop_name(enum datagram_drop drop)
{
    static const char *const names[DATAGRAM_DROP_COUNT] = {
        [DATAGRAM_OK] = "ok",
        [DATAGRAM_DROP_SHORT] = "short",
        [DATAGRAM_DROP_VERSION] = "version",
        [DATAGRAM_DROP_SENDER] = "sender",
        [DATAGRAM_DROP_GEOMETRY] = "geometry",
        [DATAGRAM_DROP_TAG] = "tag",
        [DATAGRAM_DROP_EPOCH] = "epoch",
        [DATAGRAM_DROP_LATE] = "late",
        [DATAGRAM_DROP_DUPLICATE] = "duplicate",
        [DATAGRAM_DROP_SURPLUS] = "surplus",
        [DATAGRAM_DROP_CONFLICT] = "conflict",
        [DATAGRAM_DROP_MEMORY] = "memory",
        [DATAGRAM_DROP_LANE] = "lane",
        [DATAGRAM_DROP_TRUNCATED] = "truncated",
        [DATAGRAM_DROP_DELIVERED] = "delivered",
    };
    assert(drop >= 0 && drop < DATAGRAM_DROP_COUNT && names[drop] != NULL);
    return names[drop];
}

static bool geometry_is_legal(const struct datagram *datagram)
{
    unsigned k = datagram->source_symbols;
    unsigned r = datagram->repair_symbols;

    if (k < 1 || k > LIMIT_SOURCE_SYMBOLS || r < LIMIT_REPAIR_SYMBOLS_MIN || r > LIMIT_REPAIR_SYMBOLS)
        return false;
    if (datagram->esi >= k + r)
        return false;
    if (datagram->symbol_size < LIMIT_SYMBOL_SIZE_MIN || datagram->symbol_size > LIMIT_SYMBOL_SIZE ||
        datagram->symbol_size % LIMIT_SYMBOL_ALIGNMENT != 0)
        return false;
    if (datagram->depth < 1 || datagram->depth > LIMIT_DEPTH || datagram->group_index >= datagram->depth)
        return false;
    /* The whole group must have block numbers: none below 0, none beyond 64 bits. */
    if (datagram->sbn < datagram->group_index)
        return false;
    return datagram->sbn - datagram->group_index <= UINT64_MAX - datagram->depth;
}

enum datagram_drop datagram_parse(const uint8_t *bytes, size_t size, struct datagram *datagram)
{
    if (size < DATAGRAM_HEADER_SIZE + LIMIT_SYMBOL_SIZE_MIN)
        return DATAGRAM_DROP_SHORT;
    if (bytes[AT_VERSION] != DATAGRAM_VERSION)
        return DATAGRAM_DROP_VERSION;
    if ((bytes[AT_FLAGS] & DATAGRAM_FLAGS_CRITICAL & ~DATAGRAM_FLAG_SEALED) != 0)
        return DATAGRAM_DROP_VERSION;

    *datagram = (struct datagram){
        .flags = bytes[AT_FLAGS],
        .lane = bytes[AT_LANE],
        .source_symbols = bytes[AT_SOURCE_SYMBOLS],
        .repair_symbols = bytes[AT_REPAIR_SYMBOLS],
        .esi = bytes[AT_ESI],
        .symbol_size = get16(bytes + AT_SYMBOL_SIZE),
        .sender_id = get32(bytes + AT_SENDER_ID),
        .depth = get16(bytes + AT_DEPTH),
        .group_index = get16(bytes + AT_GROUP_INDEX),
        .epoch = get64(bytes + AT_EPOCH),
        .salt = get64(bytes + AT_SALT),
        .sequence = get64(bytes + AT_SEQUENCE),
        .sbn = get64(bytes + AT_SBN),
        .repeat_of = get64(bytes + AT_REPEAT_OF),
        .block_hash = get64(bytes + AT_BLOCK_HASH),
    };
    if (!geometry_is_legal(datagram))
        return DATAGRAM_DROP_GEOMETRY;
    if (size != (size_t)DATAGRAM_HEADER_SIZE + datagram->symbol_size)
        return DATAGRAM_DROP_SHORT;
    if (datagram->lane >= LIMIT_LANES)
        return DATAGRAM_DROP_LANE;
    return DATAGRAM_OK;
}

static void plain_tag(const uint8_t *header, uint64_t symbol_hash, uint8_t tag[static DATAGRAM_TAG_SIZE])
{
    uint8_t covered[DATAGRAM_AUTHENTICATED_SIZE + sizeof symbol_hash];
    memcpy(covered, header, DATAGRAM_AUTHENTICATED_SIZE);
    put64(covered + DATAGRAM_AUTHENTICATED_SIZE, symbol_hash);
    checksum128(covered, sizeof covered, tag);
}

static bool plain_tag_is_good(const uint8_t *bytes, uint64_t symbol_hash)
{
    uint8_t tag[DATAGRAM_TAG_SIZE];
    plain_tag(bytes, symbol_hash, tag);
    return memcmp(tag, bytes + AT_TAG, sizeof tag) == 0;
}

enum datagram_drop datagram_open(uint8_t *bytes, struct datagram *datagram, struct linkkey *key)
{
    bool sealed = (datagram->flags & DATAGRAM_FLAG_SEALED) != 0;
    uint8_t *symbol = bytes + DATAGRAM_HEADER_SIZE;

    if (sealed != (key != NULL))
        return DATAGRAM_DROP_TAG;
    if (key != NULL) {
        linkkey_select(key, datagram->sender_id, datagram->epoch, datagram->lane, datagram->salt);
        if (linkkey_open(key, datagram->sequence, bytes, DATAGRAM_AUTHENTICATED_SIZE, symbol, datagram->symbol_size,
                         bytes + AT_TAG) != STATUS_OK)
            return DATAGRAM_DROP_TAG;
    }
    datagram->symbol_hash = datagram_symbol_hash(symbol, datagram->symbol_size);
    return key != NULL || plain_tag_is_good(bytes, datagram->symbol_hash) ? DATAGRAM_OK : DATAGRAM_DROP_TAG;
}

void datagram_write(uint8_t bytes[static DATAGRAM_HEADER_SIZE], const struct datagram *datagram)
{
    assert(geometry_is_legal(datagram));
    assert(datagram->lane < LIMIT_LANES);
    assert((datagram->flags & ~DATAGRAM_FLAG_SEALED) == 0);

    bytes[AT_VERSION] = DATAGRAM_VERSION;
    bytes[AT_FLAGS] = datagram->flags;
    bytes[AT_LANE] = datagram->lane;
    bytes[AT_SOURCE_SYMBOLS] = datagram->source_symbols;
    bytes[AT_REPAIR_SYMBOLS] = datagram->repair_symbols;
    bytes[AT_ESI] = datagram->esi;
    put16(bytes + AT_SYMBOL_SIZE, datagram->symbol_size);
    put32(bytes + AT_SENDER_ID, datagram->sender_id);
    put16(bytes + AT_DEPTH, datagram->depth);
    put16(bytes + AT_GROUP_INDEX, datagram->group_index);
    put64(bytes + AT_EPOCH, datagram->epoch);
    put64(bytes + AT_SALT, datagram->salt);
    put64(bytes + AT_SEQUENCE, datagram->sequence);
    put64(bytes + AT_SBN, datagram->sbn);
    put64(bytes + AT_REPEAT_OF, datagram->repeat_of);
    put64(bytes + AT_BLOCK_HASH, datagram->block_hash);
}

void datagram_tag(uint8_t header[static DATAGRAM_HEADER_SIZE], uint64_t symbol_hash)
{
    assert((header[AT_FLAGS] & DATAGRAM_FLAG_SEALED) == 0);
    plain_tag(header, symbol_hash, header + AT_TAG);
}

void datagram_seal(uint8_t header[static DATAGRAM_HEADER_SIZE], const uint8_t *symbol, uint8_t *sealed_symbol,
                   size_t symbol_size, struct linkkey *key)
{
    assert((header[AT_FLAGS] & DATAGRAM_FLAG_SEALED) != 0);
    assert(symbol_size == get16(header + AT_SYMBOL_SIZE));
    linkkey_select(key, get32(header + AT_SENDER_ID), get64(header + AT_EPOCH), header[AT_LANE],
                   get64(header + AT_SALT));
    linkkey_seal(key, get64(header + AT_SEQUENCE), header, DATAGRAM_AUTHENTICATED_SIZE, symbol, sealed_symbol,
                 symbol_size, header + AT_TAG);
}

uint64_t datagram_symbol_hash(const uint8_t *symbol, size_t symbol_size)
{
    return checksum64(symbol, symbol_size);
}

uint64_t datagram_hash_share(uint8_t esi, uint64_t symbol_hash)
{
    return (2 * (uint64_t)esi + 1) * symbol_hash;
}

uint16_t datagram_symbol_size_for_mtu(uint32_t mtu, bool ipv6)
{
    uint32_t overhead = (ipv6 ? IPV6_HEADER : IPV4_HEADER) + UDP_HEADER + DATAGRAM_HEADER_SIZE;

    if (mtu < overhead + LIMIT_SYMBOL_SIZE_MIN)
        return 0;
    uint32_t size = (mtu - overhead) / LIMIT_SYMBOL_ALIGNMENT * LIMIT_SYMBOL_ALIGNMENT;
    return size > LIMIT_SYMBOL_SIZE ? LIMIT_SYMBOL_SIZE : (uint16_t)size;
}

uint64_t datagram_wire_bits(uint16_t symbol_size, bool ipv6)
{
    uint64_t ip = ipv6 ? IPV6_HEADER : IPV4_HEADER;
    return 8 * (ip + symbol_size + (uint64_t)(DATAGRAM_HEADER_SIZE + UDP_HEADER + ETHERNET_OVERHEAD));
}

uint8_t datagram_repair_for(uint8_t k, uint8_t full_k, uint8_t full_r)
{
    assert(k >= 1 && k <= full_k && full_r >= LIMIT_REPAIR_SYMBOLS_MIN);
    unsigned repair = ((unsigned)k * full_r + full_k - 1u) / full_k;
    return repair < LIMIT_REPAIR_SYMBOLS_MIN ? LIMIT_REPAIR_SYMBOLS_MIN : (uint8_t)repair;
}
