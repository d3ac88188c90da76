// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/audit.h"
#include "common/doorbell.h"
#include "common/log.h"
#include "common/mailbox.h"
#include "common/namekey.h"
#include "common/notify.h"
#include "common/sandbox.h"
#include "common/signature.h"
#include "common/status.h"
#include "sender/carrier.h"
#include "sender/claim.h"
#include "sender/config.h"
#include "sender/control.h"
#include "sender/ledger.h"
#include "sender/passed.h"
#include "sender/pipeline.h"
#include "sender/recover.h"
#include "sender/requests.h"
#include "sender/settle.h"
#include "sender/spool.h"
#include "sender/spooldirs.h"
#include "sender/status.h"

enum { DESCRIPTORS_WANTED = 8192, KERNEL_MAJOR = 6, KERNEL_MINOR = 1, REASON_SIZE = 256 };

struct options {
    const char *file;
    const char *sandbox; /* NULL: as the configuration says */
    bool check_only, once;
};

/* Everything that lives as long as the daemon, in the order in which it is made. */
struct sender {
    struct passed *passed; /* until all sockets are made */
    struct config config;
    int state_fd; /* locked: one sender for a state */
    struct signature_key *key;
    struct spooldirs dirs;
    struct ledger *ledger;
    struct audit *audit;
    struct doorbell *bell;
    struct mailbox *finished;
    struct pipeline *pipeline;
    struct carrier *carrier;
    struct settle *settle;
    struct spool *spool;
    struct requests *requests;
    struct status_board *board;
    struct control *control;
    struct claim claim;
};

static void print_usage(FILE *stream)
{
    fputs("usage: diodecast-sender -c FILE [-n] [--once] [--sandbox=on|off]\n"
          "  -c, --config FILE     configuration (diodecast-sender.conf(5))\n"
          "  -n, --check           check the configuration, print what is wrong, and exit\n"
          "      --once            send what is in the spool, then exit\n"
          "      --sandbox=on|off  instead of what the configuration says\n"
          "      --version         print the version\n"
          "      --help            print this\n",
          stream);
}

/* An exit code when the program ends here, else -1. */
static int parse_options(int argc, char **argv, struct options *options)
{
    static const struct option table[] = {{"config", required_argument, NULL, 'c'},
                                          {"check", no_argument, NULL, 'n'},
                                          {"once", no_argument, NULL, 'o'},
                                          {"version", no_argument, NULL, 'v'},
                                          {"help", no_argument, NULL, 'h'},
                                          {"sandbox", required_argument, NULL, 's'},
                                          {0}};
    int option;
    while ((option = getopt_long(argc, argv, "c:n", table, NULL)) != -1) {
        switch (option) {
        case 'c':
            options->file = optarg;
            break;
        case 'n':
            options->check_only = true;
            break;
        case 'o':
            options->once = true;
            break;
        case 's':
            options->sandbox = optarg;
            break;
        case 'v':
            puts("diodecast-sender " DIODECAST_VERSION);
            return EX_OK;
        case 'h':
            print_usage(stdout);
            return EX_OK;
        default:
            print_usage(stderr);
            return EX_USAGE;
        }
    }
    bool known =
        options->sandbox == NULL || strcmp(options->sandbox, "on") == 0 || strcmp(options->sandbox, "off") == 0;
    if (options->file != NULL && optind == argc && known)
        return -1;
    print_usage(stderr);
    return EX_USAGE;
}

/* Signals that libuv does not take. A broken lease sends SIGIO, which kills by default (fcntl(2)). */
static void prepare_signals(void)
{
    sigset_t blocked;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGIO, SIG_IGN);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGIO);
    sigaddset(&blocked, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &blocked, NULL);
}

static bool is_kernel_new_enough(void)
{
    struct utsname name;
    int major = 0, minor = 0;
    if (uname(&name) != 0 || sscanf(name.release, "%d.%d", &major, &minor) != 2)
        return true;
    if (major > KERNEL_MAJOR || (major == KERNEL_MAJOR && minor >= KERNEL_MINOR))
        return true;
    log_error("Linux %s is too old: %d.%d or newer is needed", name.release, KERNEL_MAJOR, KERNEL_MINOR);
    return false;
}

