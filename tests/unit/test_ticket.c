// SPDX-License-Identifier: Apache-2.0
#include "proto/ticket.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const uint8_t chain_id[CHAIN_ID_SIZE] = {0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7,
                                                0xc8, 0xc9, 0xca, 0xcb, 0xcc, 0xcd, 0xce, 0xcf};
static const char alphabet[] = "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L";
static const uint64_t chunks_limit = LIMIT_TRANSFER_SIZE / CHUNK_SIZE + LIMIT_ARTIFACTS;

/* The examples of proto/README.md, in its order. */
static const char *const examples[] = {
    "GCRQ-U9SJ-2LEJ-2MJ",
    "FCRQ-U9SJ-2ZMW-7GSF",
    "2CRQ-U9SJ-2NTY-557",
    "TCRQ-U9SJ-2RQV-R33X-QZ2L-DNF",
};
enum { EXAMPLES = sizeof examples / sizeof examples[0] };

static void example(unsigned index, struct ticket *ticket)
{
    switch (index) {
    case 0:
        ticket_init(ticket, TICKET_WHOLE, chain_id, 42, 42);
        break;
    case 1:
        ticket_init(ticket, TICKET_WHOLE, chain_id, 42, 45);
        break;
    case 2:
        ticket_init(ticket, TICKET_MANIFEST, chain_id, 42, 42);
        break;
    default:
        ticket_init(ticket, TICKET_CHUNKS, chain_id, 42, 42);
        ticket_add_chunks(ticket, 3, 3);
        ticket_add_chunks(ticket, 17, 20);
        ticket_add_chunks(ticket, 300, 300);
    }
}

static void assert_same(const struct ticket *a, const struct ticket *b)
{
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->chain_tag, b->chain_tag);
    assert_int_equal(a->first_sequence, b->first_sequence);
    assert_int_equal(a->last_sequence, b->last_sequence);
    assert_int_equal(a->range_count, b->range_count);
    for (unsigned i = 0; i < a->range_count; i++) {
        assert_int_equal(a->ranges[i].first, b->ranges[i].first);
        assert_int_equal(a->ranges[i].last, b->ranges[i].last);
    }
}

static void assert_round_trip(const struct ticket *ticket)
{
    char text[TICKET_TEXT_SIZE];
    struct ticket parsed;

    assert_ptr_equal(ticket_format(ticket, text), text);
    assert_int_equal(ticket_parse(text, &parsed), TICKET_GOOD);
    assert_same(ticket, &parsed);
}

static void the_specification_and_the_code_have_the_same_examples(void **state)
{
    (void)state;
    char *specification = NULL, text[TICKET_TEXT_SIZE];
    size_t size = 0;
    FILE *file = fopen("proto/README.md", "r");

    assert_non_null(file);
    assert_true(getdelim(&specification, &size, '\0', file) > 0);
    fclose(file);
    const char *place = strstr(specification, "## Tickets");
    for (unsigned i = 0; i < EXAMPLES; i++) {
        struct ticket ticket;
        example(i, &ticket);
        assert_string_equal(ticket_format(&ticket, text), examples[i]);
        assert_round_trip(&ticket);
        assert_non_null(place);
        place = strstr(place, examples[i]);
        assert_non_null(place);
    }
    free(specification);
}

static void every_kind_comes_back_at_its_bounds(void **state)
{
    (void)state;
    static const uint64_t sequences[] = {1, 2, 15, 16, 17, 255, 256, 100000, LIMIT_SEQUENCE - 1, LIMIT_SEQUENCE};
    const size_t count = sizeof sequences / sizeof sequences[0];
    struct ticket ticket;

    for (size_t i = 0; i < count; i++) {
        ticket_init(&ticket, TICKET_MANIFEST, chain_id, sequences[i], sequences[i]);
        assert_round_trip(&ticket);
        for (size_t j = i; j < count; j++) {
            ticket_init(&ticket, TICKET_WHOLE, chain_id, sequences[i], sequences[j]);
            assert_round_trip(&ticket);
        }
    }
    ticket_init(&ticket, TICKET_CHUNKS, chain_id, LIMIT_SEQUENCE, LIMIT_SEQUENCE);
    ticket_add_chunks(&ticket, 0, chunks_limit - 1);
    assert_round_trip(&ticket);
    /* The longest text there is: six ranges far apart. */
    ticket_init(&ticket, TICKET_CHUNKS, chain_id, LIMIT_SEQUENCE, LIMIT_SEQUENCE);
    for (uint64_t i = 0; i < TICKET_RANGES; i++)
        ticket_add_chunks(&ticket, i * 500000 + 262144, i * 500000 + 262144 + (1 << 17));
    assert_int_equal(ticket.range_count, TICKET_RANGES);
    assert_round_trip(&ticket);
}

