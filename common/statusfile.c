// SPDX-License-Identifier: Apache-2.0
#include "common/statusfile.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"

enum {
    SCHEMA_VERSION = 1,
    VALID_FOR_S = 5,
    BOOT_ID_SIZE = 64,
    ACTION_SIZE = 512,
    REASON_COUNT = 64 /* codes are static strings of our own, so more is our bug */
};

struct statusfile {
    const char *path;
    char temporary[PATH_MAX];
    char boot_id[BOOT_ID_SIZE];
    struct log_limit limit;
};

static void read_boot_id(char text[static BOOT_ID_SIZE])
{
    text[0] = '\0';
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t got = read(fd, text, BOOT_ID_SIZE - 1);
    close(fd);
    text[got > 0 ? got : 0] = '\0';
    text[strcspn(text, "\n")] = '\0';
}

struct statusfile *statusfile_create(const char *path)
{
    struct statusfile *file = calloc(1, sizeof *file);
    if (file == NULL)
        return NULL;
    file->path = path;
    int length = snprintf(file->temporary, sizeof file->temporary, "%s.tmp", path);
    if (length < 0 || (size_t)length >= sizeof file->temporary) {
        free(file);
        errno = ENAMETOOLONG;
        return NULL;
    }
    file->limit.interval_ns = 60 * CLOCK_SECOND_NS;
    read_boot_id(file->boot_id);
    return file;
}

void statusfile_destroy(struct statusfile *file)
{
    free(file);
}

static bool write_all(int fd, const char *text, size_t size)
{
    while (size > 0) {
        ssize_t written = write(fd, text, size);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return false;
        text += written;
        size -= (size_t)written;
    }
    return true;
}

static bool replace(const struct statusfile *file, const char *text)
{
    int fd = open(file->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0640);
    if (fd < 0)
        return false;
    bool good = fchmod(fd, 0640) == 0 && write_all(fd, text, strlen(text)) && write_all(fd, "\n", 1);
    int error = errno;
    close(fd);
    errno = error;
    return good && rename(file->temporary, file->path) == 0;
}

void statusfile_write(struct statusfile *file, json_t *root, int64_t realtime_ns)
{
    char written_at[CLOCK_RFC3339_SIZE];
    clock_rfc3339(realtime_ns, written_at);
    json_object_set_new(root, "schema_version", json_integer(SCHEMA_VERSION));
    json_object_set_new(root, "written_at", json_string(written_at));
    json_object_set_new(root, "valid_for_s", json_integer(VALID_FOR_S));
    json_object_set_new(root, "pid", json_integer(getpid()));
    json_object_set_new(root, "boot_id", json_string(file->boot_id));
    json_object_set_new(root, "program", json_string(program_invocation_short_name));
    json_object_set_new(root, "version", json_string(DIODECAST_VERSION));
    /* As one text: json_dumpfd() makes a system call of every token. */
    char *text = json_dumps(root, JSON_INDENT(2));
    json_decref(root);
    if (text == NULL)
        errno = ENOMEM;
    if (text == NULL || !replace(file, text)) {
        int error = errno;
        uint64_t suppressed = 0;
        if (log_limit_pass(&file->limit, clock_monotonic_ns(), &suppressed))
            log_warning("status file %s can't be written: %s; monitoring sees old figures until it can", file->path,
                        strerror(error));
    }
    free(text);
}

struct reason {
    const char *code;
    enum health_level level;
    int64_t since_ns;
    char action[ACTION_SIZE];
};

struct health {
    size_t count;
    struct reason reasons[REASON_COUNT];
};

struct health *health_create(void)
{
    return calloc(1, sizeof(struct health));
}

void health_destroy(struct health *health)
{
    free(health);
}

static struct reason *find_reason(struct health *health, const char *code)
{
    for (size_t i = 0; i < health->count; i++)
        if (strcmp(health->reasons[i].code, code) == 0)
            return &health->reasons[i];
    return NULL;
}

void health_set(struct health *health, enum health_level level, const char *code, int64_t realtime_ns,
                const char *action_format, ...)
{
    struct reason *reason = find_reason(health, code);
    if (reason == NULL) {
        assert(health->count < REASON_COUNT);
        reason = &health->reasons[health->count++];
        reason->code = code;
        reason->since_ns = realtime_ns;
    }
    reason->level = level;
    va_list arguments;
    va_start(arguments, action_format);
    vsnprintf(reason->action, sizeof reason->action, action_format, arguments);
    va_end(arguments);
}

void health_clear(struct health *health, const char *code)
{
    struct reason *reason = find_reason(health, code);
    if (reason == NULL)
        return;
    size_t behind = (size_t)(health->reasons + health->count - (reason + 1));
    memmove(reason, reason + 1, behind * sizeof *reason);
    health->count--;
}

static const char *level_text(enum health_level level)
{
    switch (level) {
    case HEALTH_OK:
        return "ok";
    case HEALTH_DEGRADED:
        return "degraded";
    case HEALTH_FAILED:
        return "failed";
    }
    return "failed";
}

/* JSON takes only UTF-8; a text that was cut inside a character, or a file name, may be none. */
static json_t *text_to_json(const char *text)
{
    json_t *value = json_string(text);
    if (value != NULL)
        return value;
    char ascii[ACTION_SIZE];
    snprintf(ascii, sizeof ascii, "%s", text);
    for (char *next = ascii; *next != '\0'; next++)
        if ((unsigned char)*next >= 0x80)
            *next = '?';
    return json_string(ascii);
}

void health_to_json(const struct health *health, json_t *root)
{
    enum health_level worst = HEALTH_OK;
    json_t *reasons = json_array();
    for (size_t i = 0; i < health->count; i++) {
        const struct reason *reason = &health->reasons[i];
        if (reason->level > worst)
            worst = reason->level;
        char since[CLOCK_RFC3339_SIZE];
        clock_rfc3339(reason->since_ns, since);
        json_t *entry = json_object();
        json_object_set_new(entry, "code", json_string(reason->code));
        json_object_set_new(entry, "level", json_string(level_text(reason->level)));
        json_object_set_new(entry, "since", json_string(since));
        json_object_set_new(entry, "action", text_to_json(reason->action));
        json_array_append_new(reasons, entry);
    }
    json_object_set_new(root, "health", json_string(level_text(worst)));
    json_object_set_new(root, "reasons", reasons);
}
