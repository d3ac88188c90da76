// SPDX-License-Identifier: Apache-2.0
#include "tools/ticket_words.h"

#include <inttypes.h>

#include "common/log.h"
#include "common/units.h"
#include "proto/ticket.h"

enum { HEX_DIGITS = TICKET_CHAIN_BITS / 4, SHOWN = 200 };

static void print_chunks(FILE *stream, const struct ticket *ticket)
{
    char size[UNITS_TEXT_SIZE];
    uint64_t count = 0;

    for (unsigned i = 0; i < ticket->range_count; i++) {
        const struct ticket_range *range = &ticket->ranges[i];
        fputs(i == 0 ? "" : i + 1 < ticket->range_count ? ", " : " and ", stream);
        fprintf(stream, "%" PRIu64, range->first);
        if (range->last > range->first)
            fprintf(stream, " to %" PRIu64, range->last);
        count += range->last - range->first + 1;
    }
    fprintf(stream, " (%" PRIu64 " chunk%s, at most %s)", count, count == 1 ? "" : "s",
            units_format_size(count * CHUNK_SIZE, size));
}

void ticket_words_print(FILE *stream, const struct ticket *ticket)
{
    switch (ticket->kind) {
    case TICKET_WHOLE:
        if (ticket->first_sequence == ticket->last_sequence)
            fprintf(stream, "the whole of transfer %" PRIu64, ticket->first_sequence);
        else
            fprintf(stream, "the whole of the transfers %" PRIu64 " to %" PRIu64 " (%" PRIu64 " of them)",
                    ticket->first_sequence, ticket->last_sequence, ticket->last_sequence - ticket->first_sequence + 1);
        break;
    case TICKET_MANIFEST:
        fprintf(stream, "the manifest of transfer %" PRIu64, ticket->first_sequence);
        break;
    case TICKET_CHUNKS:
        fprintf(stream, "%s ",
                ticket->range_count == 1 && ticket->ranges[0].first == ticket->ranges[0].last ? "chunk" : "chunks");
        print_chunks(stream, ticket);
        fprintf(stream, " of transfer %" PRIu64 ", and its manifest", ticket->first_sequence);
        break;
    }
    fprintf(stream, ", of the chain %0*" PRIx32 "...", HEX_DIGITS,
            ticket->chain_tag >> (TICKET_CHAIN_BITS - 4 * HEX_DIGITS));
}

bool ticket_words_check(char *const texts[], int count)
{
    bool good = true;
    for (int i = 0; i < count; i++) {
        struct ticket ticket;
        enum ticket_problem problem = ticket_parse(texts[i], &ticket);
        if (problem == TICKET_GOOD)
            continue;
        log_error("ticket %d of %d, '%.*s', %s", i + 1, count, (int)SHOWN, texts[i], ticket_problem_text(problem));
        good = false;
    }
    return good;
}