static void a_whole_transfer_takes_about_twenty_characters(void **state)
{
    (void)state;
    char text[TICKET_TEXT_SIZE];
    struct ticket ticket;

    ticket_init(&ticket, TICKET_WHOLE, chain_id, 42, 42);
    assert_int_equal(strlen(ticket_format(&ticket, text)), 18);
    ticket_init(&ticket, TICKET_WHOLE, chain_id, 100000, 100000);
    assert_int_equal(strlen(ticket_format(&ticket, text)), 22);
}

static void a_ticket_is_told_from_one_of_another_chain(void **state)
{
    (void)state;
    uint8_t other[CHAIN_ID_SIZE];
    struct ticket ticket;

    ticket_init(&ticket, TICKET_WHOLE, chain_id, 42, 42);
    for (unsigned bit = 0; bit < TICKET_CHAIN_BITS; bit++) {
        memcpy(other, chain_id, sizeof other);
        other[bit / 8] ^= (uint8_t)(0x80 >> bit % 8);
        assert_false(ticket_is_of_chain(&ticket, other));
    }
    assert_true(ticket_is_of_chain(&ticket, chain_id));
}

static void lower_case_and_missing_dashes_say_the_same(void **state)
{
    (void)state;
    for (unsigned i = 0; i < EXAMPLES; i++) {
        char lower[TICKET_TEXT_SIZE], joined[TICKET_TEXT_SIZE];
        struct ticket expected, parsed;
        size_t count = 0;

        example(i, &expected);
        for (size_t at = 0; at <= strlen(examples[i]); at++)
            lower[at] = (char)tolower(examples[i][at]);
        assert_int_equal(ticket_parse(lower, &parsed), TICKET_GOOD);
        assert_same(&expected, &parsed);
        for (const char *next = lower; *next != '\0'; next++)
            if (*next != '-')
                joined[count++] = *next;
        joined[count] = '\0';
        assert_int_equal(ticket_parse(joined, &parsed), TICKET_GOOD);
        assert_same(&expected, &parsed);
    }
}

static void any_other_byte_in_any_place_is_caught(void **state)
{
    (void)state;
    for (unsigned i = 0; i < EXAMPLES; i++) {
        char text[TICKET_TEXT_SIZE];
        struct ticket parsed;

        for (size_t at = 0; at < strlen(examples[i]); at++) {
            snprintf(text, sizeof text, "%s", examples[i]);
            for (int byte = 1; byte < 256; byte++) {
                if (byte == examples[i][at])
                    continue;
                text[at] = (char)byte;
                enum ticket_problem problem = ticket_parse(text, &parsed);
                bool in_place = examples[i][at] != '-' && strchr(alphabet, byte) != NULL;
                assert_int_equal(problem, in_place ? TICKET_CHECKSUM : TICKET_CHARACTER);
            }
        }
    }
}

static void swapped_neighbours_are_caught(void **state)
{
    (void)state;
    for (unsigned i = 0; i < EXAMPLES; i++) {
        for (size_t at = 0; at + 1 < strlen(examples[i]); at++) {
            char text[TICKET_TEXT_SIZE];
            struct ticket parsed;

            snprintf(text, sizeof text, "%s", examples[i]);
            text[at] = examples[i][at + 1];
            text[at + 1] = examples[i][at];
            if (strcmp(text, examples[i]) != 0)
                assert_int_not_equal(ticket_parse(text, &parsed), TICKET_GOOD);
        }
    }
}

