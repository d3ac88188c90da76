// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "common/log.h"
#include "common/signature.h"
#include "tools/command.h"

struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *synopsis;
    const char *summary;
};

static int command_help(int argc, char **argv);

static const struct command commands[] = {
    {"accept-loss", command_accept_loss, "-c RECEIVER.CONF TICKET... --reason TEXT [--wait TIME]",
     "writes off what will not come any more (high side)"},
    {"audit", command_audit,
     "verify PATH... [--anchor NUMBER:HASH] [--anchors FILE] [--key PUBLIC] [--partial]\n"
     "       diodecast audit show PATH... [--transfer ID|SEQUENCE|NAME] [--since TIME]\n"
     "       diodecast audit join LOW HIGH",
     "checks audit logs, tells the story of a transfer, joins both sides' logs"},
    {"help", command_help, "[COMMAND]", "lists the commands, or says how one is used"},
    {"inspect", command_inspect, "[--json] [--export DIRECTORY] FILE|DIRECTORY",
     "prints a manifest (of a delivered transfer) or a NAME.approval"},
    {"key", command_key, "show FILE...", "says what a key file is, and its fingerprint"},
    {"keygen", command_keygen, "-s SECRET -p PUBLIC | --link FILE", "makes a signing key pair, or a link key"},
    {"log-name", command_log_name, "-c SENDER.CONF|RECEIVER.CONF NAME...",
     "prints what stands for a name in a log with log_names = hash"},
    {"put", command_put, "PATH... CHANNEL -c SENDER.CONF [--approval FILE]",
     "drops files and directories into the spool, safely"},
    {"quarantine", command_quarantine,
     "list|show|recheck|discard -c RECEIVER.CONF [NAME...] [--reason TEXT] [--json] [--wait TIME]",
     "what is held back or was refused, and what becomes of it (high side)"},
    {"replay", command_replay,
     "-c SENDER.CONF TICKET... | --since TIME | --sequence A-B | --last N [--now] [--dry-run] [--wait TIME]",
     "asks the running sender to send again"},
    {"sign", command_sign, "ITEM -s SECRET --channel CHANNEL [--label KEY=VALUE]...",
     "approves an item by a signature, in ITEM.approval (on any machine)"},
    {"status", command_status, "[--watch] FILE", "shows a status file; fails when it is stale or health is failed"},
    {"ticket", command_ticket, "explain TICKET...", "says in words what tickets name, and how much they carry"},
    {"verify", command_verify, "DIRECTORY [-p PUBLIC | -t TRUSTED_DIRECTORY]", "checks a delivered transfer"},
};

enum { COMMAND_COUNT = sizeof(commands) / sizeof(commands[0]) };

static const struct command *find(const char *name)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

int command_usage(const char *name)
{
    const struct command *command = find(name);
    assert(command != NULL);
    fprintf(stderr, "usage: diodecast %s %s\n", command->name, command->synopsis);
    return EX_USAGE;
}

static void print_commands(FILE *stream)
{
    fprintf(stream, "usage: diodecast COMMAND ...\n\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        fprintf(stream, "  %-11s  %s\n", commands[i].name, commands[i].summary);
    fprintf(stream, "\n`diodecast help COMMAND` says how one is used; see diodecast(1) for the rest.\n");
}

static int unknown(const char *name)
{
    log_error("there is no command '%s'; `diodecast help` lists them", name);
    return EX_USAGE;
}

static int command_help(int argc, char **argv)
{
    if (argc > 2)
        return command_usage("help");
    if (argc < 2) {
        print_commands(stdout);
        return EX_OK;
    }
    const struct command *command = find(argv[1]);
    if (command == NULL)
        return unknown(argv[1]);
    printf("usage: diodecast %s %s\n\n%s\n", command->name, command->synopsis, command->summary);
    return EX_OK;
}

int main(int argc, char **argv)
{
    log_open("diodecast", LOG_LEVEL_NOTICE);
    if (signature_init() != STATUS_OK) {
        log_error("libsodium can't be started");
        return EX_SOFTWARE;
    }
    if (argc < 2) {
        print_commands(stderr);
        return EX_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--version") == 0) {
        puts("diodecast " DIODECAST_VERSION);
        return EX_OK;
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        name = "help";
    const struct command *command = find(name);
    if (command == NULL)
        return unknown(name);

    int code = command->run(argc - 1, argv + 1);
    /* A report that did not reach its reader must not look like success: `diodecast status ... > /dev/full`. */
    if ((ferror(stdout) || fclose(stdout) != 0) && code == EX_OK) {
        log_error("standard output can't be written");
        code = EX_IOERR;
    }
    return code;
}
