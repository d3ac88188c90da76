// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/durable.h"
#include "receiver/publish.h"

/* The publish stage does it at once. */
static enum status recorded;
static unsigned posts;

static void post_now(struct publish *publish, struct publish_job *job)
{
    (void)publish;
    posts++;
    recorded = job->record(job, NULL);
    publish_job_destroy(job);
}

#define publish_post post_now
#include "receiver/announced.c"

enum { SENDER_NUMBER = 200 };

struct place {
    char root[64], directory[96];
    struct trust *running;
    struct policy_rules rules;
    struct policy_slot *slot;
    struct announced *announced;
    uint32_t sender_id;
};

static struct signature_public key_of(uint8_t number)
{
    uint8_t seed[32] = {number, 0x33};
    struct signature_key *key = signature_key_from_seed(seed);
    struct signature_public made = *signature_key_public(key);
    signature_key_destroy(key);
    return made;
}

static int set_up(void **state)
{
    struct place *place = calloc(1, sizeof *place);
    struct signature_public sender;
    assert_int_equal(signature_init(), STATUS_OK);
    snprintf(place->root, sizeof place->root, "/tmp/receiver-announced-XXXXXX");
    assert_non_null(mkdtemp(place->root));
    snprintf(place->directory, sizeof place->directory, "%s/announced", place->root);
    assert_int_equal(mkdir(place->directory, 0755), 0);
    sender = key_of(SENDER_NUMBER);
    place->sender_id = signature_sender_id(&sender);
    place->running = trust_from_keys(&sender, 1);
    place->slot = policy_slot_create(policy_create(&place->rules, place->running, trust_from_keys(&sender, 1), NULL));
    place->announced = announced_create(place->root, place->running, place->slot, NULL, NULL);
    posts = 0;
    *state = place;
    return 0;
}

static int tear_down(void **state)
{
    struct place *place = *state;
    announced_destroy(place->announced);
    policy_slot_destroy(place->slot);
    trust_destroy(place->running);
    assert_int_equal(durable_remove_tree(AT_FDCWD, place->root), STATUS_OK);
    free(place);
    return 0;
}

static void announce(struct place *place, uint8_t number)
{
    struct message_key message = {.key = key_of(number), .not_before_ns = INT64_C(1893456000000000000)};
    announced_take(place->announced, place->sender_id, &message);
}

static unsigned files(const struct place *place)
{
    struct dirent **names;
    int count = scandir(place->directory, &names, is_public_key, NULL);
    assert_true(count >= 0);
    for (int i = 0; i < count; i++)
        free(names[i]);
    free(names);
    return (unsigned)count;
}

static void an_announced_key_is_written_once_as_a_public_key_file(void **state)
{
    struct place *place = *state;
    struct signature_public expected = key_of(1), found;
    char path[256], key_id[FINGERPRINT_KEY_ID_SIZE], reason[256], line[256];
    announce(place, 1);
    assert_int_equal(recorded, STATUS_OK);
    fingerprint_key_id(expected.key_id, key_id);
    snprintf(path, sizeof path, "%s/%s.pub", place->directory, key_id);
    assert_int_equal(signature_public_load(path, &found, reason), STATUS_OK);
    assert_memory_equal(&found, &expected, sizeof found);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_non_null(fgets(line, sizeof line, file));
    fclose(file);
    assert_non_null(strstr(line, "to be used from 2030-01-01T00:00:00.000Z"));

    assert_int_equal(unlink(path), 0);
    announce(place, 1);
    assert_int_equal(posts, 1);
    assert_int_equal(files(place), 0);
}

static void a_file_of_an_earlier_run_stays_as_it_is(void **state)
{
    struct place *place = *state;
    announce(place, 1);
    struct announced *later = announced_create(place->root, place->running, place->slot, NULL, NULL);
    struct message_key message = {.key = key_of(1)};
    recorded = STATUS_SYSTEM;
    announced_take(later, place->sender_id, &message);
    assert_int_equal(recorded, STATUS_OK);
    assert_int_equal(files(place), 1);
    announced_destroy(later);
}

static void a_key_that_is_in_use_is_no_news(void **state)
{
    announce(*state, SENDER_NUMBER);
    assert_int_equal(posts, 0);
}

static void the_word_of_a_revoked_key_counts_nothing(void **state)
{
    struct place *place = *state;
    struct trust_key sender = {.public_key = key_of(SENDER_NUMBER), .expires_ns = TRUST_NEVER, .revoked = true};
    policy_slot_replace(place->slot,
                        policy_create(&place->rules, place->running, trust_from_entries(&sender, 1), NULL));
    announce(place, 1);
    assert_int_equal(posts, 0);
}

static void announcements_are_bounded_in_a_run_and_over_runs(void **state)
{
    struct place *place = *state;
    for (uint8_t i = 0; i < 2 * ANNOUNCED_KEYS; i++)
        announce(place, i);
    assert_int_equal(posts, ANNOUNCED_KEYS);
    assert_int_equal(files(place), ANNOUNCED_KEYS);
    struct announced *later = announced_create(place->root, place->running, place->slot, NULL, NULL);
    struct message_key message = {.key = key_of(100)};
    announced_take(later, place->sender_id, &message);
    assert_int_equal(recorded, STATUS_OK);
    assert_int_equal(files(place), ANNOUNCED_KEYS);
    announced_destroy(later);
}

int main(void)
{
#define IN_PLACE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    static const struct CMUnitTest tests[] = {
        IN_PLACE(an_announced_key_is_written_once_as_a_public_key_file),
        IN_PLACE(a_file_of_an_earlier_run_stays_as_it_is),
        IN_PLACE(a_key_that_is_in_use_is_no_news),
        IN_PLACE(the_word_of_a_revoked_key_counts_nothing),
        IN_PLACE(announcements_are_bounded_in_a_run_and_over_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
