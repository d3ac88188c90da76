// SPDX-License-Identifier: Apache-2.0
/*
 * The worked example of proto/README.md, made by the code: every dump below must stand in the document byte for byte.
 * "test_wire_example --print" writes the dumps in the form in which the document holds them.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/digest.h"
#include "common/fec.h"
#include "common/linkkey.h"
#include "common/signature.h"
#include "proto/frame.h"
#include "proto/manifest.h"
#include "proto/message.h"
#include "proto/signed.h"
#include "tests/datagrams.h"

enum { K = 2, R = 4, SYMBOL_SIZE = 64, DATAGRAM_SIZE = DATAGRAM_HEADER_SIZE + SYMBOL_SIZE, DUMPS_MAX = 16 };

static const char content[] = "hello, high side\n";
static const uint8_t transfer_id[TRANSFER_ID_SIZE] = {0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7,
                                                      0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf};
static const uint8_t chain_id[CHAIN_ID_SIZE] = {0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7,
                                                0xc8, 0xc9, 0xca, 0xcb, 0xcc, 0xcd, 0xce, 0xcf};
static const int64_t example_time_ns = INT64_C(1767225600000000000); /* 2026-01-01T00:00:00Z */
static const uint64_t example_epoch = UINT64_C(0x0000000112345678);

struct dump {
    const char *title;
    char *text;
};

static struct dump dumps[DUMPS_MAX];
static size_t dump_count;

/* Keeps the bytes as lines of an offset and sixteen bytes. */
static void dump(const char *title, const uint8_t *bytes, size_t size)
{
    size_t capacity = (size / 16 + 1) * 64, used = 0;
    char *text = malloc(capacity);

    assert_non_null(text);
    assert_true(dump_count < DUMPS_MAX);
    for (size_t i = 0; i < size; i++) {
        if (i % 16 == 0)
            used += (size_t)snprintf(text + used, capacity - used, "%04zx ", i);
        used += (size_t)snprintf(text + used, capacity - used, " %02x", bytes[i]);
        if (i % 16 == 15 || i + 1 == size)
            used += (size_t)snprintf(text + used, capacity - used, "\n");
    }
    dumps[dump_count++] = (struct dump){title, text};
}

static struct signature_key *make_signing_key(void)
{
    uint8_t seed[32];

    for (size_t i = 0; i < sizeof seed; i++)
        seed[i] = (uint8_t)i;
    return signature_key_from_seed(seed);
}

static void dump_key(const struct signature_key *key)
{
    const struct signature_public *public_key = signature_key_public(key);
    uint8_t bytes[SIGNATURE_KEY_ID_SIZE + SIGNATURE_PUBLIC_SIZE];

    memcpy(bytes, public_key->key_id, SIGNATURE_KEY_ID_SIZE);
    memcpy(bytes + SIGNATURE_KEY_ID_SIZE, public_key->key, SIGNATURE_PUBLIC_SIZE);
    dump("signing key: key id, public key", bytes, sizeof bytes);
}

static void dump_datagram(const char *title, const struct datagram *datagram, const uint8_t *symbol,
                          struct linkkey *key)
{
    uint8_t bytes[DATAGRAM_SIZE];

    memcpy(bytes + DATAGRAM_HEADER_SIZE, symbol, SYMBOL_SIZE);
    datagram_write(bytes, datagram);
    finish_datagram(bytes, symbol, bytes + DATAGRAM_HEADER_SIZE, SYMBOL_SIZE, key);
    dump(title, bytes, sizeof bytes);
}

/* A block with one DATA frame, its repair symbols, and three of its datagrams. */
static void dump_block(const struct signature_key *key)
{
    uint8_t payload[K * SYMBOL_SIZE] = {0}, repair[R * SYMBOL_SIZE], secret[LINKKEY_SIZE];
    const uint8_t *source[K];
    uint8_t *target[R];
    struct frame_data data = {
        .transfer_id = transfer_id,
        .artifact_size = sizeof content - 1,
        .size = sizeof content - 1,
    };

    memcpy(payload + frame_write_data(payload, &data), content, sizeof content - 1);
    dump("block payload", payload, sizeof payload);
    for (size_t i = 0; i < K; i++)
        source[i] = payload + i * SYMBOL_SIZE;
    for (size_t i = 0; i < R; i++)
        target[i] = repair + i * SYMBOL_SIZE;
    struct fec *fec = fec_create(K, R);
    fec_encode(fec, SYMBOL_SIZE, source, target);
    fec_destroy(fec);
    dump("repair symbols", repair, sizeof repair);

    struct datagram datagram = {
        .source_symbols = K,
        .repair_symbols = R,
        .symbol_size = SYMBOL_SIZE,
        .sender_id = signature_sender_id(signature_key_public(key)),
        .depth = 1,
        .epoch = example_epoch,
        .salt = UINT64_C(0x0123456789abcdef),
        .sequence = 1,
        .sbn = 7,
        .block_hash = block_hash_of(payload, K, SYMBOL_SIZE),
    };
    dump_datagram("datagram ESI 0, plain", &datagram, payload, NULL);
    datagram.sequence = 3;
    datagram.esi = K;
    dump_datagram("datagram ESI 2, plain", &datagram, repair, NULL);

    for (size_t i = 0; i < sizeof secret; i++)
        secret[i] = (uint8_t)(0x20 + i);
    struct linkkey *link = linkkey_create(secret);
    datagram.flags = DATAGRAM_FLAG_SEALED;
    datagram.sequence = 1;
    datagram.esi = 0;
    dump_datagram("datagram ESI 0, sealed", &datagram, payload, link);
    linkkey_destroy(link);
}

