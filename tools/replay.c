// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/units.h"
#include "proto/limits.h"
#include "tools/ask.h"
#include "tools/command.h"
#include "tools/status_view.h"
#include "tools/terminal.h"
#include "tools/ticket_words.h"

/* "2026-11-22T01:50:16Z", also with an offset from UTC, or an age like "2h". */
static bool parse_since(const char *text, int64_t now_ns, int64_t *since_ns)
{
    char utc[64];
    uint64_t age_ns;
    int hours = 0, minutes = 0;
    size_t length = strlen(text);

    if (units_parse_duration(text, &age_ns)) {
        *since_ns = now_ns - (int64_t)age_ns;
        return age_ns < (uint64_t)now_ns;
    }
    if (status_view_parse_time(text, since_ns))
        return *since_ns <= now_ns;
    if (length < sizeof "+00:00" || length + sizeof "Z" > sizeof utc)
        return false;
    const char *offset = text + length - strlen("+00:00");
    int end = 0;
    if ((*offset != '+' && *offset != '-') || sscanf(offset + 1, "%2d:%2d%n", &hours, &minutes, &end) != 2 ||
        end != 5 || hours < 0 || hours > 23 || minutes < 0 || minutes > 59)
        return false;
    snprintf(utc, sizeof utc, "%.*sZ", (int)(offset - text), text);
    if (!status_view_parse_time(utc, since_ns))
        return false;
    int64_t east_ns = (int64_t)(hours * 60 + minutes) * 60 * (int64_t)CLOCK_SECOND_NS;
    *since_ns -= *offset == '+' ? east_ns : -east_ns;
    return *since_ns <= now_ns;
}

/* A number from 1 to LIMIT_SEQUENCE in decimal digits; what follows is at *end. */
static bool parse_sequence(const char *text, const char **end, uint64_t *sequence)
{
    *sequence = 0;
    for (*end = text; **end >= '0' && **end <= '9'; ++*end) {
        *sequence = *sequence * 10 + (uint64_t)(**end - '0');
        if (*sequence > LIMIT_SEQUENCE)
            return false;
    }
    return *sequence > 0;
}

/* "A-B", or "A" alone. */
static bool parse_sequences(const char *text, struct request *request)
{
    if (!parse_sequence(text, &text, &request->first_sequence))
        return false;
    request->last_sequence = request->first_sequence;
    if (*text == '-' && !parse_sequence(text + 1, &text, &request->last_sequence))
        return false;
    return *text == '\0' && request->first_sequence <= request->last_sequence;
}

struct options {
    const char *config;
    int selections; /* given ways of saying what to replay */
    uint64_t wait_ns;
};

enum { OPTION_SINCE = 256, OPTION_SEQUENCE, OPTION_LAST, OPTION_NOW, OPTION_DRY_RUN, OPTION_WAIT };

/* False after the reason was printed. */
static bool take_option(int option, const char *value, struct options *options, struct request *request)
{
    const char *end = NULL;

    switch (option) {
    case 'c':
        options->config = value;
        return true;
    case OPTION_NOW:
        request->now = true;
        return true;
    case OPTION_DRY_RUN:
        request->dry_run = true;
        return true;
    case OPTION_WAIT:
        return ask_take_wait(value, &options->wait_ns);
    case OPTION_SINCE:
        options->selections++;
        if (parse_since(value, clock_realtime_ns(), &request->since_ns))
            return true;
        log_error("--since %s: a time in the past like 2026-11-22T01:50:00Z, or an age like 2h, is expected", value);
        return false;
    case OPTION_SEQUENCE:
        options->selections++;
        if (parse_sequences(value, request))
            return true;
        log_error("--sequence %s: a number, or two with '-' between, the lower one first, are expected", value);
        return false;
    case OPTION_LAST:
        options->selections++;
        if (parse_sequence(value, &end, &request->last_count) && *end == '\0')
            return true;
        log_error("--last %s: how many of the newest transfers is expected", value);
        return false;
    default:
        return false;
    }
}

static bool take_options(int argc, char **argv, struct options *options, struct request *request)
{
    static const struct option names[] = {
        {"since", required_argument, NULL, OPTION_SINCE},
        {"sequence", required_argument, NULL, OPTION_SEQUENCE},
        {"last", required_argument, NULL, OPTION_LAST},
        {"now", no_argument, NULL, OPTION_NOW},
        {"dry-run", no_argument, NULL, OPTION_DRY_RUN},
        {"wait", required_argument, NULL, OPTION_WAIT},
        {NULL, 0, NULL, 0},
    };
    int option;
    while ((option = getopt_long(argc, argv, "c:", names, NULL)) != -1)
        if (!take_option(option, optarg, options, request))
            return false;
    request->tickets = argv + optind;
    request->ticket_count = (size_t)(argc - optind);
    return options->config != NULL && options->selections + (request->ticket_count > 0) == 1;
}

static const char *state_word(const char *state, bool *failure)
{
    static const struct {
        const char *state, *word;
        bool failure;
    } words[] = {
        {"queued", "will be sent", false},
        {"in_flight", "is on its way already", false},
        {"not_retained", "is no longer retained, so it can't be sent", true},
        {"unknown", "is not known here", true},
    };
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcmp(state, words[i].state) == 0) {
            *failure = words[i].failure;
            return words[i].word;
        }
    }
    return state;
}

static int print_answer(const struct request *request, const json_t *answer)
{
    bool good = ask_print(answer, state_word);
    json_int_t count = json_integer_value(json_object_get(answer, "transfers"));
    json_int_t bytes = json_integer_value(json_object_get(answer, "bytes"));
    double seconds = json_number_value(json_object_get(answer, "seconds"));
    char size[UNITS_TEXT_SIZE], time[UNITS_TEXT_SIZE];
    if (count > 0 && bytes >= 0 && seconds >= 0 && seconds < 1e9)
        printf("%s %" JSON_INTEGER_FORMAT " transfer%s, %s, which takes about %s at the configured rate\n",
               request->dry_run ? "would send" : "sends", count, count == 1 ? "" : "s",
               units_format_size((uint64_t)bytes, size),
               seconds < 1 ? "a second" : units_format_duration((uint64_t)(seconds * (double)CLOCK_SECOND_NS), time));
    else
        printf("%s nothing\n", request->dry_run ? "would send" : "sends");
    return good ? EX_OK : EX_UNAVAILABLE;
}

int command_replay(int argc, char **argv)
{
    struct options options = {.wait_ns = ASK_WAIT_NS};
    struct request request = {.kind = REQUEST_REPLAY, .since_ns = INT64_MIN};
    json_t *answer = NULL;

    if (!take_options(argc, argv, &options, &request))
        return command_usage("replay");
    if (request.ticket_count > REQUEST_TICKETS) {
        log_error("%zu tickets are too many for one request, which takes %d", request.ticket_count,
                  (int)REQUEST_TICKETS);
        return EX_USAGE;
    }
    if (!ticket_words_check(request.tickets, (int)request.ticket_count))
        return EX_DATAERR;
    struct ask ask = {
        .config = options.config,
        .section = "sender",
        .key = "spool",
        .directory = ".requests",
        .group_key = "'group' of section [replay]",
    };
    int code = ask_open(&ask);
    if (code == EX_OK)
        code = ask_post(&ask, &request, options.wait_ns, &answer);
    if (code == EX_OK)
        code = ask_is_accepted(&ask, answer) ? print_answer(&request, answer) : EX_DATAERR;
    json_decref(answer);
    ask_close(&ask);
    return code;
}
