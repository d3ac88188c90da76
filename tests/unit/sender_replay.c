// SPDX-License-Identifier: Apache-2.0
#include "sender/replay.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "proto/ticket.h"

enum { ROWS = 8 };

static const uint8_t chain_id[CHAIN_ID_SIZE] = {1, 2, 3, 4, 5}, other_chain[CHAIN_ID_SIZE] = {9};

/* Sequences 1 to 8: sent, expired, forgotten, failed, sealed, removed, sent (in a tree), sent. */
static struct ledger_transfer rows[ROWS];
static bool failing;

static int set_up(void **state)
{
    static const enum ledger_state states[ROWS] = {LEDGER_SENT,   LEDGER_EXPIRED, LEDGER_FORGOTTEN, LEDGER_FAILED,
                                                   LEDGER_SEALED, LEDGER_SENT,    LEDGER_SENT,      LEDGER_SENT};
    (void)state;
    failing = false;
    for (size_t i = 0; i < ROWS; i++) {
        rows[i] = (struct ledger_transfer){.sequence = i + 1,
                                           .state = states[i],
                                           .bytes = UINT64_C(10) * CHUNK_SIZE,
                                           .finished_at_ns = 1000 * (int64_t)(i + 1)};
        snprintf(rows[i].channel, sizeof rows[i].channel, "c");
        snprintf(rows[i].name, sizeof rows[i].name, "item%zu", i + 1);
    }
    return 0;
}

static enum status next(void *context, uint64_t after, int64_t since_ns, struct ledger_transfer *transfer)
{
    (void)context;
    if (failing)
        return STATUS_SYSTEM;
    for (size_t i = 0; i < ROWS; i++) {
        if (rows[i].sequence <= after || rows[i].state == LEDGER_FORGOTTEN ||
            (rows[i].finished_at_ns < since_ns && rows[i].state != LEDGER_SEALED))
            continue;
        *transfer = rows[i];
        return STATUS_OK;
    }
    return STATUS_NOT_FOUND;
}

static enum status sizes(void *context, uint64_t sequence, uint64_t **out, size_t *count)
{
    (void)context;
    (void)sequence;
    *out = calloc(1, sizeof **out);
    **out = UINT64_C(10) * CHUNK_SIZE - 5;
    *count = 1;
    return STATUS_OK;
}

static bool is_kept(void *context, const struct ledger_transfer *transfer)
{
    (void)context;
    return transfer->sequence != 6;
}

static const struct replay_source source = {
    .chain_id = chain_id, .newest_sequence = ROWS, .next = next, .sizes = sizes, .is_kept = is_kept};

static void resolve(const struct request *request, struct replay_plan *plan)
{
    assert_int_equal(replay_resolve(request, &source, plan), STATUS_OK);
}

static void resolve_tickets(char **texts, size_t count, struct replay_plan *plan)
{
    const struct request request = {.tickets = texts, .ticket_count = count, .since_ns = INT64_MIN};
    resolve(&request, plan);
}

static void assert_item(const struct replay_plan *plan, size_t index, uint64_t sequence, enum replay_state state)
{
    assert_true(index < plan->count);
    assert_int_equal(plan->items[index].sequence, sequence);
    assert_int_equal(plan->items[index].state, state);
}

static void each_transfer_of_a_range_is_told_what_becomes_of_it(void **state)
{
    (void)state;
    const struct request request = {.since_ns = INT64_MIN, .first_sequence = 1, .last_sequence = 12};
    struct replay_plan plan;
    resolve(&request, &plan);
    assert_true(plan.accepted);
    assert_int_equal(plan.count, 9);
    assert_item(&plan, 0, 1, REPLAY_QUEUED);
    assert_string_equal(plan.items[0].name, "c/item1");
    assert_item(&plan, 1, 2, REPLAY_NOT_RETAINED);
    assert_item(&plan, 2, 3, REPLAY_UNKNOWN);
    assert_item(&plan, 3, 4, REPLAY_NOT_RETAINED);
    assert_item(&plan, 4, 5, REPLAY_IN_FLIGHT);
    assert_item(&plan, 5, 6, REPLAY_NOT_RETAINED);
    assert_item(&plan, 6, 7, REPLAY_QUEUED);
    assert_item(&plan, 7, 8, REPLAY_QUEUED);
    assert_item(&plan, 8, 9, REPLAY_UNKNOWN);
    assert_non_null(strstr(plan.items[8].message, "9 to 12"));
    assert_int_equal(plan.queued, 3);
    assert_int_equal(plan.bytes, UINT64_C(30) * CHUNK_SIZE);
    replay_plan_deinit(&plan);
}

