// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_ERRAND_H
#define DIODECAST_RECEIVER_ERRAND_H

#include <stdbool.h>

#include "common/mailbox.h"
#include "common/request.h"

/*
 * One request of an operator on its way from the control thread, which answers it in the end, through the stages that
 * carry it out: the first member of struct acceptance and of struct inspection. The kind of its request tells which of
 * them it is.
 */
struct errand {
    struct mailbox_entry entry;          /* first member */
    struct request request;              /* taken */
    void (*done)(struct errand *errand); /* store thread, once decided; or any, when it is too late for that */
    void *context;
    bool decided; /* false: the program ends; the next run decides */
    char message[256];
};

/* Takes what is in *request, of a kind that the receiver knows. NULL when memory is short; then it is still the
 * caller's. */
struct errand *errand_create(struct request *request);
void errand_destroy(struct errand *errand); /* NULL allowed */
/* The answer of one that is decided, as JSON; the caller frees. */
char *errand_answer(const struct errand *errand);

#endif
