// SPDX-License-Identifier: Apache-2.0
#include "common/request_text.h"

#include <assert.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/request.h"

enum { DEPTH = 4 /* of the JSON, of which two are used: the parser recurses */ };

static const char *const kind_names[] = {
    [REQUEST_REPLAY] = "replay", [REQUEST_ACCEPT_LOSS] = "accept-loss", [REQUEST_QUARANTINE] = "quarantine"};
static const char *const action_names[] = {
    [REQUEST_LIST] = "list", [REQUEST_SHOW] = "show", [REQUEST_RECHECK] = "recheck", [REQUEST_DISCARD] = "discard"};
enum { KINDS = sizeof kind_names / sizeof *kind_names, ACTIONS = sizeof action_names / sizeof *action_names };

/* Whether no text goes on the terminal of who reads it with more than its characters: no controls, C1 included. */
static bool is_plain(const char *text)
{
    for (const unsigned char *next = (const unsigned char *)text; *next != '\0'; next++)
        if (*next < 0x20 || *next == 0x7f || (*next == 0xc2 && next[1] >= 0x80 && next[1] <= 0x9f))
            return false;
    return true;
}

/* A short name that can be repeated in a message. */
static bool is_word(const char *text)
{
    size_t length = strspn(text, "abcdefghijklmnopqrstuvwxyz_");
    return length <= 40 && text[length] == '\0';
}

static void set(json_t *root, const char *key, json_t *value)
{
    int failed = json_object_set_new(root, key, value);
    assert(failed == 0);
}

static void set_list(json_t *root, const char *key, char *const texts[], size_t count)
{
    if (count == 0)
        return;
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        int failed = json_array_append_new(list, json_string(texts[i]));
        assert(failed == 0);
    }
    set(root, key, list);
}

char *request_text_encode(const struct request *request)
{
    json_t *root = json_object();
    assert(root != NULL);
    set(root, "kind", json_string(kind_names[request->kind]));
    set_list(root, "tickets", request->tickets, request->ticket_count);
    set_list(root, "names", request->names, request->name_count);
    if (request->kind == REQUEST_QUARANTINE)
        set(root, "action", json_string(action_names[request->action]));
    if (request->kind == REQUEST_ACCEPT_LOSS || (request->kind == REQUEST_QUARANTINE && request->reason[0] != '\0'))
        set(root, "reason", json_string(request->reason));
    if (request->kind == REQUEST_REPLAY) {
        if (request->since_ns != INT64_MIN)
            set(root, "since_ns", json_integer(request->since_ns));
        if (request->first_sequence != 0) {
            set(root, "first_sequence", json_integer((json_int_t)request->first_sequence));
            set(root, "last_sequence", json_integer((json_int_t)request->last_sequence));
        }
        if (request->last_count != 0)
            set(root, "last", json_integer((json_int_t)request->last_count));
        set(root, "now", json_boolean(request->now));
        set(root, "dry_run", json_boolean(request->dry_run));
    }
    char *text = json_dumps(root, JSON_COMPACT | JSON_SORT_KEYS);
    assert(text != NULL);
    json_decref(root);
    if (strlen(text) <= REQUEST_SIZE_MAX)
        return text;
    free(text);
    return NULL;
}

static enum status wrong(char message[static REQUEST_TEXT_MESSAGE_SIZE], const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static enum status wrong(char message[static REQUEST_TEXT_MESSAGE_SIZE], const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, REQUEST_TEXT_MESSAGE_SIZE, format, arguments);
    va_end(arguments);
    return STATUS_INVALID;
}

static bool is_too_deep(const char *bytes, size_t size)
{
    int depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < size; i++) {
        if (quoted && bytes[i] == '\\')
            i++;
        else if (bytes[i] == '"')
            quoted = !quoted;
        else if (!quoted && (bytes[i] == '{' || bytes[i] == '[') && ++depth > DEPTH)
            return true;
        else if (!quoted && (bytes[i] == '}' || bytes[i] == ']'))
            depth--;
    }
    return false;
}

/* At most `most` texts of less than `size` bytes. */
static bool take_list(const json_t *value, size_t most, size_t size, char ***texts, size_t *taken)
{
    size_t count = json_array_size(value);
    if (count == 0 || count > most)
        return false;
    *texts = calloc(count, sizeof **texts);
    assert(*texts != NULL);
    for (size_t i = 0; i < count; i++) {
        const char *text = json_string_value(json_array_get(value, i));
        if (text == NULL || text[0] == '\0' || strlen(text) >= size || !is_plain(text))
            return false;
        (*texts)[*taken] = strdup(text);
        assert((*texts)[*taken] != NULL);
        ++*taken;
    }
    return true;
}

static bool take_names(const json_t *value, struct request *request)
{
    if (!take_list(value, REQUEST_NAMES, REQUEST_NAME_SIZE, &request->names, &request->name_count))
        return false;
    for (size_t i = 0; i < request->name_count; i++)
        if (request->names[i][0] == '.' || strchr(request->names[i], '/') != NULL)
            return false;
    return true;
}