static void the_newest_and_those_since_a_time_are_found(void **state)
{
    (void)state;
    const struct request last = {.since_ns = INT64_MIN, .last_count = 2},
                         all = {.since_ns = INT64_MIN, .last_count = 99};
    const struct request since = {.since_ns = 7000}, never = {.since_ns = 1000000};
    struct replay_plan plan;
    resolve(&last, &plan);
    assert_int_equal(plan.count, 2);
    assert_item(&plan, 0, 7, REPLAY_QUEUED);
    replay_plan_deinit(&plan);
    resolve(&all, &plan);
    assert_int_equal(plan.count, 7);
    replay_plan_deinit(&plan);
    resolve(&since, &plan);
    assert_int_equal(plan.count, 3);
    assert_item(&plan, 0, 5, REPLAY_IN_FLIGHT);
    assert_item(&plan, 2, 8, REPLAY_QUEUED);
    replay_plan_deinit(&plan);
    rows[4].state = LEDGER_SENT;
    resolve(&never, &plan);
    assert_true(plan.accepted);
    assert_int_equal(plan.count, 0);
    assert_non_null(strstr(plan.message, "nothing"));
    replay_plan_deinit(&plan);
}

static void tickets_of_one_transfer_are_merged(void **state)
{
    (void)state;
    struct ticket ticket;
    char texts[4][TICKET_TEXT_SIZE];
    char *tickets[] = {texts[0], texts[1], texts[2], texts[3]};
    struct replay_plan plan;
    ticket_init(&ticket, TICKET_CHUNKS, chain_id, 7, 7);
    ticket_add_chunks(&ticket, 0, 1);
    ticket_format(&ticket, texts[0]);
    ticket_init(&ticket, TICKET_CHUNKS, chain_id, 7, 7);
    ticket_add_chunks(&ticket, 9, 9);
    ticket_format(&ticket, texts[1]);
    ticket_init(&ticket, TICKET_MANIFEST, chain_id, 2, 2);
    ticket_format(&ticket, texts[2]);
    ticket_init(&ticket, TICKET_WHOLE, chain_id, 7, 8);
    ticket_format(&ticket, texts[3]);
    resolve_tickets(tickets, 3, &plan);
    assert_int_equal(plan.count, 2);
    assert_item(&plan, 0, 7, REPLAY_QUEUED);
    assert_int_equal(plan.items[0].parts.range_count, 2);
    assert_int_equal(plan.items[0].bytes, UINT64_C(3) * CHUNK_SIZE - 5);
    /* The manifest is in the ledger, though the files are gone. */
    assert_item(&plan, 1, 2, REPLAY_QUEUED);
    assert_true(plan.items[1].parts.manifest_only);
    assert_int_equal(plan.items[1].bytes, 0);
    replay_plan_deinit(&plan);
    resolve_tickets(tickets, 4, &plan);
    assert_int_equal(plan.count, 3);
    assert_int_equal(plan.items[0].parts.range_count, 0);
    assert_int_equal(plan.items[0].bytes, UINT64_C(10) * CHUNK_SIZE);
    replay_plan_deinit(&plan);
}

static void a_ticket_that_is_wrong_refuses_the_whole_request(void **state)
{
    (void)state;
    struct ticket ticket;
    char good[TICKET_TEXT_SIZE], wrong[TICKET_TEXT_SIZE];
    char *tickets[] = {good, wrong};
    struct replay_plan plan;
    ticket_init(&ticket, TICKET_WHOLE, chain_id, 1, 1);
    ticket_format(&ticket, good);
    ticket_init(&ticket, TICKET_WHOLE, other_chain, 1, 1);
    ticket_format(&ticket, wrong);
    resolve_tickets(tickets, 2, &plan);
    assert_false(plan.accepted);
    assert_non_null(strstr(plan.message, "chain"));
    assert_int_equal(plan.queued, 0);
    replay_plan_deinit(&plan);
    snprintf(wrong, sizeof wrong, "%s", good);
    wrong[0] = wrong[0] == 'Q' ? 'P' : 'Q';
    resolve_tickets(tickets, 2, &plan);
    assert_false(plan.accepted);
    replay_plan_deinit(&plan);
    ticket_init(&ticket, TICKET_CHUNKS, chain_id, 7, 7);
    ticket_add_chunks(&ticket, 10, 10);
    ticket_format(&ticket, wrong);
    resolve_tickets(tickets, 2, &plan);
    assert_false(plan.accepted);
    assert_non_null(strstr(plan.message, "does not have"));
    replay_plan_deinit(&plan);
}

