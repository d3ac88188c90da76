// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_FINGERPRINT_H
#define DIODECAST_COMMON_FINGERPRINT_H

#include "common/signature.h"

/* How public keys are shown to people, who compare them over another way than the one that the key came by. Pure. */

enum {
    FINGERPRINT_KEY_ID_SIZE = 2 * SIGNATURE_KEY_ID_SIZE + 1,
    FINGERPRINT_SIZE = FINGERPRINT_KEY_ID_SIZE + 16 * 5,
};

/* The key id as minisign prints it: 16 upper-case hex digits. */
void fingerprint_key_id(const uint8_t key_id[static SIGNATURE_KEY_ID_SIZE], char text[static FINGERPRINT_KEY_ID_SIZE]);
/* The key id, then the SHA-256 of the 32 key bytes in groups of four lower-case hex digits, all separated by blanks. */
void fingerprint_text(const struct signature_public *key, char text[static FINGERPRINT_SIZE]);

#endif