/* The manifest's body and envelope; writes the body's SHA-256 to `hash`. */
static void dump_manifest(const struct signature_key *key, uint8_t hash[static SHA256_SIZE])
{
    struct manifest_entry entry = {
        .path = "hello.txt",
        .kind = MANIFEST_FILE,
        .size = sizeof content - 1,
        .mtime_ns = example_time_ns,
    };
    struct manifest_head head = {.sequence = 1, .time_ns = example_time_ns, .origin_user = "alice"};
    uint8_t *body, *bytes;
    size_t body_size, size;

    digest_once(content, sizeof content - 1, entry.sha256);
    memcpy(head.chain_id, chain_id, CHAIN_ID_SIZE);
    memcpy(head.transfer_id, transfer_id, TRANSFER_ID_SIZE);
    struct manifest_writer *writer = manifest_writer_create("default", "hello.txt");
    manifest_writer_add(writer, &entry);
    manifest_writer_finish(writer, &head, &body, &body_size);
    manifest_writer_destroy(writer);
    dump("manifest body", body, body_size);
    digest_once(body, body_size, hash);
    signed_encode(key, body, body_size, "diodecast chain c0c1c2c3 sequence 1 transfer a0a1a2a3a4a5a6a7a8a9aaabacadaeaf",
                  &bytes, &size, NULL);
    dump("manifest, signed", bytes, size);

    struct frame_manifest part = {.transfer_id = transfer_id, .total = (uint32_t)size, .lanes = 1, .size = 100};
    part.watermark[0] = 8;
    uint8_t head_bytes[FRAME_HEADER_SIZE + FRAME_MANIFEST_FIXED_SIZE + 8];
    assert_int_equal(frame_write_manifest(head_bytes, &part), sizeof head_bytes);
    dump("manifest frame, up to its part", head_bytes, sizeof head_bytes);
    free(bytes);
    free(body);
}

static void dump_heartbeat(const struct signature_key *key, const uint8_t hash[static SHA256_SIZE])
{
    struct message_heartbeat beat = {
        .sender_id = signature_sender_id(signature_key_public(key)),
        .epoch = example_epoch,
        .beat = 1,
        .time_ns = example_time_ns,
        .newest_sequence = 1,
        .in_flight_count = 1,
        .lanes = 1,
        .source_symbols = 128,
        .repair_symbols = 16,
        .symbol_size = 1392,
        .depth = 51,
        .rate_bits_per_second = 1000000000,
    };
    uint8_t *body, *bytes;
    size_t body_size, size;

    memcpy(beat.chain_id, chain_id, CHAIN_ID_SIZE);
    memcpy(beat.newest_hash, hash, SHA256_SIZE);
    memcpy(beat.in_flight[0].transfer_id, transfer_id, TRANSFER_ID_SIZE);
    beat.in_flight[0].sequence = 1;
    message_encode_heartbeat(&beat, &body, &body_size);
    dump("heartbeat body", body, body_size);
    signed_encode(key, body, body_size, NULL, &bytes, &size, NULL);
    uint8_t *frame = malloc(frame_signed_size(NULL, (uint32_t)size));
    assert_non_null(frame);
    dump("heartbeat frame", frame, frame_write_signed(frame, FRAME_HEARTBEAT, NULL, bytes, (uint32_t)size));
    free(frame);
    free(bytes);
    free(body);
}

static void make_dumps(void)
{
    uint8_t hash[SHA256_SIZE];

    assert_int_equal(signature_init(), STATUS_OK);
    struct signature_key *key = make_signing_key();
    dump_key(key);
    dump_block(key);
    dump_manifest(key, hash);
    dump_heartbeat(key, hash);
    signature_key_destroy(key);
}

