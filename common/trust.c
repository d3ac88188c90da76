// SPDX-License-Identifier: Apache-2.0
#include "common/trust.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/clock.h"
#include "common/keyfile.h"
#include "common/log.h"
#include "common/utf8.h"

enum { PATH_SIZE = 4096 + 256, SECRET_FILE_SIZE = 158 };
#define TRUST_EXPIRED INT64_MIN

struct trust {
    struct trust_key *keys; /* ascending by sender id, then by key id */
    size_t count;
};

/* A directory that is being read. */
struct reader {
    const char *directory;
    struct trust_reading *reading;
    struct dirent **names;
    size_t name_count;
    struct trust *trust;
    size_t capacity;
};

static int compare_ids(uint32_t a, uint32_t b)
{
    return a < b ? -1 : a > b;
}

static int compare_keys(const void *a, const void *b)
{
    const struct trust_key *x = a, *y = b;
    int order = compare_ids(signature_sender_id(&x->public_key), signature_sender_id(&y->public_key));
    return order != 0 ? order : memcmp(x->public_key.key_id, y->public_key.key_id, SIGNATURE_KEY_ID_SIZE);
}

/* How many bytes of the text, from its start, may be shown: UTF-8 without control characters. */
static size_t printable_size(const char *text, size_t size)
{
    size_t shown = 0;
    while (shown < size) {
        uint32_t code;
        size_t length = utf8_decode(text + shown, size - shown, &code);
        if (length == 0 || utf8_is_control(code))
            break;
        shown += length;
    }
    return shown;
}

