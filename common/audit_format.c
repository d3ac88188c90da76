// SPDX-License-Identifier: Apache-2.0
#include "common/audit_format.h"

#include <assert.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/utf8.h"

enum { PUBLIC_SIZE = 2 + SIGNATURE_KEY_ID_SIZE + SIGNATURE_PUBLIC_SIZE, SIGNATURE_TEXT_SIZE = 101 };

static const char *const names[AUDIT_EVENT_COUNT] = {
    [AUDIT_STARTED] = "started",
    [AUDIT_STOPPED] = "stopped",
    [AUDIT_ACCEPTED] = "accepted",
    [AUDIT_REFUSED] = "refused",
    [AUDIT_RETURNED] = "returned",
    [AUDIT_SEALED] = "sealed",
    [AUDIT_SENT] = "sent",
    [AUDIT_ASKED] = "asked",
    [AUDIT_REPLAYED] = "replayed",
    [AUDIT_EXPIRED] = "expired",
    [AUDIT_SEEN] = "seen",
    [AUDIT_COMPLETED] = "completed",
    [AUDIT_VERIFIED] = "verified",
    [AUDIT_DELIVERED] = "delivered",
    [AUDIT_QUARANTINED] = "quarantined",
    [AUDIT_HELD] = "held",
    [AUDIT_RELEASED] = "released",
    [AUDIT_DISCARDED] = "discarded",
    [AUDIT_WRITTEN_OFF] = "written_off",
    [AUDIT_ALARM] = "alarm",
    [AUDIT_KEY] = "key",
    [AUDIT_SEGMENT] = "segment",
    [AUDIT_CHECKPOINT] = "checkpoint",
    [AUDIT_REPAIRED] = "repaired",
    [AUDIT_RESUMED] = "resumed",
};

/* All that is put in is bounded, so that what does not fit is our bug. */
struct text {
    char *start, *at, *end;
};

static void put(struct text *text, const void *bytes, size_t size)
{
    assert((size_t)(text->end - text->at) >= size);
    memcpy(text->at, bytes, size);
    text->at += size;
}

static void put_string(struct text *text, const char *string)
{
    put(text, string, strlen(string));
}

