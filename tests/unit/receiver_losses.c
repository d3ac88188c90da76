// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/receiver_fixture.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <unistd.h>

#include "common/durable.h"
#include "receiver/acceptance.h"
#include "receiver/losses.h"

#define SECOND UINT64_C(1000000000)
enum { CHAIN_BYTE = 0xc1 /* as the fixture's manifests have it */ };

static char directory[] = "/tmp/diodecast-losses-XXXXXX";
static struct signature_key *key;
static struct trust *trust;
static struct ledger *ledger;
static struct lane_progress *progress;
static struct catalog *catalog;
static struct senders *senders;
static struct losses *losses;
static struct report_snapshot snapshot;
static uint32_t sender_id;
static uint8_t chain_id[CHAIN_ID_SIZE];
static unsigned closed;
static struct unpack_source source;
static uint8_t content[3 * CHUNK_SIZE];

static enum catalog_answer on_is_delivered(void *context, uint32_t sender, const uint8_t *id)
{
    (void)context, (void)sender, (void)id;
    return CATALOG_UNKNOWN;
}

static void on_write(void *context, struct assembly *assembly, uint32_t index, struct assembly_artifact *artifact,
                     uint64_t offset, const uint8_t *bytes, uint32_t size)
{
    (void)context, (void)assembly, (void)index, (void)artifact, (void)offset, (void)bytes, (void)size;
}

static void on_reset(void *context, struct assembly *assembly, uint32_t index, struct assembly_artifact *artifact)
{
    (void)context, (void)assembly, (void)index, (void)artifact;
}

static void on_bound(void *context, struct assembly *assembly)
{
    (void)context;
    assert_true(senders_manifest(senders, assembly));
}

static void on_complete(void *context, struct assembly *assembly)
{
    (void)context, (void)assembly;
}

static void on_closing(void *context, struct assembly *assembly, enum catalog_end end)
{
    (void)context;
    assert_int_equal(end, CATALOG_WRITTEN_OFF);
    if (assembly->reader != NULL)
        knowledge_remove(senders_knowledge(senders), assembly->chain_id, assembly->sequence);
    closed++;
}

static void on_refused(void *context, const struct assembly *assembly, const char *reason, const uint8_t *bytes,
                       size_t size)
{
    (void)context, (void)assembly, (void)bytes, (void)size;
    fail_msg("%s", reason);
}

static const struct catalog_actions actions = {.is_delivered = on_is_delivered,
                                               .write = on_write,
                                               .reset = on_reset,
                                               .bound = on_bound,
                                               .complete = on_complete,
                                               .closing = on_closing,
                                               .refused = on_refused};

static int begin(void **state)
{
    (void)state;
    memcpy(directory + sizeof directory - 7, "XXXXXX", 6);
    if (mkdtemp(directory) == NULL || ledger_open(directory, &ledger) != STATUS_OK)
        return -1;
    key = fixture_key(1);
    trust = fixture_trust((const struct signature_key *const[]){key}, 1);
    sender_id = signature_sender_id(signature_key_public(key));
    memset(chain_id, CHAIN_BYTE, CHAIN_ID_SIZE);
    progress = progress_create(trust, 1);
    catalog = catalog_create(trust, &actions, NULL);
    senders = senders_create(trust, ledger, progress, NULL, SECOND);
    losses = losses_create(senders, catalog, CONFIG_TICKETS_CHUNKS);
    source = (struct unpack_source){.sender_id = sender_id, .epoch = 3, .now_ns = 10 * SECOND};
    closed = 0;
    return progress == NULL || catalog == NULL || senders == NULL || losses == NULL;
}

static int end(void **state)
{
    (void)state;
    losses_destroy(losses);
    catalog_destroy(catalog);
    senders_destroy(senders);
    progress_destroy(progress);
    ledger_close(ledger);
    trust_destroy(trust);
    signature_key_destroy(key);
    return durable_remove_tree(AT_FDCWD, directory) == STATUS_OK ? 0 : -1;
}