__attribute__((format(printf, 3, 4))) static void tell(struct reader *reader, unsigned *counter, const char *format,
                                                       ...)
{
    char message[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    struct trust_reading *reading = reader->reading;
    if (counter == &reading->problems)
        log_error("%s %s", reading->role, message);
    else
        log_warning("%s %s", reading->role, message);
    if (reading->problems + reading->warnings == 0)
        snprintf(reading->problem, sizeof reading->problem, "%.*s", (int)printable_size(message, strlen(message)),
                 message);
    (*counter)++;
}

#define PROBLEM(reader, ...) tell(reader, &(reader)->reading->problems, __VA_ARGS__)
#define WARNING(reader, ...) tell(reader, &(reader)->reading->warnings, __VA_ARGS__)

/* DIRECTORY/NAMESUFFIX; false, told, when it is too long. */
static bool make_path(struct reader *reader, const char *name, const char *suffix, char path[static PATH_SIZE])
{
    int length = snprintf(path, PATH_SIZE, "%s/%s%s", reader->directory, name, suffix);
    if (length > 0 && length < PATH_SIZE)
        return true;
    PROBLEM(reader, "%s: the path is too long", name);
    return false;
}

static bool ends_in(const char *name, const char *suffix)
{
    size_t length = strlen(name), size = strlen(suffix);
    return length > size && strcmp(name + length - size, suffix) == 0;
}

/* minisign's secret keys, with and without a password, are one line of base64 of this size behind the comment. */
static bool is_secret_key(const char *path)
{
    char *text, reason[256];
    size_t size;
    uint8_t decoded[SECRET_FILE_SIZE];
    if (keyfile_read(path, false, &text, &size, reason) != STATUS_OK)
        return false;
    bool secret = keyfile_decode_line(text, size, 1, decoded, sizeof decoded) && memcmp(decoded, "Ed", 2) == 0;
    memset(decoded, 0, sizeof decoded);
    keyfile_free(text);
    return secret;
}

/* Everything that can't be shown not to be there revokes. */
static void read_revoked(struct reader *reader, struct trust_key *key)
{
    char path[PATH_SIZE], *text, reason[256];
    const char *line;
    size_t size, length;
    struct stat meta;
    if (!make_path(reader, key->name, ".revoked", path))
        return;
    key->revoked = lstat(path, &meta) == 0 || errno != ENOENT;
    if (!key->revoked || keyfile_read(path, false, &text, &size, reason) != STATUS_OK)
        return;
    if (keyfile_find_line(text, size, 0, &line, &length)) {
        if (length >= sizeof key->why_revoked)
            length = sizeof key->why_revoked - 1;
        memcpy(key->why_revoked, line, printable_size(line, length));
    }
    keyfile_free(text);
}

static void read_expiry(struct reader *reader, struct trust_key *key)
{
    char path[PATH_SIZE], *text, reason[256], when[64] = "";
    const char *line;
    size_t size, length;
    key->expires_ns = TRUST_NEVER;
    if (!make_path(reader, key->name, ".expires", path))
        return;
    enum status status = keyfile_read(path, false, &text, &size, reason);
    if (status == STATUS_NOT_FOUND)
        return;
    key->expires_ns = TRUST_EXPIRED;
    if (status != STATUS_OK) {
        PROBLEM(reader, "%s; until that is mended the key counts as expired", reason);
        return;
    }
    if (keyfile_find_line(text, size, 0, &line, &length) && length < sizeof when)
        memcpy(when, line, length);
    keyfile_free(text);
    if (!clock_parse_rfc3339(when, &key->expires_ns)) {
        key->expires_ns = TRUST_EXPIRED;
        PROBLEM(reader,
                "%s:1: this is no date such as 2027-06-30 and no time such as 2027-06-30T12:00:00Z; until that is "
                "mended the key counts as expired",
                path);
    }
}

/* Says what is wrong with the key beside those before it. */
static bool is_double(struct reader *reader, const struct trust_key *key)
{
    const struct signature_public *public_key = &key->public_key;
    for (size_t i = 0; i < reader->trust->count; i++) {
        const struct trust_key *other = &reader->trust->keys[i];
        if (memcmp(other->public_key.key, public_key->key, SIGNATURE_PUBLIC_SIZE) == 0)
            PROBLEM(reader, "files %s/%s.pub and %s/%s.pub hold the same key; remove one of them", reader->directory,
                    other->name, reader->directory, key->name);
        else if (memcmp(other->public_key.key_id, public_key->key_id, SIGNATURE_KEY_ID_SIZE) == 0 ||
                 (reader->reading->by_sender_id &&
                  signature_sender_id(&other->public_key) == signature_sender_id(public_key)))
            PROBLEM(reader, "files %s/%s.pub and %s/%s.pub name the same sender %08x; remove one of them",
                    reader->directory, other->name, reader->directory, key->name, signature_sender_id(public_key));
        else
            continue;
        return true;
    }
    return false;
}

static void read_key(struct reader *reader, const char *file)
{
    struct trust_key key = {.expires_ns = TRUST_NEVER};
    char path[PATH_SIZE], reason[256];
    size_t length = strlen(file) - strlen(".pub");
    if (!make_path(reader, file, "", path))
        return;
    if (printable_size(file, strlen(file)) != strlen(file) || length >= sizeof key.name) {
        PROBLEM(reader, "%s: rename it: its name is not UTF-8, too long, or has control characters", path);
        return;
    }
    memcpy(key.name, file, length);
    if (signature_public_load(path, &key.public_key, reason) != STATUS_OK) {
        PROBLEM(reader, "%s", reason);
        return;
    }
    if (is_double(reader, &key))
        return;
    if (reader->trust->count == reader->capacity) {
        PROBLEM(reader, "%s: there are more than %zu keys in the directory", path, reader->capacity);
        return;
    }
    read_revoked(reader, &key);
    read_expiry(reader, &key);
    reader->trust->keys[reader->trust->count++] = key;
}

/* A slip in a name would leave a key in force that somebody wanted out of use. */
static void check_companion(struct reader *reader, const char *file, const char *suffix)
{
    char name[TRUST_NAME_SIZE];
    size_t length = strlen(file) - strlen(suffix);
    if (!ends_in(file, suffix) || length >= sizeof name)
        return;
    memcpy(name, file, length);
    name[length] = '\0';
    for (size_t i = 0; i < reader->name_count; i++) {
        const char *other = reader->names[i]->d_name;
        if (strncmp(other, name, length) == 0 && strcmp(other + length, ".pub") == 0)
            return;
    }
    WARNING(reader, "%s/%s: has no effect, because there is no %s.pub beside it", reader->directory, file, name);
}

static void read_names(struct reader *reader)
{
    char path[PATH_SIZE];
    for (size_t i = 0; i < reader->name_count; i++) {
        const char *file = reader->names[i]->d_name;
        if (!make_path(reader, file, "", path))
            continue;
        if (is_secret_key(path))
            PROBLEM(reader,
                    "%s is a secret key, which has no place on this side: remove it, and take it out of use if "
                    "it was carried here by mistake",
                    path);
        else if (ends_in(file, ".pub"))
            read_key(reader, file);
    }
    for (size_t i = 0; i < reader->name_count; i++) {
        check_companion(reader, reader->names[i]->d_name, ".expires");
        check_companion(reader, reader->names[i]->d_name, ".revoked");
    }
    if (reader->trust->count == 0 && !reader->reading->may_be_empty && reader->reading->problems == 0)
        PROBLEM(reader,
                "directory %s has no *.pub file; copy the sender's public key there: install -m 644 sender.pub %s",
                reader->directory, reader->directory);
}

static int is_not_hidden(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

enum status trust_read(const char *directory, struct trust_reading *reading, struct trust **trust)
{
    struct reader reader = {.directory = directory, .reading = reading, .capacity = TRUST_KEYS};
    *trust = NULL;
    int found = scandir(directory, &reader.names, is_not_hidden, alphasort);
    if (found < 0) {
        int error = errno;
        PROBLEM(&reader, "directory %s can't be read: %s", directory, strerror(error));
        return error == ENOENT ? STATUS_NOT_FOUND : status_from_errno(error);
    }
    reader.name_count = (size_t)found;
    if (reader.capacity > reader.name_count)
        reader.capacity = reader.name_count;
    reader.trust = calloc(1, sizeof *reader.trust);
    struct trust_key *keys = calloc(reader.capacity + 1, sizeof *keys);
    assert(reader.trust != NULL && keys != NULL);
    reader.trust->keys = keys;
    read_names(&reader);
    for (size_t i = 0; i < reader.name_count; i++)
        free(reader.names[i]);
    free(reader.names);
    qsort(keys, reader.trust->count, sizeof *keys, compare_keys);
    *trust = reader.trust;
    return STATUS_OK;
}

enum status trust_load(const char *directory, struct trust **trust)
{
    struct trust_reading reading = {.role = "trusted key", .by_sender_id = true};
    enum status status = trust_read(directory, &reading, trust);
    if (status != STATUS_OK || reading.problems == 0)
        return status;
    trust_destroy(*trust);
    *trust = NULL;
    return STATUS_INVALID;
}

struct trust *trust_from_entries(const struct trust_key *keys, size_t count)
{
    struct trust *trust = calloc(1, sizeof *trust);
    assert(trust != NULL);
    trust->keys = calloc(count + 1, sizeof *keys);
    assert(trust->keys != NULL);
    if (count > 0)
        memcpy(trust->keys, keys, count * sizeof *keys);
    trust->count = count;
    qsort(trust->keys, count, sizeof *keys, compare_keys);
    return trust;
}

struct trust *trust_from_keys(const struct signature_public *keys, size_t count)
{
    struct trust *trust = trust_from_entries(NULL, 0);
    free(trust->keys);
    trust->keys = calloc(count + 1, sizeof *trust->keys);
    assert(trust->keys != NULL);
    for (size_t i = 0; i < count; i++)
        trust->keys[i] = (struct trust_key){.public_key = keys[i], .expires_ns = TRUST_NEVER};
    trust->count = count;
    qsort(trust->keys, count, sizeof *trust->keys, compare_keys);
    return trust;
}

const struct trust_key *trust_find_sender(const struct trust *trust, uint32_t sender_id)
{
    size_t low = 0, high = trust->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = compare_ids(signature_sender_id(&trust->keys[middle].public_key), sender_id);
        if (order == 0)
            return &trust->keys[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

const struct signature_public *trust_find(const struct trust *trust, uint32_t sender_id)
{
    const struct trust_key *key = trust_find_sender(trust, sender_id);
    return key == NULL ? NULL : &key->public_key;
}

const struct trust_key *trust_find_key(const struct trust *trust, const uint8_t key_id[static SIGNATURE_KEY_ID_SIZE])
{
    for (size_t i = 0; i < trust->count; i++)
        if (memcmp(trust->keys[i].public_key.key_id, key_id, SIGNATURE_KEY_ID_SIZE) == 0)
            return &trust->keys[i];
    return NULL;
}

const struct trust_key *trust_find_name(const struct trust *trust, const char *name)
{
    for (size_t i = 0; i < trust->count; i++)
        if (strcmp(trust->keys[i].name, name) == 0)
            return &trust->keys[i];
    return NULL;
}

bool trust_has_bytes(const struct trust *trust, const uint8_t key[static SIGNATURE_PUBLIC_SIZE])
{
    for (size_t i = 0; i < trust->count; i++)
        if (memcmp(trust->keys[i].public_key.key, key, SIGNATURE_PUBLIC_SIZE) == 0)
            return true;
    return false;
}

const struct trust_key *trust_at(const struct trust *trust, size_t index)
{
    assert(index < trust->count);
    return &trust->keys[index];
}

size_t trust_count(const struct trust *trust)
{
    return trust->count;
}

void trust_destroy(struct trust *trust)
{
    if (trust == NULL)
        return;
    free(trust->keys);
    free(trust);
}
