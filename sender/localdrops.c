// SPDX-License-Identifier: Apache-2.0
#include "sender/localdrops.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TEXT_SIZE = 16 << 10 };

void localdrops_open(struct localdrops *drops, bool ipv6)
{
    drops->ipv6 = ipv6;
    drops->fd = open(ipv6 ? "/proc/self/net/snmp6" : "/proc/self/net/snmp", O_RDONLY | O_CLOEXEC);
}

void localdrops_close(struct localdrops *drops)
{
    if (drops->fd >= 0)
        close(drops->fd);
    drops->fd = -1;
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

uint64_t localdrops_total(const struct localdrops *drops)
{
    char text[TEXT_SIZE];
    if (drops->fd < 0)
        return 0;
    ssize_t got = pread(drops->fd, text, sizeof text - 1, 0);
    if (got <= 0)
        return 0;
    text[got] = '\0';
    return drops->ipv6 ? parse_line(text) : parse_columns(text);
}
