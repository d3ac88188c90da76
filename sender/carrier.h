// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_CARRIER_H
#define DIODECAST_SENDER_CARRIER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/status.h"

/* Whether the interface of the link has a carrier (rtnetlink(7)). One thread. */
struct carrier;

struct passed;
/* Subscribes and learns the present state. `interface` is borrowed. With `passed` (sender/passed.h), which may be NULL,
 * the next socket of that is used. Problems are logged. */
MUST_CHECK enum status carrier_open(const char *interface, struct passed *passed, struct carrier **carrier);
void carrier_close(struct carrier *carrier);
int carrier_fd(const struct carrier *carrier);
/* Reads what the kernel has to say. */
void carrier_read(struct carrier *carrier);
/* Asks for the present state: events may come up to a second late. */
void carrier_ask(struct carrier *carrier);
/* Set up, and with a carrier; an interface that was removed has none. */
bool carrier_is_up(const struct carrier *carrier);
/* How often it was lost since the interface exists (IFLA_CARRIER_DOWN_COUNT, Linux 4.16). */
uint32_t carrier_losses(const struct carrier *carrier);

#endif
