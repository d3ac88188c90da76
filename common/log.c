// SPDX-License-Identifier: Apache-2.0
#include "common/log.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/utf8.h"

enum {
    MESSAGE_SIZE = 6144,
    LINE_SIZE = 8192,
    DELIVERED_PREFIX = 26, /* SEQUENCE-SENDERID- */
    NAME_BEGINS = 0x0e,
    NAME_ENDS = 0x0f,
    DETAIL_BEGINS = 0x10,
    DETAIL_ENDS = 0x11
};

static struct {
    const char *name;
    enum log_level threshold;
    bool journal;
    bool hides_names;
    uint8_t name_key[NAMEKEY_SIZE];
} settings = {.name = NULL, .threshold = LOG_LEVEL_INFO, .journal = false};

/* systemd.exec(5): JOURNAL_STREAM is DEVICE:INODE of the stream that it made; a shell may since have redirected ours.
 */
static bool stderr_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    struct stat stat;
    if (stream == NULL || fstat(STDERR_FILENO, &stat) != 0)
        return false;
    char expected[64];
    snprintf(expected, sizeof expected, "%ju:%ju", (uintmax_t)stat.st_dev, (uintmax_t)stat.st_ino);
    return strcmp(expected, stream) == 0;
}

void log_open(const char *name, enum log_level threshold)
{
    settings.name = name;
    settings.threshold = threshold;
    settings.journal = stderr_is_journal();
}

void log_hide_names(const uint8_t key[static NAMEKEY_SIZE])
{
    memcpy(settings.name_key, key, NAMEKEY_SIZE);
    settings.hides_names = true;
}

const char *log_delivered(const char *name)
{
    size_t length = strlen(name);
    return name + (length < DELIVERED_PREFIX ? length : DELIVERED_PREFIX);
}

/*
 * Where `text` begins with a mark: how many bytes of it are passed over, and in `instead` what stands in their place. A
 * message that was cut may lack the end of a name.
 */
static size_t pass_mark(const char *text, size_t size, char instead[static NAMEKEY_TEXT_SIZE])
{
    static const char hidden[] = "(not shown)";
    _Static_assert(sizeof hidden <= NAMEKEY_TEXT_SIZE, "fits");
    instead[0] = '\0';
    if (*text < NAME_BEGINS || *text > DETAIL_ENDS)
        return 0;
    if (!settings.hides_names || *text == NAME_ENDS || *text == DETAIL_ENDS)
        return 1;
    const char *end = memchr(text, *text == NAME_BEGINS ? NAME_ENDS : DETAIL_ENDS, size);
    size_t length = end != NULL ? (size_t)(end - text) : size;
    if (*text == NAME_BEGINS)
        namekey_text(settings.name_key, text + 1, length - 1, instead);
    else
        memcpy(instead, hidden, sizeof hidden);
    return end != NULL ? length + 1 : length;
}

/* Appends `message` with control characters and invalid bytes as \xNN, as much as fits; returns the new length. */
static size_t append_escaped(char line[static LINE_SIZE], size_t used, const char *message)
{
    static const char digits[] = "0123456789abcdef";
    const char *text = message;
    size_t size = strlen(message);
    while (size > 0) {
        uint32_t code = 0;
        char instead[NAMEKEY_TEXT_SIZE];
        size_t mark = pass_mark(text, size, instead);
        if (mark > 0) {
            size_t room = strlen(instead);
            if (used + room + sizeof "...\n" > LINE_SIZE)
                return used;
            memcpy(line + used, instead, room);
            used += room;
            text += mark;
            size -= mark;
            continue;
        }
        size_t length = utf8_decode(text, size, &code);
        bool plain = length > 0 && !utf8_is_control(code);
        if (length == 0)
            length = 1;
        if (used + 4 * length + sizeof "...\n" > LINE_SIZE) {
            memcpy(line + used, "...", 3);
            return used + 3;
        }
        for (size_t i = 0; i < length; i++) {
            if (plain) {
                line[used++] = text[i];
            } else {
                line[used++] = '\\';
                line[used++] = 'x';
                line[used++] = digits[(unsigned char)text[i] >> 4];
                line[used++] = digits[text[i] & 15];
            }
        }
        text += length;
        size -= length;
    }
    return used;
}

static const char *level_text(enum log_level level)
{
    switch (level) {
    case LOG_LEVEL_ERROR:
        return "error: ";
    case LOG_LEVEL_WARNING:
        return "warning: ";
    case LOG_LEVEL_NOTICE:
    case LOG_LEVEL_INFO:
        return "";
    case LOG_LEVEL_DEBUG:
        return "debug: ";
    }
    return "";
}

void log_print(enum log_level level, const char *format, ...)
{
    int saved_errno = errno;
    if (level > settings.threshold)
        return;
    char message[MESSAGE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    errno = saved_errno;
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);

    char line[LINE_SIZE];
    const char *name = settings.name != NULL ? settings.name : program_invocation_short_name;
    int prefix = settings.journal ? snprintf(line, sizeof line, "<%d>", (int)level)
                                  : snprintf(line, 256, "%s: %s", name, level_text(level));
    size_t used = prefix < 0 ? 0 : prefix > 255 ? 255 : (size_t)prefix;
    used = append_escaped(line, used, message);
    line[used++] = '\n';
    /* Nothing is left to be told when standard error does not take it. */
    ssize_t written = write(STDERR_FILENO, line, used);
    (void)written;
    errno = saved_errno;
}

int log_limit_pass(struct log_limit *limit, uint64_t now_ns, uint64_t *suppressed)
{
    if (now_ns < limit->next_ns) {
        limit->suppressed++;
        return 0;
    }
    *suppressed = limit->suppressed;
    limit->suppressed = 0;
    limit->next_ns = now_ns + limit->interval_ns;
    return 1;
}
