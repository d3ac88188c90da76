// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "proto/ticket.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* The same characters but for case and dashes. */
static void assert_same_text(const char *a, const char *b)
{
    for (;; a++, b++) {
        a += *a == '-';
        b += *b == '-';
        assert(toupper(*a) == toupper(*b));
        if (*a == '\0')
            return;
    }
}

/* What is accepted is possible, and is the one text of its meaning. */
static void check_accepted(const char *text, const struct ticket *ticket)
{
    char again[TICKET_TEXT_SIZE];
    uint64_t lowest = 0;

    assert(ticket->first_sequence >= 1 && ticket->first_sequence <= ticket->last_sequence);
    assert(ticket->last_sequence <= LIMIT_SEQUENCE);
    assert(ticket->kind == TICKET_WHOLE || ticket->first_sequence == ticket->last_sequence);
    assert((ticket->kind == TICKET_CHUNKS) == (ticket->range_count > 0) && ticket->range_count <= TICKET_RANGES);
    for (unsigned i = 0; i < ticket->range_count; i++) {
        assert(ticket->ranges[i].first >= lowest && ticket->ranges[i].first <= ticket->ranges[i].last);
        assert(ticket->ranges[i].last < LIMIT_TRANSFER_SIZE / CHUNK_SIZE + LIMIT_ARTIFACTS);
        lowest = ticket->ranges[i].last + 2;
    }
    assert_same_text(text, ticket_format(ticket, again));
    assert(ticket_payload_bits(ticket) >= 35);
}

/* A right checksum is hard to meet: the input as the fields of a ticket, which then is written and read. */
static void check_built(const uint8_t *bytes, size_t size)
{
    struct ticket ticket, again;
    char text[TICKET_TEXT_SIZE];
    uint64_t numbers[2] = {0}, chunk = 0;

    if (size < CHAIN_ID_SIZE + sizeof numbers)
        return;
    memcpy(numbers, bytes + CHAIN_ID_SIZE, sizeof numbers);
    enum ticket_kind kind = numbers[0] % 3;
    uint64_t first = 1 + (numbers[0] >> 2) % LIMIT_SEQUENCE;
    uint64_t last = kind == TICKET_WHOLE ? first + numbers[1] % (LIMIT_SEQUENCE - first + 1) : first;
    ticket_init(&ticket, kind, bytes, first, last);
    for (size_t at = CHAIN_ID_SIZE + sizeof numbers; kind == TICKET_CHUNKS && at + 1 < size && at < 128; at += 2) {
        chunk += (uint64_t)bytes[at] * bytes[at];
        ticket_add_chunks(&ticket, chunk, chunk + bytes[at + 1]);
        chunk += bytes[at + 1] + 1U;
    }
    if (kind == TICKET_CHUNKS && ticket.range_count == 0)
        return;
    ticket_format(&ticket, text);
    enum ticket_problem problem = ticket_parse(text, &again);
    assert(problem == TICKET_GOOD);
    check_accepted(text, &again);
    assert(ticket_is_of_chain(&again, bytes));
    assert(again.first_sequence == first && again.last_sequence == last && again.range_count == ticket.range_count);
    assert(memcmp(again.ranges, ticket.ranges, sizeof ticket.ranges) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct ticket ticket;
    char *text = malloc(size + 1);

    assert(text != NULL);
    memcpy(text, bytes, size);
    text[size] = '\0';
    enum ticket_problem problem = ticket_parse(text, &ticket);
    assert(strlen(ticket_problem_text(problem)) > 0);
    if (problem == TICKET_GOOD)
        check_accepted(text, &ticket);
    free(text);
    check_built(bytes, size);
    return 0;
}