static struct message_heartbeat a_beat(uint64_t number, uint64_t newest)
{
    struct message_heartbeat beat = {.sender_id = sender_id,
                                     .epoch = 3,
                                     .beat = number,
                                     .newest_sequence = newest,
                                     .newest_hash = {(uint8_t)newest},
                                     .settled_sequence = newest};
    memcpy(beat.chain_id, chain_id, CHAIN_ID_SIZE);
    return beat;
}

static void hear(struct message_heartbeat beat, uint64_t now_ns)
{
    senders_heartbeat(senders, &beat, now_ns);
}

static const struct report_snapshot *look(uint64_t now_ns)
{
    memset(&snapshot, 0, sizeof snapshot);
    losses_fill(losses, &snapshot, now_ns);
    return &snapshot;
}

static void send_data(const uint8_t *id, uint64_t total, uint64_t offset, uint32_t size)
{
    struct frame_data data = {
        .transfer_id = id, .artifact_size = total, .offset = offset, .bytes = content, .size = size};
    catalog_data(catalog, &source, &data);
}

static struct assembly *send_manifest(const uint8_t *id, uint64_t sequence, uint64_t size)
{
    struct fixture_file file = {.path = "x", .bytes = content, .size = size};
    size_t total;
    uint8_t *bytes = fixture_manifest(key, id, sequence, "x", &file, 1, &total);
    struct frame_manifest part = {
        .transfer_id = id, .total = (uint32_t)total, .lanes = 1, .bytes = bytes, .size = (uint32_t)total};
    catalog_manifest(catalog, &source, &part);
    free(bytes);
    return catalog_find(catalog, sender_id, id);
}

static struct ticket parsed(const char *text)
{
    struct ticket ticket;
    assert_int_equal(ticket_parse(text, &ticket), TICKET_GOOD);
    assert_true(ticket_is_of_chain(&ticket, chain_id));
    return ticket;
}

static void a_range_never_seen_has_one_ticket_and_what_heals_is_told_apart(void **state)
{
    (void)state;
    hear(a_beat(1, 0), SECOND);
    struct message_heartbeat beat = a_beat(2, 100);
    beat.healing_count = 2;
    beat.healing[0] = (struct message_range){41, 60};
    beat.healing[1] = (struct message_range){61, 70};
    hear(beat, 2 * SECOND);
    assert_int_equal(look(9 * SECOND)->never_seen_total, 100);
    assert_int_equal(snapshot.never_seen_count, 3);
    assert_int_equal(snapshot.never_seen[0].last, 40);
    assert_false(snapshot.never_seen[0].healing);
    assert_int_equal(snapshot.never_seen[1].first, 41);
    assert_int_equal(snapshot.never_seen[1].last, 70);
    assert_true(snapshot.never_seen[1].healing);
    assert_false(snapshot.never_seen[2].healing);
    struct ticket ticket = parsed(snapshot.never_seen[2].ticket);
    assert_int_equal(ticket.kind, TICKET_WHOLE);
    assert_int_equal(ticket.first_sequence, 71);
    assert_int_equal(ticket.last_sequence, 100);

    beat.beat = 3;
    beat.healing_count = 1;
    beat.healing[0] = (struct message_range){1, 100};
    hear(beat, 10 * SECOND);
    assert_int_equal(look(11 * SECOND)->never_seen_count, 1);
    assert_false(snapshot.never_seen_not_healing); /* so that health stays good */
}

