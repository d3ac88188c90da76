// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_TOOLS_TICKET_WORDS_H
#define DIODECAST_TOOLS_TICKET_WORDS_H

#include <stdbool.h>
#include <stdio.h>

struct ticket;

/* Tickets for persons. */

/* Prints what the ticket names, without a newline. */
void ticket_words_print(FILE *stream, const struct ticket *ticket);

/* Tells of each text that is no ticket what is wrong with it, on standard error; true when all are right. */
bool ticket_words_check(char *const texts[], int count);

#endif
