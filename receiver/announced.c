// SPDX-License-Identifier: Apache-2.0
#include "receiver/announced.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/fingerprint.h"
#include "common/log.h"

struct announced {
    const char *state_directory;
    const struct trust *running;
    struct policy_slot *policies;
    struct audit *audit;
    struct publish *publish;
    struct signature_public taken[ANNOUNCED_KEYS]; /* in this run */
    unsigned taken_count;
    bool overflowed; /* was told */
};

/* What the publish thread needs, in the job's bytes. */
struct announcement {
    const char *state_directory;
    struct audit *audit;
    struct message_key message;
    int64_t at_ns;
};

struct announced *announced_create(const char *state_directory, const struct trust *running,
                                   struct policy_slot *policies, struct audit *audit, struct publish *publish)
{
    struct announced *announced = calloc(1, sizeof *announced);
    if (announced != NULL)
        *announced = (struct announced){.state_directory = state_directory,
                                        .running = running,
                                        .policies = policies,
                                        .audit = audit,
                                        .publish = publish};
    return announced;
}

void announced_destroy(struct announced *announced)
{
    free(announced);
}

static int is_public_key(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);
    return length > 4 && strcmp(entry->d_name + length - 4, ".pub") == 0;
}

static bool is_full(const char *directory)
{
    struct dirent **names;
    int count = scandir(directory, &names, is_public_key, NULL);
    for (int i = 0; i < count; i++)
        free(names[i]);
    if (count >= 0)
        free(names);
    return count >= ANNOUNCED_KEYS;
}

/* Publish thread. */
static enum status record(struct publish_job *job, struct ledger *ledger)
{
    const struct announcement *made = (const struct announcement *)job->bytes;
    char key_id[FINGERPRINT_KEY_ID_SIZE], fingerprint[FINGERPRINT_SIZE], path[4096 + 64], comment[128], detail[256];
    char at[CLOCK_RFC3339_SIZE], from[CLOCK_RFC3339_SIZE];
    (void)ledger;
    fingerprint_key_id(made->message.key.key_id, key_id);
    fingerprint_text(&made->message.key, fingerprint);
    clock_rfc3339(made->at_ns, at);
    clock_rfc3339(made->message.not_before_ns, from);
    snprintf(path, sizeof path, "%s/announced", made->state_directory);
    if (is_full(path)) {
        log_warning("sender %08x announces the key %s, and %s holds %d already: compare and remove some",
                    job->sender_id, fingerprint, path, ANNOUNCED_KEYS);
        return STATUS_OK;
    }
    snprintf(path, sizeof path, "%s/announced/%s.pub", made->state_directory, key_id);
    snprintf(comment, sizeof comment, "announced by sender %08x at %s, to be used from %s", job->sender_id, at, from);
    enum status status = signature_public_save_as(&made->message.key, comment, path);
    if (status == STATUS_EXISTS)
        return STATUS_OK;
    if (status != STATUS_OK) {
        log_error("%s can't be written: %s; it is tried again", path, strerror(errno));
        return status;
    }
    log_notice("sender %08x announces its next key: %s; see key_announced in the status", job->sender_id, fingerprint);
    snprintf(detail, sizeof detail, "announced, to be used from %s: %s", from, fingerprint);
    audit_note(made->audit, &(struct audit_entry){.event = AUDIT_KEY, .sender_id = job->sender_id, .detail = detail});
    return STATUS_OK;
}

/* The sender's key counts no more, so its word neither. */
static bool is_out_of_use(const struct announced *announced, uint32_t sender_id)
{
    if (announced->policies == NULL)
        return false;
    const struct policy *policy = policy_slot_take(announced->policies);
    const struct trust_key *key = trust_find_sender(policy_senders(policy), sender_id);
    bool out = key == NULL || key->revoked;
    policy_slot_put(announced->policies, policy);
    return out;
}

static bool was_taken(const struct announced *announced, const struct signature_public *key)
{
    for (unsigned i = 0; i < announced->taken_count; i++)
        if (memcmp(&announced->taken[i], key, sizeof *key) == 0)
            return true;
    return trust_has_bytes(announced->running, key->key);
}

void announced_take(struct announced *announced, uint32_t sender_id, const struct message_key *message)
{
    static const uint8_t no_id[TRANSFER_ID_SIZE];
    if (was_taken(announced, &message->key) || is_out_of_use(announced, sender_id))
        return;
    if (announced->taken_count == ANNOUNCED_KEYS) {
        if (!announced->overflowed)
            log_warning("sender %08x announces more than %d keys, the others are not kept", sender_id, ANNOUNCED_KEYS);
        announced->overflowed = true;
        return;
    }
    struct publish_job *job = publish_job_create(PUBLISH_RECORD, sender_id, no_id);
    struct announcement *made = malloc(sizeof *made);
    assert(job != NULL && made != NULL);
    *made = (struct announcement){.state_directory = announced->state_directory,
                                  .audit = announced->audit,
                                  .message = *message,
                                  .at_ns = clock_realtime_ns()};
    job->record = record;
    job->bytes = (uint8_t *)made;
    job->size = sizeof *made;
    announced->taken[announced->taken_count++] = message->key;
    publish_post(announced->publish, job);
}
