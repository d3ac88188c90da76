// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "proto/ticket.h"
#include "tools/command.h"
#include "tools/ticket_words.h"

/* One ticket: in the form that diodecast writes it, what it names, and how much it can carry from high to low. */
static void explain(const char *text)
{
    struct ticket ticket;
    char canonical[TICKET_TEXT_SIZE];

    if (ticket_parse(text, &ticket) != TICKET_GOOD)
        return;
    printf("%s\n  names    ", ticket_format(&ticket, canonical));
    ticket_words_print(stdout, &ticket);
    printf("\n  carries  %u bits\n", ticket_payload_bits(&ticket));
}

int command_ticket(int argc, char **argv)
{
    if (argc < 3 || strcmp(argv[1], "explain") != 0 || argv[2][0] == '-')
        return command_usage("ticket");
    bool good = ticket_words_check(argv + 2, argc - 2);
    for (int i = 2; i < argc; i++)
        explain(argv[i]);
    return good ? EX_OK : EX_DATAERR;
}