static void a_loss_is_not_a_senders_to_accept(void **state)
{
    (void)state;
    const struct request request = {.kind = REQUEST_ACCEPT_LOSS, .since_ns = INT64_MIN};
    struct replay_plan plan;
    resolve(&request, &plan);
    assert_false(plan.accepted);
    replay_plan_deinit(&plan);
}

static void a_ledger_that_fails_leaves_the_request_to_another_time(void **state)
{
    (void)state;
    const struct request request = {.since_ns = INT64_MIN, .last_count = 2};
    struct replay_plan plan;
    failing = true;
    assert_int_equal(replay_resolve(&request, &source, &plan), STATUS_SYSTEM);
    replay_plan_deinit(&plan);
}

static enum status endless(void *context, uint64_t after, int64_t since_ns, struct ledger_transfer *transfer)
{
    (void)context;
    (void)since_ns;
    *transfer = rows[0];
    transfer->sequence = after + 1;
    return STATUS_OK;
}

static void too_many_transfers_are_refused(void **state)
{
    (void)state;
    struct replay_source many = source;
    const struct request request = {.since_ns = INT64_MIN, .last_count = REPLAY_ITEMS + 1};
    struct replay_plan plan;
    many.next = endless;
    many.newest_sequence = 10 * REPLAY_ITEMS;
    assert_int_equal(replay_resolve(&request, &many, &plan), STATUS_OK);
    assert_false(plan.accepted);
    assert_non_null(strstr(plan.message, "more than"));
    replay_plan_deinit(&plan);
}

static void tickets_in_any_order_name_each_transfer_once(void **state)
{
    (void)state;
    static const uint64_t order[] = {7, 1, 8, 4, 7, 2, 1, 8, 6, 4};
    char texts[10][TICKET_TEXT_SIZE], *list[10];
    bool named[ROWS + 1] = {false};
    struct replay_plan plan;
    for (size_t i = 0; i < 10; i++) {
        struct ticket ticket;
        ticket_init(&ticket, TICKET_WHOLE, chain_id, order[i], order[i]);
        ticket_format(&ticket, texts[i]);
        list[i] = texts[i];
    }
    resolve_tickets(list, 10, &plan);
    assert_true(plan.accepted);
    assert_int_equal(plan.count, 6);
    for (size_t i = 0; i < plan.count; i++) {
        assert_false(named[plan.items[i].sequence]);
        named[plan.items[i].sequence] = true;
    }
    assert_int_equal(plan.items[0].sequence, 7);
    replay_plan_deinit(&plan);
}

static void the_answer_says_how_much_and_how_long(void **state)
{
    (void)state;
    const struct request request = {.since_ns = INT64_MIN, .first_sequence = 6, .last_sequence = 7};
    const struct config config = {
        .symbol_size = 1408, .source_symbols = 100, .repair_symbols = 10, .rate_bits_per_s = 1000000};
    struct replay_plan plan;
    resolve(&request, &plan);
    char *text = replay_answer(&plan, &config);
    json_t *answer = json_loads(text, 0, NULL), *items = json_object_get(answer, "items");
    assert_true(json_is_true(json_object_get(answer, "accepted")));
    assert_int_equal(json_integer_value(json_object_get(answer, "transfers")), 1);
    assert_int_equal(json_integer_value(json_object_get(answer, "bytes")), 10 * CHUNK_SIZE);
    /* 335.5 Mbit of content and at least a tenth more on the wire, at 1 Mbit/s. */
    double seconds = json_number_value(json_object_get(answer, "seconds"));
    assert_true(seconds > 369 && seconds < 420);
    assert_int_equal(json_array_size(items), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(items, 0), "state")), "not_retained");
    assert_string_equal(json_string_value(json_object_get(json_array_get(items, 1), "state")), "queued");
    json_decref(answer);
    free(text);
    replay_plan_deinit(&plan);
}

#define TEST(name) cmocka_unit_test_setup(name, set_up)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_transfer_of_a_range_is_told_what_becomes_of_it),
        TEST(the_newest_and_those_since_a_time_are_found),
        TEST(tickets_of_one_transfer_are_merged),
        TEST(a_ticket_that_is_wrong_refuses_the_whole_request),
        TEST(a_loss_is_not_a_senders_to_accept),
        TEST(a_ledger_that_fails_leaves_the_request_to_another_time),
        TEST(too_many_transfers_are_refused),
        TEST(tickets_in_any_order_name_each_transfer_once),
        TEST(the_answer_says_how_much_and_how_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
