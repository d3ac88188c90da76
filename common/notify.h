// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_NOTIFY_H
#define DIODECAST_COMMON_NOTIFY_H

/*
 * What systemd is told, in the protocol of sd_notify(3). All are no-ops outside systemd, and before notify_open().
 * Connected once, because a sealed daemon (common/sandbox.h) can neither make a socket nor say where to send to, which
 * is what libsystemd does at each call. One thread at a time.
 */
void notify_open(void);
void notify_close(void);
void notify_ready(const char *status);
void notify_status(const char *format, ...) __attribute__((format(printf, 1, 2)));
void notify_watchdog(void);
void notify_stopping(void);

#endif
