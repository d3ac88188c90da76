// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_PASSED_H
#define DIODECAST_SENDER_PASSED_H

#include <stdbool.h>

#include "common/status.h"

/*
 * The sockets that the service manager has made for the sender (diodecast-sender.socket, sd_listen_fds(3)), with which
 * it needs no network of its own: a UDP socket and an rtnetlink socket with link events for each lane, another of those
 * for the control thread, and an rtnetlink socket for questions. One thread, at start.
 */
struct passed;

/* `*passed` is NULL when none was passed. What is of no use is told, closed, and left out. At most once, before there
 * are threads: it takes the variables out of the environment. */
MUST_CHECK enum status passed_take(struct passed **passed);
/* Closes what nobody took; NULL allowed. */
void passed_destroy(struct passed *passed);

/* The next UDP socket of an address family, which the caller closes; -1 after telling that one is missing. */
int passed_socket(struct passed *passed, bool ipv6);
/* The next rtnetlink socket with link events, likewise. */
int passed_carrier(struct passed *passed);
/* The rtnetlink socket for questions, borrowed; -1 after telling that it is missing. */
int passed_questions(const struct passed *passed);

#endif
