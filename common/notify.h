// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_NOTIFY_H
#define DIODECAST_COMMON_NOTIFY_H

/* What systemd is told (sd_notify(3), libsystemd). All are no-ops outside systemd. */
void notify_ready(const char *status);
void notify_status(const char *format, ...) __attribute__((format(printf, 1, 2)));
void notify_watchdog(void);
void notify_stopping(void);

#endif