static void what_a_killed_receiver_had_heard_first_stays_its_baseline(void **state)
{
    (void)state;
    hear(a_beat(1, 4), SECOND);
    losses_destroy(losses);
    senders_destroy(senders); /* without any of the jobs that it would give the publish stage */
    senders = senders_create(trust, ledger, progress, NULL, SECOND);
    losses = losses_create(senders, catalog, CONFIG_TICKETS_CHUNKS);
    struct message_heartbeat beat = a_beat(1, 6);
    beat.epoch = 4;
    hear(beat, 2 * SECOND);
    assert_int_equal(look(9 * SECOND)->never_seen_total, 2);
    assert_int_equal(snapshot.never_seen[0].first, 5);
    assert_int_equal(snapshot.never_seen[0].last, 6);
}

static void data_without_its_manifest_is_incomplete_once_its_number_is_known(void **state)
{
    (void)state;
    uint8_t known[TRANSFER_ID_SIZE], unknown[TRANSFER_ID_SIZE];
    fixture_id(1, known);
    fixture_id(2, unknown);
    hear(a_beat(1, 0), SECOND);
    send_data(known, 1000, 0, 500);
    send_data(unknown, 1000, 0, 500);
    struct message_heartbeat beat = a_beat(2, 2);
    beat.settled_sequence = 0;
    beat.in_flight_count = 1;
    beat.in_flight[0].sequence = 2;
    memcpy(beat.in_flight[0].transfer_id, known, TRANSFER_ID_SIZE);
    hear(beat, 2 * SECOND);
    assert_int_equal(look(9 * SECOND)->incomplete_count, 0);
    hear(a_beat(3, 2), 10 * SECOND);
    assert_int_equal(look(12 * SECOND)->incomplete_count, 1);
    assert_memory_equal(snapshot.incomplete[0].transfer.id, known, TRANSFER_ID_SIZE);
    assert_int_equal(snapshot.incomplete[0].transfer.sequence, 2);
    assert_false(snapshot.incomplete[0].manifest_held);
    assert_int_equal(parsed(snapshot.incomplete[0].ticket).kind, TICKET_MANIFEST);
    /* The other one's number stands among those never seen, and each number stands once. */
    assert_int_equal(snapshot.never_seen_count, 1);
    assert_int_equal(snapshot.never_seen[0].first, 1);
    assert_int_equal(snapshot.never_seen[0].last, 1);
    assert_int_equal(snapshot.open_count, 2);
}

static struct assembly *half_of_three_chunks(uint8_t number, uint64_t sequence)
{
    uint8_t id[TRANSFER_ID_SIZE];
    fixture_id(number, id);
    send_data(id, 3 * (uint64_t)CHUNK_SIZE, 0, CHUNK_SIZE);
    struct assembly *assembly = send_manifest(id, sequence, 3 * (uint64_t)CHUNK_SIZE);
    assert_non_null(assembly);
    assembly->incomplete = true;
    return assembly;
}

static void a_ticket_tells_no_more_than_is_allowed(void **state)
{
    (void)state;
    hear(a_beat(1, 0), SECOND);
    half_of_three_chunks(1, 1);
    struct message_heartbeat beat = a_beat(2, 5);
    beat.settled_sequence = 5;
    hear(beat, 2 * SECOND);
    assert_int_equal(look(9 * SECOND)->incomplete_count, 1);
    struct ticket ticket = parsed(snapshot.incomplete[0].ticket);
    assert_int_equal(ticket.kind, TICKET_CHUNKS);
    assert_int_equal(ticket.ranges[0].first, 1);
    assert_int_equal(ticket.ranges[0].last, 2);
    assert_int_equal(snapshot.incomplete[0].chunk_count, 2);
    assert_int_equal(snapshot.incomplete[0].ranges[0].last, 2);

    losses_destroy(losses);
    losses = losses_create(senders, catalog, CONFIG_TICKETS_WHOLE);
    assert_int_equal(parsed(look(9 * SECOND)->incomplete[0].ticket).kind, TICKET_WHOLE);
    assert_int_equal(parsed(snapshot.never_seen[0].ticket).first_sequence, 2);
    assert_int_equal(snapshot.incomplete[0].chunk_count, 2); /* on this side all of it is known */

    losses_destroy(losses);
    losses = losses_create(senders, catalog, CONFIG_TICKETS_OFF);
    assert_string_equal(look(9 * SECOND)->incomplete[0].ticket, "");
    assert_string_equal(snapshot.never_seen[0].ticket, "");
}

