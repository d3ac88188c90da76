// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <getopt.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <uv.h>

#include "common/activation.h"
#include "common/audit.h"
#include "common/clock.h"
#include "common/linkkey.h"
#include "common/log.h"
#include "common/namekey.h"
#include "common/notify.h"
#include "common/sandbox.h"
#include "common/signature.h"
#include "receiver/config.h"
#include "receiver/keys.h"
#include "receiver/ledger.h"
#include "receiver/pipeline.h"
#include "receiver/requests.h"
#include "receiver/status.h"
#include "receiver/store.h"

/* The high-side daemon: what is needed, in order, then the control loop, then the same backwards. */

enum { SIGNAL_COUNT = 2, DELIVERY_DELAY_MS = 100, PERIOD_MS = 1000 };

struct daemon {
    struct config config;
    int sockets[LIMIT_LANES]; /* passed by the service manager, until the pipeline takes them */
    struct keys *keys;
    struct ledger *ledger;
    struct audit *audit;
    struct pipeline *pipeline;
    struct requests *requests;
    struct status_board *status;

    uv_loop_t loop;
    uv_signal_t signals[SIGNAL_COUNT];
    uv_timer_t period;   /* status, watchdog */
    uv_timer_t delivery; /* one-shot: deliveries of the next moments share one status */
    uv_async_t delivered;
};

static void print_usage(FILE *stream)
{
    fputs("usage: diodecast-receiver -c FILE [-n] [--sandbox=on|off]\n"
          "  -c FILE           configuration, see diodecast-receiver.conf(5)\n"
          "  -n                check the configuration and exit: 0 when it is good, 78 when it is not\n"
          "  --sandbox=on|off  instead of what the configuration says\n"
          "  --version         print the version and exit\n"
          "  --help            print this and exit\n",
          stream);
}

/* Returns -1 to go on, else the exit status. */
static int parse_arguments(int argc, char **argv, const char **file, bool *check_only, const char **sandbox)
{
    static const struct option options[] = {{"version", no_argument, NULL, 'V'},
                                            {"help", no_argument, NULL, 'h'},
                                            {"sandbox", required_argument, NULL, 's'},
                                            {NULL, 0, NULL, 0}};
    int option;
    while ((option = getopt_long(argc, argv, "c:n", options, NULL)) != -1) {
        switch (option) {
        case 'c':
            *file = optarg;
            break;
        case 'n':
            *check_only = true;
            break;
        case 's':
            *sandbox = optarg;
            break;
        case 'V':
            puts("diodecast-receiver " DIODECAST_VERSION);
            return EX_OK;
        case 'h':
            print_usage(stdout);
            return EX_OK;
        default:
            print_usage(stderr);
            return EX_USAGE;
        }
    }
    bool known = *sandbox == NULL || strcmp(*sandbox, "on") == 0 || strcmp(*sandbox, "off") == 0;
    if (*file == NULL || optind != argc || !known) {
        print_usage(stderr);
        return EX_USAGE;
    }
    return -1;
}

static void write_status(struct daemon *daemon, const char *state)
{
    status_board_write(daemon->status, daemon->pipeline, state, clock_monotonic_ns(), clock_realtime_ns());
}

static void on_signal(uv_signal_t *handle, int number)
{
    log_notice("%s: stopping", strsignal(number));
    uv_stop(handle->loop);
}

static void on_period(uv_timer_t *timer)
{
    struct daemon *daemon = timer->data;
    write_status(daemon, "running");
    if (pipeline_is_alive(daemon->pipeline, clock_monotonic_ns()))
        notify_watchdog();
}

static void on_delivery_delay(uv_timer_t *timer)
{
    write_status(timer->data, "running");
}

static void on_delivered(uv_async_t *async)
{
    struct daemon *daemon = async->data;
    if (!uv_is_active((uv_handle_t *)&daemon->delivery))
        uv_timer_start(&daemon->delivery, on_delivery_delay, DELIVERY_DELAY_MS, 0);
}

static void wake_after_delivery(void *context)
{
    struct daemon *daemon = context;
    uv_async_send(&daemon->delivered);
}

static void open_loop(struct daemon *daemon)
{
    static const int numbers[SIGNAL_COUNT] = {SIGINT, SIGTERM};
    int result = uv_loop_init(&daemon->loop);
    assert(result == 0);
    result = uv_async_init(&daemon->loop, &daemon->delivered, on_delivered);
    assert(result == 0);
    daemon->delivered.data = daemon;
    uv_timer_init(&daemon->loop, &daemon->period);
    daemon->period.data = daemon;
    uv_timer_init(&daemon->loop, &daemon->delivery);
    daemon->delivery.data = daemon;
    for (int i = 0; i < SIGNAL_COUNT; i++) {
        uv_signal_init(&daemon->loop, &daemon->signals[i]);
        result = uv_signal_start(&daemon->signals[i], on_signal, numbers[i]);
        assert(result == 0);
    }
    (void)result;
}

