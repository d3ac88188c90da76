// SPDX-License-Identifier: Apache-2.0
#include "common/fingerprint.h"

#include <stdio.h>
#include <string.h>

#include "common/digest.h"

void fingerprint_key_id(const uint8_t key_id[static SIGNATURE_KEY_ID_SIZE], char text[static FINGERPRINT_KEY_ID_SIZE])
{
    for (size_t i = 0; i < SIGNATURE_KEY_ID_SIZE; i++)
        snprintf(text + 2 * i, 3, "%02X", key_id[SIGNATURE_KEY_ID_SIZE - 1 - i]);
}

void fingerprint_text(const struct signature_public *key, char text[static FINGERPRINT_SIZE])
{
    uint8_t digest[DIGEST_SIZE];
    fingerprint_key_id(key->key_id, text);
    digest_once(key->key, sizeof key->key, digest);
    char *out = text + strlen(text);
    for (size_t i = 0; i < DIGEST_SIZE; i += 2)
        out += snprintf(out, 6, " %02x%02x", digest[i], digest[i + 1]);
}
