// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_TESTS_FUZZ_MUTATE_H
#define DIODECAST_TESTS_FUZZ_MUTATE_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Mutations that keep the structure around what they change: lengths, checksums and counts are right again afterwards,
 * so that what lies behind those checks is reached. Deterministic in the seed.
 */

/* libFuzzer's own, and what it calls. */
size_t LLVMFuzzerMutate(uint8_t *bytes, size_t size, size_t size_max);
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t size, size_t size_max, unsigned seed);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

struct mutate {
    uint64_t state;
};
uint64_t mutate_next(struct mutate *mutate);
uint64_t mutate_below(struct mutate *mutate, uint64_t limit); /* 0 .. limit - 1 */
bool mutate_chance(struct mutate *mutate, unsigned one_in);

/* A number near a border: small ones, powers of two and their neighbours, the neighbours of `value`. */
uint64_t mutate_number(struct mutate *mutate, uint64_t value);

/* Puts `replacement` in the place of bytes[first .. first + old_size); false, changing nothing, where it does not fit.
 */
bool mutate_splice(uint8_t *bytes, size_t *size, size_t size_max, size_t first, size_t old_size,
                   const uint8_t *replacement, size_t new_size);

/*
 * Changes one field of a protobuf message: its value, its place, or whether it is there; at any depth of messages in
 * messages, the statement in a manifest included. `descriptor` may be NULL for bytes that are no message. Returns the
 * new size.
 */
size_t mutate_message(struct mutate *mutate, const ProtobufCMessageDescriptor *descriptor, uint8_t *bytes, size_t size,
                      size_t size_max);

/* Changes one frame of a payload, or adds, doubles, moves or removes one; the lengths stay right. */
size_t mutate_frames(struct mutate *mutate, uint8_t *bytes, size_t size, size_t size_max);

#endif