/* Once with and once without dashes, as a dash that is left over gives a cut away. */
static void what_is_cut_off_doubled_or_put_in_is_caught(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2 * EXAMPLES; i++) {
        char whole[TICKET_TEXT_SIZE] = "", text[2 * TICKET_TEXT_SIZE];
        struct ticket parsed;
        size_t count = 0;

        for (const char *next = examples[i / 2]; *next != '\0'; next++)
            if (i % 2 == 0 || *next != '-')
                whole[count++] = *next;
        for (size_t at = 0; at < count; at++) {
            snprintf(text, sizeof text, "%.*s", (int)at, whole);
            assert_int_not_equal(ticket_parse(text, &parsed), TICKET_GOOD);
            assert_int_not_equal(ticket_parse(whole + at + 1, &parsed), TICKET_GOOD);
            snprintf(text, sizeof text, "%.*s%s", (int)at, whole, whole + at + 1);
            assert_int_not_equal(ticket_parse(text, &parsed), TICKET_GOOD);
            for (const char *extra = alphabet; *extra != '\0'; extra++) {
                snprintf(text, sizeof text, "%.*s%c%s", (int)at, whole, *extra, whole + at);
                assert_int_not_equal(ticket_parse(text, &parsed), TICKET_GOOD);
            }
        }
        snprintf(text, sizeof text, "%s%s", whole, whole);
        assert_int_not_equal(ticket_parse(text, &parsed), TICKET_GOOD);
    }
}

static void other_ways_of_writing_are_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "gCRQ-U9SJ-2LEJ-2MJ",   "GCRQU9SJ-2LEJ-2MJ",   "GCRQ-U9SJ-2LEJ2MJ",    "GCRQ-U9SJ-2LEJ-2MJ-",
        "-GCRQ-U9SJ-2LEJ-2MJ",  "GCRQ--U9SJ-2LEJ-2MJ", "GCR-QU9S-J2LE-J2MJ",   "GCRQ U9SJ 2LEJ 2MJ",
        " GCRQ-U9SJ-2LEJ-2MJ",  "GCRQ-U9SJ-2LEJ-2MJ ", "GCRQ-U9SJ-2LEJ-2MJ\n", "GCRQ_U9SJ_2LEJ_2MJ",
        "GCRQ-U9SJ-2LEJ-\t2MJ",
    };
    struct ticket parsed;

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        assert_int_equal(ticket_parse(texts[i], &parsed), TICKET_CHARACTER);
    assert_int_equal(ticket_parse("", &parsed), TICKET_LENGTH);
    assert_int_equal(ticket_parse("GCRQ", &parsed), TICKET_LENGTH);
}

static uint32_t polymod(uint32_t checksum, unsigned value)
{
    static const uint32_t generator[] = {0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3};
    uint32_t result = (checksum & 0x1ffffff) << 5 ^ value;
    for (unsigned bit = 0; bit < 5; bit++)
        result ^= (checksum >> (25 + bit) & 1) != 0 ? generator[bit] : 0;
    return result;
}

/* Parses the characters of `body` with a right checksum behind. */
static enum ticket_problem parse_sealed(const char *body, struct ticket *ticket)
{
    char text[TICKET_TEXT_SIZE];
    uint32_t checksum = 1;
    size_t count = strlen(body);

    for (const char *next = "diodecast"; *next != '\0'; next++)
        checksum = polymod(checksum, (unsigned)*next >> 5);
    checksum = polymod(checksum, 0);
    for (const char *next = "diodecast"; *next != '\0'; next++)
        checksum = polymod(checksum, (unsigned)*next & 31);
    memcpy(text, body, count);
    for (size_t i = 0; i < count; i++)
        checksum = polymod(checksum, (unsigned)(strchr(alphabet, body[i]) - alphabet));
    for (int i = 0; i < 6; i++)
        checksum = polymod(checksum, 0);
    checksum ^= 0x2bc830a3;
    for (size_t i = 0; i < 6; i++)
        text[count + i] = alphabet[checksum >> (25 - 5 * i) & 31];
    text[count + 6] = '\0';
    return ticket_parse(text, ticket);
}

