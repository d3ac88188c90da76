// SPDX-License-Identifier: Apache-2.0
#include "sender/carrier.h"

#include <assert.h>
#include <errno.h>
#include <linux/if.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/log.h"
#include "sender/passed.h"

enum { BUFFER_SIZE = 32 << 10 };

struct carrier {
    const char *interface;
    int fd;
    bool up;
    uint32_t losses;
};

/* Asks for the state of the interface by name; the answer arrives like an event. */
static bool ask(const struct carrier *carrier)
{
    struct {
        struct nlmsghdr header;
        struct ifinfomsg info;
        struct rtattr attribute;
        char name[IFNAMSIZ];
    } request = {
        .header = {.nlmsg_type = RTM_GETLINK, .nlmsg_flags = NLM_F_REQUEST},
        .info = {.ifi_family = AF_UNSPEC},
        .attribute = {.rta_type = IFLA_IFNAME},
    };
    size_t name_size = strlen(carrier->interface) + 1;
    assert(name_size <= sizeof request.name);
    memcpy(request.name, carrier->interface, name_size);
    request.attribute.rta_len = (unsigned short)RTA_LENGTH(name_size);
    request.header.nlmsg_len = (uint32_t)(NLMSG_LENGTH(sizeof request.info) + RTA_LENGTH(name_size));
    /* To the kernel: the socket has no other peer, and a sealed sender may not name one. */
    return write(carrier->fd, &request, request.header.nlmsg_len) == (ssize_t)request.header.nlmsg_len;
}

static void take_losses(struct carrier *carrier, const struct nlmsghdr *message)
{
    const struct ifinfomsg *info = NLMSG_DATA(message);
    unsigned left = (unsigned)IFLA_PAYLOAD(message);
    for (const struct rtattr *attribute = IFLA_RTA(info); RTA_OK(attribute, left);
         attribute = RTA_NEXT(attribute, left))
        if (attribute->rta_type == IFLA_CARRIER_DOWN_COUNT && RTA_PAYLOAD(attribute) >= sizeof carrier->losses)
            memcpy(&carrier->losses, RTA_DATA(attribute), sizeof carrier->losses);
}

static bool is_ours(const struct carrier *carrier, const struct nlmsghdr *message)
{
    const struct ifinfomsg *info = NLMSG_DATA(message);
    unsigned left = (unsigned)IFLA_PAYLOAD(message);
    for (const struct rtattr *attribute = IFLA_RTA(info); RTA_OK(attribute, left);
         attribute = RTA_NEXT(attribute, left))
        if (attribute->rta_type == IFLA_IFNAME)
            return strncmp(RTA_DATA(attribute), carrier->interface, RTA_PAYLOAD(attribute)) == 0;
    return false;
}

static void take_message(struct carrier *carrier, const struct nlmsghdr *message)
{
    if (message->nlmsg_type == NLMSG_ERROR) {
        carrier->up = false; /* the answer to ask(): there is no such interface */
        return;
    }
    if ((message->nlmsg_type != RTM_NEWLINK && message->nlmsg_type != RTM_DELLINK) ||
        message->nlmsg_len < NLMSG_LENGTH(sizeof(struct ifinfomsg)) || !is_ours(carrier, message))
        return;
    const struct ifinfomsg *info = NLMSG_DATA(message);
    carrier->up = message->nlmsg_type == RTM_NEWLINK && (info->ifi_flags & IFF_UP) != 0 &&
                  (info->ifi_flags & (IFF_LOWER_UP | IFF_LOOPBACK)) != 0;
    take_losses(carrier, message);
}

void carrier_read(struct carrier *carrier)
{
    _Alignas(struct nlmsghdr) char buffer[BUFFER_SIZE];
    for (;;) {
        struct sockaddr_nl from = {0};
        socklen_t from_size = sizeof from;
        ssize_t got = recvfrom(carrier->fd, buffer, sizeof buffer, MSG_DONTWAIT, (struct sockaddr *)&from, &from_size);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == ENOBUFS) {
            (void)ask(carrier); /* events were lost, so the state is asked for */
            continue;
        }
        if (got <= 0)
            return;
        if (from.nl_pid != 0)
            continue; /* not the kernel */
        unsigned left = (unsigned)got;
        for (const struct nlmsghdr *message = (const struct nlmsghdr *)(const void *)buffer; NLMSG_OK(message, left);
             message = NLMSG_NEXT(message, left))
            take_message(carrier, message);
    }
}

void carrier_ask(struct carrier *carrier)
{
    (void)ask(carrier); /* the answer is there when the send returns */
    carrier_read(carrier);
}

static int subscribe(void)
{
    struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK};
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    int error = errno;
    if (fd >= 0)
        close(fd);
    errno = error;
    return -1;
}

enum status carrier_open(const char *interface, struct passed *passed, struct carrier **carrier)
{
    *carrier = NULL;
    struct carrier *made = calloc(1, sizeof *made);
    assert(made != NULL);
    made->interface = interface;
    made->fd = passed != NULL ? passed_carrier(passed) : subscribe();
    if (made->fd < 0 && passed != NULL) {
        carrier_close(made);
        return STATUS_INVALID;
    }
    /* The kernel answers within the send, so that the read that follows finds the present state. */
    if (made->fd < 0 || !ask(made)) {
        int error = errno;
        log_error("the carrier of %s can't be watched: %s; allow AF_NETLINK to the sender or set carrier = ignore",
                  interface, strerror(error));
        carrier_close(made);
        return status_from_errno(error);
    }
    carrier_read(made);
    *carrier = made;
    return STATUS_OK;
}

void carrier_close(struct carrier *carrier)
{
    if (carrier == NULL)
        return;
    if (carrier->fd >= 0)
        close(carrier->fd);
    free(carrier);
}

int carrier_fd(const struct carrier *carrier)
{
    return carrier->fd;
}

bool carrier_is_up(const struct carrier *carrier)
{
    return carrier->up;
}

uint32_t carrier_losses(const struct carrier *carrier)
{
    return carrier->losses;
}