static bool take_action(const json_t *value, enum request_action *action)
{
    const char *text = json_string_value(value);
    for (unsigned i = 0; text != NULL && i < ACTIONS; i++)
        if (strcmp(text, action_names[i]) == 0) {
            *action = (enum request_action)i;
            return true;
        }
    return false;
}

static bool take_positive(const json_t *value, uint64_t *number)
{
    if (!json_is_integer(value) || json_integer_value(value) <= 0)
        return false;
    *number = (uint64_t)json_integer_value(value);
    return true;
}

static bool take_reason(const json_t *value, char reason[static REQUEST_REASON_SIZE])
{
    const char *text = json_string_value(value);
    if (text == NULL || text[0] == '\0' || strlen(text) >= REQUEST_REASON_SIZE || !is_plain(text))
        return false;
    snprintf(reason, REQUEST_REASON_SIZE, "%s", text);
    return true;
}

static bool take_flag(const json_t *value, bool *flag)
{
    *flag = json_is_true(value);
    return json_is_boolean(value);
}

static bool take_since(const json_t *value, int64_t *since_ns)
{
    *since_ns = json_integer_value(value);
    return json_is_integer(value) && *since_ns != INT64_MIN;
}

/* One member by its name; false when it is wrong, or none of this kind of request. */
static bool take_member(const char *key, const json_t *value, struct request *request)
{
    const bool replay = request->kind == REQUEST_REPLAY, quarantine = request->kind == REQUEST_QUARANTINE;
    if (strcmp(key, "kind") == 0)
        return true;
    if (strcmp(key, "tickets") == 0)
        return !quarantine &&
               take_list(value, REQUEST_TICKETS, REQUEST_TICKET_SIZE, &request->tickets, &request->ticket_count);
    if (strcmp(key, "names") == 0)
        return quarantine && take_names(value, request);
    if (strcmp(key, "action") == 0)
        return quarantine && take_action(value, &request->action);
    if (strcmp(key, "reason") == 0)
        return !replay && take_reason(value, request->reason);
    if (strcmp(key, "since_ns") == 0)
        return replay && take_since(value, &request->since_ns);
    if (strcmp(key, "first_sequence") == 0)
        return replay && take_positive(value, &request->first_sequence);
    if (strcmp(key, "last_sequence") == 0)
        return replay && take_positive(value, &request->last_sequence);
    if (strcmp(key, "last") == 0)
        return replay && take_positive(value, &request->last_count);
    if (strcmp(key, "now") == 0)
        return replay && take_flag(value, &request->now);
    if (strcmp(key, "dry_run") == 0)
        return replay && take_flag(value, &request->dry_run);
    return false;
}

static enum status check_whole(const struct request *request, char message[static REQUEST_TEXT_MESSAGE_SIZE])
{
    if (request->kind == REQUEST_ACCEPT_LOSS)
        return request->ticket_count > 0 && request->reason[0] != '\0'
                   ? STATUS_OK
                   : wrong(message, "the acceptance of a loss needs tickets and a reason");
    if (request->kind == REQUEST_QUARANTINE)
        return request->name_count > 0 || request->action == REQUEST_LIST || request->action == REQUEST_RECHECK
                   ? STATUS_OK
                   : wrong(message, "names are missing");
    if (request->first_sequence > request->last_sequence ||
        (request->first_sequence == 0 && request->last_sequence != 0))
        return wrong(message, "the range of sequences does not begin before its end");
    int selections = (request->ticket_count > 0) + (request->since_ns != INT64_MIN) + (request->first_sequence != 0) +
                     (request->last_count != 0);
    return selections == 1
               ? STATUS_OK
               : wrong(message, "a replay needs one of tickets, since_ns, first_sequence with last_sequence, or last");
}

enum status request_text_decode(const char *bytes, size_t size, struct request *request,
                                char message[static REQUEST_TEXT_MESSAGE_SIZE])
{
    json_error_t error;
    const char *key;
    json_t *value;

    if (is_too_deep(bytes, size))
        return wrong(message, "it is nested too deeply");
    json_t *root = json_loadb(bytes, size, JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object(root)) {
        json_decref(root);
        return wrong(message, "it is no JSON object");
    }
    request->since_ns = INT64_MIN;
    const char *kind = json_string_value(json_object_get(root, "kind"));
    unsigned number = 0;
    while (kind != NULL && number < KINDS && strcmp(kind, kind_names[number]) != 0)
        number++;
    request->kind = (enum request_kind)number;
    enum status status = kind != NULL && number < KINDS ? STATUS_OK : wrong(message, "its kind is not known here");
    if (status == STATUS_OK && request->kind == REQUEST_QUARANTINE && json_object_get(root, "action") == NULL)
        status = wrong(message, "the action is missing");
    json_object_foreach(root, key, value) if (status == STATUS_OK && !take_member(key, value, request)) status =
        is_word(key) ? wrong(message, "its member %s is wrong, or does not belong there", key)
                     : wrong(message, "one of its members does not belong there");
    json_decref(root);
    if (status == STATUS_OK)
        status = check_whole(request, message);
    if (status != STATUS_OK)
        request_deinit(request);
    return status;
}
