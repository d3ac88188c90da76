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

enum { MESSAGE_SIZE = 6144, LINE_SIZE = 8192 };

static struct {
    const char *name;
    enum log_level threshold;
    bool journal;
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

/* Appends `message` with control characters and invalid bytes as \xNN, as much as fits; returns the new length. */
static size_t append_escaped(char line[static LINE_SIZE], size_t used, const char *message)
{
    static const char digits[] = "0123456789abcdef";
    const char *text = message;
    size_t size = strlen(message);
    while (size > 0) {
        uint32_t code = 0;
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
