// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/durable.h"
#include "common/log.h"
#include "tools/command.h"
#include "tools/status_view.h"

enum { FILE_LIMIT = 16 << 20 };

/* Loads a status file; NULL after `message` was filled, *code then says how to exit. */
static json_t *load(const char *file, char message[static 512], int *code)
{
    char *text = NULL;
    size_t size = 0;
    enum status status = durable_read_file(AT_FDCWD, file, FILE_LIMIT, &text, &size);
    if (status != STATUS_OK) {
        snprintf(message, 512, "%s: %s", file,
                 status == STATUS_LIMIT ? "too large for a status file" : strerror(errno));
        *code = status == STATUS_LIMIT ? EX_DATAERR : EX_NOINPUT;
        return NULL;
    }
    json_error_t error;
    json_t *root = json_loadb(text, size, JSON_ALLOW_NUL, &error);
    free(text);
    if (!json_is_object(root)) {
        snprintf(message, 512, "%s: not a status file: %s", file, root == NULL ? error.text : "no JSON object");
        json_decref(root);
        *code = EX_DATAERR;
        return NULL;
    }
    return root;
}

static int exit_code(const json_t *root, int64_t now_ns)
{
    if (status_view_is_stale(root, now_ns))
        return EX_TEMPFAIL;
    return status_view_has_failed(root) ? EX_UNAVAILABLE : EX_OK;
}

static int show_once(const char *file)
{
    char message[512];
    int code = EX_OK;
    json_t *root = load(file, message, &code);
    if (root == NULL) {
        log_error("%s", message);
        return code;
    }
    int64_t now_ns = clock_realtime_ns();
    status_view_print(stdout, root, NULL, now_ns);
    code = exit_code(root, now_ns);
    json_decref(root);
    return code;
}

/* Draws one picture of the file in one write, so that the terminal does not flicker; keeps the file in *earlier. */
static void draw(const char *file, json_t **earlier)
{
    char message[512];
    char *text = NULL;
    size_t size = 0;
    int code = EX_OK;
    FILE *picture = open_memstream(&text, &size);
    assert(picture != NULL);
    fputs("\033[H\033[2J", picture);
    json_t *root = load(file, message, &code);
    if (root == NULL) {
        fprintf(picture, "%s\n", message);
    } else {
        status_view_print(picture, root, *earlier, clock_realtime_ns());
        json_decref(*earlier);
        *earlier = root;
    }
    fclose(picture);
    fwrite(text, 1, size, stdout);
    fflush(stdout);
    free(text);
}

/* Until the terminal goes away or a signal ends the program. */
static int watch(const char *file)
{
    static const struct itimerspec every_second = {.it_interval = {.tv_sec = 1}, .it_value = {.tv_sec = 1}};
    json_t *earlier = NULL;
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (timer < 0 || timerfd_settime(timer, 0, &every_second, NULL) < 0) {
        log_error("no timer: %s", strerror(errno));
        if (timer >= 0)
            close(timer);
        return EX_OSERR;
    }
    draw(file, &earlier);
    while (!ferror(stdout)) {
        struct pollfd events[] = {{.fd = timer, .events = POLLIN}, {.fd = STDOUT_FILENO}};
        uint64_t expirations;
        if (poll(events, 2, -1) < 0 && errno != EINTR)
            break;
        if (events[1].revents != 0)
            break;
        if (read(timer, &expirations, sizeof(expirations)) == (ssize_t)sizeof(expirations))
            draw(file, &earlier);
    }
    json_decref(earlier);
    close(timer);
    return EX_OK;
}

int command_status(int argc, char **argv)
{
    static const struct option options[] = {{"watch", no_argument, NULL, 'w'}, {NULL, 0, NULL, 0}};
    bool watching = false;
    int option;
    while ((option = getopt_long(argc, argv, "w", options, NULL)) != -1) {
        if (option != 'w')
            return command_usage("status");
        watching = true;
    }
    if (optind + 1 != argc)
        return command_usage("status");
    if (watching && !isatty(STDOUT_FILENO)) {
        log_error("--watch needs a terminal");
        return EX_USAGE;
    }
    return watching ? watch(argv[optind]) : show_once(argv[optind]);
}
