// SPDX-License-Identifier: Apache-2.0
#include "sender/passed.h"

#include <assert.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "common/log.h"
#include "proto/limits.h"

enum kind { KIND_IPV4, KIND_IPV6, KIND_CARRIER, KIND_QUESTIONS, KIND_COUNT };

/* What a socket unit needs for one more of a kind. */
static const char *const lines[KIND_COUNT] = {
    [KIND_IPV4] = "ListenDatagram=0.0.0.0:PORT, with a free port,",
    [KIND_IPV6] = "ListenDatagram=[::]:PORT, with a free port,",
    [KIND_CARRIER] = "ListenNetlink=route 1",
    [KIND_QUESTIONS] = "ListenNetlink=route",
};

enum { KEPT_MAX = LIMIT_LANES + 1 };

struct passed {
    struct {
        int fds[KEPT_MAX];
        unsigned count, taken;
    } kinds[KIND_COUNT];
};

/* KIND_COUNT: none. */
static enum kind kind_of(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_nl netlink;
        struct sockaddr_storage storage;
    } address = {.any.sa_family = AF_UNSPEC};
    int type = 0, protocol = 0;
    socklen_t size = sizeof address, type_size = sizeof type, protocol_size = sizeof protocol;
    if (getsockname(fd, &address.any, &size) != 0 || getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_size) != 0 ||
        getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &protocol_size) != 0)
        return KIND_COUNT;
    if (address.any.sa_family == AF_NETLINK && protocol == NETLINK_ROUTE)
        return (address.netlink.nl_groups & RTMGRP_LINK) != 0 ? KIND_CARRIER : KIND_QUESTIONS;
    if (type != SOCK_DGRAM || protocol != IPPROTO_UDP)
        return KIND_COUNT;
    return address.any.sa_family == AF_INET6 ? KIND_IPV6 : KIND_IPV4;
}

static void keep(struct passed *passed, int fd, const char *name)
{
    enum kind kind = kind_of(fd);
    if (kind != KIND_COUNT && passed->kinds[kind].count < KEPT_MAX) {
        passed->kinds[kind].fds[passed->kinds[kind].count++] = fd;
        return;
    }
    log_warning("passed by the service manager: '%s' (descriptor %d) is of no use", name, fd);
    close(fd);
}

enum status passed_take(struct passed **passed)
{
    char **names = NULL;
    *passed = NULL;
    int count = sd_listen_fds_with_names(1, &names);
    if (count < 0) {
        log_error("what the service manager passes can't be read: %s", strerror(-count));
        return STATUS_SYSTEM;
    }
    if (count == 0)
        return STATUS_OK;
    struct passed *made = calloc(1, sizeof *made);
    assert(made != NULL);
    for (int i = 0; i < count; i++) {
        keep(made, SD_LISTEN_FDS_START + i, names[i]);
        free(names[i]);
    }
    free(names);
    *passed = made;
    return STATUS_OK;
}

void passed_destroy(struct passed *passed)
{
    if (passed == NULL)
        return;
    for (unsigned kind = 0; kind < KIND_COUNT; kind++)
        for (unsigned i = passed->kinds[kind].taken; i < passed->kinds[kind].count; i++)
            close(passed->kinds[kind].fds[i]);
    free(passed);
}

static int missing(enum kind kind)
{
    log_error("the service manager passes too few sockets: add %s to diodecast-sender.socket "
              "(\"systemctl edit diodecast-sender.socket\")",
              lines[kind]);
    return -1;
}

static int take(struct passed *passed, enum kind kind)
{
    if (passed->kinds[kind].taken == passed->kinds[kind].count)
        return missing(kind);
    return passed->kinds[kind].fds[passed->kinds[kind].taken++];
}

int passed_socket(struct passed *passed, bool ipv6)
{
    return take(passed, ipv6 ? KIND_IPV6 : KIND_IPV4);
}

int passed_carrier(struct passed *passed)
{
    return take(passed, KIND_CARRIER);
}

int passed_questions(const struct passed *passed)
{
    return passed->kinds[KIND_QUESTIONS].count > 0 ? passed->kinds[KIND_QUESTIONS].fds[0] : missing(KIND_QUESTIONS);
}