/* Each transfer that waits holds a descriptor. */
static size_t raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return 1024;
    rlim_t wanted = limit.rlim_max < DESCRIPTORS_WANTED ? limit.rlim_max : DESCRIPTORS_WANTED;
    if (limit.rlim_cur < wanted) {
        struct rlimit raised = {.rlim_cur = wanted, .rlim_max = limit.rlim_max};
        if (setrlimit(RLIMIT_NOFILE, &raised) == 0)
            limit.rlim_cur = wanted;
    }
    return limit.rlim_cur > DESCRIPTORS_WANTED ? DESCRIPTORS_WANTED : (size_t)limit.rlim_cur;
}

/* Two senders with one chain would give out numbers twice. */
static int lock_state(struct sender *sender)
{
    sender->state_fd = open(sender->config.state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (sender->state_fd >= 0 && flock(sender->state_fd, LOCK_EX | LOCK_NB) == 0)
        return EX_OK;
    if (sender->state_fd >= 0 && errno == EWOULDBLOCK) {
        log_error("another sender runs with the state %s; stop it first", sender->config.state);
        return EX_TEMPFAIL;
    }
    log_error("the state %s can't be locked: %s", sender->config.state, strerror(errno));
    return EX_IOERR;
}

static int exit_code_of(enum status sandbox_status)
{
    return sandbox_status == STATUS_OK ? EX_OK : sandbox_status == STATUS_DENIED ? EX_SOFTWARE : EX_UNAVAILABLE;
}

/* Before the first thread, which is the audit log's. The kernel counts below /proc what it dropped of what was sent. */
static int enter_sandbox(const struct config *config)
{
    char status[PATH_MAX];
    snprintf(status, sizeof status, "%s", config->status);
    const struct sandbox_path paths[] = {
        {config->spool, SANDBOX_MOVES},    {config->state, SANDBOX_WRITES},   {dirname(status), SANDBOX_WRITES},
        {config->link_key, SANDBOX_READS}, {"/proc/self/net", SANDBOX_READS},
    };
    if (config->sandbox)
        return exit_code_of(sandbox_enter(SANDBOX_SENDER, paths, sizeof paths / sizeof *paths));
    sandbox_tell_off();
    return EX_OK;
}

static int open_state(struct sender *sender)
{
    char reason[REASON_SIZE];
    int code = lock_state(sender);
    if (code != EX_OK)
        return code;
    if (sender->config.hide_names && namekey_hide_names(sender->config.state) != STATUS_OK)
        return EX_IOERR;
    if (signature_key_load(sender->config.signing_key, &sender->key, reason) != STATUS_OK) {
        log_error("%s", reason);
        return EX_CONFIG;
    }
    if (spooldirs_open(sender->config.spool, &sender->dirs) != STATUS_OK ||
        ledger_open(sender->config.state, &sender->ledger) != STATUS_OK)
        return EX_IOERR;
    code = enter_sandbox(&sender->config);
    if (code != EX_OK)
        return code;
    if (audit_open(sender->config.state, "low", &sender->audit) != STATUS_OK)
        return EX_IOERR;
    audit_note(sender->audit, &(struct audit_entry){.event = AUDIT_STARTED, .detail = DIODECAST_VERSION});
    return EX_OK;
}

static int open_link(struct sender *sender)
{
    sender->bell = doorbell_create();
    sender->finished = sender->bell != NULL ? mailbox_create(sender->bell) : NULL;
    if (sender->finished == NULL) {
        log_error("no event descriptor is to be had: %s; raise LimitNOFILE", strerror(errno));
        return EX_OSERR;
    }
    if (pipeline_create(&sender->config, sender->key, sender->ledger, sender->audit, sender->finished,
                        &sender->pipeline) != STATUS_OK)
        return EX_OSERR;
    if (sender->config.carrier_required && sender->config.interface[0] != '\0') {
        if (carrier_open(sender->config.interface, sender->config.passed, &sender->carrier) != STATUS_OK)
            return EX_OSERR;
        pipeline_set_carrier(sender->pipeline, carrier_is_up(sender->carrier));
    }
    return EX_OK;
}

/* What was passed and not needed is closed. */
static void close_passed(struct sender *sender)
{
    passed_destroy(sender->passed);
    sender->passed = sender->config.passed = NULL;
}

static int open_control(struct sender *sender, bool once, size_t descriptor_limit)
{
    uint8_t chain_id[CHAIN_ID_SIZE], hash[SHA256_SIZE];
    struct control_setup setup = {.claim = &sender->claim, .once = once, .descriptor_limit = descriptor_limit};
    ledger_chain_id(sender->ledger, chain_id);
    if (ledger_newest(sender->ledger, &setup.newest_sequence, hash) != STATUS_OK)
        return EX_IOERR;
    sender->claim = (struct claim){
        .config = &sender->config, .dirs = &sender->dirs, .ledger = sender->ledger, .audit = sender->audit};
    setup.settle = sender->settle = settle_create(sender->config.settle_ns, sender->config.settle_tree_ns);
    if (spool_create(&sender->config, &sender->dirs, sender->settle, &sender->spool) != STATUS_OK)
        return EX_OSERR;
    if (requests_open(&sender->claim, &sender->requests) != STATUS_OK)
        return EX_OSERR;
    setup.board = sender->board =
        status_board_create(&sender->config, signature_sender_id(signature_key_public(sender->key)), chain_id);
    setup.spool = sender->spool;
    setup.requests = sender->requests;
    setup.pipeline = sender->pipeline;
    setup.finished = sender->finished;
    setup.bell = sender->bell;
    setup.carrier = sender->carrier;
    close_passed(sender);
    return control_create(&setup, &sender->control) == STATUS_OK ? EX_OK : EX_IOERR;
}

/* Takes up what the last run left, then starts the threads. */
static int start(struct sender *sender)
{
    struct recover_result recovered;
    if (recover_run(&sender->claim, &recovered) != STATUS_OK)
        return EX_IOERR;
    control_resume(sender->control, recovered.transfers, recovered.count);
    free(recovered.transfers);
    if (pipeline_start(sender->pipeline) != STATUS_OK)
        return EX_OSERR;
    return sandbox_is_on() ? exit_code_of(sandbox_seal(SANDBOX_SENDER)) : EX_OK;
}

static void tear_down(struct sender *sender)
{
    if (sender->pipeline != NULL)
        pipeline_stop(sender->pipeline);
    control_destroy(sender->control);
    status_board_destroy(sender->board);
    requests_close(sender->requests);
    spool_destroy(sender->spool);
    settle_destroy(sender->settle);
    carrier_close(sender->carrier);
    pipeline_destroy(sender->pipeline);
    mailbox_destroy(sender->finished);
    doorbell_destroy(sender->bell);
    audit_note(sender->audit, &(struct audit_entry){.event = AUDIT_STOPPED});
    audit_close(sender->audit);
    ledger_close(sender->ledger);
    spooldirs_close(&sender->dirs);
    signature_key_destroy(sender->key);
    if (sender->state_fd >= 0)
        close(sender->state_fd);
    close_passed(sender);
    config_deinit(&sender->config);
}

int main(int argc, char **argv)
{
    struct options options = {0};
    struct sender sender = {.state_fd = -1, .dirs = {.root = -1, .sending = -1, .sent = -1, .failed = -1}};
    int code = parse_options(argc, argv, &options);
    if (code >= 0)
        return code;

    log_open("diodecast-sender", LOG_LEVEL_INFO);
    notify_open();
    if (signature_init() != STATUS_OK)
        return EX_SOFTWARE;
    enum status status = passed_take(&sender.passed);
    if (status == STATUS_OK)
        status = config_load(options.file, sender.passed, &sender.config);
    if (status != STATUS_OK) {
        passed_destroy(sender.passed);
        return EX_CONFIG;
    }
    if (options.check_only) {
        config_deinit(&sender.config);
        return EX_OK;
    }
    if (!is_kernel_new_enough()) {
        config_deinit(&sender.config);
        return EX_OSERR;
    }
    if (options.sandbox != NULL)
        sender.config.sandbox = strcmp(options.sandbox, "on") == 0;
    prepare_signals();
    /* libuv's workers: a claim of each priority, finishing, retention, marks and repeats at the same time, and one to
     * spare. */
    (void)setenv("UV_THREADPOOL_SIZE", "8", 0);
    size_t descriptor_limit = raise_descriptor_limit();

    code = open_state(&sender);
    if (code == EX_OK)
        code = open_link(&sender);
    sandbox_limit_starter();
    if (code == EX_OK)
        code = open_control(&sender, options.once, descriptor_limit);
    if (code == EX_OK)
        code = start(&sender);
    if (code == EX_OK && !control_run(sender.control))
        code = EX_TEMPFAIL;
    tear_down(&sender);
    return code;
}
