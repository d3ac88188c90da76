// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "common/digest.h"
#include "common/fingerprint.h"
#include "common/linkkey.h"
#include "common/log.h"
#include "common/signature.h"
#include "tools/command.h"
#include "tools/terminal.h"

/* `diodecast key show`: what a key file is, for persons who compare keys. No secret is ever printed. */

static const char link_context[] = "diodecast link key fingerprint 1";

static void print_name(const char *file)
{
    terminal_print(stdout, file);
    putchar('\n');
}

static void print_signing_key(const char *file, const char *what, const struct signature_public *key)
{
    char text[FINGERPRINT_SIZE];
    fingerprint_text(key, text);
    print_name(file);
    printf("  %s\n  sender id    %08" PRIx32 "\n  fingerprint  %s\n", what, signature_sender_id(key), text);
}

/* Both sides hold the same secret, so what is compared is a digest that says nothing about it. */
static void print_link_key(const char *file, const uint8_t secret[static LINKKEY_SIZE])
{
    uint8_t bytes[sizeof link_context - 1 + LINKKEY_SIZE], digest[DIGEST_SIZE];
    memcpy(bytes, link_context, sizeof link_context - 1);
    memcpy(bytes + sizeof link_context - 1, secret, LINKKEY_SIZE);
    digest_once(bytes, sizeof bytes, digest);
    sodium_memzero(bytes, sizeof bytes);
    print_name(file);
    printf("  link key (secret, the same on both sides)\n  fingerprint ");
    for (size_t i = 0; i < DIGEST_SIZE; i += 2)
        printf(" %02x%02x", digest[i], digest[i + 1]);
    putchar('\n');
}

static int show_link_key(const char *file)
{
    char reason[256];
    uint8_t secret[LINKKEY_SIZE];
    enum status status = linkkey_load(file, secret, reason);
    if (status == STATUS_OK) {
        print_link_key(file, secret);
        sodium_memzero(secret, sizeof secret);
        return EX_OK;
    }
    if (status == STATUS_INVALID)
        log_error("%s: neither a public key, nor a secret key without password, nor a link key", file);
    else
        log_error("%s", reason);
    return status == STATUS_NOT_FOUND ? EX_NOINPUT : status == STATUS_DENIED ? EX_NOPERM : EX_DATAERR;
}

static int show(const char *file)
{
    char reason[256];
    struct signature_public public_key;
    struct signature_key *key = NULL;
    if (signature_public_load(file, &public_key, reason) == STATUS_OK) {
        print_signing_key(file, "public key", &public_key);
        return EX_OK;
    }
    enum status status = signature_key_load(file, &key, reason);
    if (status == STATUS_OK) {
        print_signing_key(file, "secret key (keep it where it is; this is the fingerprint of its public half)",
                          signature_key_public(key));
        signature_key_destroy(key);
        return EX_OK;
    }
    if (status == STATUS_INVALID)
        return show_link_key(file);
    log_error("%s", reason);
    return status == STATUS_NOT_FOUND ? EX_NOINPUT : EX_NOPERM;
}

int command_key(int argc, char **argv)
{
    int code = EX_OK;
    if (argc < 3 || strcmp(argv[1], "show") != 0)
        return command_usage("key");
    for (int i = 2; i < argc; i++) {
        int result = show(argv[i]);
        if (code == EX_OK)
            code = result;
    }
    return code;
}
