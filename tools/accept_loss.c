// SPDX-License-Identifier: Apache-2.0
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "common/log.h"
#include "proto/relpath.h"
#include "tools/ask.h"
#include "tools/command.h"
#include "tools/ticket_words.h"

struct options {
    const char *config;
    const char *reason;
    uint64_t wait_ns;
};

/* False: used wrongly. */
static bool take_options(int argc, char **argv, struct options *options)
{
    static const struct option names[] = {
        {"reason", required_argument, NULL, 'r'},
        {"wait", required_argument, NULL, 'w'},
        {NULL, 0, NULL, 0},
    };
    int option;
    while ((option = getopt_long(argc, argv, "c:", names, NULL)) != -1) {
        if (option == 'c') {
            options->config = optarg;
        } else if (option == 'r') {
            options->reason = optarg;
        } else if (option != 'w' || !ask_take_wait(optarg, &options->wait_ns)) {
            return false;
        }
    }
    return options->config != NULL && options->reason != NULL && optind < argc;
}

/* The reason goes into the audit trail as it is. */
static bool check_reason(const char *reason)
{
    size_t length = strlen(reason);
    const char *wrong = length == 0                     ? "is empty"
                        : length >= REQUEST_REASON_SIZE ? "is too long"
                                                        : relpath_check_text(reason, length);
    if (wrong != NULL)
        log_error("the reason %s; 1 to %d bytes of text are expected, without line breaks", wrong,
                  (int)REQUEST_REASON_SIZE - 1);
    return wrong == NULL;
}

int command_accept_loss(int argc, char **argv)
{
    struct options options = {.wait_ns = ASK_WAIT_NS};
    struct request request = {.kind = REQUEST_ACCEPT_LOSS, .since_ns = INT64_MIN};
    json_t *answer = NULL;

    if (!take_options(argc, argv, &options))
        return command_usage("accept-loss");
    request.tickets = argv + optind;
    request.ticket_count = (size_t)(argc - optind);
    if (request.ticket_count > REQUEST_TICKETS) {
        log_error("%zu tickets are too many for one request, which takes %d", request.ticket_count,
                  (int)REQUEST_TICKETS);
        return EX_USAGE;
    }
    if (!check_reason(options.reason))
        return EX_USAGE;
    if (!ticket_words_check(request.tickets, (int)request.ticket_count))
        return EX_DATAERR;
    snprintf(request.reason, sizeof request.reason, "%s", options.reason);
    struct ask ask = {
        .config = options.config,
        .section = "receiver",
        .key = "state",
        .directory = "requests",
    };
    int code = ask_open(&ask);
    if (code == EX_OK)
        code = ask_post(&ask, &request, options.wait_ns, &answer);
    if (code == EX_OK && !ask_is_accepted(&ask, answer))
        code = EX_DATAERR;
    if (code == EX_OK)
        (void)ask_print(answer, NULL);
    json_decref(answer);
    ask_close(&ask);
    return code;
}
