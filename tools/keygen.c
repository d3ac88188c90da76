// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "common/linkkey.h"
#include "common/log.h"
#include "common/signature.h"
#include "tools/command.h"
#include "tools/terminal.h"

static int refuse(enum status status, const char *path)
{
    if (status == STATUS_EXISTS)
        log_error("%s is there already and is not overwritten; choose another name, or move it away", path);
    else
        log_error("%s can't be written: %s", path, strerror(errno));
    return EX_CANTCREAT;
}

static void print_line(const char *label, const char *path)
{
    printf("%s", label);
    terminal_print(stdout, path);
    putchar('\n');
}

static int make_link_key(const char *file)
{
    enum status status = linkkey_generate(file);
    if (status != STATUS_OK)
        return refuse(status, file);
    print_line("link key    ", file);
    printf("\nNext: carry a copy to the other side by a safe way, keep it at mode 600 there too, and name it in both\n"
           "configurations:  [link] key = ");
    terminal_print(stdout, file);
    putchar('\n');
    return EX_OK;
}

static int make_signing_keys(const char *secret, const char *public_file)
{
    const char *existing = NULL;
    struct signature_public made;
    enum status status = signature_generate(secret, public_file, &existing, &made);
    if (status != STATUS_OK)
        return refuse(status, existing != NULL ? existing : "the key pair");
    printf("sender id   %08" PRIx32 "\n", signature_sender_id(&made));
    print_line("secret key  ", secret);
    print_line("public key  ", public_file);
    printf("\nNext: name the secret key in sender.conf ([sender] signing_key = ...), carry the public key to the high\n"
           "side, and put it there where receiver.conf says trusted_keys:\n  install -m 644 ");
    terminal_print(stdout, public_file);
    printf(" /etc/diodecast/trusted.d/\n");
    return EX_OK;
}

int command_keygen(int argc, char **argv)
{
    static const struct option options[] = {
        {"secret", required_argument, NULL, 's'},
        {"public", required_argument, NULL, 'p'},
        {"link", required_argument, NULL, 'l'},
        {NULL, 0, NULL, 0},
    };
    const char *secret = NULL, *public_file = NULL, *link = NULL;
    int option;
    while ((option = getopt_long(argc, argv, "s:p:", options, NULL)) != -1) {
        if (option == 's')
            secret = optarg;
        else if (option == 'p')
            public_file = optarg;
        else if (option == 'l')
            link = optarg;
        else
            return command_usage("keygen");
    }
    if (optind != argc || (secret == NULL) != (public_file == NULL) || (secret == NULL) == (link == NULL))
        return command_usage("keygen");
    return link != NULL ? make_link_key(link) : make_signing_keys(secret, public_file);
}