static void close_handle(uv_handle_t *handle, void *context)
{
    (void)context;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

static void close_loop(struct daemon *daemon)
{
    uv_walk(&daemon->loop, close_handle, NULL);
    uv_run(&daemon->loop, UV_RUN_DEFAULT);
    int result = uv_loop_close(&daemon->loop);
    assert(result == 0);
    (void)result;
}

static void run_loop(struct daemon *daemon)
{
    char listen[SOCKET_TEXT_SIZE];
    write_status(daemon, "running");
    notify_ready("receiving");
    notify_status("receiving on %s", socket_address_text(&daemon->config.listen, listen));
    uv_timer_start(&daemon->period, on_period, PERIOD_MS, PERIOD_MS);
    requests_start(daemon->requests, pipeline_store(daemon->pipeline));
    uv_run(&daemon->loop, UV_RUN_DEFAULT);
    notify_stopping();
    requests_stop(daemon->requests);
    pipeline_stop_receiving(daemon->pipeline);
    write_status(daemon, "stopping");
}

static enum status open_pipeline(struct daemon *daemon)
{
    const char *const files[LINKKEY_SECRETS] = {daemon->config.link_key, daemon->config.link_key_next};
    const uint8_t *given[LINKKEY_SECRETS] = {NULL, NULL};
    uint8_t secrets[LINKKEY_SECRETS][LINKKEY_SIZE];
    char reason[256];
    enum status status = STATUS_OK;
    for (unsigned i = 0; i < LINKKEY_SECRETS && status == STATUS_OK; i++) {
        if (files[i] == NULL)
            continue;
        given[i] = secrets[i];
        status = linkkey_load(files[i], secrets[i], reason);
        if (status != STATUS_OK)
            log_error("%s", reason);
    }
    if (status == STATUS_OK)
        status = pipeline_create(&daemon->config, keys_running(daemon->keys), daemon->ledger, daemon->audit,
                                 keys_slot(daemon->keys), given, daemon->sockets, &daemon->pipeline);
    sodium_memzero(secrets, sizeof secrets);
    return status;
}

/* Before the first thread, which is the audit log's. */
static enum status enter_sandbox(const struct config *config)
{
    char status[PATH_MAX];
    snprintf(status, sizeof status, "%s", config->status);
    const struct sandbox_path paths[] = {
        {config->intake, SANDBOX_WRITES_LINKED}, /* a channel may lead elsewhere */
        {config->state, SANDBOX_WRITES},
        {dirname(status), SANDBOX_WRITES}, /* the handover lies there too */
        {config->trusted_keys, SANDBOX_READS_LINKED},
        {config->approval_keys, SANDBOX_READS_LINKED},
        {config->link_key, SANDBOX_READS},
        {config->link_key_next, SANDBOX_READS},
    };
    if (config->sandbox)
        return sandbox_enter(SANDBOX_RECEIVER, paths, sizeof paths / sizeof *paths);
    sandbox_tell_off();
    return STATUS_OK;
}

static int exit_code_of(enum status sandbox_status)
{
    return sandbox_status == STATUS_DENIED ? EX_SOFTWARE : EX_UNAVAILABLE;
}

static int serve(struct daemon *daemon)
{
    enum status status;
    int result = EX_OSERR;
    open_loop(daemon);
    if (activation_take(&daemon->config.listen, daemon->config.lanes, daemon->sockets) != STATUS_OK) {
        result = EX_CONFIG;
        goto cleanup;
    }
    if (keys_create(&daemon->config, &daemon->keys) != STATUS_OK) {
        result = EX_CONFIG;
        goto cleanup;
    }
    if ((daemon->config.hide_names && namekey_hide_names(daemon->config.state) != STATUS_OK) ||
        ledger_open(daemon->config.state, &daemon->ledger) != STATUS_OK)
        goto cleanup;
    if ((status = enter_sandbox(&daemon->config)) != STATUS_OK) {
        result = exit_code_of(status);
        goto cleanup;
    }
    if (audit_open(daemon->config.state, "high", &daemon->audit) != STATUS_OK)
        goto cleanup;
    audit_note(daemon->audit, &(struct audit_entry){.event = AUDIT_STARTED, .detail = DIODECAST_VERSION});
    if (store_recover(&daemon->config, daemon->ledger, daemon->audit) != STATUS_OK ||
        open_pipeline(daemon) != STATUS_OK)
        goto cleanup;
    sandbox_limit_starter();
    daemon->status = status_board_create(&daemon->config, daemon->keys, clock_monotonic_ns());
    if (daemon->status == NULL || keys_watch(daemon->keys, &daemon->loop, daemon->audit) != STATUS_OK ||
        requests_create(daemon->config.state, &daemon->loop, &daemon->requests) != STATUS_OK ||
        pipeline_start(daemon->pipeline, wake_after_delivery, daemon) != STATUS_OK)
        goto cleanup;
    if (sandbox_is_on() && (status = sandbox_seal(SANDBOX_RECEIVER)) != STATUS_OK) {
        result = exit_code_of(status);
        goto cleanup;
    }

    run_loop(daemon);
    pipeline_stop(daemon->pipeline);
    audit_note(daemon->audit, &(struct audit_entry){.event = AUDIT_STOPPED});
    result = EX_OK;

cleanup:
    pipeline_destroy(daemon->pipeline);
    requests_destroy(daemon->requests);
    status_board_destroy(daemon->status);
    audit_close(daemon->audit);
    ledger_close(daemon->ledger);
    close_loop(daemon);
    keys_destroy(daemon->keys);
    return result;
}

int main(int argc, char **argv)
{
    static struct daemon daemon;
    const char *file = NULL;
    const char *sandbox = NULL;
    bool check_only = false;

    int result = parse_arguments(argc, argv, &file, &check_only, &sandbox);
    if (result >= 0)
        return result;
    log_open("diodecast-receiver", LOG_LEVEL_INFO);
    notify_open();
    signal(SIGPIPE, SIG_IGN);
    if (signature_init() != STATUS_OK) {
        log_error("libsodium can't be initialised");
        return EX_SOFTWARE;
    }
    enum status status = config_load(file, &daemon.config);
    if (status != STATUS_OK)
        return EX_CONFIG;
    if (sandbox != NULL)
        daemon.config.sandbox = strcmp(sandbox, "on") == 0;
    result = EX_OK;
    if (!check_only)
        result = serve(&daemon);
    config_deinit(&daemon.config);
    return result;
}
