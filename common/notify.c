// SPDX-License-Identifier: Apache-2.0
#include "common/notify.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/log.h"

enum { STATUS_TEXT_SIZE = 512 };

static int notify_fd = -1;

void notify_open(void)
{
    const char *name = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (name == NULL || notify_fd >= 0)
        return;
    size_t length = strlen(name);
    if ((name[0] != '/' && name[0] != '@') || length < 2 || length >= sizeof address.sun_path) {
        log_warning("NOTIFY_SOCKET is neither a path nor an abstract name: the service manager is not told anything");
        return;
    }
    memcpy(address.sun_path, name, length);
    if (name[0] == '@')
        address.sun_path[0] = '\0';
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + (name[0] == '/'));
    notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (notify_fd >= 0 && connect(notify_fd, (const struct sockaddr *)&address, size) == 0)
        return;
    log_warning("the service manager can't be told anything, at %s: %s", name, strerror(errno));
    notify_close();
}

void notify_close(void)
{
    if (notify_fd >= 0)
        close(notify_fd);
    notify_fd = -1;
}

/* The protocol separates assignments by newlines; a status text is one line. */
static void one_line(char *text)
{
    for (; *text != '\0'; text++)
        if (*text == '\n')
            *text = ' ';
}

/* Nothing is left to be done when the service manager does not take it: it misses the next watchdog, or not. */
static void tell(const char *state, const char *status)
{
    char text[STATUS_TEXT_SIZE], message[STATUS_TEXT_SIZE + 32];
    if (notify_fd < 0)
        return;
    snprintf(text, sizeof text, "%s", status);
    one_line(text);
    int length = snprintf(message, sizeof message, "%s%s%s", state, text[0] != '\0' ? "STATUS=" : "", text);
    ssize_t written = write(notify_fd, message, (size_t)length);
    (void)written;
}

void notify_ready(const char *status)
{
    tell("READY=1\n", status);
}

void notify_status(const char *format, ...)
{
    char text[STATUS_TEXT_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    tell("", text);
}

void notify_watchdog(void)
{
    tell("WATCHDOG=1", "");
}

void notify_stopping(void)
{
    tell("STOPPING=1", "");
}