/* Q is 0, P 1; S is 0 and 3 is 1 with another character behind. */
static void what_no_ticket_says_is_refused_though_its_checksum_is_right(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        "GCRQU9SQ",                  /* sequence 0 */
        "GCRQU9SSP",                 /* a leading zero */
        "GCRQU9S3",                  /* the number does not end */
        "GCRQU9SPP",                 /* more than one sequence */
        "2CRQU9SPP",                 /* likewise */
        "FCRQU9SP",                  /* a range without its end */
        "FCRQU9SPPP",                /* a range with too much behind */
        "FCRQU9SPSQ",                /* a leading zero */
        "TCRQU9SP",                  /* no chunks */
        "TCRQU9SPP",                 /* half a range */
        "TCRQU9SPPPP",               /* a range and a half */
        "TCRQU9SPQQQQQQQQQQQQQQ",    /* seven ranges */
        "TCRQU9SPQ3SSSSSQ",          /* beyond the chunks of the largest transfer */
        "TCRQU9SP3SSSSSQQ",          /* likewise */
        "VCRQU9SP",                  /* a kind that does not exist */
        "LCRQU9SP",                  /* a version that does not exist */
        "GCRQU9S33333333333333333P", /* more than 64 bits */
        "GCRQU9S3SSSSSSSSSSSSSQ",    /* beyond LIMIT_SEQUENCE: 2^56 */
        "GCRQU9S33SSSSSSSSSSSSQ",    /* likewise, with as many characters as the limit has */
    };
    struct ticket parsed;

    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        enum ticket_problem problem = parse_sealed(bodies[i], &parsed);
        assert_int_equal(problem, bodies[i][0] == 'L' ? TICKET_VERSION : TICKET_MALFORMED);
    }
    assert_int_equal(parse_sealed("GCRQU9SP", &parsed), TICKET_GOOD);
    assert_int_equal(parse_sealed("FCRQU9SPQ", &parsed), TICKET_GOOD);
    assert_int_equal(parse_sealed("TCRQU9SPQQQQQQQQQQQQ", &parsed), TICKET_GOOD);
}

static void sequences_end_at_the_limit(void **state)
{
    (void)state;
    struct ticket parsed;

    char body[32] = "GCRQU9S";
    for (int shift = 52; shift >= 0; shift -= 4)
        body[7 + (52 - shift) / 4] = alphabet[(LIMIT_SEQUENCE >> shift & 15) | (shift > 0 ? 16 : 0)];
    assert_int_equal(parse_sealed(body, &parsed), TICKET_GOOD);
    assert_int_equal(parsed.first_sequence, LIMIT_SEQUENCE);
    for (int shift = 52; shift >= 0; shift -= 4)
        body[7 + (52 - shift) / 4] = alphabet[((LIMIT_SEQUENCE + 1) >> shift & 15) | (shift > 0 ? 16 : 0)];
    assert_int_equal(parse_sealed(body, &parsed), TICKET_MALFORMED);
    body[0] = 'F'; /* behind the limit there is no second sequence */
    for (int shift = 52; shift >= 0; shift -= 4)
        body[7 + (52 - shift) / 4] = alphabet[(LIMIT_SEQUENCE >> shift & 15) | (shift > 0 ? 16 : 0)];
    body[21] = 'Q';
    assert_int_equal(parse_sealed(body, &parsed), TICKET_MALFORMED);
}

static void chunks_end_at_the_limit(void **state)
{
    (void)state;
    /* The limit is 0x300000: the highest number is 0x2fffff. */
    struct ticket parsed;

    assert_int_equal(parse_sealed("TCRQU9SPJLLLLLQ", &parsed), TICKET_MALFORMED);
    assert_int_equal(parse_sealed("TCRQU9SPJLLLL0Q", &parsed), TICKET_GOOD);
    assert_int_equal(parsed.ranges[0].first, chunks_limit - 1);
    assert_int_equal(parse_sealed("TCRQU9SPJLLLL0P", &parsed), TICKET_MALFORMED);
    assert_int_equal(parse_sealed("TCRQU9SPNSSSSQQ", &parsed), TICKET_MALFORMED);
    assert_int_equal(parse_sealed("TCRQU9SPQJLLLL0", &parsed), TICKET_GOOD);
    assert_int_equal(parse_sealed("TCRQU9SPQJLLLL0QQ", &parsed), TICKET_MALFORMED);
}

