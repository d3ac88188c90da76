// SPDX-License-Identifier: Apache-2.0
#include "receiver/hasher.h"

#include <stddef.h>
#include <stdlib.h>

#include "common/digest.h"

struct state {
    struct digest *digest;
    const struct assembly *assembly; /* NULL: free */
    struct assembly_artifact *artifact;
    uint64_t used; /* order of use */
};

struct hasher {
    struct digest *whole; /* for artifacts that come in one piece */
    uint64_t uses;
    struct state states[HASHER_STATES];
};

struct hasher *hasher_create(void)
{
    struct hasher *hasher = calloc(1, sizeof *hasher);
    if (hasher == NULL)
        return NULL;
    hasher->whole = digest_create();
    for (unsigned i = 0; i < HASHER_STATES; i++)
        hasher->states[i].digest = digest_create();
    return hasher;
}

void hasher_destroy(struct hasher *hasher)
{
    if (hasher == NULL)
        return;
    for (unsigned i = 0; i < HASHER_STATES; i++)
        digest_destroy(hasher->states[i].digest);
    digest_destroy(hasher->whole);
    free(hasher);
}

static struct state *find_state(struct hasher *hasher, const struct digest *digest)
{
    for (unsigned i = 0; i < HASHER_STATES; i++)
        if (hasher->states[i].digest == digest)
            return &hasher->states[i];
    return NULL;
}

/* A free state, or that of the open artifact that was fed least recently; NULL when all are being published. */
static struct state *take_state(struct hasher *hasher)
{
    struct state *oldest = NULL;
    for (unsigned i = 0; i < HASHER_STATES; i++) {
        struct state *state = &hasher->states[i];
        if (state->assembly == NULL)
            return state;
        if (state->assembly->state == ASSEMBLY_OPEN && (oldest == NULL || state->used < oldest->used))
            oldest = state;
    }
    if (oldest != NULL)
        hasher_drop(hasher, oldest->artifact);
    return oldest;
}

void hasher_take(struct hasher *hasher, const struct assembly *assembly, struct assembly_artifact *artifact,
                 uint64_t offset, const uint8_t *bytes, uint32_t size)
{
    if (artifact->reread || offset != artifact->hashed)
        return;
    if (size == artifact->size) {
        digest_update(hasher->whole, bytes, size);
        digest_final(hasher->whole, artifact->sha256);
        artifact->hashed = size;
        return;
    }
    struct state *state;
    if (artifact->digest == NULL) {
        state = take_state(hasher);
        if (state == NULL) {
            artifact->reread = true;
            return;
        }
        digest_reset(state->digest);
        state->assembly = assembly;
        state->artifact = artifact;
        artifact->digest = state->digest;
        state->used = ++hasher->uses;
    }
    digest_update(artifact->digest, bytes, size);
    artifact->hashed += size;
    if (artifact->hashed == artifact->size) {
        digest_final(artifact->digest, artifact->sha256);
        find_state(hasher, artifact->digest)->assembly = NULL;
        artifact->digest = NULL;
    }
}

void hasher_drop(struct hasher *hasher, struct assembly_artifact *artifact)
{
    if (artifact->digest != NULL)
        find_state(hasher, artifact->digest)->assembly = NULL;
    artifact->digest = NULL;
    artifact->hashed = 0;
    artifact->reread = true;
}

void hasher_forget(struct hasher *hasher, const struct assembly *assembly)
{
    for (unsigned i = 0; i < HASHER_STATES; i++) {
        struct assembly_artifact *artifact = hasher->states[i].artifact;
        if (hasher->states[i].assembly != assembly)
            continue;
        hasher->states[i].assembly = NULL;
        artifact->digest = NULL;
        /* The verifier may have finished it from the disk. */
        if (artifact->reread || artifact->hashed != artifact->size) {
            artifact->hashed = 0;
            artifact->reread = true;
        }
    }
}
