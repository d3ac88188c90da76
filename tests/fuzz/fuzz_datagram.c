// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/linkkey.h"
#include "proto/datagram.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

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
static void check_sealed(uint8_t *bytes, const struct datagram *datagram)
{
    if ((datagram->flags & ~DATAGRAM_FLAG_SEALED) != 0)
        return;
    static struct linkkey *key;
    static const uint8_t secret[LINKKEY_SIZE];
    bool sealed = (datagram->flags & DATAGRAM_FLAG_SEALED) != 0;

    if (key == NULL)
        key = linkkey_create(secret);
    uint8_t *symbol = bytes + DATAGRAM_HEADER_SIZE;
    datagram_seal(bytes, symbol, symbol, datagram->symbol_size, sealed ? key : NULL);
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