/* A request with these tickets, decided; the caller destroys it. */
static struct acceptance *ask(const char *first, const char *second)
{
    struct request request = {.kind = REQUEST_ACCEPT_LOSS, .requester = "alice", .reason = "gone"};
    const char *texts[] = {first, second};
    request.ticket_count = second == NULL ? 1 : 2;
    request.tickets = calloc(request.ticket_count, sizeof *request.tickets);
    for (size_t i = 0; i < request.ticket_count; i++)
        request.tickets[i] = strdup(texts[i]);
    struct acceptance *acceptance = acceptance_create(&request);
    assert_non_null(acceptance);
    acceptance_decide(acceptance, catalog, senders_knowledge(senders), 9 * SECOND);
    return acceptance;
}

static void carry_out(struct acceptance *acceptance)
{
    struct publish_job job = {.acceptance = acceptance};
    assert_true(acceptance->accepted);
    if (acceptance_changes(acceptance))
        acceptance_apply(acceptance, acceptance_record(&job, ledger), catalog, senders_knowledge(senders));
    assert_true(acceptance->accepted);
    acceptance_destroy(acceptance);
}

static void write_text(enum ticket_kind kind, uint64_t first, uint64_t last, char text[static TICKET_TEXT_SIZE])
{
    struct ticket ticket;
    ticket_init(&ticket, kind, chain_id, first, last);
    ticket_format(&ticket, text);
}

static void only_what_is_missing_is_written_off_and_it_stays_so(void **state)
{
    (void)state;
    char text[TICKET_TEXT_SIZE];
    hear(a_beat(1, 0), SECOND);
    struct assembly *assembly = half_of_three_chunks(1, 4);
    assert_true(knowledge_add(senders_knowledge(senders), sender_id, chain_id, 2, true));
    struct message_heartbeat beat = a_beat(2, 9);
    beat.settled_sequence = 6;
    hear(beat, 2 * SECOND);
    write_text(TICKET_WHOLE, 1, 9, text);
    struct acceptance *acceptance = ask(text, NULL);
    assert_int_equal(acceptance->range_count, 4); /* 1, 3, 5 to 6, and 4 */
    assert_int_equal(acceptance->transfer_count, 1);
    carry_out(acceptance);
    assert_int_equal(closed, 1);
    assert_int_equal(assembly->state, ASSEMBLY_CLOSED);
    catalog_forget(catalog, assembly, false);
    assert_int_equal(look(9 * SECOND)->never_seen_total, 0);
    assert_int_equal(snapshot.incomplete_total, 0);
    carry_out(ask(text, NULL)); /* asked again, the answer is the same */

    /* 7 to 9 were on their way. */
    beat.beat = 3;
    beat.settled_sequence = 9;
    hear(beat, 3 * SECOND);
    assert_int_equal(look(9 * SECOND)->never_seen_total, 3);

    senders_destroy(senders);
    struct ledger_chain chain = {.sender_id = sender_id, .newest_sequence = 9, .settled_sequence = 9, .epoch = 3};
    memcpy(chain.chain_id, chain_id, CHAIN_ID_SIZE);
    assert_int_equal(ledger_store_chain(ledger, &chain), STATUS_OK);
    senders = senders_create(trust, ledger, progress, NULL, SECOND);
    losses_destroy(losses);
    losses = losses_create(senders, catalog, CONFIG_TICKETS_CHUNKS);
    look(9 * SECOND);
    assert_int_equal(snapshot.never_seen_total, 4); /* 2 was only known in memory here */
    assert_int_equal(snapshot.never_seen[0].first, 2);
    assert_int_equal(snapshot.never_seen[0].last, 2);
}

