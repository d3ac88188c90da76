// SPDX-License-Identifier: Apache-2.0
#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "common/audit_format.h"

/* The other half of audit_format.h. Members that we don't know are of a later version and are passed over. */

enum { PUBLIC_SIZE = 2 + SIGNATURE_KEY_ID_SIZE + SIGNATURE_PUBLIC_SIZE };

static const char signature_before[] = ",\"signature\":\"", signature_behind[] = "\"}\n";

/* Copies the text of a member; false when it is there and is no text that fits. */
static bool take_text(const json_t *root, const char *member, char *out, size_t size)
{
    const json_t *value = json_object_get(root, member);
    out[0] = '\0';
    if (value == NULL)
        return true;
    if (!json_is_string(value) || json_string_length(value) >= size)
        return false;
    memcpy(out, json_string_value(value), json_string_length(value) + 1);
    return true;
}

static bool take_number(const json_t *root, const char *member, uint64_t *out)
{
    const json_t *value = json_object_get(root, member);
    *out = 0;
    if (value == NULL)
        return true;
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *out = (uint64_t)json_integer_value(value);
    return true;
}

static bool take_hex(const json_t *root, const char *member, void *out, size_t size, bool *present)
{
    const json_t *value = json_object_get(root, member);
    size_t got = 0;
    *present = value != NULL;
    if (value == NULL)
        return true;
    return json_is_string(value) && json_string_length(value) == 2 * size &&
           sodium_hex2bin(out, size, json_string_value(value), 2 * size, NULL, &got, NULL) == 0 && got == size;
}

static bool is_time(const char *text)
{
    static const char pattern[] = "0000-00-00T00:00:00.000000000Z";
    if (strlen(text) != sizeof pattern - 1)
        return false;
    for (size_t i = 0; i < sizeof pattern - 1; i++)
        if (pattern[i] == '0' ? text[i] < '0' || text[i] > '9' : text[i] != pattern[i])
            return false;
    return true;
}

static bool take_segment(const json_t *root, struct audit_record *record)
{
    char text[AUDIT_KEY_TEXT_SIZE];
    uint8_t bytes[PUBLIC_SIZE];
    size_t size = 0;
    uint64_t segment = 0;
    if (!take_number(root, "segment", &segment) || segment == 0 || segment > UINT32_MAX ||
        !take_text(root, "key", text, sizeof text) ||
        sodium_base642bin(bytes, sizeof bytes, text, strlen(text), NULL, &size, NULL, sodium_base64_VARIANT_ORIGINAL) !=
            0 ||
        size != sizeof bytes || memcmp(bytes, "Ed", 2) != 0)
        return false;
    record->segment = (uint32_t)segment;
    record->supersedes = json_is_true(json_object_get(root, "supersedes"));
    memcpy(record->key.key_id, bytes + 2, SIGNATURE_KEY_ID_SIZE);
    memcpy(record->key.key, bytes + 2 + SIGNATURE_KEY_ID_SIZE, SIGNATURE_PUBLIC_SIZE);
    return true;
}

/* The signature covers the line up to itself, so it must be where we put it, and nothing else behind it. */
static bool take_signature(const json_t *root, const char *line, size_t size, struct audit_record *record)
{
    const json_t *value = json_object_get(root, "signature");
    if (!json_is_string(value))
        return false;
    const char *base64 = json_string_value(value);
    size_t length = json_string_length(value);
    size_t around = sizeof signature_before - 1 + sizeof signature_behind - 1;
    size_t got = 0;
    if (size < around + length)
        return false;
    record->signed_size = size - around - length;
    const char *at = line + record->signed_size;
    return memcmp(at, signature_before, sizeof signature_before - 1) == 0 &&
           memcmp(at + sizeof signature_before - 1, base64, length) == 0 &&
           memcmp(line + size - (sizeof signature_behind - 1), signature_behind, sizeof signature_behind - 1) == 0 &&
           sodium_base642bin(record->signature.bytes, SIGNATURE_SIZE, base64, length, NULL, &got, NULL,
                             sodium_base64_VARIANT_ORIGINAL) == 0 &&
           got == SIGNATURE_SIZE;
}

static void find_event(struct audit_record *record)
{
    record->event = AUDIT_EVENT_COUNT;
    for (int i = 0; i < AUDIT_EVENT_COUNT; i++)
        if (strcmp(audit_event_name((enum audit_event)i), record->event_name) == 0)
            record->event = (enum audit_event)i;
}

static bool take_members(const json_t *root, struct audit_record *record)
{
    uint8_t sender[4] = {0};
    uint64_t version = 0;
    bool has_prev = false;
    bool good =
        take_number(root, "v", &version) && version == AUDIT_VERSION && take_number(root, "n", &record->number) &&
        record->number > 0 && take_text(root, "time", record->time, sizeof record->time) && is_time(record->time) &&
        take_text(root, "side", record->side, sizeof record->side) && record->side[0] != '\0' &&
        take_text(root, "event", record->event_name, sizeof record->event_name) && record->event_name[0] != '\0' &&
        take_hex(root, "sender", sender, sizeof sender, &record->has_sender) &&
        take_hex(root, "chain", record->chain_id, CHAIN_ID_SIZE, &record->has_chain) &&
        take_number(root, "sequence", &record->sequence) &&
        take_number(root, "last_sequence", &record->last_sequence) &&
        take_hex(root, "transfer", record->transfer_id, TRANSFER_ID_SIZE, &record->has_transfer) &&
        take_hex(root, "digest", record->manifest_hash, SHA256_SIZE, &record->has_digest) &&
        take_text(root, "channel", record->channel, sizeof record->channel) &&
        take_text(root, "name", record->name, sizeof record->name) && take_number(root, "bytes", &record->bytes) &&
        take_text(root, "actor", record->actor, sizeof record->actor) &&
        take_text(root, "detail", record->detail, sizeof record->detail) &&
        take_hex(root, "prev", record->prev, DIGEST_SIZE, &has_prev) && has_prev;
    record->sender_id =
        (uint32_t)sender[0] << 24 | (uint32_t)sender[1] << 16 | (uint32_t)sender[2] << 8 | (uint32_t)sender[3];
    return good;
}

bool audit_parse(const char *line, size_t size, struct audit_record *record)
{
    memset(record, 0, sizeof *record);
    if (size < 2 || size > AUDIT_LINE_SIZE || line[0] != '{' || line[size - 2] != '}' || line[size - 1] != '\n')
        return false;
    json_t *root = json_loadb(line, size - 1, JSON_REJECT_DUPLICATES, NULL);
    bool good = root != NULL && take_members(root, record);
    if (good) {
        find_event(record);
        if (record->event == AUDIT_SEGMENT)
            good = take_segment(root, record);
        else if (record->event == AUDIT_CHECKPOINT || json_object_get(root, "signature") != NULL)
            good = take_signature(root, line, size, record);
    }
    json_decref(root);
    return good;
}
