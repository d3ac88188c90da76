// SPDX-License-Identifier: Apache-2.0
#include "receiver/checks.h"

#include <stdlib.h>
#include <string.h>

#include "common/digest.h"
#include "proto/wire.h"

#define SECOND_NS UINT64_C(1000000000)

struct budget {
    bool used;
    uint32_t sender_id;
    uint64_t left_ns; /* of time to have passed: a failure takes failure_ns of it */
    uint64_t at_ns;
};

struct remembered {
    bool used;
    uint8_t hash[DIGEST_SIZE];
};

struct checks {
    const struct trust *trust;
    struct digest *digest;
    uint64_t failure_ns; /* between failures, in the long run */
    struct remembered good[CHECKS_REMEMBERED], bad[CHECKS_REMEMBERED];
    size_t budget_count;
    struct budget budgets[];
};

struct checks *checks_create(const struct trust *trust)
{
    size_t count = trust_count(trust);
    struct checks *checks = calloc(1, sizeof *checks + count * sizeof *checks->budgets);
    if (checks == NULL)
        return NULL;
    checks->trust = trust;
    checks->digest = digest_create();
    checks->failure_ns = count * SECOND_NS / CHECKS_FAILURES_PER_S;
    checks->budget_count = count;
    return checks;
}

void checks_destroy(struct checks *checks)
{
    if (checks == NULL)
        return;
    digest_destroy(checks->digest);
    free(checks);
}

/* NULL for a sender that is not trusted. */
static struct budget *find(struct checks *checks, uint32_t sender_id)
{
    if (trust_find(checks->trust, sender_id) == NULL)
        return NULL;
    for (size_t i = 0; i < checks->budget_count; i++) {
        struct budget *budget = &checks->budgets[i];
        if (!budget->used)
            *budget = (struct budget){.used = true, .sender_id = sender_id, .left_ns = CHECKS_BURST_S * SECOND_NS};
        if (budget->sender_id == sender_id)
            return budget;
    }
    return NULL;
}

bool checks_may(struct checks *checks, uint32_t sender_id, uint64_t now_ns)
{
    struct budget *budget = find(checks, sender_id);
    if (budget == NULL)
        return false;
    if (now_ns > budget->at_ns) {
        uint64_t passed_ns = now_ns - budget->at_ns;
        budget->left_ns = passed_ns < CHECKS_BURST_S * SECOND_NS ? budget->left_ns + passed_ns : UINT64_MAX;
        if (budget->left_ns > CHECKS_BURST_S * SECOND_NS)
            budget->left_ns = CHECKS_BURST_S * SECOND_NS;
        budget->at_ns = now_ns;
    }
    return budget->left_ns >= checks->failure_ns;
}

void checks_failed(struct checks *checks, uint32_t sender_id)
{
    struct budget *budget = find(checks, sender_id);
    if (budget != NULL)
        budget->left_ns -= budget->left_ns < checks->failure_ns ? budget->left_ns : checks->failure_ns;
}

static void hash_message(struct checks *checks, uint32_t sender_id, const struct signed_message *message,
                         uint8_t hash[static DIGEST_SIZE])
{
    uint8_t id[4];
    put32(id, sender_id);
    digest_reset(checks->digest);
    digest_update(checks->digest, id, sizeof id);
    digest_update(checks->digest, message->signature.bytes, SIGNATURE_SIZE);
    digest_update(checks->digest, message->body, message->body_size);
    digest_final(checks->digest, hash);
}

static struct remembered *place(struct remembered list[], const uint8_t *hash)
{
    return &list[get32(hash) % CHECKS_REMEMBERED];
}

static bool remembers(struct remembered list[], const uint8_t *hash)
{
    const struct remembered *found = place(list, hash);
    return found->used && memcmp(found->hash, hash, DIGEST_SIZE) == 0;
}

static void remember(struct remembered list[], const uint8_t *hash)
{
    struct remembered *found = place(list, hash);
    found->used = true;
    memcpy(found->hash, hash, DIGEST_SIZE);
}

enum checks_verdict checks_verify(struct checks *checks, uint32_t sender_id, const struct signed_message *message,
                                  uint64_t now_ns)
{
    uint8_t hash[DIGEST_SIZE];
    const struct signature_public *key = trust_find(checks->trust, sender_id);
    bool plain = !message->signature.has_comment; /* the hash covers no comment */
    if (key == NULL)
        return CHECKS_BAD;
    hash_message(checks, sender_id, message, hash);
    if (plain && remembers(checks->good, hash))
        return CHECKS_GOOD;
    if (plain && remembers(checks->bad, hash))
        return CHECKS_BAD;
    if (!checks_may(checks, sender_id, now_ns))
        return CHECKS_OVER_LIMIT;
    bool good = signature_verify(key, message->body, message->body_size, &message->signature);
    if (!good)
        checks_failed(checks, sender_id);
    if (plain)
        remember(good ? checks->good : checks->bad, hash);
    return good ? CHECKS_GOOD : CHECKS_BAD;
}