static void one_bad_ticket_and_nothing_is_written_off(void **state)
{
    (void)state;
    char good[TICKET_TEXT_SIZE], bad[TICKET_TEXT_SIZE];
    hear(a_beat(1, 0), SECOND);
    hear(a_beat(2, 3), 2 * SECOND);
    write_text(TICKET_WHOLE, 1, 2, good);
    const uint8_t other[CHAIN_ID_SIZE] = {1, 2, 3};
    struct ticket ticket;
    ticket_init(&ticket, TICKET_WHOLE, other, 1, 2);
    ticket_format(&ticket, bad);
    struct acceptance *acceptance = ask(good, bad);
    assert_false(acceptance->accepted);
    assert_false(acceptance_changes(acceptance));
    char *answer = acceptance_answer(acceptance);
    json_t *root = json_loads(answer, 0, NULL);
    assert_true(json_is_false(json_object_get(root, "accepted")));
    const json_t *items = json_object_get(root, "items");
    assert_int_equal(json_array_size(items), 2);
    assert_true(json_is_true(json_object_get(json_array_get(items, 0), "accepted")));
    assert_true(json_is_false(json_object_get(json_array_get(items, 1), "accepted")));
    assert_non_null(strstr(json_string_value(json_object_get(json_array_get(items, 1), "message")), "chain"));
    json_decref(root);
    free(answer);
    acceptance_destroy(acceptance);

    good[0] = good[0] == 'Q' ? 'P' : 'Q';
    acceptance = ask(good, NULL);
    assert_false(acceptance->accepted);
    acceptance_destroy(acceptance);
    write_text(TICKET_WHOLE, 4, 8, good); /* numbers that there are not */
    acceptance = ask(good, NULL);
    assert_false(acceptance->accepted);
    acceptance_destroy(acceptance);
    assert_int_equal(look(9 * SECOND)->never_seen_total, 3);
}

static void an_alarm_ends_when_its_ticket_is_accepted(void **state)
{
    (void)state;
    struct knowledge_alarm alarm;
    hear(a_beat(1, 9), SECOND);
    struct message_heartbeat beat = a_beat(1, 5);
    beat.epoch = 4;
    hear(beat, 2 * SECOND);
    assert_int_equal(look(9 * SECOND)->alarm_total, 1);
    assert_int_equal(snapshot.alarms[0].facts.kind, KNOWLEDGE_ROLLBACK);
    assert_true(knowledge_take_alarm(senders_knowledge(senders), 77, &alarm));
    assert_int_equal(ledger_store_alarm(ledger, &alarm), STATUS_OK);
    carry_out(ask(snapshot.alarms[0].ticket, NULL));
    assert_int_equal(look(9 * SECOND)->alarm_total, 0);
    senders_destroy(senders);
    senders = senders_create(trust, ledger, progress, NULL, SECOND);
    losses_destroy(losses);
    losses = losses_create(senders, catalog, CONFIG_TICKETS_CHUNKS);
    assert_int_equal(look(9 * SECOND)->alarm_total, 0);
}

int main(void)
{
    if (signature_init() != STATUS_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_range_never_seen_has_one_ticket_and_what_heals_is_told_apart, begin, end),
        cmocka_unit_test_setup_teardown(what_a_killed_receiver_had_heard_first_stays_its_baseline, begin, end),
        cmocka_unit_test_setup_teardown(data_without_its_manifest_is_incomplete_once_its_number_is_known, begin, end),
        cmocka_unit_test_setup_teardown(a_ticket_tells_no_more_than_is_allowed, begin, end),
        cmocka_unit_test_setup_teardown(only_what_is_missing_is_written_off_and_it_stays_so, begin, end),
        cmocka_unit_test_setup_teardown(one_bad_ticket_and_nothing_is_written_off, begin, end),
        cmocka_unit_test_setup_teardown(an_alarm_ends_when_its_ticket_is_accepted, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
