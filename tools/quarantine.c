// SPDX-License-Identifier: Apache-2.0
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "common/log.h"
#include "common/units.h"
#include "proto/relpath.h"
#include "tools/ask.h"
#include "tools/command.h"
#include "tools/terminal.h"

struct options {
    const char *config;
    const char *reason;
    uint64_t wait_ns;
    bool json;
};

/* False: used wrongly. */
static bool take_options(int argc, char **argv, struct options *options)
{
    static const struct option names[] = {
        {"json", no_argument, NULL, 'j'},
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
        } else if (option == 'j') {
            options->json = true;
        } else if (option != 'w' || !ask_take_wait(optarg, &options->wait_ns)) {
            return false;
        }
    }
    return options->config != NULL && optind < argc;
}

static bool take_action(const char *word, enum request_action *action)
{
    static const char *const words[] = {
        [REQUEST_LIST] = "list", [REQUEST_SHOW] = "show", [REQUEST_RECHECK] = "recheck", [REQUEST_DISCARD] = "discard"};
    for (unsigned i = 0; i < sizeof words / sizeof *words; i++)
        if (strcmp(word, words[i]) == 0) {
            *action = (enum request_action)i;
            return true;
        }
    log_error("%s is none of list, show, recheck, discard", word);
    return false;
}

/* The names are those that "list" prints; a path to one in the quarantine is as good. */
static bool take_names(char **names, int count, struct request *request)
{
    for (int i = 0; i < count; i++) {
        size_t length = strlen(names[i]);
        while (length > 0 && names[i][length - 1] == '/')
            names[i][--length] = '\0';
        char *slash = strrchr(names[i], '/');
        if (slash != NULL)
            names[i] = slash + 1;
        if (names[i][0] == '.' || relpath_check_component(names[i], strlen(names[i])) != NULL) {
            log_error("%s is no name that \"diodecast quarantine list\" prints", names[i]);
            return false;
        }
    }
    request->names = names;
    request->name_count = (size_t)count;
    if (count > REQUEST_NAMES) {
        log_error("%d names are too many for one request, which takes %d", count, (int)REQUEST_NAMES);
        return false;
    }
    if (count == 0 && request->action != REQUEST_LIST && request->action != REQUEST_RECHECK) {
        log_error("names are missing: those that \"diodecast quarantine list\" prints");
        return false;
    }
    return true;
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

static void print_line(const char *label, const char *text)
{
    if (text[0] == '\0')
        return;
    printf("  %-12s ", label);
    terminal_print(stdout, text);
    putchar('\n');
}

static void print_size(const char *label, const json_t *object, const char *key)
{
    char text[UNITS_TEXT_SIZE];
    const json_t *value = json_object_get(object, key);
    if (json_is_integer(value))
        print_line(label, units_format_size((uint64_t)json_integer_value(value), text));
}

/* What is known of each entry of a manifest. */
static void print_entries(const json_t *item)
{
    const json_t *entries = json_object_get(item, "entries"), *entry;
    json_int_t files = json_integer_value(json_object_get(item, "artifact_count"));
    size_t index;
    json_array_foreach(entries, index, entry)
    {
        char text[UNITS_TEXT_SIZE] = "";
        if (json_is_integer(json_object_get(entry, "size")))
            units_format_size((uint64_t)json_integer_value(json_object_get(entry, "size")), text);
        printf("    %10s  ", text[0] != '\0' ? text : text_of(entry, "kind"));
        terminal_print(stdout, text_of(entry, "path"));
        putchar('\n');
    }
    if (entries != NULL && (json_int_t)json_array_size(entries) < files)
        printf("    %" JSON_INTEGER_FORMAT " files in all; manifest.pb beside them lists the rest\n", files);
}

static void print_approvals(const json_t *item)
{
    const json_t *approvals = json_object_get(item, "approvals"), *key;
    size_t index;
    json_array_foreach(approvals, index, key) print_line(index == 0 ? "approved by" : "", json_string_value(key));
    if (approvals != NULL && json_array_size(approvals) == 0)
        print_line("approved by", "nobody");
}

/* One item: its name, then what the daemon says of it. */
static void print_item(const json_t *item)
{
    char title[640] = "";
    terminal_print(stdout, text_of(item, "name"));
    putchar('\n');
    if (text_of(item, "transfer")[0] != '\0')
        snprintf(title, sizeof title, "%s/%s, sequence %" JSON_INTEGER_FORMAT " of sender %s", text_of(item, "channel"),
                 text_of(item, "transfer"), json_integer_value(json_object_get(item, "sequence")),
                 text_of(item, "sender_id"));
    else if (strcmp(text_of(item, "kind"), "manifest") == 0)
        snprintf(title, sizeof title, "a manifest that was refused");
    print_line("what", title);
    print_size("size", item, "bytes");
    if (text_of(item, "kept")[0] != '\0' && strcmp(text_of(item, "kept"), "all") != 0)
        print_line("kept", strcmp(text_of(item, "kept"), "manifest") == 0 ? "only its manifest" : "nothing");
    print_line("since", text_of(item, "since"));
    print_line("reason", text_of(item, "reason"));
    print_line("dropped by", text_of(item, "origin_user"));
    print_line("sealed", text_of(item, "sealed_at"));
    print_approvals(item);
    print_line("path", text_of(item, "path"));
    print_entries(item);
    print_line("now", text_of(item, "message"));
}

static void print_answer(const json_t *answer)
{
    json_int_t left_out = json_integer_value(json_object_get(answer, "left_out"));
    const json_t *item;
    size_t index;
    json_array_foreach(json_object_get(answer, "items"), index, item) print_item(item);
    if (left_out > 0)
        printf("and %" JSON_INTEGER_FORMAT " more\n", left_out);
    if (text_of(answer, "message")[0] != '\0') {
        terminal_print(stdout, text_of(answer, "message"));
        putchar('\n');
    }
}

int command_quarantine(int argc, char **argv)
{
    struct options options = {.wait_ns = ASK_WAIT_NS};
    struct request request = {.kind = REQUEST_QUARANTINE, .since_ns = INT64_MIN};
    json_t *answer = NULL;

    if (!take_options(argc, argv, &options))
        return command_usage("quarantine");
    if (!take_action(argv[optind], &request.action) || !take_names(argv + optind + 1, argc - optind - 1, &request))
        return EX_USAGE;
    if (options.reason != NULL &&
        (request.action != REQUEST_DISCARD || strlen(options.reason) >= sizeof request.reason ||
         relpath_check_text(options.reason, strlen(options.reason)) != NULL)) {
        log_error("--reason takes a text of up to %d bytes without line breaks, and belongs to discard",
                  (int)REQUEST_REASON_SIZE - 1);
        return EX_USAGE;
    }
    if (options.reason != NULL)
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
    if (code == EX_OK && options.json) {
        (void)json_dumpf(answer, stdout, JSON_INDENT(2));
        putchar('\n');
    } else if (code == EX_OK) {
        print_answer(answer);
    }
    if (code == EX_OK && !json_is_true(json_object_get(answer, "accepted")))
        code = EX_DATAERR;
    json_decref(answer);
    ask_close(&ask);
    return code;
}
