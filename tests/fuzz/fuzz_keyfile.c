// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/linkkey.h"
#include "common/signature.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* A file in memory under a name, since keys are loaded by name. */
static const char *put_file(const uint8_t *bytes, size_t size)
{
    static int fd = -1;
    static char name[64];
    if (fd < 0) {
        enum status status = signature_init();
        fd = memfd_create("key", MFD_CLOEXEC);
        assert(status == STATUS_OK && fd >= 0);
        int failed = fchmod(fd, 0600);
        assert(failed == 0);
        snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
    }
    int failed = ftruncate(fd, 0);
    ssize_t written = pwrite(fd, bytes, size, 0);
    assert(failed == 0 && written == (ssize_t)size);
    return name;
}

static void try_secret(const char *name)
{
    char reason[256] = "";
    struct signature_key *key = NULL;
    struct signature signature;
    enum status status = signature_key_load(name, &key, reason);
    assert((status == STATUS_OK) == (key != NULL) && (status == STATUS_OK || reason[0] != '\0'));
    if (key == NULL)
        return;
    signature_sign(key, "x", 1, NULL, &signature);
    assert(signature_verify(signature_key_public(key), "x", 1, &signature));
    signature_key_destroy(key);
}

static void try_signature(const uint8_t *bytes, size_t size)
{
    struct signature signature, again;
    char *text = NULL;
    size_t text_size = 0;
    if (signature_from_file_text((const char *)bytes, size, &signature) != STATUS_OK)
        return;
    struct signature_public key = {.key = {1}};
    memcpy(key.key_id, signature.bytes + 2, sizeof(key.key_id));
    if (signature_verify(&key, "x", 1, &signature))
        abort();
    signature_to_file_text(&signature, &text, &text_size);
    enum status status = signature_from_file_text(text, text_size, &again);
    assert(status == STATUS_OK && memcmp(&again, &signature, sizeof(again)) == 0);
    free(text);
}

/* The first line of NAME.expires. */
static void try_time(const uint8_t *bytes, size_t size)
{
    int64_t time_ns = -1;
    char *text = malloc(size + 1);
    assert(text != NULL);
    memcpy(text, bytes, size);
    text[size] = '\0';
    if (!clock_parse_rfc3339(text, &time_ns))
        assert(time_ns == -1);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    try_time(bytes, size);
    char reason[256] = "";
    struct signature_public public_key;
    uint8_t secret[LINKKEY_SIZE];
    const char *name = put_file(bytes, size);
    try_secret(name);
    if (signature_public_load(name, &public_key, reason) != STATUS_OK)
        assert(reason[0] != '\0');
    reason[0] = '\0';
    if (linkkey_load(name, secret, reason) != STATUS_OK)
        assert(reason[0] != '\0');
    try_signature(bytes, size);
    return 0;
}