static const struct {
    const char *name;
    uint64_t value;
} limits[] = {
    {"LIMIT_SOURCE_SYMBOLS", LIMIT_SOURCE_SYMBOLS},
    {"LIMIT_REPAIR_SYMBOLS", LIMIT_REPAIR_SYMBOLS},
    {"LIMIT_REPAIR_SYMBOLS_MIN", LIMIT_REPAIR_SYMBOLS_MIN},
    {"LIMIT_SYMBOL_SIZE_MIN", LIMIT_SYMBOL_SIZE_MIN},
    {"LIMIT_SYMBOL_SIZE", LIMIT_SYMBOL_SIZE},
    {"LIMIT_SYMBOL_ALIGNMENT", LIMIT_SYMBOL_ALIGNMENT},
    {"LIMIT_DEPTH", LIMIT_DEPTH},
    {"LIMIT_LANES", LIMIT_LANES},
    {"LIMIT_PATH_LENGTH", LIMIT_PATH_LENGTH},
    {"LIMIT_COMPONENT_LENGTH", LIMIT_COMPONENT_LENGTH},
    {"LIMIT_PATH_DEPTH", LIMIT_PATH_DEPTH},
    {"LIMIT_CHANNEL_LENGTH", LIMIT_CHANNEL_LENGTH},
    {"LIMIT_DELIVERED_NAME_LENGTH", LIMIT_DELIVERED_NAME_LENGTH},
    {"LIMIT_USER_LENGTH", LIMIT_USER_LENGTH},
    {"LIMIT_REASON_LENGTH", LIMIT_REASON_LENGTH},
    {"LIMIT_LABELS", LIMIT_LABELS},
    {"LIMIT_LABEL_KEY_LENGTH", LIMIT_LABEL_KEY_LENGTH},
    {"LIMIT_LABEL_VALUE_LENGTH", LIMIT_LABEL_VALUE_LENGTH},
    {"LIMIT_APPROVALS", LIMIT_APPROVALS},
    {"LIMIT_IN_FLIGHT", LIMIT_IN_FLIGHT},
    {"LIMIT_HEALING_RANGES", LIMIT_HEALING_RANGES},
    {"LIMIT_ARTIFACTS", LIMIT_ARTIFACTS},
    {"LIMIT_ENTRIES", LIMIT_ENTRIES},
    {"LIMIT_ENTRY_SIZE", LIMIT_ENTRY_SIZE},
    {"LIMIT_MANIFEST_SIZE", LIMIT_MANIFEST_SIZE},
    {"LIMIT_SIGNED_OVERHEAD", LIMIT_SIGNED_OVERHEAD},
    {"LIMIT_MESSAGE_SIZE", LIMIT_MESSAGE_SIZE},
    {"LIMIT_COMMENT_LENGTH", LIMIT_COMMENT_LENGTH},
    {"LIMIT_UNKNOWN_FIELDS", LIMIT_UNKNOWN_FIELDS},
    {"LIMIT_SEQUENCE", LIMIT_SEQUENCE},
    {"LIMIT_ARTIFACT_SIZE", LIMIT_ARTIFACT_SIZE},
    {"LIMIT_TRANSFER_SIZE", LIMIT_TRANSFER_SIZE},
    {"CHUNK_SIZE", CHUNK_SIZE},
};

static void read_specification(char *text, size_t capacity)
{
    FILE *file = fopen("proto/README.md", "r");

    assert_non_null(file);
    size_t size = fread(text, 1, capacity - 1, file);
    assert_true(feof(file) && size > 0);
    text[size] = '\0';
    fclose(file);
}

static void the_specification_names_every_limit_with_its_value(void **state)
{
    (void)state;
    static char text[1 << 18];

    read_specification(text, sizeof text);
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        char row[128];
        snprintf(row, sizeof row, "| `%s` | %" PRIu64 " |", limits[i].name, limits[i].value);
        if (strstr(text, row) == NULL)
            fail_msg("proto/README.md lacks: %s", row);
    }
}

static void the_specification_shows_the_bytes_that_the_code_makes(void **state)
{
    (void)state;
    static char text[1 << 18];

    read_specification(text, sizeof text);
    for (size_t i = 0; i < dump_count; i++) {
        char *section = NULL;
        assert_true(asprintf(&section, "**%s**\n\n```\n%s```\n", dumps[i].title, dumps[i].text) > 0);
        if (strstr(text, section) == NULL)
            fail_msg("proto/README.md lacks or differs in: %s", dumps[i].title);
        free(section);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_specification_names_every_limit_with_its_value),
        cmocka_unit_test(the_specification_shows_the_bytes_that_the_code_makes),
    };
    int failures = 0;

    make_dumps();
    if (argc == 2 && strcmp(argv[1], "--print") == 0) {
        for (size_t i = 0; i < dump_count; i++)
            printf("**%s**\n\n```\n%s```\n\n", dumps[i].title, dumps[i].text);
    } else {
        failures = cmocka_run_group_tests(tests, NULL, NULL);
    }
    for (size_t i = 0; i < dump_count; i++)
        free(dumps[i].text);
    return failures;
}
