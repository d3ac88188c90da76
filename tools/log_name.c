// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/conf.h"
#include "common/log.h"
#include "common/namekey.h"
#include "tools/command.h"
#include "tools/terminal.h"

/* The state directory of whichever daemon the configuration is of; NULL after saying why. */
static char *state_of(const char *config)
{
    char *state = conf_get(config, "receiver", "state");
    if (state == NULL && errno == 0)
        state = conf_get(config, "sender", "state");
    if (state == NULL)
        log_error("%s: %s", config, errno != 0 ? strerror(errno) : "'state' is missing");
    return state;
}

int command_log_name(int argc, char **argv)
{
    const char *config = NULL;
    uint8_t key[NAMEKEY_SIZE];
    char path[4096];
    int option;
    while ((option = getopt(argc, argv, "c:")) != -1) {
        if (option != 'c')
            return command_usage("log-name");
        config = optarg;
    }
    if (config == NULL || optind == argc)
        return command_usage("log-name");
    char *state = state_of(config);
    if (state == NULL)
        return EX_CONFIG;
    snprintf(path, sizeof path, "%s/names.key", state);
    if (access(path, R_OK) != 0) {
        log_error("%s: %s; with log_names = hash the daemon makes it at its start, and only its user and root read it",
                  path, strerror(errno));
        free(state);
        return EX_NOINPUT;
    }
    enum status status = namekey_load(state, key);
    free(state);
    if (status != STATUS_OK)
        return EX_NOINPUT;
    for (int i = optind; i < argc; i++) {
        char text[NAMEKEY_TEXT_SIZE];
        namekey_text(key, argv[i], strlen(argv[i]), text);
        printf("%s  ", text);
        terminal_print(stdout, argv[i]);
        putchar('\n');
    }
    return EX_OK;
}
