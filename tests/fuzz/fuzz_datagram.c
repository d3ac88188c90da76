// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/linkkey.h"
#include "proto/wire.h"
#include "tests/datagrams.h"
#include "tests/fuzz/mutate.h"

/* What is accepted is within its limits, and written anew it is the same header. */
static void check_accepted(const uint8_t *bytes, size_t size, const struct datagram *datagram)
{
    uint8_t again[DATAGRAM_HEADER_SIZE];
    struct datagram copy = *datagram;

    assert(size == (size_t)DATAGRAM_HEADER_SIZE + datagram->symbol_size);
    assert(datagram->source_symbols <= LIMIT_SOURCE_SYMBOLS && datagram->repair_symbols <= LIMIT_REPAIR_SYMBOLS);
    assert(datagram->esi < datagram->source_symbols + datagram->repair_symbols);
    assert(datagram->group_index < datagram->depth && datagram->sbn >= datagram->group_index);
    assert(datagram->lane < LIMIT_LANES);
    copy.flags &= DATAGRAM_FLAG_SEALED;
    datagram_write(again, &copy);
    again[1] = bytes[1]; /* the flags that a receiver ignores are never written */
    assert(memcmp(again, bytes, DATAGRAM_AUTHENTICATED_SIZE) == 0);
}

/* A datagram with a right tag is accepted, whatever its header says: without a key anybody can make one. */
static void check_sealed(uint8_t *bytes, struct datagram *datagram)
{
    if ((datagram->flags & ~DATAGRAM_FLAG_SEALED) != 0)
        return;
    static struct linkkey *key;
    static const uint8_t secret[LINKKEY_SIZE];
    bool sealed = (datagram->flags & DATAGRAM_FLAG_SEALED) != 0;

    if (key == NULL)
        key = linkkey_create(secret);
    uint8_t *symbol = bytes + DATAGRAM_HEADER_SIZE;
    finish_datagram(bytes, symbol, symbol, datagram->symbol_size, sealed ? key : NULL);
    assert(datagram_open(bytes, datagram, sealed ? NULL : key) == DATAGRAM_DROP_TAG);
    assert(datagram_open(bytes, datagram, sealed ? key : NULL) == DATAGRAM_OK);
    bytes[DATAGRAM_AUTHENTICATED_SIZE] ^= 1;
    assert(datagram_open(bytes, datagram, sealed ? key : NULL) == DATAGRAM_DROP_TAG);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct datagram datagram;
    enum datagram_drop drop = datagram_parse(bytes, size, &datagram);

    assert(strlen(datagram_drop_name(drop)) > 0);
    if (drop != DATAGRAM_OK)
        return 0;
    check_accepted(bytes, size, &datagram);
    uint8_t *copy = malloc(size);
    assert(copy != NULL);
    memcpy(copy, bytes, size);
    check_sealed(copy, &datagram);
    free(copy);
    return 0;
}

enum { AT_SOURCE_SYMBOLS = 3, AT_REPAIR_SYMBOLS = 4, AT_ESI = 5, AT_SYMBOL_SIZE = 6, AT_DEPTH = 12, AT_GROUP = 14 };

/* Puts right what the first checks ask for, so that the later ones are met. */
static size_t mend(struct mutate *mutate, uint8_t *bytes, size_t size, size_t size_max)
{
    size_t symbol_size = size > DATAGRAM_HEADER_SIZE ? size - DATAGRAM_HEADER_SIZE : 0;
    symbol_size = symbol_size / LIMIT_SYMBOL_ALIGNMENT * LIMIT_SYMBOL_ALIGNMENT;
    if (symbol_size < LIMIT_SYMBOL_SIZE_MIN)
        symbol_size = LIMIT_SYMBOL_SIZE_MIN;
    if (symbol_size > LIMIT_SYMBOL_SIZE)
        symbol_size = LIMIT_SYMBOL_SIZE;
    size_t whole = DATAGRAM_HEADER_SIZE + symbol_size;
    if (whole > size_max)
        return size;
    if (whole > size)
        memset(bytes + size, 0, whole - size);
    bytes[0] = DATAGRAM_VERSION;
    bytes[1] &= mutate_chance(mutate, 4) ? 0xff : 0xf1;
    put16(bytes + AT_SYMBOL_SIZE, (uint16_t)symbol_size);
    if (mutate_chance(mutate, 4))
        return whole;
    bytes[AT_SOURCE_SYMBOLS] = (uint8_t)(1 + bytes[AT_SOURCE_SYMBOLS] % LIMIT_SOURCE_SYMBOLS);
    bytes[AT_REPAIR_SYMBOLS] =
        (uint8_t)(LIMIT_REPAIR_SYMBOLS_MIN + bytes[AT_REPAIR_SYMBOLS] % (LIMIT_REPAIR_SYMBOLS - 3));
    bytes[AT_ESI] = (uint8_t)(bytes[AT_ESI] % (bytes[AT_SOURCE_SYMBOLS] + bytes[AT_REPAIR_SYMBOLS]));
    put16(bytes + AT_DEPTH, (uint16_t)(1 + get16(bytes + AT_DEPTH) % LIMIT_DEPTH));
    put16(bytes + AT_GROUP, get16(bytes + AT_GROUP) % get16(bytes + AT_DEPTH));
    return whole;
}

size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t size, size_t size_max, unsigned seed)
{
    struct mutate mutate = {seed};
    size = LLVMFuzzerMutate(bytes, size, size_max);
    return mutate_chance(&mutate, 8) ? size : mend(&mutate, bytes, size, size_max);
}