static void put_number(struct text *text, const char *before, uint64_t number)
{
    char digits[24];
    char *at = digits + sizeof digits;
    do {
        *--at = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    put_string(text, before);
    put(text, at, (size_t)(digits + sizeof digits - at));
}

static void put_hex(struct text *text, const char *before, const void *bytes, size_t size)
{
    static const char digits[] = "0123456789abcdef";
    put_string(text, before);
    assert((size_t)(text->end - text->at) > 2 * size);
    for (size_t i = 0; i < size; i++) {
        unsigned char byte = ((const unsigned char *)bytes)[i];
        *text->at++ = digits[byte >> 4];
        *text->at++ = digits[byte & 15];
    }
    put_string(text, "\"");
}

/* False when bytes were not UTF-8 and came out as U+FFFD. */
static bool put_escaped(struct text *text, const char *string, size_t limit)
{
    size_t size = strnlen(string, limit);
    bool faithful = true;
    while (size > 0) {
        uint32_t code = 0;
        size_t length = utf8_decode(string, size, &code);
        char escape[8];
        if (length == 0) {
            faithful = false;
            put_string(text, "\xef\xbf\xbd");
            length = 1;
        } else if (code == '"' || code == '\\') {
            put_string(text, "\\");
            put(text, string, 1);
        } else if (utf8_is_control(code)) {
            snprintf(escape, sizeof escape, "\\u%04x", (unsigned)code & 0xffffU);
            put_string(text, escape);
        } else {
            put(text, string, length);
        }
        string += length;
        size -= length;
    }
    return faithful;
}

static bool put_member(struct text *text, const char *before, const char *string, size_t limit)
{
    if (string == NULL || string[0] == '\0')
        return true;
    put_string(text, before);
    bool faithful = put_escaped(text, string, limit);
    put_string(text, "\"");
    return faithful;
}

void audit_time_text(int64_t realtime_ns, char text[static AUDIT_TIME_SIZE])
{
    char coarse[CLOCK_RFC3339_SIZE];
    int64_t fraction = realtime_ns % (int64_t)CLOCK_SECOND_NS;
    if (fraction < 0)
        fraction += (int64_t)CLOCK_SECOND_NS;
    clock_rfc3339(realtime_ns, coarse);
    snprintf(text, AUDIT_TIME_SIZE, "%.19s.%09uZ", coarse, (unsigned)fraction % 1000000000U);
}

/* gmtime_r() costs more than the rest of a record; records come many in a second. */
static void put_time(struct text *text, int64_t realtime_ns)
{
    static _Thread_local int64_t known_second = INT64_MIN;
    static _Thread_local char known[AUDIT_TIME_SIZE];
    int64_t fraction = realtime_ns % (int64_t)CLOCK_SECOND_NS;
    if (fraction < 0)
        fraction += (int64_t)CLOCK_SECOND_NS;
    int64_t second = (realtime_ns - fraction) / (int64_t)CLOCK_SECOND_NS;
    if (second != known_second) {
        audit_time_text(realtime_ns, known);
        known_second = second;
    }
    for (int i = 28; i > 19; i--, fraction /= 10)
        known[i] = (char)('0' + fraction % 10);
    put_string(text, "\"time\":\"");
    put(text, known, AUDIT_TIME_SIZE - 1);
    put_string(text, "\"");
}

static void put_head(struct text *text, const char *side, int64_t realtime_ns, enum audit_event event)
{
    put_time(text, realtime_ns);
    put_string(text, ",\"side\":\"");
    put_string(text, side);
    put_string(text, "\",\"event\":\"");
    put_string(text, audit_event_name(event));
    put_string(text, "\"");
}

static struct text text_in(char *buffer, size_t size)
{
    return (struct text){.start = buffer, .at = buffer, .end = buffer + size};
}

size_t audit_format_body(const struct audit_entry *entry, const char *side, int64_t realtime_ns,
                         char body[static AUDIT_BODY_SIZE])
{
    struct text text = text_in(body, AUDIT_BODY_SIZE);
    put_head(&text, side, realtime_ns, entry->event);
    if (entry->sender_id != 0) {
        uint32_t id = entry->sender_id;
        put_hex(&text, ",\"sender\":\"",
                (const uint8_t[]){(uint8_t)(id >> 24), (uint8_t)(id >> 16), (uint8_t)(id >> 8), (uint8_t)id}, 4);
    }
    if (entry->chain_id != NULL)
        put_hex(&text, ",\"chain\":\"", entry->chain_id, CHAIN_ID_SIZE);
    if (entry->sequence != 0)
        put_number(&text, ",\"sequence\":", entry->sequence);
    if (entry->last_sequence != 0)
        put_number(&text, ",\"last_sequence\":", entry->last_sequence);
    if (entry->transfer_id != NULL)
        put_hex(&text, ",\"transfer\":\"", entry->transfer_id, TRANSFER_ID_SIZE);
    if (entry->manifest_hash != NULL)
        put_hex(&text, ",\"digest\":\"", entry->manifest_hash, SHA256_SIZE);
    (void)put_member(&text, ",\"channel\":\"", entry->channel, LIMIT_CHANNEL_LENGTH);
    if (!put_member(&text, ",\"name\":\"", entry->name, LIMIT_COMPONENT_LENGTH))
        put_hex(&text, ",\"name_bytes\":\"", entry->name, strnlen(entry->name, LIMIT_COMPONENT_LENGTH));
    if (entry->bytes != 0)
        put_number(&text, ",\"bytes\":", entry->bytes);
    (void)put_member(&text, ",\"actor\":\"", entry->actor, LIMIT_USER_LENGTH);
    (void)put_member(&text, ",\"detail\":\"", entry->detail, AUDIT_DETAIL_SIZE);
    return (size_t)(text.at - text.start);
}

static void key_text(const struct signature_public *key, char out[static AUDIT_KEY_TEXT_SIZE])
{
    uint8_t bytes[PUBLIC_SIZE] = "Ed";
    memcpy(bytes + 2, key->key_id, SIGNATURE_KEY_ID_SIZE);
    memcpy(bytes + 2 + SIGNATURE_KEY_ID_SIZE, key->key, SIGNATURE_PUBLIC_SIZE);
    sodium_bin2base64(out, AUDIT_KEY_TEXT_SIZE, bytes, sizeof bytes, sodium_base64_VARIANT_ORIGINAL);
}

size_t audit_format_segment(const char *side, int64_t realtime_ns, uint32_t segment, bool supersedes,
                            const struct signature_public *key, char body[static AUDIT_BODY_SIZE])
{
    struct text text = text_in(body, AUDIT_BODY_SIZE);
    char base64[AUDIT_KEY_TEXT_SIZE];
    key_text(key, base64);
    put_head(&text, side, realtime_ns, AUDIT_SEGMENT);
    put_number(&text, ",\"segment\":", segment);
    if (supersedes)
        put_string(&text, ",\"supersedes\":true");
    put_string(&text, ",\"key\":\"");
    put_string(&text, base64);
    put_string(&text, "\"");
    return (size_t)(text.at - text.start);
}

static void put_number_and_body(struct text *text, uint64_t number, const char *body, size_t body_size,
                                const uint8_t prev[static DIGEST_SIZE])
{
    put_number(text, "{\"v\":", AUDIT_VERSION);
    put_number(text, ",\"n\":", number);
    put_string(text, ",");
    put(text, body, body_size);
    put_hex(text, ",\"prev\":\"", prev, DIGEST_SIZE);
}

size_t audit_format_line(uint64_t number, const char *body, size_t body_size, const uint8_t prev[static DIGEST_SIZE],
                         char line[static AUDIT_LINE_SIZE])
{
    struct text text = text_in(line, AUDIT_LINE_SIZE);
    put_number_and_body(&text, number, body, body_size, prev);
    put_string(&text, "}\n");
    return (size_t)(text.at - text.start);
}

size_t audit_format_checkpoint(uint64_t number, const char *side, int64_t realtime_ns,
                               const uint8_t prev[static DIGEST_SIZE], const struct signature_key *key,
                               char line[static AUDIT_LINE_SIZE])
{
    struct text text = text_in(line, AUDIT_LINE_SIZE);
    char body[AUDIT_BODY_SIZE], base64[SIGNATURE_TEXT_SIZE];
    struct audit_entry entry = {.event = AUDIT_CHECKPOINT};
    struct signature signature;
    size_t body_size = audit_format_body(&entry, side, realtime_ns, body);
    put_number_and_body(&text, number, body, body_size, prev);
    signature_sign(key, line, (size_t)(text.at - text.start), NULL, &signature);
    sodium_bin2base64(base64, sizeof base64, signature.bytes, SIGNATURE_SIZE, sodium_base64_VARIANT_ORIGINAL);
    put_string(&text, ",\"signature\":\"");
    put_string(&text, base64);
    put_string(&text, "\"}\n");
    return (size_t)(text.at - text.start);
}

const char *audit_event_name(enum audit_event event)
{
    assert((unsigned)event < AUDIT_EVENT_COUNT);
    return names[event];
}
