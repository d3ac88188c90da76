// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_PARTIAL_H
#define DIODECAST_RECEIVER_PARTIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/limits.h"

/*
 * What happens to the staged files of an open transfer, as a list in the order of time: it is what the ledger is given
 * at each checkpoint, and what a restart replays. Bytes that follow each other become one entry, with the XXH3-128 of
 * exactly these bytes where they were hashed on arrival; an entry never crosses a border of CHUNK_SIZE in its file.
 * Sans I/O; owned by one thread at a time.
 */

#define PARTIAL_SMALL UINT32_MAX /* as `file`: the file of small artifacts; else the index of an artifact */

enum partial_kind {
    PARTIAL_PLACE = 1, /* artifact `file` has `end` bytes; a small one lies at `first` of the file of small artifacts */
    PARTIAL_HELD = 2,  /* bytes [first, end) of the file are written */
    PARTIAL_LOST = 3,  /* they are missing again, whatever was said before */
};

struct partial_entry {
    enum partial_kind kind;
    bool hashed; /* HELD: `hash` is valid */
    uint32_t file;
    uint64_t first, end;
    uint8_t hash[CHUNK_HASH_SIZE];
};

/* All zeros is the empty list. */
struct partial_list {
    struct partial_entry *entries; /* malloc'ed */
    size_t count, capacity;
};

enum { PARTIAL_ENTRIES = 131072 }; /* that wait for a checkpoint; a transfer with more starts its record again */

void partial_list_deinit(struct partial_list *list);
/* False when memory is short. */
bool partial_list_add(struct partial_list *list, const struct partial_entry *entry);
/* Puts `first`, which is emptied, in front of `list`. False, changing nothing, when memory is short. */
bool partial_list_prepend(struct partial_list *list, struct partial_list *first);

/* The stored form: per entry a kind, then little-endian numbers. NULL when memory is short; the caller frees. */
uint8_t *partial_encode(const struct partial_list *list, size_t *size);
/* Visits the entries of the stored form; false at the first byte that is none. */
bool partial_decode(const uint8_t *bytes, size_t size, void (*visit)(const struct partial_entry *entry, void *context),
                    void *context);

/* The list of one transfer while it grows. */
struct partial;

struct partial *partial_create(void); /* NULL when memory is short */
void partial_destroy(struct partial *partial);

void partial_place(struct partial *partial, uint32_t index, uint64_t place, uint64_t size);
/* With `hash` the bytes go into a hash; without it they are left to be read back. */
void partial_hold(struct partial *partial, uint32_t file, uint64_t offset, const uint8_t *bytes, uint32_t size,
                  bool hash);
void partial_lose(struct partial *partial, uint32_t file, uint64_t first, uint64_t end);

/* Whether there is something to record, and how many bytes of it were held. */
bool partial_is_empty(const struct partial *partial);
uint64_t partial_bytes(const struct partial *partial);
/* More was said than fits: the list is void, and the record is to be made anew from what is held altogether. */
bool partial_has_overflown(const struct partial *partial);

/* Takes the list; what follows begins a new one. Ends an overflow. */
struct partial_list partial_cut(struct partial *partial);
/* Takes back what was cut and not recorded: it comes before what was said since. Empties *list. */
void partial_give_back(struct partial *partial, struct partial_list *list);
/* Makes the next record start anew, as an overflow does. */
void partial_start_anew(struct partial *partial);

#endif
