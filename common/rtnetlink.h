// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_RTNETLINK_H
#define DIODECAST_COMMON_RTNETLINK_H

#include <stdint.h>

#include "common/socket.h"
#include "common/status.h"

/*
 * Questions to the kernel about routes and queues (rtnetlink(7)), over a socket that may belong to another network
 * namespace than this process: the answers are about the socket's. The kernel answers within the send, so nothing here
 * waits. One thread for a socket.
 */

/* As socket_route(): MTU of the route to `peer` and the name of its interface. Logs and returns STATUS_SYSTEM when
 * there is no such route. */
MUST_CHECK enum status rtnetlink_route(int fd, const struct socket_address *peer, uint32_t *mtu,
                                       char interface[static 16]);

/* What the queue of an interface has dropped since it was set up, all of its sub-queues together; 0 when it can't be
 * told. */
uint64_t rtnetlink_queue_drops(int fd, const char *interface);

#endif