/* A generator of its own, so that a failure comes back. */
static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static void whatever_is_accepted_is_the_one_text_of_its_meaning(void **state)
{
    (void)state;
    uint64_t seed = 42;
    unsigned good = 0;

    for (unsigned round = 0; round < 200000; round++) {
        char body[64], text[TICKET_TEXT_SIZE];
        struct ticket parsed, again;
        size_t count = 8 + next_random(&seed) % 12;

        for (size_t i = 0; i < count; i++)
            body[i] = alphabet[next_random(&seed) % 32];
        body[0] = "GF2T"[next_random(&seed) % 4];
        body[count] = '\0';
        if (parse_sealed(body, &parsed) != TICKET_GOOD)
            continue;
        good++;
        ticket_format(&parsed, text);
        size_t at = 0;
        for (const char *next = text; at < count; next++)
            if (*next != '-')
                assert_int_equal(*next, body[at++]);
        assert_int_equal(ticket_parse(text, &again), TICKET_GOOD);
        assert_same(&parsed, &again);
        assert_int_equal(ticket_payload_bits(&parsed), 5 * (count - 1));
    }
    assert_true(good > 1000);
}

static void random_tickets_come_back(void **state)
{
    (void)state;
    uint64_t seed = 7;

    for (unsigned round = 0; round < 20000; round++) {
        uint8_t chain[CHAIN_ID_SIZE];
        struct ticket ticket;
        for (size_t i = 0; i < sizeof chain; i++)
            chain[i] = (uint8_t)next_random(&seed);
        uint64_t first = 1 + (next_random(&seed) >> next_random(&seed) % 64) % LIMIT_SEQUENCE;
        uint64_t room = LIMIT_SEQUENCE - first + 1;
        enum ticket_kind kind = (enum ticket_kind)(next_random(&seed) % 3);
        uint64_t further = kind == TICKET_WHOLE ? (next_random(&seed) >> next_random(&seed) % 64) % room : 0;
        ticket_init(&ticket, kind, chain, first, first + further);
        uint64_t chunk = 0;
        for (uint64_t i = 1 + next_random(&seed) % 12; kind == TICKET_CHUNKS && i > 0; i--) {
            chunk += next_random(&seed) % 100000;
            uint64_t last = chunk + next_random(&seed) % 1000;
            ticket_add_chunks(&ticket, chunk, last);
            chunk = last + 1;
        }
        assert_round_trip(&ticket);
    }
}

static void chunks_that_touch_become_one_range(void **state)
{
    (void)state;
    struct ticket ticket;

    ticket_init(&ticket, TICKET_CHUNKS, chain_id, 1, 1);
    for (uint64_t chunk = 5; chunk < 25; chunk++)
        ticket_add_chunks(&ticket, chunk, chunk);
    assert_int_equal(ticket.range_count, 1);
    assert_int_equal(ticket.ranges[0].first, 5);
    assert_int_equal(ticket.ranges[0].last, 24);
    ticket_add_chunks(&ticket, 26, 26);
    assert_int_equal(ticket.range_count, 2);
}

static void assert_ranges(const struct ticket *ticket, const struct ticket_range *expected)
{
    assert_int_equal(ticket->range_count, TICKET_RANGES);
    for (unsigned i = 0; i < TICKET_RANGES; i++) {
        assert_int_equal(ticket->ranges[i].first, expected[i].first);
        assert_int_equal(ticket->ranges[i].last, expected[i].last);
    }
}

