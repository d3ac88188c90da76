// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_REQUEST_TEXT_H
#define DIODECAST_COMMON_REQUEST_TEXT_H

#include <stddef.h>

#include "common/status.h"

struct request;

/* Requests as the JSON of their files. Pure. */
enum { REQUEST_TEXT_MESSAGE_SIZE = 160 };

/* What was asked for, malloc'ed, or NULL when it is longer than REQUEST_SIZE_MAX. */
char *request_text_encode(const struct request *request);

/*
 * Reads what anybody may have written: every member is checked, and none is left out or unknown. On STATUS_OK what was
 * asked for is in *request, whose other members (id, requester, made_at_ns) are as before; it is freed with
 * request_deinit(). STATUS_INVALID: `message` says for an operator what is wrong.
 */
MUST_CHECK enum status request_text_decode(const char *bytes, size_t size, struct request *request,
                                           char message[static REQUEST_TEXT_MESSAGE_SIZE]);

#endif
