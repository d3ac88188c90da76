// SPDX-License-Identifier: Apache-2.0
#include "common/notify.h"

#include <stdarg.h>
#include <stdio.h>
#include <systemd/sd-daemon.h>

enum { STATUS_TEXT_SIZE = 512 };

/* The protocol separates assignments by newlines; a status text is one line. */
static void one_line(char *text)
{
    for (; *text != '\0'; text++)
        if (*text == '\n')
            *text = ' ';
}

void notify_ready(const char *status)
{
    char text[STATUS_TEXT_SIZE];
    snprintf(text, sizeof text, "%s", status);
    one_line(text);
    (void)sd_notifyf(0, "READY=1\nSTATUS=%s", text);
}

void notify_status(const char *format, ...)
{
    char text[STATUS_TEXT_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    one_line(text);
    (void)sd_notifyf(0, "STATUS=%s", text);
}

void notify_watchdog(void)
{
    (void)sd_notify(0, "WATCHDOG=1");
}

void notify_stopping(void)
{
    (void)sd_notify(0, "STOPPING=1");
}