static void a_range_too_many_joins_the_nearest_two(void **state)
{
    (void)state;
    struct ticket ticket;
    ticket_init(&ticket, TICKET_CHUNKS, chain_id, 1, 1);
    static const uint64_t chunks[TICKET_RANGES] = {0, 100, 110, 200, 300, 400};
    for (unsigned i = 0; i < TICKET_RANGES; i++)
        ticket_add_chunks(&ticket, chunks[i], chunks[i]);

    ticket_add_chunks(&ticket, 500, 501); /* in the middle */
    assert_ranges(&ticket,
                  (const struct ticket_range[]){{0, 0}, {100, 110}, {200, 200}, {300, 300}, {400, 400}, {500, 501}});
    ticket_add_chunks(&ticket, 505, 505); /* with the last one */
    assert_ranges(&ticket,
                  (const struct ticket_range[]){{0, 0}, {100, 110}, {200, 200}, {300, 300}, {400, 400}, {500, 505}});
    ticket_add_chunks(&ticket, 700, 700); /* the middle again, a range and a chunk */
    assert_ranges(&ticket,
                  (const struct ticket_range[]){{0, 0}, {100, 200}, {300, 300}, {400, 400}, {500, 505}, {700, 700}});
    ticket_add_chunks(&ticket, 900, 900); /* the first two of several that are equally near */
    assert_ranges(&ticket,
                  (const struct ticket_range[]){{0, 200}, {300, 300}, {400, 400}, {500, 505}, {700, 700}, {900, 900}});
}

static void a_merged_ticket_names_all_that_is_missing(void **state)
{
    (void)state;
    uint64_t seed = 99;

    for (unsigned round = 0; round < 2000; round++) {
        bool missing[400] = {false};
        struct ticket ticket;
        ticket_init(&ticket, TICKET_CHUNKS, chain_id, 1, 1);
        for (uint64_t chunk = 0; chunk < 400; chunk++) {
            missing[chunk] = next_random(&seed) % 20 == 0 || chunk == 399;
            if (missing[chunk])
                ticket_add_chunks(&ticket, chunk, chunk);
        }
        for (unsigned i = 0; i < ticket.range_count; i++) {
            assert_true(missing[ticket.ranges[i].first] && missing[ticket.ranges[i].last]);
            for (uint64_t chunk = ticket.ranges[i].first; chunk <= ticket.ranges[i].last; chunk++)
                missing[chunk] = false;
        }
        for (uint64_t chunk = 0; chunk < 400; chunk++)
            assert_false(missing[chunk]);
        assert_round_trip(&ticket);
    }
}

static void every_problem_has_its_words(void **state)
{
    (void)state;
    for (enum ticket_problem problem = TICKET_GOOD; problem <= TICKET_MALFORMED; problem++)
        for (enum ticket_problem other = TICKET_GOOD; other < problem; other++)
            assert_string_not_equal(ticket_problem_text(problem), ticket_problem_text(other));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_specification_and_the_code_have_the_same_examples),
        cmocka_unit_test(every_kind_comes_back_at_its_bounds),
        cmocka_unit_test(a_whole_transfer_takes_about_twenty_characters),
        cmocka_unit_test(a_ticket_is_told_from_one_of_another_chain),
        cmocka_unit_test(lower_case_and_missing_dashes_say_the_same),
        cmocka_unit_test(any_other_byte_in_any_place_is_caught),
        cmocka_unit_test(swapped_neighbours_are_caught),
        cmocka_unit_test(what_is_cut_off_doubled_or_put_in_is_caught),
        cmocka_unit_test(other_ways_of_writing_are_refused),
        cmocka_unit_test(what_no_ticket_says_is_refused_though_its_checksum_is_right),
        cmocka_unit_test(sequences_end_at_the_limit),
        cmocka_unit_test(chunks_end_at_the_limit),
        cmocka_unit_test(whatever_is_accepted_is_the_one_text_of_its_meaning),
        cmocka_unit_test(random_tickets_come_back),
        cmocka_unit_test(chunks_that_touch_become_one_range),
        cmocka_unit_test(a_range_too_many_joins_the_nearest_two),
        cmocka_unit_test(a_merged_ticket_names_all_that_is_missing),
        cmocka_unit_test(every_problem_has_its_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
