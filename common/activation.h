// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_ACTIVATION_H
#define DIODECAST_COMMON_ACTIVATION_H

#include "common/socket.h"
#include "common/status.h"

/*
 * Sockets that the service manager holds and passes (sd_listen_fds(3)): they stay open, and take what arrives, while
 * the service is restarted.
 *
 * fds[i] becomes the UDP socket for lane i, the one bound to the port of `first` plus i, in whatever order they were
 * passed; all are -1 when none was passed. When what was passed is not exactly one socket for each lane, every
 * discrepancy is logged, all are closed and STATUS_INVALID is returned. The caller closes what it gets. At most once,
 * before there are threads: it takes the variables out of the environment.
 */
MUST_CHECK enum status activation_take(const struct socket_address *first, unsigned lanes, int fds[]);

#endif
