// SPDX-License-Identifier: Apache-2.0
#include "sender/overflow.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/rtnetlink.h"
#include "sender/config.h"
#include "sender/passed.h"

enum { TEXT_SIZE = 16 << 10 };

void overflow_open(struct overflow *overflow, const struct config *config)
{
    bool ipv6 = socket_address_is_ipv6(&config->peer);
    *overflow = (struct overflow){.fd = -1, .ipv6 = ipv6, .questions = -1, .interface = config->interface};
    int questions = config->passed != NULL ? passed_questions(config->passed) : -1;
    if (questions >= 0)
        overflow->questions = fcntl(questions, F_DUPFD_CLOEXEC, 0);
    else
        overflow->fd = open(ipv6 ? "/proc/self/net/snmp6" : "/proc/self/net/snmp", O_RDONLY | O_CLOEXEC);
}

void overflow_close(struct overflow *overflow)
{
    if (overflow->fd >= 0)
        close(overflow->fd);
    if (overflow->questions >= 0)
        close(overflow->questions);
    overflow->fd = overflow->questions = -1;
}

/* One line of names, one of values: "Udp: InDatagrams NoPorts ..." and "Udp: 7 0 ...". */
static uint64_t parse_columns(char *text)
{
    char *names = strstr(text, "\nUdp: ");
    char *values = names != NULL ? strstr(names + 1, "\nUdp: ") : NULL;
    if (values == NULL)
        return 0;
    *values++ = '\0';
    char *name_place = NULL, *value_place = NULL;
    const char *name = strtok_r(names, " \n", &name_place), *value = strtok_r(values, " \n", &value_place);
    while (name != NULL && value != NULL) {
        if (strcmp(name, "SndbufErrors") == 0)
            return strtoull(value, NULL, 10);
        name = strtok_r(NULL, " \n", &name_place);
        value = strtok_r(NULL, " \n", &value_place);
    }
    return 0;
}

/* "Udp6SndbufErrors    \t7" on a line of its own. */
static uint64_t parse_line(const char *text)
{
    static const char name[] = "\nUdp6SndbufErrors";
    const char *found = strstr(text, name);
    return found != NULL ? strtoull(found + strlen(name), NULL, 10) : 0;
}

uint64_t overflow_total(const struct overflow *overflow)
{
    char text[TEXT_SIZE];
    if (overflow->questions >= 0)
        return rtnetlink_queue_drops(overflow->questions, overflow->interface);
    if (overflow->fd < 0)
        return 0;
    ssize_t got = pread(overflow->fd, text, sizeof text - 1, 0);
    if (got <= 0)
        return 0;
    text[got] = '\0';
    return overflow->ipv6 ? parse_line(text) : parse_columns(text);
}
